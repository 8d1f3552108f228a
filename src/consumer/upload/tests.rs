//! The contract with S3: an in-process HTTP server returns the answers that S3 documents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::*;
use crate::api::message::MessageFormat;
use crate::consumer::decode;
use crate::reason::Reason;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Not a complete PNG: S3 does not parse it.
static PNG: Bytes = Bytes::from_static(b"\x89PNG\r\n\x1a\nand so on");
const PIXELS: &str = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

fn object(key: &ObjectKey) -> Object<'_> {
    Object { key, png: &PNG, digest: PIXELS, origin: Origin::default() }
}

fn key() -> ObjectKey {
    let s3 = serde_json::from_value(json!({"bucket": "bucket-greench", "prefix": "tiles/"})).unwrap();
    let decoder = decode::Decoder::new(&MessageFormat::default(), &s3, 1 << 20).unwrap();
    let body = br#"{"image": "AAAA", "image_metadata": {"image_name": "north/tile 7.png"}}"#.as_slice().into();
    let incoming = decode::Incoming { body: &body, timestamp: None, header: &|_| None };
    decoder.decode(&incoming).unwrap().key(PIXELS).unwrap()
}

fn credentials(secrets: &Path) {
    let directory = secrets.join("store");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("AWS_ACCESS_KEY_ID"), "AKIDEXAMPLE\n").unwrap();
    std::fs::write(directory.join("AWS_SECRET_ACCESS_KEY"), SECRET).unwrap();
}

