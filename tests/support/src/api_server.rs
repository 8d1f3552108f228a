//! An API server in memory with the parts that the operator needs: lists, watches, applied objects and statuses,
//! events, a Lease, and a transcript of every request. It answers an unknown request with 404 and keeps it in the
//! transcript.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Paths of the collections that can be listed and watched.
const COLLECTIONS: [&str; 4] =
    ["/apis/greench.dev/v1alpha1/imagepipelines", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/secrets"];

/// Path of the only Lease.
pub const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/system/leases/image-pipeline";
/// Uid of Deployments applied to this server.
const APPLIED: &str = "d1";
/// Name of a pod that refuses every patch (403).
pub const REFUSED: &str = "refused";

#[derive(Clone)]
pub struct ApiServer {
    /// Base URI of the server.
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
    /// Collections whose watches deliver no changes.
    lagging: Vec<&'static str>,
    transcript: Vec<String>,
    /// Bearer token of the sender of each request in the transcript.
    senders: Vec<String>,
}

/// A change of one object, for the watches of its collection.
#[derive(Clone)]
struct Change {
    revision: u64,
    path: &'static str,
    object: Value,
    line: String,
}

/// What is listed or watched: a collection, or its part in one namespace or with these labels.
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
    /// Starts a server with these objects. Returns it and a client.
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

    /// A client that sends this bearer token.
    pub fn client_of(&self, token: &str) -> kube::Client {
        let mut config = kube::Config::new(self.uri.clone());
        config.auth_info.token = Some(token.to_owned().into());
        kube::Client::try_from(config).unwrap()
    }

    /// Requests that carried this bearer token.
    pub fn requests_of(&self, token: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let all = state.transcript.iter().zip(&state.senders);
        all.filter(|(_, sender)| sender.ends_with(token)).map(|(request, _)| request.clone()).collect()
    }

    /// Every request so far: method, path, and the parameters of a patch.
    pub fn transcript(&self) -> Vec<String> {
        self.state.lock().unwrap().transcript.clone()
    }

    /// The requests that are not GET.
    pub fn writes(&self) -> Vec<String> {
        self.transcript().into_iter().filter(|request| !request.starts_with("GET ")).collect()
    }

    /// Objects of the collection whose path ends with `ends`.
    pub fn list(&self, ends: &str) -> Vec<Value> {
        self.state.lock().unwrap().lists.get(collection(ends)).cloned().unwrap_or_default()
    }

    /// The last status written for a pipeline.
    pub fn status(&self, pipeline: &str) -> Value {
        self.state.lock().unwrap().statuses.get(pipeline).cloned().unwrap_or_default()
    }

    /// Every event written so far.
    pub fn events(&self) -> Vec<Value> {
        self.state.lock().unwrap().events.clone()
    }

    /// Deletes every event.
    pub fn delete_events(&self) {
        self.state.lock().unwrap().events.clear();
    }

    /// Status, reason and message of a pipeline's condition, separated by spaces.
    pub fn condition(&self, pipeline: &str, kind: &str) -> String {
        let status = self.status(pipeline);
        let found = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == kind);
        let text = |key: &str| found.and_then(|found| found[key].as_str()).unwrap_or_default().to_owned();
        ["status", "reason", "message"].map(text).join(" ")
    }

    /// Creates or replaces an object in a collection, and notifies the watches.
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

    /// From now on the watches of this collection deliver no changes.
    pub fn lag(&self, ends: &str) {
        self.state.lock().unwrap().lagging.push(collection(ends));
    }

    /// Deletes an object, and notifies the watches.
    pub fn delete(&self, ends: &str, object: &Value) {
        self.change(collection(ends), |objects, _| {
            let before = objects.iter().position(|before| is_same(before, object)).expect("there before");
            ("DELETED", objects.remove(before))
        });
    }

    /// Refuses every request with this text in its path.
    pub fn forbid(&self, part: &str) {
        self.state.lock().unwrap().forbidden.push(part.to_owned());
    }

    /// Ends all refusals.
    pub fn allow(&self) {
        self.state.lock().unwrap().forbidden.clear();
    }

    /// The Lease that the operators compete for.
    pub fn lease(&self) -> Value {
        self.state.lock().unwrap().leases.get(LEASE).cloned().unwrap_or_default()
    }

    /// Changes fields of the Lease's spec, as another client would.
    pub fn change_lease(&self, spec: &Value) {
        let mut lease = self.lease();
        lease["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        assert_eq!(self.write_lease(LEASE, lease).status(), StatusCode::OK);
    }

    /// Writes a Lease if its resource version is current, or creates it.
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

    /// Streams every change of a selection after a revision, without end.
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

    /// Merges a patch into a Deployment. Only the size is merged.
    fn resize(&self, name: &str, path: &str, patch: &Value) -> Response {
        let asked = json!({ "metadata": { "namespace": namespace(path), "name": name } });
        let Some(mut live) = self.list("deployments").into_iter().find(|object| is_same(object, &asked)) else {
            return StatusCode::NOT_FOUND.into_response();
        };
        live["spec"]["replicas"] = patch["spec"]["replicas"].clone();
        let generation = live["metadata"]["generation"].as_i64().unwrap_or(0);
        live["metadata"]["generation"] = json!(generation + 1);
        axum::Json(self.put("deployments", live)).into_response()
    }

    /// Merges a patch into a pod. Only annotations are merged.
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

/// Conflict: another field manager owns the fields.
fn conflict() -> Response {
    let cause =
        json!({ "reason": "FieldManagerConflict", "message": "conflict with another", "field": ".spec.replicas" });
    let status = json!({
        "kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409, "message": "Apply failed",
        "details": { "causes": [cause] },
    });
    (StatusCode::CONFLICT, axum::Json(status)).into_response()
}

fn is_merge(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/merge-patch+json")
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
        ("PATCH", path) if path.contains("/deployments/") && is_merge(&headers) => server.resize(name, path, &applied),
        ("PATCH", path) if path.contains("/deployments/") => {
            let before = server.list("deployments").into_iter().find(|before| is_same(before, &applied));
            // A Deployment with this uid was applied here, so its fields belong to the same manager.
            if !query.contains("force=true")
                && before.as_ref().is_some_and(|before| before["metadata"]["uid"] != APPLIED)
            {
                return conflict();
            }
            let before = before.unwrap_or_default();
            let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
            let is_change = before["spec"] != applied["spec"];
            applied["metadata"]["generation"] = json!(generation + i64::from(is_change));
            applied["metadata"]["uid"] = json!(APPLIED);
            applied["status"] = before["status"].clone();
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
            assert_eq!(applied["note"], event["note"], "an API server refuses to change the note");
            *event = applied.clone();
            axum::Json(applied).into_response()
        }
        ("GET", path) if path.contains("/secrets/") => server.get("secrets", path, name),
        ("GET", path) if path.contains("/deployments/") => server.get("deployments", path, name),
        ("GET", path) if path.contains("/imagepipelines/") => server.get("imagepipelines", path, name),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
