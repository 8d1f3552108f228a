//! An absent API server: the operator continues afterwards without a restart, and running pods stay untouched.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use serde_json::json;

use crate::scene::Scene;
use crate::world::{USERS, World};
use support::proxy::Mode;

/// Longer than the timeout of a request.
const AWAY: Duration = Duration::from_secs(12);

/// Uid and generation of the Deployment, and the number of writes to Deployments.
async fn deployment(scene: &Scene) -> (Option<String>, Option<i64>, usize) {
    let deployment = scene.api::<Deployment>().get("tiles-consumer").await.expect("there");
    let writes = scene.gate.writes().iter().filter(|write| write.request.contains("deployments")).count();
    (deployment.uid(), deployment.metadata.generation, writes)
}

async fn running(world: &Arc<World>, name: &str) -> Scene {
    let scene = Scene::start(world, name, None).await;
    scene.create(scene.pipeline()).await;
    scene.fill(30).await;
    scene.settles_at(3).await;
    scene
}

/// The length of the outage is part of the test, so this is no wait for a condition.
async fn away(scene: &Scene, how: Mode, meanwhile: impl Future<Output = ()>) {
    scene.api_server.set(how);
    tokio::join!(tokio::time::sleep(AWAY), meanwhile);
    scene.api_server.set(Mode::Pass);
}

async fn nothing_is_touched(world: Arc<World>, how: Mode) {
    let scene = running(&world, "away").await;
    let (state, before, writes) = (scene.state().await, deployment(&scene).await, scene.gate.writes().len());
    away(&scene, how, async {}).await;
    // A change that concerns no pod shows that the operator is back.
    scene.patch(&json!({ "spec": { "scaling": { "maxReplicas": 19 } } })).await;
    let after = scene.settles_at(3).await;
    assert_eq!(deployment(&scene).await, before, "{how:?}");
    assert_eq!(state["pods started so far"], after["pods started so far"], "{how:?}");
    let written: Vec<_> = scene.gate.writes().split_off(writes).into_iter().map(|write| write.request).collect();
    assert_eq!(written, ["PATCH imagepipelines/*/status"], "{how:?}");
    assert_eq!(scene.lives(), 1);
}

async fn what_came_meanwhile_is_seen(world: Arc<World>, how: Mode) {
    let scene = running(&world, "busy").await;
    away(&scene, how, async {
        scene.fill(60).await;
        scene.put_broker_secret(USERS[1]).await;
    })
    .await;
    scene.settles_at(6).await;
    assert_eq!(scene.lives(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_was_away_is_worked_with_again() {
    let world = World::new().await;
    let w = || world.clone();
    tokio::join!(
        nothing_is_touched(w(), Mode::Refuse),
        nothing_is_touched(w(), Mode::Blackhole),
        what_came_meanwhile_is_seen(w(), Mode::Refuse),
        what_came_meanwhile_is_seen(w(), Mode::Blackhole),
    );
}
