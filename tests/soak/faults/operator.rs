//! Operator faults: killed, the leader of two operators deleted, and a leader stopped until the other operator
//! leads. Healing leaves one operator.

use std::time::Duration;

use futures::future::FutureExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::super::kind::Kind;
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::eventually::{LIMIT, eventually};

/// The operator's namespace.
pub const NAMESPACE: &str = "image-pipeline-system";
/// Name of its release, Deployment and Lease.
pub const NAME: &str = "image-pipeline";

const SELECTOR: &str = "app.kubernetes.io/name=image-pipeline,app.kubernetes.io/component=operator";

/// The kubelet delays the restart of a container that ends repeatedly. After this time the pod is deleted, because
/// a new pod has no backoff and the backoff is not under test.
const STARTS_WITHIN: Duration = Duration::from_secs(15);

pub async fn inject(scene: &Scene, kind: Kind) -> Heal<'_> {
    match kind {
        Kind::TwoOperators => {
            scale(scene, 2).await;
            let first = holder(scene).await;
            api::<Pod>(scene).delete(&first, &DeleteParams::default()).await.expect("a pod deleted");
            scale(scene, 2).await;
            another_leads(scene, &first).await;
            scale(scene, 1).boxed_local()
        }
        Kind::LeaderPaused => {
            scale(scene, 2).await;
            let (first, process) = leader(scene).await;
            // The kubelet's liveness probe may kill it.
            scene.pods.cause(&process.pod);
            processes::signal(process.id, "STOP");
            async move {
                another_leads(scene, &first).await;
                processes::signal(process.id, "CONT");
                scale(scene, 1).await;
            }
            .boxed_local()
        }
        _ => {
            let Process { id, pod, .. } = some_operator().await;
            scene.pods.cause(&pod);
            processes::signal(id, "KILL");
            processes::gone(id, LIMIT).await;
            started_again(scene).await;
            nothing()
        }
    }
}

/// Scales to one working operator.
pub async fn heal(scene: &Scene) {
    scale(scene, 1).await;
}

/// Sets the number of operators and waits until all are ready.
async fn scale(scene: &Scene, replicas: i32) {
    let deployments: Api<Deployment> = api(scene);
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    eventually(&format!("{replicas} operators"), LIMIT * 2, async || {
        let patched = deployments.patch(NAME, &PatchParams::default(), &patch).await.map_err(|e| e.to_string())?;
        let status = patched.status.unwrap_or_default();
        let seen = status.observed_generation == patched.metadata.generation;
        let counts = (status.replicas, status.ready_replicas, status.updated_replicas);
        if seen && counts == (Some(replicas), Some(replicas), Some(replicas)) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
}

async fn holder(scene: &Scene) -> String {
    let leases: Api<Lease> = api(scene);
    eventually("a leader", LIMIT, async || {
        let lease = leases.get(NAME).await.map_err(|error| error.to_string())?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty());
        holder.ok_or_else(|| "no leader".to_owned())
    })
    .await
}

/// The leader's pod and process.
async fn leader(scene: &Scene) -> (String, Process) {
    let pods: Api<Pod> = api(scene);
    eventually("the leader's process", LIMIT, async || {
        let name = holder(scene).await;
        let pod = pods.get(&name).await.map_err(|error| error.to_string())?;
        let uid = pod.uid().unwrap_or_default();
        let process = processes::operators().into_iter().find(|process| process.pod == uid);
        process.map(|process| (name.clone(), process)).ok_or_else(|| format!("{name} has no process"))
    })
    .await
}

async fn another_leads(scene: &Scene, first: &str) {
    eventually(&format!("another than {first} to lead"), LIMIT, async || {
        let now = holder(scene).await;
        if now == first { Err(now) } else { Ok(()) }
    })
    .await;
}

async fn some_operator() -> Process {
    let find = async || processes::operators().into_iter().next().ok_or_else(|| "none".to_owned());
    eventually("an operator's process", LIMIT, find).await
}

async fn started_again(scene: &Scene) {
    let began = std::time::Instant::now();
    let mut deleted = false;
    eventually("the operator to be started again", LIMIT, async || {
        if !processes::operators().is_empty() {
            return Ok(());
        }
        if began.elapsed() > STARTS_WITHIN && !deleted {
            let pods: Api<Pod> = api(scene);
            let all = ListParams::default().labels(SELECTOR);
            deleted = pods.delete_collection(&DeleteParams::default(), &all).await.is_ok();
        }
        Err("no process yet".to_owned())
    })
    .await;
}

fn api<K>(scene: &Scene) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    Api::namespaced(scene.client.clone(), NAMESPACE)
}
