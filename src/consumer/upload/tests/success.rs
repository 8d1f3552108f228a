//! Which answers count as stored, and which failures may concern only one object.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

#[tokio::test]
async fn a_success_without_an_etag_is_not_s3s() {
    for headers in [&[][..], &[("etag", "")], &[("etag", "\"\"")], &[("content-type", "text/html")]] {
        let error = refused(json!({}), 200, "<html>Sign in</html>", headers).await;
        assert_eq!((error.reason(), error.kind()), (Reason::StorageRefused, Kind::Environment), "{error}");
        assert_eq!(error.scope(), Extent::Store);
        let says = "answers, but not like S3 (a success without an ETag); check destination.s3.endpoint";
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_success_with_another_checksum_than_the_objects_is_not_s3s() {
    for (checksum, header, ours) in [
        ("CRC32", "x-amz-checksum-crc32", "dCmGfw=="),
        ("CRC32C", "x-amz-checksum-crc32c", "vaZFjw=="),
        ("SHA256", "x-amz-checksum-sha256", "vVNjUY7QFNR64cRqso4PHcSHL+QTREy1TQwqEFi4oDg="),
    ] {
        let answer = |value: Option<&'static str>| {
            move |_: &Seen| match value {
                Some(value) => [("etag", "\"1\""), (header, value)].into_response(),
                None => [("etag", "\"1\"")].into_response(),
            }
        };
        for (value, is_stored) in [(Some(ours), true), (None, true), (Some("AAAAAA=="), false)] {
            let (router, log) = recording(answer(value));
            let endpoint = serve(router).await;
            let result = put(&destination(&endpoint, json!({ "checksum": checksum }))).await;
            assert_eq!(log.lock().unwrap().len(), 1);
            assert_eq!(super::header(&log.lock().unwrap()[0], header), Some(ours));
            match result {
                Ok(stored) => assert!(is_stored && stored == Stored::New),
                Err(error) => {
                    assert!(!is_stored && error.kind() == Kind::Environment, "{error}");
                    assert!(error.to_string().contains("a different checksum"), "{error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_may_concern_one_object_or_every_object() {
    for (status, body, scope) in [
        (413, "", Extent::Object),
        (414, "", Extent::Object),
        (400, xml!("KeyTooLongError"), Extent::Object),
        (403, xml!("AccessDenied"), Extent::MaybeObject),
        (403, "", Extent::MaybeObject),
        (400, xml!("InvalidArgument"), Extent::MaybeObject),
        (400, "", Extent::MaybeObject),
        (404, "", Extent::MaybeObject),
        (405, xml!("MethodNotAllowed"), Extent::MaybeObject),
        (404, xml!("NoSuchBucket"), Extent::Store),
        (403, xml!("InvalidAccessKeyId"), Extent::Store),
        (403, xml!("SignatureDoesNotMatch"), Extent::Store),
        (400, xml!("ExpiredToken"), Extent::Store),
        (403, xml!("RequestTimeTooSkewed"), Extent::Store),
        (400, xml!("AuthorizationHeaderMalformed"), Extent::Store),
        (507, xml!("XMinioStorageFull"), Extent::Store),
        (503, xml!("SlowDown"), Extent::Store),
        (500, xml!("InternalError"), Extent::Store),
        (302, "", Extent::Store),
    ] {
        let error = refused(json!({}), status, body, &[]).await;
        assert_eq!(error.scope(), scope, "{status} {body}: {error}");
    }
}

/// The error after a proxy with a body limit has read `read` bytes and closed the connection.
async fn breaks_off(read: usize) -> UploadError {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let proxy = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut part = vec![0; read];
            connection.read_exact(&mut part).await.unwrap();
            // Unread data makes the kernel reset the connection.
            connection.shutdown().await.unwrap();
        }
    });
    let secrets = tempfile::tempdir().unwrap();
    credentials(secrets.path());
    let store = Store::new(&destination(&endpoint, json!({})), &secrets.path().into()).await;
    let large = Bytes::from(vec![7; 4 << 20]);
    let key = key();
    let error = store.put(&Object { png: &large, ..object(&key) }).await.unwrap_err();
    proxy.abort();
    error
}

#[tokio::test]
async fn a_connection_that_breaks_under_a_body_may_be_of_one_object() {
    for read in [1, 1 << 10, 1 << 20] {
        let error = breaks_off(read).await;
        assert_eq!((error.reason(), error.kind()), (Reason::EndpointUnreachable, Kind::Passing), "{error}");
        assert_eq!(error.scope(), Extent::MaybeTooLarge, "{error}");
        let (reason, text) = error.as_fault_of_object();
        assert_eq!(reason, Reason::ImageTooLarge);
        assert!(text.contains("client_max_body_size"), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_made_concerns_every_object() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusing = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for endpoint in [refusing.as_str(), "http://nowhere.invalid:9000"] {
        let error = put(&destination(endpoint, json!({}))).await.unwrap_err();
        assert_eq!((error.reason(), error.kind()), (Reason::EndpointUnreachable, Kind::Passing), "{error}");
        assert_eq!(error.scope(), Extent::Store, "{error}");
    }
}
