//! All faults together: S3 refuses, is slow and loses answers, broker connections are closed, consumers are killed,
//! and bad messages are mixed with images. The account must be clean.

use std::time::Duration;

use crate::accounted::Accounted;
use crate::consumer_process::{Consumer, GRACE_SECONDS};
use accounting::store_faults::{Fault, Faults};
use servers::broker::{Source, Version};
use support::eventually::{LIMIT, eventually};
use support::images::{Sample, samples};

const IMAGES: u32 = 160;

/// One bad message follows each group of this many images.
const POISON_EVERY: usize = 16;

/// The same faults in each run, as far as the order of requests is the same.
const SEED: u64 = 20;

fn weather() -> Faults {
    Faults::mixed(
        SEED,
        &[
            (0.10, Fault::SLOW_DOWN),
            (0.05, Fault::INTERNAL_ERROR),
            (0.10, Fault::ResetAfterCommit),
            (0.20, Fault::Slow(Duration::from_millis(80))),
        ],
    )
}

async fn publish(accounted: &Accounted, images: &[Sample]) {
    for (number, images) in images.chunks(POISON_EVERY).enumerate() {
        accounted.publish(images).await;
        let (name, body) = (format!("poison-{number}"), format!("no JSON, and another each time: {number}"));
        accounted.publish_bad(&name, body.as_bytes(), "InvalidJson").await;
    }
}

/// Waits until S3 has accepted this number of uploads. Every fourth fails, and each failure causes another slow
/// start.
async fn taken(accounted: &Accounted, uploads: usize) {
    eventually(&format!("{uploads} uploads"), LIMIT * 3, async || match accounted.uploads() {
        taken if taken >= uploads => Ok(()),
        taken => Err(taken.to_string()),
    })
    .await;
}

async fn weathers(name: &str, source: impl Into<Source>) {
    let accounted = Accounted::new(name, source).await;
    let images = samples(IMAGES);
    let settings = &accounted.scene.settings;
    accounted.store.set(weather());
    let mut killed = Consumer::start(settings);
    let storm = async {
        taken(&accounted, 20).await;
        accounted.broker.close_all();
        taken(&accounted, 50).await;
        killed.kill();
        killed = Consumer::start(settings);
        taken(&accounted, 80).await;
        accounted.broker.close_all();
        taken(&accounted, 110).await;
        killed.kill();
    };
    tokio::join!(publish(&accounted, &images), storm);
    let mut consumer = Consumer::consuming(settings).await;
    accounted.store.set(Fault::None);
    accounted.scene.client.holds(&settings.queue, 0).await;
    consumer.status_is("to hold nothing", LIMIT, |status| status.in_flight == 0).await;
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(GRACE_SECONDS.into())).await, 0, "{}", consumer.log());

    let account = accounted.account().await;
    assert_eq!(account.faults(), [""; 0], "{account:?}");
    assert_eq!(account.queued, 0, "{account:?}");
    assert_eq!(account.attempted, images.len() + images.len().div_ceil(POISON_EVERY));
    assert!(account.confirmed > account.attempted * 9 / 10, "{account:?}");
    assert!(account.duplicates > 0 && account.redelivered > 0, "the faults had no effect: {account:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_classic_queue_is_weathered() {
    weathers("storm-classic", Version::Three).await;
}

/// RabbitMQ 4 has another implementation of classic queues than 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_classic_queue_is_weathered_by_rabbitmq_4_0() {
    weathers("storm-classic-4-0", Source::classic(Version::Four)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_classic_queue_is_weathered_by_rabbitmq_4_3() {
    weathers("storm-classic-4-3", Source::classic(Version::FourThree)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_over_a_quorum_queue_is_weathered() {
    weathers("storm-quorum", Version::Four).await;
}
