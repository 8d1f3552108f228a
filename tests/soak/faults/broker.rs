//! RabbitMQ faults: shutdown and restart, kill, memory alarm, a queue deleted and declared again. No confirmed
//! message may be lost: RabbitMQ's data remains, and only an empty queue is deleted.

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::processes;
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::eventually::{LIMIT, equal, eventually};

/// The kernel's name of the RabbitMQ process.
const BROKER: &str = "beam.smp";

/// RabbitMQ's default `vm_memory_high_watermark`.
const USUAL_MEMORY: &str = "0.6";

pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    match kind {
        Kind::BrokerRestarted => {
            scene.ctl(&["stop_app"]).await;
            start(scene).boxed_local()
        }
        Kind::MemoryAlarm => {
            scene.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
            alarm(scene, true).await;
            enough_memory(scene).boxed_local()
        }
        Kind::QueueRecreated => {
            delete_queue(scene, pipeline).await;
            scene.declare(pipeline).boxed_local()
        }
        _ => {
            for process in processes::named(&scene.parts[0], BROKER) {
                processes::signal(process, "KILL");
                processes::gone(process, LIMIT).await;
            }
            scene.broker_answers().await;
            nothing()
        }
    }
}

/// Restores a running RabbitMQ without alarm, with all queues.
pub async fn heal(scene: &Scene) {
    start(scene).await;
    enough_memory(scene).await;
    for pipeline in 0..scene.pipelines.len() {
        scene.declare(pipeline).await;
    }
}

async fn start(scene: &Scene) {
    scene.ctl(&["start_app"]).await;
    scene.broker_answers().await;
}

async fn enough_memory(scene: &Scene) {
    scene.ctl(&["set_vm_memory_high_watermark", USUAL_MEMORY]).await;
    alarm(scene, false).await;
}

async fn alarm(scene: &Scene, expected: bool) {
    eventually("the memory alarm to change", LIMIT, async || {
        let alarms = scene.broker_evaluates("rabbit_alarm:get_alarms().").await;
        equal(alarms.contains("memory"), expected)
    })
    .await;
}

/// Deleting a queue deletes its messages, so the queue must be empty and no publish may be under way.
async fn delete_queue(scene: &Scene, pipeline: usize) {
    let name = scene.pipelines[pipeline].plan.name;
    let _held = scene.hold(pipeline).await;
    eventually(&format!("{name} to be empty"), LIMIT, async || equal(scene.depths().await[pipeline], Some(0))).await;
    scene.ctl(&["delete_queue", name]).await;
}
