//! The HTTP side of every process: `/livez`, `/readyz`, `/metrics`, and whatever routes the process
//! adds. It must never answer with more than the process chose to tell.

use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The three routes that every process has. `ready` says why the process is not ready, if it isn't.
pub fn routes(registry: Registry, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Router {
    let (registry, ready) = (Arc::new(registry), Arc::new(ready));
    let metrics = move || {
        let mut text = String::new();
        let encoded = prometheus_client::encoding::text::encode(&mut text, &registry);
        std::future::ready(match encoded {
            Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        })
    };
    let readyz = move || {
        std::future::ready(match ready() {
            Ok(()) => (StatusCode::OK, "ready".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        })
    };
    Router::new()
        .route("/livez", get(|| std::future::ready("alive")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Serves until told to stop.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
