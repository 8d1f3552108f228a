//! How long the API server may take to answer one request that is no watch. It must never be left out
//! of such a request: kube waits for an answer for ever, and one that is lost on the way would hold its
//! pipeline up for as long.

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// The answer to a request, if it comes in time.
///
/// # Errors
/// The request's own, or that no answer came.
pub async fn answered<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = |_| Err(kube::Error::Service(format!("the API server has not answered within {LIMIT:?}").into()));
    tokio::time::timeout(LIMIT, request).await.unwrap_or_else(late)
}
