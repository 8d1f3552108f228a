//! An API server in memory, as much of one as the operator needs: lists, watches, applied objects and
//! statuses, and a transcript of every request. It must never accept what it does not know: an
//! unknown request is answered with 404 and stays in the transcript.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// The collections that can be listed and watched, by path.
const COLLECTIONS: [&str; 4] =
    ["/apis/greench.dev/v1alpha1/imagepipelines", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/secrets"];

/// The one Lease that can be read.
pub const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/image-pipeline";
/// The uid of a Deployment that was applied here.
const APPLIED: &str = "d1";
/// A pod that may not be changed.
pub const REFUSED: &str = "refused";

/// The server.
#[derive(Clone)]
pub struct ApiServer {
    /// Where it listens.
    pub uri: Uri,
    state: Arc<Mutex<Contents>>,
    revision: watch::Sender<u64>,
}

#[derive(Default)]
struct Contents {
    lists: HashMap<&'static str, Vec<Value>>,
    statuses: HashMap<String, Value>,
    events: Vec<Value>,
    changes: Vec<Change>,
    forbidden: Vec<String>,
    leases: HashMap<String, Value>,
    /// The collections whose watches bring nothing new.
    lagging: Vec<&'static str>,
    transcript: Vec<String>,
    /// Who sent each request of the transcript, by its token.
    senders: Vec<String>,
}

/// A change of one object, for those who watch its collection.
#[derive(Clone)]
struct Change {
    revision: u64,
    path: &'static str,
    object: Value,
    line: String,
}

/// What is listed or watched: a collection, or the part of it in one namespace, or that has these labels.
#[derive(Clone)]
struct Selection {
    path: &'static str,
    namespace: Option<String>,
    labels: Vec<(String, String)>,
}

impl Selection {
    fn at(path: &str, query: &str) -> Option<Self> {
        let (head, rest) = path.split_once("/namespaces/").unwrap_or((path, ""));
        let (namespace, kind) = rest.split_once('/').map_or((None, ""), |(namespace, kind)| (Some(namespace), kind));
        let whole = if kind.is_empty() { head.to_owned() } else { format!("{head}/{kind}") };
        let path = COLLECTIONS.into_iter().find(|path| *path == whole)?;
        let selector = query.split('&').find_map(|part| part.strip_prefix("labelSelector=")).unwrap_or_default();
        let selector = percent_encoding::percent_decode_str(selector).decode_utf8().unwrap();
        let label = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let labels = selector.split(',').filter_map(|label| label.split_once('=')).map(label).collect();
        Some(Self { path, namespace: namespace.map(str::to_owned), labels })
    }

    fn has(&self, object: &Value) -> bool {
        let has_label = |(key, value): &(String, String)| object["metadata"]["labels"][key] == *value;
        self.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == *namespace)
            && self.labels.iter().all(has_label)
    }
}

