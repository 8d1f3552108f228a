//! S3 faults: answers from the tap before S3, and a bucket whose directory is moved away on the real server. No
//! stored object is lost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::FutureExt as _;

use super::super::kind::Kind;
use super::super::processes;
use super::super::scene::Scene;
use super::Heal;
use accounting::store_faults::{Fault, Faults};

/// Longer than a message's retry delay, shorter than the timeout of an upload.
const LATE: Duration = Duration::from_secs(2);

/// More bytes than small images have, fewer than huge ones.
const PROXY_LIMIT: usize = 1 << 20;

/// Number of huge images that exceed the proxy's limit.
const HUGE: usize = 3;

/// Directory of the buckets, relative to versitygw's root.
const BUCKETS: &str = "data/buckets";

pub async fn inject(scene: &Scene, kind: Kind, pipeline: usize) -> Heal<'_> {
    let tap = &scene.pipelines[pipeline].store;
    let faults: Faults = match kind {
        Kind::StoreFails => Fault::INTERNAL_ERROR.into(),
        Kind::StoreThrottles => Faults::mixed(1, &[(0.8, Fault::SLOW_DOWN)]),
        Kind::StoreSlow => Fault::Slow(LATE).into(),
        Kind::StoreHangs => Faults::mixed(2, &[(0.7, Fault::Hang), (0.3, Fault::Stall)]),
        Kind::StoreResets => Faults::mixed(3, &[(0.8, Fault::ResetAfterCommit)]),
        Kind::StoreDenies => Fault::DENIED.into(),
        Kind::StoreExpired => Fault::EXPIRED.into(),
        Kind::StoreDeniesSome => Faults::from(Fault::DENIED).only_for(scene.pipelines[pipeline].plan.a_part_of_keys()),
        Kind::StoreIsAnother => Fault::Page.into(),
        Kind::ProxyLimits => Faults::from(Fault::Answer(413, "")).for_longer_than(PROXY_LIMIT),
        _ => {
            remove_bucket(scene, pipeline);
            return async move { restore_bucket(scene, pipeline) }.boxed_local();
        }
    };
    tap.set(faults);
    if kind == Kind::ProxyLimits {
        for _ in 0..HUGE {
            // The broker may be down at the same time.
            drop(scene.send(pipeline, scene.huge(pipeline)));
        }
    }
    async move { tap.set(Fault::None) }.boxed_local()
}

/// Removes all faults of S3 and restores all buckets.
pub fn heal(scene: &Scene) {
    for (index, pipeline) in scene.pipelines.iter().enumerate() {
        pipeline.store.set(Fault::None);
        restore_bucket(scene, index);
    }
}

fn remove_bucket(scene: &Scene, pipeline: usize) {
    let (there, kept) = places(scene, pipeline);
    std::fs::rename(&there, &kept).expect("a bucket to take away");
}

fn restore_bucket(scene: &Scene, pipeline: usize) {
    let (there, kept) = places(scene, pipeline);
    if !kept.exists() {
        return;
    }
    // An upload that was under way may have created the directory again and been answered.
    if there.exists() {
        for entry in std::fs::read_dir(&there).expect("a directory").flatten().filter(|entry| entry.path().is_file()) {
            std::fs::rename(entry.path(), kept.join(entry.file_name())).expect("an object moved");
        }
        std::fs::remove_dir_all(&there).expect("an empty bucket removed");
    }
    std::fs::rename(&kept, &there).expect("the bucket put back");
}

/// The bucket's directory as the server's process sees it, and the directory it is moved to (the bucket name plus
/// `-removed`).
fn places(scene: &Scene, pipeline: usize) -> (PathBuf, PathBuf) {
    let processes = processes::named(&scene.parts[1], "versitygw");
    let process = processes.first().expect("the store's process");
    let buckets = Path::new("/proc").join(process.to_string()).join("root").join(BUCKETS);
    let name = scene.pipelines[pipeline].plan.name;
    (buckets.join(name), buckets.join(format!("{name}-removed")))
}
