//! Faults of the consumers' processes: killed, told to end, stopped, out of memory. It must never
//! choose a pod that was restarted more often than another: how long the kubelet waits before it
//! starts one again is not what is tried here.

use std::time::Duration;

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::eventually::{LIMIT, eventually};

/// So many huge images are enough for each of the pipeline's pods to have several at once.
const ENOUGH: usize = 40;

/// Bytes that a consumer which was given enough in vain has more than before, to go on with.
const BREATH: u64 = 16 << 20;

/// A consumer that is told to end has this time, by its pod's spec, and the kubelet a little more.
const ENDS_WITHIN: Duration = Duration::from_secs(70);

/// Brings one about.
pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    let Process { id, pod, .. } = victim(scene, pipeline).await;
    match kind {
        Kind::ConsumerStopped => {
            processes::signal(id, "STOP");
            return async move { processes::signal(id, "CONT") }.boxed_local();
        }
        Kind::ConsumerTerminated => {
            scene.pods.cause(&pod);
            processes::signal(id, "TERM");
            processes::gone(id, ENDS_WITHIN).await;
        }
        Kind::ConsumerOutOfMemory => {
            scene.pods.cause(&pod);
            starve(scene, pipeline, id).await;
        }
        _ => {
            scene.pods.cause(&pod);
            processes::signal(id, "KILL");
            processes::gone(id, LIMIT).await;
        }
    }
    nothing()
}

/// Lets all go on that are stopped.
pub fn heal() {
    for process in processes::all() {
        processes::signal(process.id, "CONT");
    }
}

async fn victim(scene: &Scene, pipeline: usize) -> Process {
    let name = scene.pipelines[pipeline].plan.name;
    eventually(&format!("a consumer of {name}"), LIMIT, async || {
        let least = processes::consumers(name).into_iter().min_by_key(|process| scene.pods.caused(&process.pod));
        least.ok_or_else(|| "none".to_owned())
    })
    .await
}

/// Allows the container no more memory than it has, and gives it huge images, until the kernel kills
/// the process that asks for more. The container that follows has a limit of its own.
async fn starve(scene: &Scene, pipeline: usize, id: u32) {
    let limit = processes::memory_limit(id).expect("a control group that bounds memory");
    let (mut allowed, mut given) = (processes::resident(id).unwrap_or_default(), 0);
    eventually(&format!("the kernel to kill process {id}"), LIMIT * 2, async || {
        if !processes::exists(id) {
            return Ok(());
        }
        // The kernel refuses a bound below what it can't take back.
        let less = allowed / 10 * 9;
        if std::fs::write(&limit, less.to_string()).is_ok() {
            allowed = less;
        } else if given < ENOUGH {
            given += 1;
            // A broker that is away may be among the faults.
            let _unconfirmed = scene.send(pipeline, scene.huge(pipeline)).await;
        } else {
            // It may be so short of memory that it only reads its own program again and again, and takes nothing.
            (allowed, given) = (processes::resident(id).unwrap_or_default() + BREATH, 0);
            let _gone = std::fs::write(&limit, allowed.to_string());
        }
        Err(format!("{allowed} bytes are allowed"))
    })
    .await;
}
