//! The timeout of API server requests other than watches. kube waits for a response without limit, so a lost response
//! would block the reconcile of a pipeline forever.

use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends the request.
///
/// # Errors
/// The request's own error, or no response within 10 s.
pub async fn with_timeout<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    let late = |_| Err(kube::Error::Service(format!("the API server did not answer within {LIMIT:?}").into()));
    tokio::time::timeout(LIMIT, request).await.unwrap_or_else(late)
}
