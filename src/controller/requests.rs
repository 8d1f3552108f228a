//! Requests to the API server other than watches: how many at a time, and for how long.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Each request has a connection of its own, with TLS: some 60 KiB. When an operator starts, it has requests for all
/// pipelines.
const AT_ONCE: usize = 64;

static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

const LIMIT: Duration = Duration::from_secs(10);

/// Waits until a request may be sent; keep the turn until it is answered. A write that must not be sent late, after the
/// end of a term, is checked after this.
pub async fn turn() -> Option<SemaphorePermit<'static>> {
    // An error would mean that the semaphore is closed, which nothing does.
    TURNS.acquire().await.ok()
}

/// Sends a read when it is its turn.
///
/// # Errors
/// As [`with_timeout`].
pub async fn read<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let _turn = turn().await;
    with_timeout(request).await
}

/// Sends the request. kube would wait for a response without limit, so a lost response would block the reconcile of a
/// pipeline forever.
///
/// # Errors
/// The request's own error, or no response within 10 s.
pub async fn with_timeout<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = |_| Err(kube::Error::Service(format!("the API server did not answer within {LIMIT:?}").into()));
    tokio::time::timeout(LIMIT, request).await.unwrap_or_else(late)
}
