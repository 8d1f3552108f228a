//! `onConflict` other than `Overwrite`: the comparison with the existing object, and servers that ignore
//! `If-None-Match`.

use std::collections::BTreeMap;

use super::*;

/// An object in the server's bucket.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    body: Bytes,
    digest: Option<String>,
    etag: String,
}

type Bucket = Arc<Mutex<BTreeMap<String, Kept>>>;

/// How the server differs from AWS.
#[derive(Clone, Copy, Default)]
struct Oddities {
    ignores_preconditions: bool,
    /// ETags are no MD5, as with SSE-KMS.
    odd_etags: bool,
    /// The credentials lack `s3:GetObject`.
    no_reads: bool,
    /// The credentials lack `s3:ListBucket`.
    no_list: bool,
}

impl Kept {
    fn of(seen: &Seen, odd: bool) -> Self {
        let digest = header(seen, "x-amz-meta-image-pipeline-digest").map(ToOwned::to_owned);
        let md5: String = md5::Digest::finalize(<md5::Md5 as md5::Digest>::new_with_prefix(&seen.body))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let etag = if odd { "5f363e0e58a95f06cbe9bbc662c5dfb6".to_owned() } else { md5 };
        Self { body: seen.body.clone(), digest, etag }
    }

    fn answer(&self, with_body: bool) -> Response {
        let body = if with_body { self.body.clone() } else { Bytes::new() };
        let mut response = ([("etag", format!("\"{}\"", self.etag))], body).into_response();
        let headers = response.headers_mut();
        headers.insert("content-length", self.body.len().into());
        if let Some(digest) = &self.digest {
            headers.insert("x-amz-meta-image-pipeline-digest", digest.parse().unwrap());
        }
        response
    }
}

