//! Answers `/status` for every pod, and notes when each was asked.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::routing::get;
use image_pipeline::api::names;
use serde_json::json;
use tokio::net::TcpListener;

/// When each pod was asked, by its address.
#[derive(Clone)]
pub struct Answers {
    asked: Arc<Mutex<HashMap<String, Vec<Instant>>>>,
    body: Arc<str>,
}

impl Answers {
    /// Listens on the consumers' port of all addresses.
    pub async fn serve() -> Self {
        let available = json!({ "Available": { "since": "2026-01-01T00:00:00Z" } });
        let body = json!({
            "state": "Running", "consuming": true, "inFlight": 0, "processed": 1000, "parked": 0, "throughput": 20.0,
            "broker": available, "storage": available, "parking": available, "lastError": null,
        });
        let answers = Self { asked: Arc::default(), body: body.to_string().into() };
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, names::HTTP_PORT)).await;
        let listener = listener.expect("the consumers' port: make bench-scaling gives this a network of its own");
        let router = Router::new().route("/status", get(answer)).with_state(answers.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        answers
    }

    /// Forgets what has been asked so far.
    pub fn forget(&self) {
        self.asked.lock().expect("no panic").clear();
    }

    /// Seconds between two reads of a pod, of all pods.
    pub fn gaps(&self) -> Vec<f64> {
        let asked = self.asked.lock().expect("no panic");
        let gaps = asked.values().flat_map(|times| times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()));
        gaps.collect()
    }

    /// Reads per second, if they took this time.
    pub fn per_second(&self, time: Duration) -> f64 {
        let asked = self.asked.lock().expect("no panic");
        asked.values().map(Vec::len).sum::<usize>() as f64 / time.as_secs_f64()
    }
}

async fn answer(State(answers): State<Answers>, headers: HeaderMap) -> String {
    let pod = headers.get(header::HOST).and_then(|host| host.to_str().ok()).expect("the address of a pod");
    answers.asked.lock().expect("no panic").entry(pod.to_owned()).or_default().push(Instant::now());
    answers.body.to_string()
}
