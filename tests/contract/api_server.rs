//! An API server in memory, as much of one as the operator needs: lists, watches, and a transcript
//! of every request. It must never accept what it does not know: an unknown request is answered
//! with 404 and stays in the transcript.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// The collections that can be listed and watched, by path.
const COLLECTIONS: [&str; 4] =
    ["/apis/greench.dev/v1alpha1/imagepipelines", "/apis/apps/v1/deployments", "/api/v1/pods", "/api/v1/secrets"];

/// The server.
#[derive(Clone)]
pub struct ApiServer {
    state: Arc<Mutex<Contents>>,
    events: broadcast::Sender<(&'static str, Value)>,
}

#[derive(Default)]
struct Contents {
    lists: HashMap<&'static str, Vec<Value>>,
    transcript: Vec<String>,
    statuses: HashMap<String, Value>,
    events: Vec<Value>,
}

impl ApiServer {
    /// A server that holds these objects; gives it and a client of it.
    pub async fn start(pipelines: Vec<Value>, secrets: Vec<Value>, deployments: Vec<Value>) -> (Self, kube::Client) {
        let lists =
            HashMap::from([(COLLECTIONS[0], pipelines), (COLLECTIONS[1], deployments), (COLLECTIONS[3], secrets)]);
        let state = Arc::new(Mutex::new(Contents { lists, ..Contents::default() }));
        let server = Self { state, events: broadcast::channel(64).0 };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let client = kube::Client::try_from(kube::Config::new(uri)).unwrap();
        (server, client)
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
        let path = COLLECTIONS.into_iter().find(|path| path.ends_with(ends)).unwrap();
        self.state.lock().unwrap().lists.get(path).cloned().unwrap_or_default()
    }

    /// The status last written of a pipeline.
    pub fn last_status(&self, pipeline: &str) -> Value {
        self.state.lock().unwrap().statuses.get(pipeline).cloned().unwrap_or_default()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Value> {
        self.state.lock().unwrap().events.clone()
    }

    fn watch(&self, path: &'static str) -> Response {
        let events = futures::stream::unfold(self.events.subscribe(), |mut events| async {
            Some((events.recv().await.ok()?, events))
        });
        let lines = events.filter_map(move |(of, event)| {
            std::future::ready((of == path).then(|| Ok::<_, std::io::Error>(Bytes::from(format!("{event}\n")))))
        });
        Body::from_stream(lines).into_response()
    }

    /// Adds an object to a collection, or changes the one of its name.
    pub fn change(&self, ends: &str, object: Value) {
        let path = COLLECTIONS.into_iter().find(|path| path.ends_with(ends)).unwrap();
        self.put(path, object);
    }

    /// Keeps an applied object as the API server would, and tells those who watch.
    fn put(&self, path: &'static str, mut object: Value) -> Value {
        for (key, value) in [("generation", json!(1)), ("resourceVersion", json!("2")), ("uid", json!("d1"))] {
            if object["metadata"][key].is_null() {
                object["metadata"][key] = value;
            }
        }
        let mut contents = self.state.lock().unwrap();
        let list = contents.lists.entry(path).or_default();
        list.retain(|other| other["metadata"]["name"] != object["metadata"]["name"]);
        list.push(object.clone());
        drop(contents);
        self.events.send((path, json!({ "type": "MODIFIED", "object": object }))).ok();
        object
    }
}

async fn answer(State(server): State<ApiServer>, method: Method, uri: Uri, body: Bytes) -> Response {
    let query = uri.query().unwrap_or_default();
    let how: Vec<_> =
        query.split('&').filter(|part| part.starts_with("fieldManager=") || part.starts_with("force=")).collect();
    let request = [&[method.as_str(), uri.path()], how.as_slice()].concat().join(" ");
    server.state.lock().unwrap().transcript.push(request);
    if let Some(path) = COLLECTIONS.into_iter().find(|path| *path == uri.path()) {
        return if query.contains("watch=true") {
            server.watch(path)
        } else {
            let items = server.state.lock().unwrap().lists.get(path).cloned().unwrap_or_default();
            axum::Json(
                json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": "1" }, "items": items }),
            )
            .into_response()
        };
    }
    let applied: Value = serde_json::from_slice(&body).unwrap_or_default();
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    match (method.as_str(), uri.path()) {
        ("PATCH", path) if path.contains("/deployments/") => {
            axum::Json(server.put(COLLECTIONS[1], applied)).into_response()
        }
        ("PATCH", path) if path.ends_with("/status") => {
            let name = path.trim_end_matches("/status").rsplit('/').next().unwrap_or_default();
            server.state.lock().unwrap().statuses.insert(name.to_owned(), applied["status"].clone());
            axum::Json(json!({ "apiVersion": "v1", "kind": "x", "metadata": { "name": name } })).into_response()
        }
        ("POST", path) if path.ends_with("/events") => {
            server.state.lock().unwrap().events.push(applied.clone());
            (StatusCode::CREATED, axum::Json(applied)).into_response()
        }
        ("GET", path) if path.contains("/secrets/") => {
            match server.list("secrets").into_iter().find(|secret| secret["metadata"]["name"] == name) {
                Some(secret) => axum::Json(secret).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