/// A minimal S3.
fn s3(bucket: Bucket, odd: Oddities) -> impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static {
    move |seen| {
        let mut bucket = bucket.lock().unwrap();
        let path = seen.uri.path().to_owned();
        match (&seen.method, bucket.get(&path)) {
            (&Method::PUT, Some(_)) if header(seen, "if-none-match") == Some("*") && !odd.ignores_preconditions => {
                (StatusCode::PRECONDITION_FAILED, xml!("PreconditionFailed")).into_response()
            }
            (&Method::PUT, _) => {
                let kept = Kept::of(seen, odd.odd_etags);
                let answer = [("etag", format!("\"{}\"", kept.etag))].into_response();
                bucket.insert(path, kept);
                answer
            }
            (&Method::DELETE, _) => {
                bucket.remove(&path);
                StatusCode::NO_CONTENT.into_response()
            }
            (_, Some(_)) if odd.no_reads => StatusCode::FORBIDDEN.into_response(),
            (_, None) if odd.no_reads || odd.no_list => StatusCode::FORBIDDEN.into_response(),
            (&Method::HEAD, Some(kept)) => kept.answer(false),
            (&Method::GET, Some(kept)) => kept.answer(true),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// A bucket without objects.
pub fn empty() -> impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static {
    s3(Bucket::default(), Oddities::default())
}

/// A client, its server's bucket and the requests received.
struct Scene {
    store: Store,
    bucket: Bucket,
    log: Log,
    _secrets: tempfile::TempDir,
}

impl Scene {
    async fn new(odd: Oddities) -> Self {
        let bucket = Bucket::default();
        let (router, log) = recording(s3(Arc::clone(&bucket), odd));
        let endpoint = serve(router).await;
        let secrets = tempfile::tempdir().unwrap();
        credentials(secrets.path());
        let destination = destination(&endpoint, json!({ "onConflict": "Fail" }));
        let store = Store::new(&destination, &secrets.path().into()).await;
        Self { store, bucket, log, _secrets: secrets }
    }

    /// HTTP methods received since the last call.
    fn methods(&self) -> Vec<String> {
        self.log.lock().unwrap().drain(..).map(|seen| seen.method.to_string()).collect()
    }

    /// Places another object under the image's key.
    fn keep(&self, body: &Bytes, digest: Option<&str>, etag: &str) {
        let kept = Kept { body: body.clone(), digest: digest.map(ToOwned::to_owned), etag: etag.to_owned() };
        self.bucket.lock().unwrap().insert("/bucket-greench/tiles/north/tile%207.png".to_owned(), kept);
    }

    fn objects(&self) -> BTreeMap<String, Kept> {
        self.bucket.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn the_first_image_is_stored_twice_and_others_once() {
    for no_list in [false, true] {
        let scene = Scene::new(Oddities { no_list, ..Oddities::default() }).await;
        let key = key();
        assert_eq!(scene.store.put(&object(&key)).await, Ok(Stored::New));
        assert_eq!(scene.methods(), ["HEAD", "PUT", "PUT"]);
        assert_eq!(scene.store.put(&object(&key)).await, Ok(Stored::AlreadyThere));
        assert_eq!(scene.methods(), ["PUT", "HEAD"]);
        scene.bucket.lock().unwrap().clear();
        assert_eq!(scene.store.put(&object(&key)).await, Ok(Stored::New));
        assert_eq!(scene.methods(), ["PUT"]);
    }
}

/// No object is replaced, and every upload reports the fault.
#[tokio::test]
async fn a_store_that_ignores_preconditions_replaces_nothing() {
    let scene = Scene::new(Oddities { ignores_preconditions: true, ..Oddities::default() }).await;
    let (key, first) = (key(), Bytes::from_static(b"the first image"));
    scene.keep(&first, Some("0"), "1");
    let before = scene.objects();
    let error = scene.store.put(&object(&key)).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::ObjectExists, Kind::Message), "{error}");
    assert_eq!(scene.objects(), before);

    scene.bucket.lock().unwrap().clear();
    for _ in 0..3 {
        let error = scene.store.put(&object(&key)).await.unwrap_err();
        assert_eq!((error.reason(), error.kind()), (Reason::StorageRefused, Kind::Environment), "{error}");
        assert_eq!(error.scope(), Extent::Store);
        assert!(error.to_string().contains("ignores If-None-Match, so destination.s3.onConflict Fail"), "{error}");
        assert_eq!(scene.objects().len(), 1);
    }
}

#[tokio::test]
async fn an_object_in_the_way_is_ours_if_its_bytes_are() {
    let other = Bytes::from_static(b"\x89PNG\r\n\x1a\nand so ok");
    let longer = Bytes::from_static(b"\x89PNG\r\n\x1a\nand so on, and on");
    let md5 = "4fde2b2108004d2dcf608c7958833556";
    let odd = "5f363e0e58a95f06cbe9bbc662c5dfb6";
    for (kept, digest, etag, expected) in [
        (&PNG, Some(PIXELS), md5, Ok((Stored::AlreadyThere, &["PUT", "HEAD"][..]))),
        // Same bytes, other metadata.
        (&PNG, None, md5, Ok((Stored::AlreadyThere, &["PUT", "HEAD"]))),
        // An ETag that is no MD5, as with SSE-KMS.
        (&PNG, Some(PIXELS), odd, Ok((Stored::AlreadyThere, &["PUT", "HEAD", "GET"]))),
        (&PNG, Some(PIXELS), "x-3", Ok((Stored::AlreadyThere, &["PUT", "HEAD", "GET"]))),
        // Any writer can set the digest.
        (&other, Some(PIXELS), odd, Err("whose bytes differ")),
        (&longer, Some(PIXELS), odd, Err("whose bytes differ")),
        (&other, Some("0"), odd, Err("with other pixels")),
        (&other, None, odd, Err("without the digest")),
    ] {
        let scene = Scene::new(Oddities::default()).await;
        scene.store.honors_preconditions.store(true, Ordering::Relaxed);
        scene.keep(kept, digest, etag);
        let key = key();
        let result = scene.store.put(&object(&key)).await;
        match (result, expected) {
            (Ok(stored), Ok((expected, methods))) => {
                assert_eq!(stored, expected);
                assert_eq!(scene.methods(), methods);
            }
            (Err(error), Err(says)) => {
                assert_eq!((error.reason(), error.kind()), (Reason::ObjectExists, Kind::Message), "{error}");
                assert!(error.to_string().contains(says), "{error} has {says:?}");
            }
            (result, _) => panic!("{kept:?} {digest:?} {etag}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn an_object_that_may_not_be_read_may_be_the_only_one() {
    let scene = Scene::new(Oddities { no_reads: true, ..Oddities::default() }).await;
    scene.keep(&PNG, Some(PIXELS), "1");
    let key = key();
    let error = scene.store.put(&object(&key)).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::AccessDenied, Kind::Environment), "{error}");
    assert_eq!(error.scope(), Extent::MaybeObject);
    assert!(error.to_string().contains("s3:GetObject"), "{error}");
}

/// Retried: the object was deleted after the precondition failed, or another writer raced.
#[tokio::test]
async fn what_passes_is_tried_again() {
    let gone = |seen: &Seen| match seen.method {
        Method::PUT => (StatusCode::PRECONDITION_FAILED, xml!("PreconditionFailed")).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    let endpoint = serve(recording(gone).0).await;
    let error = put(&destination(&endpoint, json!({ "onConflict": "Fail" }))).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::StorageUnavailable, Kind::Passing), "{error}");
    let race = |seen: &Seen| match seen.method {
        Method::PUT => (StatusCode::CONFLICT, xml!("ConditionalRequestConflict")).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    };
    let endpoint = serve(recording(race).0).await;
    let error = put(&destination(&endpoint, json!({ "onConflict": "Fail" }))).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::StorageUnavailable, Kind::Passing), "{error}");
}

/// A server that returns a web page for every path is not S3 with an existing object.
#[tokio::test]
async fn a_page_is_no_object_in_the_way() {
    let error = refused(json!({ "onConflict": "Fail" }), 200, "<html></html>", &[]).await;
    assert_eq!((error.reason(), error.kind()), (Reason::StorageRefused, Kind::Environment), "{error}");
    assert!(error.to_string().contains("not like S3"), "{error}");
}

#[tokio::test]
async fn a_trial_leaves_nothing_and_finds_what_images_would_meet() {
    for (odd, failure) in [
        (Oddities::default(), None),
        (Oddities { no_list: true, odd_etags: true, ..Oddities::default() }, None),
        (Oddities { ignores_preconditions: true, ..Oddities::default() }, Some("ignores If-None-Match")),
        (Oddities { no_reads: true, ..Oddities::default() }, Some("s3:GetObject")),
    ] {
        let scene = Scene::new(odd).await;
        let key = key();
        match (scene.store.try_out(&object(&key)).await, failure) {
            (Ok(Trial { left_behind: None }), None) => {}
            (Err(error), Some(says)) => assert!(error.to_string().contains(says), "{error}"),
            (result, _) => panic!("{result:?} for {failure:?}"),
        }
        assert_eq!(scene.objects(), BTreeMap::new());
        let log = scene.log.lock().unwrap();
        let puts = log.iter().filter(|seen| seen.method == Method::PUT);
        assert!(puts.clone().count() == 2 && puts.clone().all(|put| header(put, "if-none-match") == Some("*")));
        assert!(puts.clone().all(|put| header(put, "content-type") == Some("image/png")));
    }
}

#[tokio::test]
async fn a_trial_without_the_right_to_delete_says_so() {
    let (router, _) = recording(|seen| match seen.method {
        Method::DELETE => (StatusCode::FORBIDDEN, xml!("AccessDenied")).into_response(),
        _ => ok(seen),
    });
    let endpoint = serve(router).await;
    let secrets = tempfile::tempdir().unwrap();
    credentials(secrets.path());
    let store = Store::new(&destination(&endpoint, json!({})), &secrets.path().into()).await;
    let trial = store.try_out(&object(&key())).await.unwrap();
    let error = trial.left_behind.unwrap();
    assert!(error.to_string().contains("denies s3:DeleteObject"), "{error}");
}

/// The result of a conditional upload of 4 MiB to a store that closes the connection under the body, and then answers
/// HEAD with this head.
async fn after_a_break(head: String) -> Result<Stored, UploadError> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut part = [0; 4];
            connection.read_exact(&mut part).await.unwrap();
            if part == *b"HEAD" {
                connection.write_all(head.as_bytes()).await.unwrap();
            }
            // Unread data makes the kernel reset the connection.
            connection.shutdown().await.unwrap();
        }
    });
    let secrets = tempfile::tempdir().unwrap();
    credentials(secrets.path());
    let store = Store::new(&destination(&endpoint, json!({ "onConflict": "Fail" })), &secrets.path().into()).await;
    // As after the first image.
    store.honors_preconditions.store(true, Ordering::Relaxed);
    let large = Bytes::from(vec![7; 4 << 20]);
    let key = key();
    let result = store.put(&Object { png: &large, ..object(&key) }).await;
    server.abort();
    result
}

#[tokio::test]
async fn a_connection_that_breaks_because_the_object_exists_is_told_from_one_that_breaks_for_its_size() {
    let md5: String = md5::Digest::finalize(<md5::Md5 as md5::Digest>::new_with_prefix(vec![7; 4 << 20]))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let head =
        |code: &str, etag: &str| format!("HTTP/1.1 {code}\r\netag: \"{etag}\"\r\ncontent-length: 4194304\r\n\r\n");
    assert_eq!(after_a_break(head("200 OK", &md5)).await.unwrap(), Stored::AlreadyThere);
    let other = head("200 OK", "0").replace("4194304", "4194305");
    assert_eq!(after_a_break(other).await.unwrap_err().reason(), Reason::ObjectExists);
    for unseen in ["404 Not Found", "403 Forbidden", "503 Slow Down"] {
        let error = after_a_break(format!("HTTP/1.1 {unseen}\r\ncontent-length: 0\r\n\r\n")).await.unwrap_err();
        assert_eq!(error.scope(), Extent::MaybeTooLarge, "{unseen}: {error}");
    }
}
