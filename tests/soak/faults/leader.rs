//! Fault of the RabbitMQ cluster: the node that leads the queue is killed while the other nodes run.

use futures::future::FutureExt as _;

use super::super::plan::LED;
use super::super::scene::Scene;
use super::Heal;

/// Kills the leader's node.
pub async fn inject(scene: &Scene) -> Heal<'_> {
    let killed = scene.cluster.lock().await.kill_leader(scene.pipelines[LED].plan.name);
    async move { scene.cluster.lock().await.restart(killed).await }.boxed_local()
}

/// Starts the nodes that are down.
pub async fn heal(scene: &Scene) {
    let mut cluster = scene.cluster.lock().await;
    for node in 0..cluster.nodes.len() {
        if !cluster.nodes[node].is_running() {
            cluster.restart(node).await;
        }
    }
}
