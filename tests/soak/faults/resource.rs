//! A user's changes to a running pipeline: a new spec and thus new pods, a manual size, a pause. They never change
//! the stored image.

use futures::future::FutureExt as _;
use image_pipeline::api::names;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};

use super::super::kind::Kind;
use super::super::scene::{NAMESPACE, Scene};
use super::{Heal, nothing};
use support::eventually::{LIMIT, eventually};

pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    match kind {
        Kind::SpecChanged => {
            change_pods(scene, pipeline).await;
            nothing()
        }
        Kind::Paused => {
            scene.change(pipeline, json!({ "paused": true })).await;
            async move { scene.change(pipeline, json!({ "paused": false })).await }.boxed_local()
        }
        _ => {
            // Zero and one, in turn.
            let size = scene.turn(pipeline) % 2;
            scene.change(pipeline, json!({ "replicas": size })).await;
            async move { scene.change(pipeline, json!({ "replicas": null })).await }.boxed_local()
        }
    }
}

/// Lets the queue set the size of every pipeline again.
pub async fn heal(scene: &Scene) {
    for pipeline in 0..scene.pipelines.len() {
        scene.change(pipeline, json!({ "paused": false, "replicas": null })).await;
    }
}

/// Changes the grace period of the pods, and waits until all pods have the new one.
async fn change_pods(scene: &Scene, pipeline: usize) {
    let grace = 60 + scene.turn(pipeline) % 5;
    scene.change(pipeline, json!({ "consumer": { "terminationGracePeriodSeconds": grace } })).await;
    let name = names::deployment(scene.pipelines[pipeline].plan.name);
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), NAMESPACE);
    eventually(&format!("the new pods of {name}"), LIMIT * 2, async || {
        let deployment = deployments.get(&name).await.map_err(|error| error.to_string())?;
        let asked: Value = serde_json::to_value(&deployment.spec).expect("JSON");
        let asked = &asked["template"]["spec"]["terminationGracePeriodSeconds"];
        let (generation, status) = (deployment.metadata.generation, deployment.status.unwrap_or_default());
        let counts = (status.replicas, status.updated_replicas, status.ready_replicas);
        let done = counts.0 == counts.1 && counts.1 == counts.2 && status.observed_generation == generation;
        if *asked == grace && done { Ok(()) } else { Err(format!("{asked} of {grace}, {counts:?}")) }
    })
    .await;
}
