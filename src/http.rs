//! The HTTP endpoints of operator and consumer: `/livez`, `/readyz` and `/metrics`. They answer from the state of the
//! process alone: a probe that depends on another system restarts healthy pods.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::net::TcpListener;

mod serve;

pub use serve::serve;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why a process is not ready: the JSON body of `/readyz` with status 503.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct NotReady {
    /// A CamelCase word.
    pub reason: String,
    /// One or two sentences.
    pub message: String,
}

/// `/livez` returns 200 as long as the process serves requests, `/readyz` returns 200 while `ready` returns `Ok`, and
/// `/metrics` returns the registry in the OpenMetrics text format.
pub fn routes(registry: Registry, ready: impl Fn() -> Result<(), NotReady> + Send + Sync + 'static) -> Router {
    let (registry, ready) = (Arc::new(registry), Arc::new(ready));
    Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(move || async move { readiness(ready()) }))
        .route("/metrics", get(move || async move { metrics(&registry) }))
}

/// Binds an address. `[::]` accepts connections to every IPv4 and IPv6 address (Linux, ipv6(7)); if the kernel has no
/// IPv6, it falls back to `0.0.0.0`.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let is_without = |error: &io::Error| address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != ErrorKind::AddrInUse;
    match bound {
        Err(error) if is_without(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await,
        bound => bound,
    }
}

fn readiness(ready: Result<(), NotReady>) -> Response {
    match ready {
        Ok(()) => "ok".into_response(),
        Err(not_ready) => (StatusCode::SERVICE_UNAVAILABLE, Json(not_ready)).into_response(),
    }
}

fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use prometheus_client::metrics::counter::Counter;
    use tower::ServiceExt;

    use super::*;

    async fn answer(ready: Result<(), NotReady>, path: &str) -> (StatusCode, String, String) {
        let mut registry = Registry::with_prefix("image_pipeline");
        registry.register("things", "Things", Counter::<u64>::default());
        let router = routes(registry, move || ready.clone());
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn alive_does_not_need_ready() {
        let not_ready = NotReady { reason: "Draining".to_owned(), message: "stopping".to_owned() };
        assert_eq!(answer(Err(not_ready.clone()), "/livez").await.0, StatusCode::OK);
        let (status, kind, body) = answer(Err(not_ready), "/readyz").await;
        assert_eq!((status, kind.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "application/json"));
        assert_eq!(body, r#"{"reason":"Draining","message":"stopping"}"#);
        assert_eq!(answer(Ok(()), "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn everywhere_is_both_kinds_of_addresses() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap());
        if listener.local_addr().unwrap().is_ipv6() {
            drop(tokio::net::TcpStream::connect(("::1", port)).await.unwrap());
        }
        let taken = listen(listener.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let (status, kind, body) = answer(Ok(()), "/metrics").await;
        assert_eq!((status, kind.as_str()), (StatusCode::OK, OPEN_METRICS));
        assert!(body.contains("image_pipeline_things_total 0") && body.ends_with("# EOF\n"), "{body}");
    }
}
