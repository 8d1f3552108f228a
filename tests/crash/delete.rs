//! Deletes a pipeline in each of its states: none of its objects remains, and the operator then writes nothing.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::DeleteParams;
use serde_json::json;
use strum::{EnumIter, IntoEnumIterator as _};

use crate::scenario::lacking;
use crate::scene::{BROKER_SECRET, Scene};
use crate::world::World;
use support::eventually::{LIMIT, eventually};

/// State of the pipeline when it is deleted.
#[derive(Clone, Copy, Debug, EnumIter, Eq, PartialEq)]
enum When {
    Fresh,
    Starting,
    Running,
    Shrinking,
    BrokerRefuses,
    BrokerSilent,
    SecretMissing,
    Paused,
    FixedSize,
}

impl When {
    async fn reach(self, scene: &Scene) {
        scene.create(scene.pipeline()).await;
        if self == Self::Fresh {
            return;
        }
        scene.fill(30).await;
        if self == Self::Starting {
            return self.asks_for(scene, 3).await;
        }
        scene.settles_at(3).await;
        match self {
            Self::Fresh | Self::Starting | Self::Running => {}
            Self::Shrinking => {
                scene.fill(10).await;
                self.asks_for(scene, 1).await;
            }
            Self::BrokerRefuses => {
                scene.put_broker_secret("nobody").await;
                scene.says("BrokerReachable", "False", "AuthenticationFailed").await;
            }
            Self::BrokerSilent => {
                scene.cut_broker();
                scene.says("BrokerReachable", "False", "BrokerUnreachable").await;
            }
            Self::SecretMissing => {
                drop(scene.api::<Secret>().delete(BROKER_SECRET, &DeleteParams::default()).await.expect("deleted"));
                scene.says("BrokerReachable", "False", "SecretNotFound").await;
            }
            Self::Paused => {
                scene.patch(&json!({ "spec": { "paused": true } })).await;
                scene.says("ScalingActive", "False", "Paused").await;
            }
            Self::FixedSize => {
                scene.patch(&json!({ "spec": { "replicas": 2 } })).await;
                scene.settles_at(2).await;
            }
        }
    }

    /// Waits until the Deployment's spec has this size, whatever its pods do.
    async fn asks_for(self, scene: &Scene, size: i64) {
        eventually(&format!("{self:?}"), LIMIT, async || {
            let asked =
                scene.state().await.get("Deployment tiles-consumer").map(|found| found["spec"]["replicas"].clone());
            if asked == Some(json!(size)) { Ok(()) } else { Err(format!("{asked:?}")) }
        })
        .await;
    }
}

async fn deleted(world: Arc<World>, when: When) {
    let scene = Scene::start(&world, "deleted", None).await;
    when.reach(&scene).await;
    scene.delete().await;
    let settled = scene.settles(|state| lacking(state, None)).await;
    drop(settled.unwrap_or_else(|lacks| panic!("{when:?}: {lacks}")));
    assert_eq!(scene.lives(), 1, "{when:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_can_be_deleted_in_every_state() {
    let world = World::new().await;
    join_all(When::iter().map(|when| deleted(world.clone(), when))).await;
}
