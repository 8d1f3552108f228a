//! The contract with S3: an in-process HTTP server gives the answers that S3 documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Uri};

use super::*;
use crate::consumer::{decode, encode};
use crate::reason::Reason;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn png() -> Png {
    let mut bmp = Vec::new();
    image::RgbImage::from_pixel(3, 2, image::Rgb([1, 2, 3]))
        .write_to(&mut std::io::Cursor::new(&mut bmp), image::ImageFormat::Bmp)
        .unwrap();
    let header = encode::inspect(&bmp, 100).unwrap();
    encode::encode(bmp.into(), &header, &crate::api::image::ImageSettings::default()).unwrap()
}

fn key() -> ObjectKey {
    let body = br#"{"image": "AAAA", "image_metadata": {"image_name": "north/tile 7.png"}}"#;
    decode::decode(body, "tiles/").unwrap().key
}

fn credentials(directory: &Path) {
    std::fs::write(directory.join("AWS_ACCESS_KEY_ID"), "AKIDEXAMPLE\n").unwrap();
    std::fs::write(directory.join("AWS_SECRET_ACCESS_KEY"), SECRET).unwrap();
}

fn destination(endpoint: &str, credentials: &Path) -> Destination {
    Destination {
        bucket: "bucket-greench".to_owned(),
        prefix: "tiles/".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        force_path_style: true,
        credentials: Some(credentials.to_owned()),
    }
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

/// What a store that always gives this answer makes of an upload.
async fn refused(status: u16, body: &'static str, headers: &'static [(&'static str, &'static str)]) -> UploadError {
    let answer = move || async move {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), map, body)
    };
    let endpoint = serve(Router::new().fallback(answer)).await;
    let directory = tempfile::tempdir().unwrap();
    credentials(directory.path());
    let store = Store::new(destination(&endpoint, directory.path())).await;
    store.put(&key(), &png()).await.expect_err("refused")
}

macro_rules! xml {
    ($code:literal) => {
        xml!($code, "text of the store for tiles/north/tile 7.png")
    };
    ($code:literal, $message:literal) => {
        concat!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>",
            $code,
            "</Code><Message>",
            $message,
            "</Message><RequestId>1</RequestId></Error>"
        )
    };
}

#[tokio::test]
async fn every_answer_has_its_reason_and_says_what_to_do() {
    const REGION: &[(&str, &str)] = &[("x-amz-bucket-region", "eu-west-1")];
    let malformed = xml!(
        "AuthorizationHeaderMalformed",
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'"
    );
    for (status, body, headers, reason, kind, says) in [
        (
            403,
            xml!("AccessDenied"),
            &[][..],
            Reason::AccessDenied,
            Kind::Environment,
            "s3:PutObject on bucket-greench/tiles/*",
        ),
        (403, "", &[], Reason::AccessDenied, Kind::Environment, "HTTP 403"),
        (404, xml!("NoSuchBucket"), &[], Reason::BucketNotFound, Kind::Environment, "destination.s3.bucket"),
        (
            301,
            xml!("PermanentRedirect"),
            REGION,
            Reason::WrongRegion,
            Kind::Environment,
            "region \"eu-west-1\" and destination.s3.region is \"us-east-1\"",
        ),
        (301, xml!("PermanentRedirect"), &[], Reason::WrongRegion, Kind::Environment, "does not say where"),
        (400, malformed, &[], Reason::WrongRegion, Kind::Environment, "set destination.s3.region to \"eu-central-1\""),
        (403, xml!("InvalidAccessKeyId"), &[], Reason::CredentialsInvalid, Kind::Environment, "AWS_ACCESS_KEY_ID"),
        (
            403,
            xml!("SignatureDoesNotMatch"),
            &[],
            Reason::CredentialsInvalid,
            Kind::Environment,
            "AWS_SECRET_ACCESS_KEY",
        ),
        (400, xml!("ExpiredToken"), &[], Reason::CredentialsExpired, Kind::Environment, "renew"),
        (403, xml!("RequestTimeTooSkewed"), &[], Reason::ClockSkewed, Kind::Environment, "clock"),
        (400, xml!("RequestTimeout"), &[], Reason::StorageTimeout, Kind::Passing, "in time"),
        (503, xml!("SlowDown"), &[], Reason::StorageThrottled, Kind::Passing, "HTTP 503 SlowDown"),
        (429, "", &[], Reason::StorageThrottled, Kind::Passing, "HTTP 429"),
        (500, xml!("InternalError"), &[], Reason::StorageUnavailable, Kind::Passing, "HTTP 500 InternalError"),
        (502, "<html>Bad Gateway</html>", &[], Reason::StorageUnavailable, Kind::Passing, "HTTP 502"),
        (507, xml!("XMinioStorageFull"), &[], Reason::StorageUnavailable, Kind::Passing, "XMinioStorageFull"),
        (405, xml!("MethodNotAllowed"), &[], Reason::StorageRefused, Kind::Environment, "HTTP 405 MethodNotAllowed"),
        (404, "", &[], Reason::StorageRefused, Kind::Environment, "HTTP 404"),
        (400, xml!("EntityTooLarge"), &[], Reason::ImageTooLarge, Kind::Message, "size"),
        (400, xml!("KeyTooLongError"), &[], Reason::InvalidName, Kind::Message, "name"),
    ] {
        let error = refused(status, body, headers).await;
        let text = error.to_string();
        assert_eq!((error.reason(), error.kind()), (reason, kind), "{status} {body}: {text}");
        assert!(text.contains(says), "{text:?} has {says:?}");
        for hidden in ["tile 7", SECRET, "AKIDEXAMPLE"] {
            assert!(!text.contains(hidden), "{text:?} lacks {hidden:?}");
        }
    }
}