impl ApiServer {
    /// A server that holds these objects; gives it and a client of it.
    pub async fn start(pipelines: Vec<Value>, secrets: Vec<Value>, deployments: Vec<Value>) -> (Self, kube::Client) {
        let mut lists =
            HashMap::from([(COLLECTIONS[0], pipelines), (COLLECTIONS[1], deployments), (COLLECTIONS[3], secrets)]);
        for object in lists.values_mut().flatten() {
            object["metadata"]["resourceVersion"] = json!("1");
        }
        let state = Arc::new(Mutex::new(Contents { lists, ..Contents::default() }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = Self { uri: uri.clone(), state, revision: watch::channel(1).0 };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        (server, client)
    }

    /// A client of its own for one who has this token.
    pub fn client_of(&self, token: &str) -> kube::Client {
        let mut config = kube::Config::new(self.uri.clone());
        config.auth_info.token = Some(token.to_owned().into());
        kube::Client::try_from(config).unwrap()
    }

    /// The requests of one who has this token.
    pub fn requests_of(&self, token: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let all = state.transcript.iter().zip(&state.senders);
        all.filter(|(_, sender)| sender.ends_with(token)).map(|(request, _)| request.clone()).collect()
    }

    /// Every request so far: method and path, and of a patch, how it is applied.
    pub fn transcript(&self) -> Vec<String> {
        self.state.lock().unwrap().transcript.clone()
    }

    /// The requests that change something.
    pub fn writes(&self) -> Vec<String> {
        self.transcript().into_iter().filter(|request| !request.starts_with("GET ")).collect()
    }

    /// The objects of a collection, by the end of its path.
    pub fn list(&self, ends: &str) -> Vec<Value> {
        self.state.lock().unwrap().lists.get(collection(ends)).cloned().unwrap_or_default()
    }

    /// The status of a pipeline as it was last written.
    pub fn status(&self, pipeline: &str) -> Value {
        self.state.lock().unwrap().statuses.get(pipeline).cloned().unwrap_or_default()
    }

    /// Every event that was written.
    pub fn events(&self) -> Vec<Value> {
        self.state.lock().unwrap().events.clone()
    }

    /// Deletes every event.
    pub fn delete_events(&self) {
        self.state.lock().unwrap().events.clear();
    }

    /// A condition of a pipeline: status, reason and message.
    pub fn condition(&self, pipeline: &str, kind: &str) -> String {
        let status = self.status(pipeline);
        let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
        let text = |key: &str| found.and_then(|found| found[key].as_str()).unwrap_or_default().to_owned();
        ["status", "reason", "message"].map(text).join(" ")
    }

    /// Puts an object into a collection, in place of the one of its name, and tells those who watch.
    pub fn put(&self, ends: &str, mut object: Value) -> Value {
        self.change(collection(ends), |objects, revision| {
            object["metadata"]["resourceVersion"] = json!(revision.to_string());
            let before = objects.iter().position(|before| is_same(before, &object));
            let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
            before.map(|before| objects.remove(before));
            objects.push(object.clone());
            (kind, object)
        })
    }

    /// From now on, those who watch a collection are told nothing.
    pub fn lag(&self, ends: &str) {
        self.state.lock().unwrap().lagging.push(collection(ends));
    }

    /// Takes an object out of a collection, and tells those who watch.
    pub fn delete(&self, ends: &str, object: &Value) {
        self.change(collection(ends), |objects, _| {
            let before = objects.iter().position(|before| is_same(before, object)).expect("there before");
            ("DELETED", objects.remove(before))
        });
    }

    /// Refuses every request that has this in its path.
    pub fn forbid(&self, part: &str) {
        self.state.lock().unwrap().forbidden.push(part.to_owned());
    }

    /// Refuses nothing any more.
    pub fn allow(&self) {
        self.state.lock().unwrap().forbidden.clear();
    }

    /// The Lease that all are after.
    pub fn lease(&self) -> Value {
        self.state.lock().unwrap().leases.get(LEASE).cloned().unwrap_or_default()
    }

    /// Writes what `spec` has of it, as another client would.
    pub fn change_lease(&self, spec: &Value) {
        let mut lease = self.lease();
        lease["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        assert_eq!(self.write_lease(LEASE, lease).status(), StatusCode::OK);
    }

    /// Writes a Lease in the version that it has, or one that is not there.
    fn write_lease(&self, path: &str, mut lease: Value) -> Response {
        let mut state = self.state.lock().unwrap();
        let before = state.leases.get(path).map(|before| before["metadata"]["resourceVersion"].clone());
        if before.unwrap_or_default() != lease["metadata"]["resourceVersion"] {
            return refusal(StatusCode::CONFLICT, "Conflict");
        }
        lease["metadata"]["resourceVersion"] = json!(state.transcript.len().to_string());
        state.leases.insert(path.to_owned(), lease.clone());
        axum::Json(lease).into_response()
    }

    fn listed(&self, selection: &Selection) -> Value {
        let state = self.state.lock().unwrap();
        let metadata = json!({ "resourceVersion": self.revision.borrow().to_string() });
        let objects = state.lists.get(selection.path).into_iter().flatten();
        let items: Vec<_> = objects.filter(|object| selection.has(object)).collect();
        json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items })
    }

    fn change(&self, path: &'static str, change: impl FnOnce(&mut Vec<Value>, u64) -> (&'static str, Value)) -> Value {
        let mut state = self.state.lock().unwrap();
        let revision = *self.revision.borrow() + 1;
        let (kind, object) = change(state.lists.entry(path).or_default(), revision);
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        if !state.lagging.contains(&path) {
            state.changes.push(Change { revision, path, object: object.clone(), line });
        }
        self.revision.send_replace(revision);
        object
    }

    /// Every change of a collection after a revision, for ever.
    fn watch(&self, selection: Selection, since: u64) -> Response {
        let next = move |(server, mut revision, since): (Self, watch::Receiver<u64>, u64)| {
            let selection = selection.clone();
            async move {
                loop {
                    revision.borrow_and_update();
                    let is_news = |change: &&Change| {
                        change.path == selection.path && selection.has(&change.object) && change.revision > since
                    };
                    let change = server.state.lock().unwrap().changes.iter().find(is_news).cloned();
                    if let Some(Change { revision: since, line, .. }) = change {
                        return Some((Ok::<_, std::io::Error>(Bytes::from(line)), (server, revision, since)));
                    }
                    revision.changed().await.ok()?;
                }
            }
        };
        Body::from_stream(futures::stream::unfold((self.clone(), self.revision.subscribe(), since), next))
            .into_response()
    }

    fn get(&self, ends: &str, path: &str, name: &str) -> Response {
        let asked = json!({ "metadata": { "namespace": namespace(path), "name": name } });
        match self.list(ends).into_iter().find(|object| is_same(object, &asked)) {
            Some(object) => axum::Json(object).into_response(),
            None => refusal(StatusCode::NOT_FOUND, "NotFound"),
        }
    }

