//! What the faults do, one file for each family: each is injected and healed, and both are awaited by
//! what they bring about. It must never leave a fault behind: `heal_all` mends what an injection that
//! failed has left.

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

/// What ends a fault that is there.
pub type Heal<'a> = LocalBoxFuture<'a, ()>;

/// Brings a fault about; `pipeline` is the one that is hit, where it hits one.
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

/// Ends every fault that could be there.
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

/// Of a fault that is over once it was injected.
fn nothing<'a>() -> Heal<'a> {
    std::future::ready(()).boxed_local()
}
