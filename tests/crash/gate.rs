//! A proxy between one operator and the API server: it limits the operator to one namespace and to the rights of the
//! chart, records its writes, and injects a fault into one of them. It changes nothing else.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::chart::OPERATOR;
use crate::fault::{Fault, Write};

/// Paths of the cluster-wide lists and watches of the operator.
const WHOLE: [&str; 4] =
    ["/apis/greench.dev/v1alpha1/imagepipelines", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/secrets"];

/// The proxy server of one operator.
pub struct Gate {
    shared: Arc<Shared>,
    /// Address of the proxy.
    pub address: SocketAddr,
    server: JoinHandle<()>,
}

/// State shared by the requests and by the operator that one of them kills.
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
    /// The request that met the fault.
    hit: Option<String>,
    /// Collections whose next watch receives "410 Expired".
    expiring: HashSet<&'static str>,
}

impl Gate {
    /// Starts a proxy that injects `planned` once, if its write occurs.
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

    /// The shared state, for the operator.
    pub fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// Starts a step: all later writes belong to it.
    pub fn begin(&self, step: &'static str) {
        self.shared.seen().step = step;
    }

    /// The writes so far.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.seen().writes.clone()
    }

    /// Time of the last write, or of the start.
    pub fn last_write(&self) -> Instant {
        self.shared.seen().last
    }

    /// The request that met the fault.
    pub fn hit(&self) -> Option<String> {
        self.shared.seen().hit.clone()
    }

    /// Answers the next watch of each kind with "410 Expired", as after a compaction.
    pub fn expire(&self) {
        self.shared.seen().expiring = WHOLE.into();
    }

    /// Number of kinds whose watch has not received it yet.
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
    /// Returns once the operator must end.
    pub async fn killed(&self) {
        let mut killed = self.killed.subscribe();
        drop(killed.wait_for(|killed| *killed).await);
    }

    /// Lets requests of the next operator pass.
    pub fn revive(&self) {
        self.killed.send_replace(false);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a write, and returns its fault.
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

    /// Whether this is the first watch of its kind since `expire`.
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
        parts.headers.insert("Impersonate-User", HeaderValue::from_static(OPERATOR));
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

/// Removes names from a path: requests of the same kind are equal, although names of pods and events differ in each
/// run.
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
        // Reads the answer to its end: the API server has applied the write once it has answered.
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
