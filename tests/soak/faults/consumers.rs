//! Faults of consumer processes: killed, terminated, stopped, out of memory. The victim is a pod with the fewest
//! restarts so far, because the kubelet's backoff before a restart is not under test.

use std::time::Duration;

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::processes::{self, Process};
use super::super::scene::Scene;
use super::{Heal, nothing};
use support::eventually::{LIMIT, eventually};

/// This many huge images give each of the pipeline's pods several at the same time.
const ENOUGH: usize = 40;

/// Bytes that a consumer which survived all huge images gets above its current use, so that it can continue.
const BREATH: u64 = 16 << 20;

/// A terminated consumer has the grace period of its pod, plus some time for the kubelet.
const ENDS_WITHIN: Duration = Duration::from_secs(70);

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

/// Resumes all stopped processes.
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

/// Limits the container's memory to what it uses now, and sends it huge images until the kernel kills the process.
/// The next container has a limit of its own.
async fn starve(scene: &Scene, pipeline: usize, id: u32) {
    let limit = processes::memory_limit(id).expect("a control group that bounds memory");
    let (mut allowed, mut given) = (processes::resident(id).unwrap_or_default(), 0);
    eventually(&format!("the kernel to kill process {id}"), LIMIT * 2, async || {
        if !processes::exists(id) {
            return Ok(());
        }
        // The kernel refuses a limit below the memory that it can't reclaim.
        let less = allowed / 10 * 9;
        if std::fs::write(&limit, less.to_string()).is_ok() {
            allowed = less;
        } else if given < ENOUGH {
            given += 1;
            // The broker may be down at the same time.
            let _unconfirmed = scene.send(pipeline, scene.huge(pipeline)).await;
        } else {
            // A consumer with so little memory may only reread its own program from disk and take no messages.
            (allowed, given) = (processes::resident(id).unwrap_or_default() + BREATH, 0);
            let _gone = std::fs::write(&limit, allowed.to_string());
        }
        Err(format!("{allowed} bytes are allowed"))
    })
    .await;
}
