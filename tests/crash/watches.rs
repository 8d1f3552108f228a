//! Watches that are cut, or end because their revision has been compacted. The operator notices every change that
//! happened meanwhile.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::scenario::lacking;
use crate::scene::Scene;
use crate::world::{USERS, World};
use support::proxy::Mode;

/// A change while no watch is open.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    /// Somebody scales the Deployment.
    Resized,
    /// Somebody deletes the Deployment.
    Deleted,
}

async fn meanwhile_is_noticed(world: Arc<World>, what: Meanwhile, compacted: bool) {
    let scene = Scene::start(&world, "watch", None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(30).await;
    scene.settles_at(3).await;
    scene.api_server.set(Mode::Refuse);
    let deployments = scene.api::<Deployment>();
    let before = deployments.get("tiles-consumer").await.expect("there").uid();
    match what {
        Meanwhile::Resized => {
            let patch = Patch::Merge(json!({ "spec": { "replicas": 7 } }));
            drop(deployments.patch("tiles-consumer", &PatchParams::default(), &patch).await.expect("patched"));
        }
        Meanwhile::Deleted => {
            drop(deployments.delete("tiles-consumer", &DeleteParams::background()).await.expect("deleted"));
        }
    }
    scene.put_broker_secret(USERS[1]).await;
    scene.patch(&json!({ "spec": { "image": { "encoding": "Balanced" } } })).await;
    if compacted {
        scene.gate.expire();
    }
    scene.api_server.set(Mode::Pass);
    let settled = scene.settles(|state| lacking(state, Some(3))).await;
    let state = settled.unwrap_or_else(|lacks| panic!("{what:?}, compacted: {compacted}: {lacks}"));
    let template = state["Deployment tiles-consumer"]["spec"]["template"].to_string();
    assert!(template.contains("Balanced"), "{what:?}: {template}");
    let same = deployments.get("tiles-consumer").await.expect("there").uid() == before;
    assert_eq!(same, matches!(what, Meanwhile::Resized));
    assert!(!compacted || scene.gate.expiring() == 0, "{what:?}: not every watch received the compaction");
    assert_eq!(scene.lives(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_no_watch_is_open_is_noticed() {
    let world = World::new().await;
    let w = || world.clone();
    tokio::join!(
        meanwhile_is_noticed(w(), Meanwhile::Resized, false),
        meanwhile_is_noticed(w(), Meanwhile::Resized, true),
        meanwhile_is_noticed(w(), Meanwhile::Deleted, false),
        meanwhile_is_noticed(w(), Meanwhile::Deleted, true),
    );
}
