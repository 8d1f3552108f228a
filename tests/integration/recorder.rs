//! An HTTP server that records requests and answers as the test defines. It stands in for S3 and for the services
//! that give a pod its AWS identity.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use tokio::task::AbortHandle;

use support::port::Port;

#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    headers: HeaderMap,
    pub body: Bytes,
}

type Answers = Arc<dyn Fn(&Asked) -> Response + Send + Sync>;

/// A server that runs while this value lives.
pub struct Recorder {
    port: Port,
    answers: Arc<Mutex<Answers>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: AbortHandle,
}

impl Asked {
    /// Value of a header; empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Recorder {
    pub fn start<R: IntoResponse>(answer: impl Fn(&Asked) -> R + Send + Sync + 'static) -> Self {
        let (port, asked) = (Port::reserve(), Arc::<Mutex<Vec<Asked>>>::default());
        let answers = Arc::new(Mutex::new(boxed(answer)));
        let listener = port.socket().listen(64).expect("a listener on our own port");
        let (noted, given) = (Arc::clone(&asked), Arc::clone(&answers));
        let router = Router::new().fallback(move |request: Request| async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.expect("a whole request");
            let line = format!("{} {}", parts.method, parts.uri);
            let request = Asked { line, headers: parts.headers, body };
            let answer = Arc::clone(&given.lock().unwrap());
            noted.lock().unwrap().push(request.clone());
            answer(&request)
        });
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Self { port, answers, asked, server: server.abort_handle() }
    }

    /// Changes the answers.
    pub fn answer<R: IntoResponse>(&self, answer: impl Fn(&Asked) -> R + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = boxed(answer);
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn boxed<R: IntoResponse>(answer: impl Fn(&Asked) -> R + Send + Sync + 'static) -> Answers {
    Arc::new(move |asked| answer(asked).into_response())
}
