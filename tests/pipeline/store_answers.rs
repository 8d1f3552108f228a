//! Whatever the store answers, or does not: the message stays until it has said yes, and the status
//! says what the matter is.

use std::time::Duration;

use image_pipeline::reason::Reason;

use crate::accounting::store_tap::{Fault, StoreTap};
use crate::accounting::wire::Wire;
use crate::broker::Version;
use crate::consumer::Consumer;
use crate::eventually::{LIMIT, equal, eventually};
use crate::images::samples;
use crate::port::Port;
use crate::scene::Scene;

/// A fault that a pod can see is named within this time.
const NAMED: Duration = Duration::from_secs(12);

/// Work is done again within this time.
const HEALED: Duration = Duration::from_secs(20);

/// A scene whose store is reached through a proxy with a fault.
pub async fn scene(name: &str, version: Version, fault: Fault) -> (Scene, StoreTap) {
    let mut scene = Scene::new(name, version).await;
    let faulty = StoreTap::start(Port::reserve(), scene.store.address(), &Wire::default());
    faulty.set(fault);
    scene.settings.endpoint = faulty.url();
    (scene, faulty)
}

async fn is_survived(name: &str, version: Version, fault: Fault, reason: Reason) {
    let (scene, faulty) = scene(name, version, Fault::None).await;
    let images = samples(40);
    let (before, during) = images.split_at(10);
    scene.publish(before).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to work", LIMIT, |status| status.processed == 10).await;
    faulty.set(fault);
    scene.publish(during).await;
    let named = |status: &image_pipeline::pod_status::PodStatus| {
        status.storage.fault().is_some_and(|fault| fault.reason == reason)
    };
    let status = consumer.status_is(&format!("to name {reason}"), NAMED, named).await;
    assert_eq!((status.processed, status.parked), (10, 0), "nothing is acknowledged, nothing parked");
    eventually("the fault to be met more than once", LIMIT, async || {
        if faulty.met() > 4 { Ok(()) } else { Err(faulty.met().to_string()) }
    })
    .await;
    faulty.set(Fault::None);
    scene.stores(&images, HEALED).await;
    consumer.status_is("to be well", HEALED, |status| status.processed == 40 && status.storage.fault().is_none()).await;
    scene.ends_with_parked(consumer, 0).await;
}

macro_rules! survives {
    ($($test:ident: $version:ident, $fault:expr, $reason:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let name = stringify!($test).replace('_', "-");
            is_survived(&name, Version::$version, $fault, Reason::$reason).await;
        }
    )*};
}

survives! {
    internal_error: Three, Fault::Answer(500, "InternalError"), StorageUnavailable;
    service_unavailable: Four, Fault::Answer(503, "ServiceUnavailable"), StorageUnavailable;
    slow_down: Four, Fault::Answer(503, "SlowDown"), StorageThrottled;
    operation_aborted: Three, Fault::Answer(409, "OperationAborted"), StorageUnavailable;
    expired_token: Four, Fault::Answer(400, "ExpiredToken"), CredentialsExpired;
    forbidden: Three, Fault::Answer(403, "AccessDenied"), AccessDenied;
    clock_skewed: Four, Fault::Answer(403, "RequestTimeTooSkewed"), ClockSkewed;
    hanging: Four, Fault::Hang, StorageTimeout;
    stalling: Three, Fault::Stall, StorageTimeout;
}

/// Slow is not broken: everything is stored, nothing twice, and no fault is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_is_waited_for() {
    let (scene, faulty) = scene("slow-store", Version::Four, Fault::Slow(Duration::from_millis(700))).await;
    let images = samples(20);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    let status = consumer.status_is("to count all", LIMIT, |status| status.processed == 20).await;
    assert_eq!((status.last_error, faulty.met()), (None, 20));
    scene.ends_with_parked(consumer, 0).await;
}

/// The store has the object and nobody was told: it is stored again, the same bytes under the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_after_the_commit_is_asked_for_again() {
    let (scene, faulty) = scene("lost-answer", Version::Four, Fault::ResetAfterCommit).await;
    // As many as are held at once: none of them is acknowledged, so no more would come.
    let images = samples(10);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    eventually("all objects in the bucket", LIMIT, async || {
        equal(scene.store.objects(&scene.settings.bucket).len(), 10)
    })
    .await;
    let first = scene.store.objects(&scene.settings.bucket);
    assert_eq!(consumer.status().await.expect("a status").processed, 0, "no acknowledgement without an answer");
    faulty.set(Fault::None);
    consumer.status_is("to count all", HEALED, |status| status.processed == 10).await;
    assert!(scene.store.objects(&scene.settings.bucket) == first, "the same bytes under the same keys");
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}
