//! Acts as scheduler and kubelet for the pods of one namespace: binds a pod to a node, reports it running
//! immediately, answers `/status`, and removes it after its deletion.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use futures::StreamExt as _;
use image_pipeline::api::names;
use image_pipeline::pod_status::{ConsumerState, Health, PodStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::task::JoinSet;

use servers::loopback::listen;

/// Serves the pods of one namespace while this value lives.
pub struct Kubelet {
    holding: Arc<AtomicU64>,
    started: Arc<Mutex<HashSet<String>>>,
    _tasks: JoinSet<()>,
}

impl Kubelet {
    /// Starts serving.
    pub async fn start(client: kube::Client, namespace: &str) -> Self {
        let (holding, started) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let (listener, address) = listen().await;
        let says = holding.clone();
        let router = Router::new().route("/status", get(async move || Json(says_of_itself(&says))));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, router).await.expect("a server") });
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        tasks.spawn(run(pods, address, Arc::clone(&started)));
        Self { holding, started, _tasks: tasks }
    }

    /// Sets the number of messages that each pod reports as held.
    pub fn hold(&self, messages: u64) {
        self.holding.store(messages, Ordering::SeqCst);
    }

    /// Number of pods seen so far.
    pub fn started(&self) -> usize {
        self.started.lock().expect("the pods").len()
    }
}

fn says_of_itself(holding: &AtomicU64) -> PodStatus {
    let available = Health::Available { since: Timestamp::UNIX_EPOCH };
    PodStatus {
        state: ConsumerState::Running,
        consuming: true,
        in_flight: holding.load(Ordering::SeqCst),
        processed: 0,
        parked: 0,
        renewed: 0,
        throughput: None,
        broker: available.clone(),
        storage: available.clone(),
        parking: available,
        last_error: None,
    }
}

async fn run(pods: Api<Pod>, address: Ipv4Addr, started: Arc<Mutex<HashSet<String>>>) {
    let mut seen = std::pin::pin!(watcher(pods.clone(), Default::default()).default_backoff().applied_objects());
    while let Some(pod) = seen.next().await {
        let Ok(pod) = pod else { continue };
        // A pod that changes meanwhile comes again in the watch, so an error here is harmless.
        drop(attend(&pods, &pod, address).await);
        started.lock().expect("the pods").insert(pod.uid().unwrap_or_default());
    }
}

async fn attend(pods: &Api<Pod>, pod: &Pod, address: Ipv4Addr) -> Result<(), kube::Error> {
    let name = pod.name_any();
    if pod.metadata.deletion_timestamp.is_some() {
        return pods.delete(&name, &DeleteParams::default().grace_period(0)).await.map(drop);
    }
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_none()) {
        // A pod is deleted in two steps only after it is bound to a node.
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": name },
            "target": { "kind": "Node", "name": "node" } });
        let answer: Result<serde_json::Value, _> =
            pods.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        drop(answer?);
    }
    if pod.status.as_ref().is_some_and(|status| status.phase.as_deref() != Some("Running")) {
        let status = json!({ "status": running(address) });
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(())
}

fn running(address: Ipv4Addr) -> serde_json::Value {
    json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{
            "name": names::CONTAINER, "image": "image:1", "imageID": "image:1", "ready": true, "restartCount": 0,
            "state": { "running": {} },
        }],
    })
}
