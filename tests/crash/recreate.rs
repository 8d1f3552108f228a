//! A pipeline that is deleted and created again with the same name: the old Deployment is deleted with its owner,
//! and a new one is created. The new pipeline must not adopt the old Deployment.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::scenario::lacking;
use crate::scene::Scene;
use crate::world::World;

async fn running(world: &Arc<World>) -> (Scene, Deployment) {
    let scene = Scene::start(world, "again", None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(30).await;
    scene.settles_at(3).await;
    let deployment = scene.api::<Deployment>().get("tiles-consumer").await.expect("there");
    (scene, deployment)
}

fn other(mut pipeline: Value) -> Value {
    pipeline["spec"]["image"] = json!({ "encoding": "Balanced" });
    pipeline
}

async fn comes_again(world: Arc<World>, spec: fn(Value) -> Value) {
    let (scene, old) = running(&world).await;
    scene.delete().await;
    scene.create(spec(scene.pipeline())).await;
    scene.settles_at(3).await;
    let new = scene.api::<Deployment>().get("tiles-consumer").await.expect("there");
    assert_ne!(new.uid(), old.uid());
}

/// A second pipeline with the name and spec of a deleted one, whose state the operator knew.
async fn comes_again_after_it_has_gone(world: Arc<World>) {
    let scene = Scene::start(&world, "later", None).await;
    for _ in 0..2 {
        scene.create(scene.pipeline()).await;
        scene.settles_at(0).await;
        scene.delete().await;
        let gone = scene.settles(|state| lacking(state, None)).await;
        drop(gone.unwrap_or_else(|lacks| panic!("{lacks}")));
    }
}

/// A finalizer keeps the old Deployment until the new pipeline has found it.
async fn does_not_seize_the_old(world: Arc<World>) {
    let (scene, old) = running(&world).await;
    let finalizers = async |finalizers: Value| {
        let patch = Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
        let patched = scene.api::<Deployment>().patch("tiles-consumer", &PatchParams::default(), &patch).await;
        drop(patched.expect("patched"));
    };
    finalizers(json!(["greench.dev/test"])).await;
    scene.delete().await;
    scene.create(other(scene.pipeline())).await;
    scene.says("ConsumersAvailable", "False", "NameTaken").await;
    let met = scene.api::<Deployment>().get("tiles-consumer").await.expect("there");
    assert_eq!((met.uid(), &met.spec, met.owner_references()), (old.uid(), &old.spec, old.owner_references()));
    finalizers(Value::Null).await;
    let state = scene.settles_at(3).await;
    assert!(state["Deployment tiles-consumer"]["spec"]["template"].to_string().contains("Balanced"));
}

/// The Deployment of an old script, for example, which is in none of the operator's watches.
async fn does_not_seize_anothers(world: Arc<World>) {
    let scene = Scene::start(&world, "foreign", None).await;
    let labels = json!({ "app": "script" });
    let containers = json!([{ "name": "script", "image": "script" }]);
    let theirs = json!({
        "metadata": { "name": "tiles-consumer" },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    });
    let theirs: Deployment = serde_json::from_value(theirs).expect("a Deployment");
    let created = scene.api::<Deployment>().create(&PostParams::default(), &theirs).await.expect("created");
    scene.create(scene.pipeline()).await;
    scene.says("ConsumersAvailable", "False", "NameTaken").await;
    let met = scene.api::<Deployment>().get("tiles-consumer").await.expect("there");
    assert_eq!((&met.spec, &met.metadata.labels), (&created.spec, &created.metadata.labels));
    scene.api::<Deployment>().delete("tiles-consumer", &DeleteParams::default()).await.expect("deleted");
    scene.settles_at(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_of_an_old_name_is_a_new_one() {
    let world = World::new().await;
    let w = || world.clone();
    tokio::join!(
        comes_again(w(), other),
        comes_again(w(), |same| same),
        comes_again_after_it_has_gone(w()),
        does_not_seize_the_old(w()),
        does_not_seize_anothers(w())
    );
}
