//! Faults of the way to the broker, in the tap that a pipeline's pods and the operator go through:
//! every connection is closed, or nothing passes and nobody is told. It must never touch the broker.

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::proxy::Mode;

/// Brings one about.
pub fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    let way = &scene.pipelines[pipeline].amqp;
    if kind == Kind::ConnectionClosed {
        way.close_all();
        return nothing();
    }
    way.set(Mode::Blackhole);
    async move { way.set(Mode::Pass) }.boxed_local()
}

/// Lets everything pass.
pub fn heal(scene: &Scene) {
    scene.pipelines.iter().for_each(|pipeline| pipeline.amqp.set(Mode::Pass));
}
