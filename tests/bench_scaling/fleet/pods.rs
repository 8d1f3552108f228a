//! What Kubernetes makes of a Deployment: its pods, running and ready, and its status.

use std::net::Ipv4Addr;

use futures::{StreamExt as _, stream};
use image_pipeline::api::names;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::PODS;
use super::scene::AT_ONCE;

/// The hash in the names of ReplicaSets.
const HASH: &str = "5d9f8c7b6";

/// Creates the pods of all Deployments, each with an address of its own.
pub async fn create(client: &Client, deployments: &[Deployment]) {
    let run = |(number, deployment)| run(client, deployment, number * PODS);
    stream::iter(deployments.iter().enumerate()).map(run).buffer_unordered(AT_ONCE).count().await;
}

async fn run(client: &Client, deployment: &Deployment, first: usize) {
    let namespace = deployment.namespace().expect("a namespace");
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    for number in first..first + PODS {
        let pod: Pod = serde_json::from_value(pod(deployment, number)).expect("a pod");
        pods.create(&PostParams::default(), &pod).await.expect("a new pod");
        let status = Patch::Merge(json!({ "status": status(number) }));
        pods.patch_status(&pod.name_any(), &PatchParams::default(), &status).await.expect("a status");
    }
    let status = json!({
        "observedGeneration": deployment.metadata.generation, "replicas": PODS, "updatedReplicas": PODS,
        "readyReplicas": PODS, "availableReplicas": PODS,
    });
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    let status = Patch::Merge(json!({ "status": status }));
    let patched = deployments.patch_status(&deployment.name_any(), &PatchParams::default(), &status).await;
    patched.expect("a status");
}

fn pod(deployment: &Deployment, number: usize) -> Value {
    let template = &deployment.spec.as_ref().expect("a spec").template;
    let metadata = template.metadata.as_ref().expect("labels");
    let mut labels = metadata.labels.clone().expect("labels");
    labels.insert(names::POD_TEMPLATE_HASH_LABEL.to_owned(), HASH.to_owned());
    let set = format!("{}-{HASH}", deployment.name_any());
    json!({
        "metadata": {
            "name": format!("{set}-{number:05}"), "namespace": deployment.namespace(), "labels": labels,
            "annotations": metadata.annotations,
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": format!("set-{number}"),
                "controller": true,
            }],
        },
        "spec": template.spec,
    })
}

fn status(number: usize) -> Value {
    let address = address(number).to_string();
    let container = json!({
        "name": names::CONTAINER, "image": "fleet:1", "imageID": "fleet", "ready": true, "started": true,
        "restartCount": 0, "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
    });
    let condition =
        |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    json!({
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "containerStatuses": [container],
        "conditions": conditions,
    })
}

/// Every address of 127.0.0.0/8 is this machine.
fn address(number: usize) -> Ipv4Addr {
    let [.., high, middle, low] = (number as u32).to_be_bytes();
    Ipv4Addr::new(127, high + 1, middle, low)
}
