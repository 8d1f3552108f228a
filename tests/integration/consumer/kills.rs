//! `kill -9` before, during and after an upload: nothing is lost, and a second upload stores the same object. A
//! message that crashes its consumer is parked at its second delivery.

use std::collections::HashMap;
use std::io::Cursor;
use std::time::Duration;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use lapin::types::AMQPValue;
use serde_json::json;

use crate::accounted::Accounted;
use crate::consumer_process::{Consumer, GRACE_SECONDS};
use accounting::ledger::Id;
use accounting::store_faults::Fault;
use accounting::wire::Event;
use servers::broker::{Broker, Version};
use support::eventually::{LIMIT, equal, eventually};
use support::images::{Sample, samples};

/// Kills the consumer while an upload meets the fault, and lets another consumer finish.
async fn killed(name: &str, version: Version, fault: Fault, taken_before: usize) {
    let accounted = Accounted::new(name, version).await;
    let Accounted { scene, store, .. } = &accounted;
    store.set(fault);
    accounted.publish(&samples(10)).await;
    let mut consumer = Consumer::start(&scene.settings);
    eventually("uploads to begin", LIMIT, async || {
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

/// Data limit of these consumers: enough for the process and small images, too little for the pixels of
/// `too_large`.
const DATA: u64 = 128 << 20;

/// A PNG of a few hundred kilobytes whose 147 MB of pixels exceed `DATA`: the allocation fails, and the process
/// aborts. Its header is valid, and without a memory limit the image would be stored.
fn too_large(number: usize) -> Sample {
    let mut file = Cursor::new(Vec::new());
    let pixels = RgbImage::from_pixel(7000, 7000, Rgb([number as u8; 3]));
    DynamicImage::from(pixels).write_to(&mut file, ImageFormat::Png).expect("a PNG");
    Sample { name: format!("too-large-{number}.png"), file: file.into_inner() }
}

/// Number of deliveries of each message.
fn deliveries(events: &[Event]) -> HashMap<Option<Id>, usize> {
    events.iter().fold(HashMap::new(), |mut counts, event| {
        if let Event::Delivered { id, .. } = event {
            *counts.entry(*id).or_default() += 1;
        }
        counts
    })
}

/// RabbitMQ's limit on the returns of a message.
const DEFAULT_LIMIT: usize = 20;

/// Restarts a crashed consumer, as the kubelet does. Uses a quorum queue of RabbitMQ 4, which drops a message that
/// has returned more than `limit` times.
async fn consumers_that_end(name: &str, consumers: usize, crashing: usize, limit: usize) {
    let mut accounted = Accounted::new(name, Version::Four).await;
    let (queue, policy) = (&accounted.scene.settings.queue, json!({ "delivery-limit": limit }));
    let broker = Broker::shared(Version::Four).await;
    broker.control(&["set_policy", name, &format!("^{queue}$"), &policy.to_string()]);
    accounted.scene.settings.spec = json!({ "failures": { "deliveryLimit": limit } });
    accounted.scene.settings.data_limit = Some(DATA);
    accounted.scene.settings.environment = vec![("RUST_MIN_STACK", "2097152".to_owned())];
    let (settings, client) = (&accounted.scene.settings, &accounted.scene.client);
    let images = samples(30);
    for (number, images) in images.chunks(30 / crashing).enumerate() {
        let bad = too_large(number);
        accounted.publish_bad(&bad.name, &bad.body(), "CrashingMessage").await;
        accounted.publish(images).await;
    }
    let mut running: Vec<Consumer> = (0..consumers).map(|_| Consumer::start(settings)).collect();
    let mut restarts = 0;
    eventually("everything to be stored or parked", LIMIT, async || {
        for consumer in running.iter_mut().filter(|consumer| !consumer.is_running()) {
            *consumer = Consumer::start(settings);
            restarts += 1;
        }
        let parked = client.ready(&settings.parking).await?;
        equal((accounted.uploads() >= images.len(), parked as usize >= crashing), (true, true))
    })
    .await;
    for consumer in &mut running {
        consumer.status_is("to hold nothing", LIMIT, |status| status.in_flight == 0).await;
        consumer.terminate();
        assert_eq!(consumer.exit_code(Duration::from_secs(GRACE_SECONDS.into())).await, 0, "{}", consumer.log());
    }
    assert!((1..=crashing).contains(&restarts), "{crashing} messages caused {restarts} restarts");
    let delivered = deliveries(&accounted.wire.events());
    // At a low limit, a message is renewed after its first return.
    let copies = if limit == DEFAULT_LIMIT { 1 } else { 2 };
    let most = copies * (1 + crashing);
    assert!(delivered.values().all(|times| *times <= most), "more than one return each: {delivered:?}");
    let parked = client.peek(&settings.parking).await;
    let headers = parked.properties.headers().as_ref().expect("headers").inner();
    let AMQPValue::LongString(detail) = &headers["x-image-pipeline-detail"] else { panic!("{headers:?}") };
    assert!(detail.to_string().contains("more memory"), "{detail}");
    let account = accounted.account().await;
    assert_eq!(account.faults(), [""; 0], "{account:?}");
    // A consumer that another message crashes before it acknowledges a parked one leaves that to be parked again.
    assert_eq!((account.queued, account.parked - account.parked_again), (0, crashing), "{account:?}");
    assert!(account.parked_again < crashing, "{account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_its_consumer_is_parked_by_one() {
    consumers_that_end("crashing-1", 1, 1, DEFAULT_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_ends_its_consumer_is_parked_by_four() {
    consumers_that_end("crashing-4", 4, 1, DEFAULT_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_end_their_consumers_are_parked_by_one() {
    consumers_that_end("crashing-all", 1, 3, DEFAULT_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_end_their_consumers_are_parked_by_six() {
    consumers_that_end("crashing-6", 6, 3, DEFAULT_LIMIT).await;
}

/// The first copy of such a message is not redelivered, and must not crash another consumer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_end_their_consumers_are_parked_at_the_lowest_limit() {
    consumers_that_end("crashing-low", 2, 2, 2).await;
}