    /// Merges what was sent for a pod into it; only its annotations are.
    fn annotate(&self, name: &str, patch: &Value) -> Response {
        let Some(mut pod) = self.list("pods").into_iter().find(|pod| pod["metadata"]["name"] == name) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            pod["metadata"]["annotations"][key] = value.clone();
        }
        axum::Json(self.put("pods", pod)).into_response()
    }
}

fn collection(ends: &str) -> &'static str {
    COLLECTIONS.into_iter().find(|path| path.ends_with(ends)).unwrap()
}

fn refusal(code: StatusCode, reason: &str) -> Response {
    let status = json!({ "kind": "Status", "status": "Failure", "reason": reason, "code": code.as_u16() });
    (code, axum::Json(status)).into_response()
}

/// The fields are another manager's.
fn conflict() -> Response {
    let cause =
        json!({ "reason": "FieldManagerConflict", "message": "conflict with another", "field": ".spec.replicas" });
    let status = json!({
        "kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "Apply failed",
        "details": { "causes": [cause] },
    });
    (StatusCode::CONFLICT, axum::Json(status)).into_response()
}

fn namespace(path: &str) -> &str {
    path.split_once("/namespaces/").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default()
}

fn is_same(one: &Value, other: &Value) -> bool {
    ["namespace", "name"].into_iter().all(|key| one["metadata"][key] == other["metadata"][key])
}

async fn answer(
    State(server): State<ApiServer>,
    headers: HeaderMap,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let sender = headers.get(AUTHORIZATION).map(|header| header.to_str().unwrap().to_owned());
    let query = uri.query().unwrap_or_default();
    let how: Vec<_> =
        query.split('&').filter(|part| part.starts_with("fieldManager=") || part.starts_with("force=")).collect();
    let request = [&[method.as_str(), uri.path()], how.as_slice()].concat().join(" ");
    {
        let mut state = server.state.lock().unwrap();
        state.transcript.push(request);
        state.senders.push(sender.unwrap_or_default());
        if state.forbidden.iter().any(|part| uri.path().contains(part)) {
            return StatusCode::FORBIDDEN.into_response();
        }
    }
    if let Some(selection) = Selection::at(uri.path(), query) {
        let since = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")?.parse().ok());
        return match since {
            Some(since) if query.contains("watch=true") => server.watch(selection, since),
            _ => axum::Json(server.listed(&selection)).into_response(),
        };
    }
    let mut applied: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match (method.as_str(), uri.path()) {
        ("PATCH", path) if path.contains("/deployments/") => {
            let before = server.list("deployments").into_iter().find(|before| is_same(before, &applied));
            // What was applied here before has this uid, and its fields are whose they were.
            if !query.contains("force=true") && before.is_some_and(|before| before["metadata"]["uid"] != APPLIED) {
                return conflict();
            }
            applied["metadata"]["generation"] = json!(1);
            applied["metadata"]["uid"] = json!(APPLIED);
            axum::Json(server.put("deployments", applied)).into_response()
        }
        ("PATCH", path) if path.contains("/pods/") && name == REFUSED => StatusCode::FORBIDDEN.into_response(),
        ("PATCH", path) if path.contains("/pods/") => server.annotate(name, &applied),
        ("PATCH", path) if path.ends_with("/status") => {
            let name = path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
            server.state.lock().unwrap().statuses.insert(name.to_owned(), applied["status"].clone());
            axum::Json(json!({ "apiVersion": "v1", "kind": "x", "metadata": { "name": name } })).into_response()
        }
        ("POST", path) if path.ends_with("/events") => {
            server.state.lock().unwrap().events.push(applied.clone());
            (StatusCode::CREATED, axum::Json(applied)).into_response()
        }
        ("GET", LEASE) => match server.lease() {
            Value::Null => refusal(StatusCode::NOT_FOUND, "NotFound"),
            lease => axum::Json(lease).into_response(),
        },
        ("POST", path) if LEASE.rsplit_once('/').is_some_and(|(leases, _)| leases == path) => {
            server.write_lease(LEASE, applied)
        }
        ("PUT", LEASE) => server.write_lease(LEASE, applied),
        ("PATCH", path) if path.contains("/events/") => {
            let events = &mut server.state.lock().unwrap().events;
            let Some(event) = events.iter_mut().find(|event| event["metadata"]["name"] == name) else {
                let status = json!({ "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404 });
                return (StatusCode::NOT_FOUND, axum::Json(status)).into_response();
            };
            assert_eq!(applied["note"], event["note"], "an API server refuses another note");
            *event = applied.clone();
            axum::Json(applied).into_response()
        }
        ("GET", path) if path.contains("/secrets/") => server.get("secrets", path, name),
        ("GET", path) if path.contains("/imagepipelines/") => server.get("imagepipelines", path, name),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
