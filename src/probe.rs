//! One request to a process's `/readyz`, for `helm test`: the image has no shell and no HTTP client. The request is not
//! repeated until the process is ready.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Ask a process whether it is ready: exit code 0 if it answers 200
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// URL of the endpoint, such as http://image-pipeline:8080/readyz
    pub url: Url,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the process does not answer")]
    Unanswered(#[source] reqwest::Error),
    #[error("not ready: {url} answers {status}: {body}")]
    NotReady { url: Url, status: StatusCode, body: String },
}

/// Sends the request and prints the answer.
///
/// # Errors
/// No answer within 10 s, or a status other than 200.
pub async fn run(Args { url }: Args) -> Result<(), Error> {
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none()).timeout(TIMEOUT).build();
    let response = client.map_err(Error::Unanswered)?.get(url.clone()).send().await.map_err(Error::Unanswered)?;
    let status = response.status();
    let body = response.text().await.map_err(Error::Unanswered)?;
    if status != StatusCode::OK {
        return Err(Error::NotReady { url, status, body });
    }
    println!("{url} answers {status}: {body}");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use prometheus_client::registry::Registry;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::http::{NotReady, routes, serve};

    /// Probes a process with this readiness.
    async fn asked(ready: Result<(), NotReady>) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, routes(Registry::default(), move || ready.clone()), stop.clone()));
        let answer = run(Args { url: url.parse().unwrap() }).await;
        stop.cancel();
        server.await.unwrap().unwrap();
        answer
    }

    #[tokio::test]
    async fn what_the_process_says_is_the_answer() {
        asked(Ok(())).await.unwrap();
        let listing = NotReady { reason: "Listing".to_owned(), message: "no answer yet".to_owned() };
        let said = asked(Err(listing)).await.unwrap_err().to_string();
        assert!(said.contains("503") && said.contains("Listing"), "{said}");
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/readyz", listener.local_addr().unwrap()).parse().unwrap();
        drop(listener);
        assert!(matches!(run(Args { url }).await, Err(Error::Unanswered(_))));
    }
}
