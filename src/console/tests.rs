use axum::body::{Body, to_bytes};
use axum::http::Request;
use tower::ServiceExt as _;

use super::*;

async fn answer(address: &str, host: Option<&str>, console: &Console) -> (StatusCode, HeaderMap, String) {
    let router = routes(console.clone(), || true, About::default(), address.parse().unwrap());
    let request = host.into_iter().fold(Request::get("/"), |request, host| request.header(header::HOST, host));
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn no_page_of_somebody_else_can_read_it_by_a_name_that_points_to_loopback() {
    let (here, everywhere, console) = ("127.0.0.1:8081", "0.0.0.0:8081", Console::default());
    for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "localhost"] {
        assert_eq!(answer(here, Some(host), &console).await.0, StatusCode::OK, "{host}");
    }
    for host in [Some("evil.example:8081"), Some("localhost.evil.example"), Some("10.0.0.1"), Some(""), None] {
        let (status, _, body) = answer(here, host, &console).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host:?}");
        assert!(!body.contains("<html"), "{host:?}");
    }
    assert_eq!(answer(everywhere, Some("console.example"), &console).await.0, StatusCode::OK);
}

/// The policy holds the digests of style and script: with an old digest the browser would not run them.
#[tokio::test]
async fn a_browser_may_run_what_the_page_brings_and_nothing_else() {
    let (_, headers, page) = answer("127.0.0.1:8081", Some("localhost"), &Console::default()).await;
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; connect-src 'self'; "), "{policy}");
    for (element, directive) in [("style", "style-src"), ("script", "script-src")] {
        let (_, rest) = page.split_once(&format!("<{element}>")).unwrap();
        let (content, _) = rest.split_once(&format!("</{element}>")).unwrap();
        let expected = format!("{directive} 'sha256-{}'", STANDARD.encode(digest(&SHA256, content.as_bytes())));
        assert!(policy.split("; ").any(|directive| directive == expected), "{policy} without {expected}");
    }
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
}

#[tokio::test]
async fn it_knows_pipelines_while_this_operator_leads() {
    let console = Console::default();
    let metadata =
        ObjectMeta { namespace: Some("forest".to_owned()), name: Some("tiles".to_owned()), ..ObjectMeta::default() };
    let shows = async || answer("127.0.0.1:8081", Some("localhost"), &console).await.2.contains("id=\"forest/tiles\"");
    console.note_invalid(&metadata, Arc::default());
    assert!(!shows().await, "this operator is not the leader");
    console.begin();
    console.note_invalid(&metadata, Arc::default());
    assert!(shows().await);
    console.forget("forest", "others");
    assert!(shows().await);
    console.forget("forest", "tiles");
    assert!(!shows().await, "the pipeline is deleted");
    console.note_invalid(&metadata, Arc::default());
    console.end();
    assert!(!shows().await, "another operator is the leader");
}
