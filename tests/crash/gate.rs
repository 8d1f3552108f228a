//! What stands between one operator and the API server: it keeps the operator to one namespace, counts
//! its writes, and does a fault to one of them. It must never change what it passes on.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fault::{Fault, Write};

/// What the operator lists and watches in the whole cluster: before the name of the collection.
const WHOLE: [&str; 4] =
    ["/apis/greench.dev/v1alpha1/imagepipelines", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/secrets"];

/// The server of one operator.
pub struct Gate {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

/// What its requests share, and the operator that is killed by one of them.
pub struct Shared {
    client: kube::Client,
    namespace: String,
    state: Mutex<Seen>,
    killed: watch::Sender<bool>,
}

struct Seen {
    step: &'static str,
    writes: Vec<Write>,
    last: Instant,
    planned: Option<(Write, Fault)>,
    /// The request that the fault was done to.
    hit: Option<String>,
    /// The collections whose next watch is told that its revision is too old.
    expiring: HashSet<&'static str>,
}

impl Gate {
    /// Starts one that does `planned` once, if it comes to it.
    pub async fn start(client: kube::Client, namespace: &str, planned: Option<(Write, Fault)>) -> Self {
        let (writes, expiring) = (Vec::new(), HashSet::new());
        let seen = Seen { step: "", writes, last: Instant::now(), planned, hit: None, expiring };
        let (namespace, state, killed) = (namespace.to_owned(), Mutex::new(seen), watch::channel(false).0);
        let shared = Arc::new(Shared { client, namespace, state, killed });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.expect("a server") });
        Self { shared, address, server }
    }

    /// For the operator to be killed by.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Says to which step the writes from now on belong.
    pub fn begin(&self, step: &'static str) {
        self.shared.seen().step = step;
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.seen().writes.clone()
    }

    /// When the last of them, or of the test's own steps, was.
    pub fn last_write(&self) -> Instant {
        self.shared.seen().last
    }

    /// The request that the fault was done to.
    pub fn hit(&self) -> Option<String> {
        self.shared.seen().hit.clone()
    }

    /// Tells the next watch of each kind that its revision is too old, as after a compaction.
    pub fn expire(&self) {
        self.shared.seen().expiring = WHOLE.into();
    }

    /// How many kinds have not been told yet.
    pub fn expiring(&self) -> usize {
        self.shared.seen().expiring.len()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    /// Returns once the operator is to be dead.
    pub async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        drop(killed.wait_for(|killed| *killed).await);
    }

    /// Lets the next life of the operator speak.
    pub fn revive(&self) {
        self.killed.send_replace(false);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a write, and gives the fault that is to be done to it.
    fn count(&self, method: &Method, path: &str) -> Option<Fault> {
        if matches!(*method, Method::GET | Method::HEAD) || path.contains("/leases") {
            return None;
        }
        let mut seen = self.seen();
        let request = format!("{method} {}", without_names(path));
        let same = |write: &&Write| write.step == seen.step && write.request == request;
        let nth = seen.writes.iter().filter(same).count() + 1;
        let write = Write { step: seen.step, request, nth };
        let fault = seen.planned.take_if(|(planned, _)| *planned == write).map(|(_, fault)| fault);
        seen.hit = fault.map(|_| format!("{method} {path}")).or(seen.hit.take());
        seen.last = Instant::now();
        seen.writes.push(write);
        fault
    }

    /// Whether this is the first watch of its kind since they were to be told.
    fn expires(&self, path: &str, query: &str) -> bool {
        query.contains("watch=true") && self.seen().expiring.remove(path)
    }

    async fn forward(&self, request: Request) -> Response {
        let (mut parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        let mut path = parts.uri.path().to_owned();
        if let Some(whole) = WHOLE.into_iter().find(|whole| *whole == path) {
            let (group, collection) = whole.rsplit_once('/').expect("a collection");
            path = format!("{group}/namespaces/{}/{collection}", self.namespace);
        }
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        parts.uri = format!("{path}{query}").parse().expect("a path");
        parts.headers.remove(header::HOST);
        let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
        match self.client.send(request).await {
            Ok(answer) => {
                let (mut parts, body) = answer.into_parts();
                parts.headers.remove(header::TRANSFER_ENCODING);
                Response::from_parts(parts, Body::new(body))
            }
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

/// Requests of the same kind are one: pods and events have names that are never the same.
fn without_names(path: &str) -> String {
    let mut segments: Vec<_> = path.split('/').collect();
    if let Some(namespaces) = segments.iter().position(|segment| *segment == "namespaces") {
        segments.drain(..namespaces + 2);
    }
    if segments.len() > 1 {
        segments[1] = "*";
    }
    segments.join("/")
}

async fn answer(State(gate): State<Arc<Shared>>, request: Request) -> Response {
    if *gate.killed.borrow() {
        return std::future::pending().await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if gate.expires(&path, request.uri().query().unwrap_or_default()) {
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
            "reason": "Expired", "message": "too old resource version" });
        return format!("{}\n", json!({ "type": "ERROR", "object": status })).into_response();
    }
    let Some(fault) = gate.count(&method, &path) else { return gate.forward(request).await };
    if fault.is_applied() {
        let applied = gate.forward(request).await;
        // To its end: the API server has done it once it has said so.
        drop(axum::body::to_bytes(applied.into_body(), usize::MAX).await);
    }
    if fault.kills() {
        gate.killed.send_replace(true);
    }
    match fault.answer() {
        Some(answer) => answer,
        None => std::future::pending().await,
    }
}