#[tokio::test]
async fn a_store_that_is_not_there_is_unreachable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://user:{SECRET}@{}", listener.local_addr().unwrap());
    drop(listener);
    let directory = tempfile::tempdir().unwrap();
    credentials(directory.path());
    let error = Store::new(destination(&endpoint, directory.path())).await.put(&key(), &png()).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::EndpointUnreachable, Kind::Passing), "{error}");
    assert!(error.to_string().contains("destination.s3.endpoint"), "{error}");
    assert!(!error.to_string().contains(SECRET), "{error}");
}

#[tokio::test]
async fn a_store_without_tls_on_an_https_endpoint_fails_tls() {
    let endpoint = serve(Router::new()).await.replace("http://", "https://");
    let directory = tempfile::tempdir().unwrap();
    credentials(directory.path());
    let error = Store::new(destination(&endpoint, directory.path())).await.put(&key(), &png()).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::TlsFailed, Kind::Environment), "{error}");
}

#[tokio::test]
async fn a_store_that_never_answers_is_timed_out_within_ten_seconds() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    let directory = tempfile::tempdir().unwrap();
    credentials(directory.path());
    let store = Store::new(destination(&endpoint, directory.path())).await;
    let started = tokio::time::Instant::now();
    let error = store.put(&key(), &png()).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::StorageTimeout, Kind::Passing), "{error}");
    assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());
    silent.abort();
}

#[tokio::test]
async fn missing_credentials_name_the_key_and_new_ones_count_at_once() {
    let endpoint = serve(Router::new().fallback(|| async { StatusCode::OK })).await;
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(destination(&endpoint, directory.path())).await;
    for (written, missing) in [(None, "AWS_ACCESS_KEY_ID"), (Some("AWS_ACCESS_KEY_ID"), "AWS_SECRET_ACCESS_KEY")] {
        if let Some(key) = written {
            std::fs::write(directory.path().join(key), "AKIDEXAMPLE").unwrap();
        }
        let error = store.put(&key(), &png()).await.unwrap_err();
        assert_eq!((error.reason(), error.kind()), (Reason::CredentialsMissing, Kind::Environment), "{error}");
        assert!(error.to_string().starts_with(&format!("key {missing} is missing")), "{error}");
    }
    credentials(directory.path());
    store.put(&key(), &png()).await.expect("stored with the new credentials");
    std::fs::write(directory.path().join("AWS_SECRET_ACCESS_KEY"), b"\xff\xfe").unwrap();
    let error = store.put(&key(), &png()).await.unwrap_err();
    assert!(error.to_string().contains("not readable text"), "{error}");
}

/// What a store that accepts everything is sent.
async fn sent(endpoint_is_aws: bool) -> (Uri, HeaderMap, Bytes) {
    let seen = Arc::new(Mutex::new(None));
    let record = {
        let seen = seen.clone();
        move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            *seen.lock().unwrap() = Some((parts.uri, parts.headers, body));
            StatusCode::OK
        }
    };
    let endpoint = serve(Router::new().fallback(record)).await;
    let directory = tempfile::tempdir().unwrap();
    credentials(directory.path());
    let mut destination = destination(&endpoint, directory.path());
    if endpoint_is_aws {
        destination.endpoint = None;
    }
    let mut store = Store::new(destination).await;
    if endpoint_is_aws {
        let config = store.client.config().to_builder().endpoint_url(endpoint).build();
        store.client = aws_sdk_s3::Client::from_conf(config);
    }
    store.put(&key(), &png()).await.expect("stored");
    seen.lock().unwrap().take().expect("a request")
}

#[tokio::test]
async fn a_compatible_store_is_sent_one_plain_put() {
    let (uri, headers, body) = sent(false).await;
    assert_eq!(uri.path(), "/bucket-greench/tiles/north/tile%207.png");
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(headers["content-length"], png().bytes().len().to_string());
    assert_eq!(&body, png().bytes());
    assert!(headers["authorization"].to_str().unwrap().contains("/us-east-1/s3/aws4_request"));
    for name in headers.keys() {
        let name = name.as_str();
        assert!(!name.contains("checksum") && name != "content-encoding" && name != "x-amz-trailer", "{name}");
    }
}

#[tokio::test]
async fn aws_is_sent_a_checksum() {
    let (_, headers, body) = sent(true).await;
    assert_eq!(&body, png().bytes(), "no chunks around it");
    assert_eq!(headers["content-type"], "image/png");
    assert!(headers.keys().any(|name| name.as_str().starts_with("x-amz-checksum-")), "{headers:?}");
}
