//! Network faults between the pipeline's pods or the operator and RabbitMQ, injected in the tap: all connections
//! are closed, or packets are dropped without an error.

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::proxy::Mode;

pub fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    let way = &scene.pipelines[pipeline].amqp;
    if kind == Kind::ConnectionClosed {
        way.close_all();
        return nothing();
    }
    way.set(Mode::Blackhole);
    async move { way.set(Mode::Pass) }.boxed_local()
}

/// Lets all traffic pass.
pub fn heal(scene: &Scene) {
    scene.pipelines.iter().for_each(|pipeline| pipeline.amqp.set(Mode::Pass));
}