/// A destination with static credentials, overridden by `fields`.
fn destination(endpoint: &str, fields: Value) -> S3Destination {
    let mut spec = json!({
        "bucket": "bucket-greench",
        "prefix": "tiles/",
        "endpoint": endpoint,
        "forcePathStyle": true,
        "credentialsSecret": { "name": "s3" },
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

/// Stores one object with static credentials.
async fn put(destination: &S3Destination) -> Result<Stored, UploadError> {
    let secrets = tempfile::tempdir().unwrap();
    credentials(secrets.path());
    Store::new(destination, &secrets.path().into()).await.put(&object(&key())).await
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    endpoint
}

/// The error of an upload to a server that always gives this answer.
async fn refused(
    fields: Value,
    status: u16,
    body: &'static str,
    headers: &'static [(&'static str, &'static str)],
) -> UploadError {
    let answer = move || async move {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        (StatusCode::from_u16(status).unwrap(), map, body)
    };
    let endpoint = serve(Router::new().fallback(answer)).await;
    put(&destination(&endpoint, fields)).await.expect_err("refused")
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

mod conflicts;
mod diagnoses;
mod success;

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
        (507, xml!("XMinioStorageFull"), &[], Reason::StorageFull, Kind::Environment, "XMinioStorageFull"),
        (403, xml!("QuotaExceeded"), &[], Reason::StorageFull, Kind::Environment, "quota"),
        (409, xml!("OperationAborted"), &[], Reason::StorageUnavailable, Kind::Passing, "HTTP 409"),
        (400, xml!("KMS.DisabledException"), &[], Reason::StorageRefused, Kind::Environment, "kmsKeyId"),
        (501, xml!("NotImplemented"), &[], Reason::StorageRefused, Kind::Environment, "HTTP 501"),
        (400, xml!("InvalidTag"), &[], Reason::StorageRefused, Kind::Environment, "destination.s3.tags"),
        (
            400,
            xml!("InvalidStorageClass"),
            &[],
            Reason::StorageRefused,
            Kind::Environment,
            "destination.s3.storageClass",
        ),
        (400, xml!("MetadataTooLarge"), &[], Reason::StorageRefused, Kind::Environment, "destination.s3.metadata"),
        (405, xml!("MethodNotAllowed"), &[], Reason::StorageRefused, Kind::Environment, "HTTP 405 MethodNotAllowed"),
        (404, "", &[], Reason::StorageRefused, Kind::Environment, "HTTP 404"),
        (400, xml!("EntityTooLarge"), &[], Reason::ImageTooLarge, Kind::Message, "size"),
        (
            413,
            "<html>Request Entity Too Large</html>",
            &[],
            Reason::ImageTooLarge,
            Kind::Message,
            "nginx: client_max_body_size",
        ),
        (413, xml!("EntityTooLarge"), &[], Reason::ImageTooLarge, Kind::Message, "an HTTP proxy in front of it"),
        (414, "", &[], Reason::ImageTooLarge, Kind::Message, "a shorter name"),
        (400, xml!("KeyTooLongError"), &[], Reason::InvalidName, Kind::Message, "name"),
    ] {
        let error = refused(json!({}), status, body, headers).await;
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
    let error = put(&destination(&endpoint, json!({}))).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::EndpointUnreachable, Kind::Passing), "{error}");
    assert!(error.to_string().contains("destination.s3.endpoint"), "{error}");
    assert!(!error.to_string().contains(SECRET), "{error}");
}

#[tokio::test]
async fn a_store_without_tls_on_an_https_endpoint_fails_tls() {
    let endpoint = serve(Router::new()).await.replace("http://", "https://");
    let error = put(&destination(&endpoint, json!({}))).await.unwrap_err();
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
    let started = tokio::time::Instant::now();
    let error = put(&destination(&endpoint, json!({}))).await.unwrap_err();
    assert_eq!((error.reason(), error.kind()), (Reason::StorageTimeout, Kind::Passing), "{error}");
    assert!(started.elapsed() <= Duration::from_secs(10), "{:?}", started.elapsed());
    silent.abort();
}

#[tokio::test]
async fn missing_credentials_name_the_key_and_new_ones_count_at_once() {
    let endpoint = serve(recording(ok).0).await;
    let secrets = tempfile::tempdir().unwrap();
    let key = key();
    let store = Store::new(&destination(&endpoint, json!({})), &secrets.path().into()).await;
    std::fs::create_dir(secrets.path().join("store")).unwrap();
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    let missing = |key| format!("key {key} is missing or empty in Secret \"s3\"");
    let absent = "Secret \"s3\" of destination.s3.credentialsSecret is missing, or has none of the keys".to_owned();
    for (written, reason, expected) in [
        (None, Reason::SecretNotFound, absent),
        (Some((id, "")), Reason::CredentialsMissing, missing(id)),
        (Some((id, "AKIDEXAMPLE")), Reason::CredentialsMissing, missing(secret)),
    ] {
        if let Some((key, value)) = written {
            std::fs::write(secrets.path().join("store").join(key), value).unwrap();
        }
        let error = store.put(&object(&key)).await.unwrap_err();
        assert_eq!((error.reason(), error.kind()), (reason, Kind::Environment), "{error}");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    credentials(secrets.path());
    store.put(&object(&key)).await.expect("stored with the new credentials");
    std::fs::write(secrets.path().join("store/AWS_SECRET_ACCESS_KEY"), b"\xff\xfe").unwrap();
    let error = store.put(&object(&key)).await.unwrap_err();
    assert!(error.to_string().contains("not readable text"), "{error}");
}

#[tokio::test]
async fn a_refusal_names_the_fields_that_are_set() {
    let kms = json!({ "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "k" }, "tags": { "a": "b" } });
    let owner = json!({ "expectedBucketOwner": "123456789012" });
    for (fields, status, body, says) in [
        (owner.clone(), 403, xml!("AccessDenied"), "expectedBucketOwner is set"),
        (kms.clone(), 403, xml!("AccessDenied"), "kms:GenerateDataKey"),
        (kms.clone(), 403, xml!("AccessDenied"), "s3:PutObjectTagging"),
        (kms, 400, xml!("InvalidArgument"), "check destination.s3.serverSideEncryption, destination.s3.tags"),
        (json!({}), 400, xml!("InvalidArgument"), "check destination.s3"),
        (json!({}), 403, xml!("InvalidAccessKeyId"), "correct Secret \"s3\""),
        (json!({}), 400, xml!("ExpiredToken"), "renew them in Secret \"s3\""),
        (json!({ "onConflict": "Fail" }), 501, xml!("NotImplemented"), "onConflict Fail needs"),
    ] {
        let error = refused(fields, status, body, &[]).await;
        assert_eq!(error.kind(), Kind::Environment, "{error}");
        assert!(error.to_string().contains(says), "{error} has {says:?}");
    }
}

/// One request that the server received.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A server that logs each request and computes its answer from the request.
fn recording(answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> (Router, Log) {
    let log = Log::default();
    let noted = Arc::clone(&log);
    let router = Router::new().fallback(move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let seen = Seen { method: parts.method, uri: parts.uri, headers: parts.headers, body };
        let response = answer(&seen);
        noted.lock().unwrap().push(seen);
        response
    });
    (router, log)
}

fn ok(_: &Seen) -> Response {
    [("etag", "\"1\"")].into_response()
}

fn header<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The PUT that the server receives for one object.
async fn sent(fields: Value) -> Seen {
    let conditional = fields.get("onConflict").is_some();
    let (router, log) = if conditional { recording(conflicts::empty()) } else { recording(ok) };
    let endpoint = serve(router).await;
    assert_eq!(put(&destination(&endpoint, fields)).await, Ok(Stored::New));
    let seen = log.lock().unwrap().clone();
    assert_eq!(seen.len(), if conditional { 3 } else { 1 });
    seen.into_iter().find(|seen| seen.method == Method::PUT).unwrap()
}

#[tokio::test]
async fn a_compatible_store_is_sent_one_plain_put() {
    let seen = sent(json!({})).await;
    assert_eq!((seen.method.as_str(), seen.uri.path()), ("PUT", "/bucket-greench/tiles/north/tile%207.png"));
    assert_eq!(header(&seen, "content-type"), Some("image/png"));
    assert_eq!(header(&seen, "content-length"), Some(PNG.len().to_string().as_str()));
    assert_eq!(header(&seen, "x-amz-meta-image-pipeline-digest"), Some(PIXELS));
    assert_eq!(seen.body, PNG);
    assert!(header(&seen, "authorization").unwrap().contains("/us-east-1/s3/aws4_request"));
    assert_eq!(header(&seen, "x-amz-content-sha256").unwrap().len(), 64, "plain HTTP: the body is signed");
    for name in seen.headers.keys().map(|name| name.as_str()) {
        let unknown = ["checksum", "tagging", "storage", "encryption", "owner", "cache", "if-", "trailer", "encoding"];
        assert!(!unknown.iter().any(|unknown| name.contains(unknown)), "{name}");
    }
}

#[tokio::test]
async fn every_option_is_on_the_wire() {
    for (fields, name, value) in [
        (json!({ "onConflict": "Fail" }), "if-none-match", "*"),
        (json!({ "onConflict": "ContentAddressed", "keyTemplate": "{digest}" }), "if-none-match", "*"),
        (json!({ "serverSideEncryption": { "algorithm": "AES256" } }), "x-amz-server-side-encryption", "AES256"),
        (
            json!({ "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "alias/trees" } }),
            "x-amz-server-side-encryption",
            "aws:kms",
        ),
        (
            json!({ "serverSideEncryption": { "algorithm": "aws:kms", "kmsKeyId": "alias/trees" } }),
            "x-amz-server-side-encryption-aws-kms-key-id",
            "alias/trees",
        ),
        (json!({ "storageClass": "STANDARD_IA" }), "x-amz-storage-class", "STANDARD_IA"),
        (json!({ "tags": { "a b": "c&d=ä", "team": "trees" } }), "x-amz-tagging", "a%20b=c%26d%3D%C3%A4&team=trees"),
        (json!({ "metadata": { "site": "north 7" } }), "x-amz-meta-site", "north 7"),
        (json!({ "cacheControl": "max-age=60" }), "cache-control", "max-age=60"),
        (json!({ "expectedBucketOwner": "123456789012" }), "x-amz-expected-bucket-owner", "123456789012"),
    ] {
        let seen = sent(fields).await;
        assert_eq!(header(&seen, name), Some(value), "{name}");
        let signed = header(&seen, "authorization").unwrap();
        assert!(signed.contains(name), "{signed} has {name}");
    }
}

#[tokio::test]
async fn a_checksum_is_a_header_and_the_body_stays_whole() {
    for (checksum, name) in
        [("CRC32", "x-amz-checksum-crc32"), ("CRC32C", "x-amz-checksum-crc32c"), ("SHA256", "x-amz-checksum-sha256")]
    {
        let seen = sent(json!({ "checksum": checksum })).await;
        assert!(header(&seen, name).is_some(), "{:?}", seen.headers);
        assert_eq!((header(&seen, "content-encoding"), header(&seen, "x-amz-trailer")), (None, None));
        assert_eq!(seen.body, PNG, "no chunks around it");
    }
    for checksum in ["Auto", "None"] {
        let seen = sent(json!({ "checksum": checksum })).await;
        assert!(!seen.headers.keys().any(|name| name.as_str().contains("checksum")), "{:?}", seen.headers);
    }
}

#[tokio::test]
async fn aws_is_sent_a_crc32_unless_told_not_to() {
    for (checksum, expected) in [("Auto", true), ("None", false)] {
        let (router, log) = recording(ok);
        let endpoint = serve(router).await;
        let secrets = tempfile::tempdir().unwrap();
        credentials(secrets.path());
        let mut store = Store::new(&destination("", json!({ "checksum": checksum })), &secrets.path().into()).await;
        let Connection::Known(client) = &store.connection else { panic!("no authority of its own") };
        let config = client.config().to_builder().endpoint_url(endpoint).build();
        store.connection = Connection::Known(aws_sdk_s3::Client::from_conf(config));
        store.put(&object(&key())).await.expect("stored");
        let seen = log.lock().unwrap().remove(0);
        assert_eq!(header(&seen, "x-amz-checksum-crc32").is_some(), expected, "{:?}", seen.headers);
        assert_eq!(seen.body, PNG);
    }
}

#[tokio::test]
async fn where_an_image_comes_from_is_on_the_wire_if_it_is_known() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (router, log) = recording(ok);
    let endpoint = serve(router).await;
    let secrets = tempfile::tempdir().unwrap();
    credentials(secrets.path());
    let store = Store::new(&destination(&endpoint, json!({})), &secrets.path().into()).await;
    let evil = "ä 100%\r\nx-evil: 1";
    for (id, trace, expected) in [
        (Some("flight-7/0001"), Some(TRACE), [Some("flight-7/0001"), Some(TRACE)]),
        (Some(evil), Some(evil), [Some("%C3%A4%20100%25%0D%0Ax-evil:%201"), None]),
        (None, None, [None, None]),
    ] {
        let origin = Origin::new(id, trace.map(str::as_bytes));
        store.put(&Object { origin, ..object(&key()) }).await.expect("stored");
        let seen = log.lock().unwrap().remove(0);
        let names = ["x-amz-meta-image-pipeline-message-id", "x-amz-meta-image-pipeline-traceparent"];
        assert_eq!(names.map(|name| header(&seen, name)), expected);
    }
}
