//! `kill -9` before, during and after an upload: nothing is lost, and what is stored twice is the same
//! object. And a message whose decoding kills: it is found out, and stops nobody.

use image_pipeline::pod_status::PodStatus;
use image_pipeline::reason::Reason;
use serde_json::json;

use crate::accounted::Accounted;
use crate::accounting::store_tap::Fault;
use crate::broker::Version;
use crate::consumer::Consumer;
use crate::eventually::{LIMIT, equal, eventually};
use crate::images::samples;
use crate::store_answers::scene;

/// Kills the consumer while the fault is met, and lets another one finish.
async fn killed(name: &str, version: Version, fault: Fault, taken_before: usize) {
    let accounted = Accounted::new(name, version).await;
    let Accounted { scene, store, .. } = &accounted;
    store.set(fault);
    accounted.publish(&samples(10)).await;
    let mut consumer = Consumer::start(&scene.settings);
    eventually("uploads to be under way", LIMIT, async || {
        let taken = accounted.uploads();
        if store.met() > 0 && taken >= taken_before { Ok(()) } else { Err(format!("{taken} taken")) }
    })
    .await;
    consumer.kill();
    scene.client.holds(&scene.settings.queue, 10).await;
    store.set(Fault::None);
    let consumer = Consumer::consuming(&scene.settings).await;
    consumer.status_is("to have stored all", LIMIT, |status| status.processed == 10).await;
    scene.ends_with_parked(consumer, 0).await;
    assert_eq!(accounted.account().await.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_upload() {
    killed("kill-before", Version::Four, Fault::Answer(503, "ServiceUnavailable"), 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn during_an_upload() {
    killed("kill-during", Version::Three, Fault::Stall, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_upload() {
    killed("kill-after", Version::Four, Fault::ResetAfterCommit, 4).await;
}

/// What a process leaves that was ended while it decoded: the mark of the message, counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_has_ended_processes_is_parked_and_no_other() {
    let (mut scene, faulty) = scene("killer", Version::Four, Fault::Hang).await;
    scene.settings.spec = json!({ "failures": { "maxAttempts": 2 } });
    let images = samples(6);
    scene.publish(&images).await;
    // A consumer that ends with everything unacknowledged makes them redelivered.
    let mut consumer = Consumer::start(&scene.settings);
    consumer.status_is("to hold all", LIMIT, |status| status.in_flight == 6).await;
    consumer.kill();
    scene.client.holds(&scene.settings.queue, 6).await;
    let mark = scene.settings.markers.join(blake3::hash(&images[2].body()).to_hex().as_str());
    std::fs::write(&mark, "2").expect("a mark");

    faulty.set(Fault::None);
    let consumer = Consumer::start(&scene.settings);
    let done = |status: &PodStatus| (status.processed, status.parked) == (5, 1);
    let status = consumer.status_is("to have parked it alone", LIMIT, done).await;
    assert_eq!(status.last_error.map(|fault| fault.reason), Some(Reason::KilledDecoder));
    eventually("no mark but the one that is proof", LIMIT, async || {
        equal(std::fs::read_dir(&scene.settings.markers).expect("a directory").count(), 1)
    })
    .await;
    scene.ends_with_parked(consumer, 1).await;
}
