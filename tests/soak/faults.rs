//! Injects and heals the faults, one module for each family. Both wait for the effect that they cause. `heal_all`
//! also removes what a failed injection left behind.

use futures::future::{FutureExt as _, LocalBoxFuture};

use super::kind::{Hold, Kind};
use super::scene::Scene;

mod broker;
mod cluster;
mod consumers;
mod crash;
mod leader;
pub mod operator;
mod release;
mod resource;
pub mod secrets;
mod store;
mod wire;

/// Ends an active fault.
pub type Heal<'a> = LocalBoxFuture<'a, ()>;

/// Injects a fault. `pipeline` is the affected pipeline, for faults that affect only one.
pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    match kind.hold() {
        Hold::Consumers if kind == Kind::ConsumerCrashed => crash::inject(scene, pipeline).await,
        Hold::Consumers => consumers::inject(scene, kind, pipeline).await,
        Hold::Broker => broker::inject(scene, kind, pipeline).await,
        Hold::Leader => leader::inject(scene).await,
        Hold::Wire => wire::inject(scene, kind, pipeline),
        Hold::Store => store::inject(scene, kind, pipeline).await,
        Hold::Secrets => secrets::inject(scene, kind, pipeline).await,
        Hold::Operator if matches!(kind, Kind::ReleaseUpgraded | Kind::ReleaseRolledBack) => {
            release::inject(kind).await
        }
        Hold::Operator => operator::inject(scene, kind).await,
        Hold::Cluster => cluster::inject(scene, kind).await,
        Hold::Resource => resource::inject(scene, kind, pipeline).await,
    }
}

/// Ends every fault that may be active.
pub async fn heal_all(scene: &Scene) {
    cluster::heal(scene).await;
    consumers::heal();
    crash::heal(scene).await;
    operator::heal(scene).await;
    store::heal(scene);
    wire::heal(scene);
    leader::heal(scene).await;
    broker::heal(scene).await;
    for pipeline in 0..scene.pipelines.len() {
        secrets::renew(scene, pipeline).await;
    }
    resource::heal(scene).await;
}

/// The heal of a fault that ends with its injection.
fn nothing<'a>() -> Heal<'a> {
    std::future::ready(()).boxed_local()
}
