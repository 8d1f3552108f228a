//! SIGTERM: the consumer finishes or requeues the messages it holds, takes no more, and ends in time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lapin::message::Delivery;

use crate::consumer_process::{Consumer, GRACE_SECONDS};
use crate::scene::Scene;
use servers::broker::{Source, Version};
use support::eventually::LIMIT;
use support::images::{Sample, samples};
use support::proxy::Mode;

/// Image names of the messages left in the queue.
fn names(left: &[Delivery]) -> BTreeSet<String> {
    let name = |delivery: &Delivery| {
        let body: serde_json::Value = serde_json::from_slice(&delivery.data).expect("our own body");
        body["image_metadata"]["image_name"].as_str().expect("a name").to_owned()
    };
    left.iter().map(name).collect()
}

async fn under_load(name: &str, source: impl Into<Source>) {
    let scene = Scene::new(name, source).await;
    let images = samples(300);
    scene.publish(&images).await;
    let mut consumer = Consumer::start(&scene.settings);
    consumer.status_is("to be at work", LIMIT, |status| status.processed >= 10).await;
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(GRACE_SECONDS.into())).await, 0, "{}", consumer.log());

    let stored: BTreeSet<String> = scene.store.objects(&scene.settings.bucket).into_keys().collect();
    scene.client.holds(&scene.settings.queue, (images.len() - stored.len()) as u32).await;
    let left = scene.client.take(&scene.settings.queue).await;
    assert!(!left.is_empty(), "the stop must come before the queue is empty");
    let redelivered = left.iter().filter(|delivery| delivery.redelivered).count();
    assert_eq!(redelivered, 0, "of {} messages left, none may have been delivered before", left.len());
    let left = names(&left);
    assert!(left.is_disjoint(&stored), "stored and still in the queue: {:?}", left.intersection(&stored));
    let all: BTreeSet<String> = images.iter().map(|Sample { name, .. }| name.clone()).collect();
    assert_eq!(left.union(&stored).cloned().collect::<BTreeSet<_>>(), all, "nothing is lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_finishes_what_is_held_of_a_classic_queue() {
    under_load("stop-classic", Version::Three).await;
}

/// RabbitMQ 4 has another implementation of classic queues than 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_finishes_what_is_held_of_a_classic_queue_of_rabbitmq_4_0() {
    under_load("stop-classic-4-0", Source::classic(Version::Four)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_finishes_what_is_held_of_a_classic_queue_of_rabbitmq_4_3() {
    under_load("stop-classic-4-3", Source::classic(Version::FourThree)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_finishes_what_is_held_of_a_quorum_queue() {
    under_load("stop-quorum", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_finishes_what_is_held_of_a_quorum_queue_of_rabbitmq_4_3() {
    under_load("stop-quorum-4-3", Version::FourThree).await;
}

/// One clean stop may be chance. No stop may leave a message that was delivered and not finished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_stops_under_load_give_nothing_back() {
    let scene = Scene::new("twenty-stops", Version::Four).await;
    let images = samples(1200);
    scene.publish(&images).await;
    for stop in 1..=20 {
        let mut consumer = Consumer::start(&scene.settings);
        consumer.status_is("to be at work", LIMIT, |status| status.processed >= 8).await;
        assert_eq!(consumer.redelivered().await, 0, "before stop {stop}");
        consumer.terminate();
        let code = consumer.exit_code(Duration::from_secs(GRACE_SECONDS.into())).await;
        assert_eq!(code, 0, "stop {stop}: {}", consumer.log());
    }
    let stored = scene.store.objects(&scene.settings.bucket).len();
    assert!(stored < images.len(), "the last stop must come before the queue is empty");
    let consumer = Consumer::start(&scene.settings);
    let left = (images.len() - stored) as u64;
    consumer.status_is("to have stored the rest", LIMIT, |status| status.processed == left).await;
    assert_eq!(consumer.redelivered().await, 0, "after the last stop");
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// Waiting for S3 is useless: another consumer may take the messages.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_store_is_down_hands_everything_back_at_once() {
    let mut scene = Scene::new("stop-down", Version::Four).await;
    let _refusing = scene.through_proxy(Mode::Refuse);
    let images = samples(20);
    scene.publish(&images).await;
    let mut consumer = Consumer::start(&scene.settings);
    let fails = "to report that S3 is down";
    consumer.status_is(fails, Duration::from_secs(10), |status| status.storage.fault().is_some()).await;
    let told = Instant::now();
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(5)).await, 0, "{}", consumer.log());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    let queue = &scene.settings.queue;
    scene.client.holds(queue, 20).await;
    assert_eq!(names(&scene.client.take(queue).await).len(), 20);
    assert!(scene.store.objects(&scene.settings.bucket).is_empty());
}

/// A pod that never connected to its broker has nothing to finish.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_without_a_broker_ends_at_once() {
    let mut scene = Scene::new("stop-alone", Version::Four).await;
    scene.settings.vhost = "nowhere".to_owned();
    let mut consumer = Consumer::start(&scene.settings);
    let fails = "to report the broker's fault";
    consumer.status_is(fails, Duration::from_secs(10), |status| status.broker.fault().is_some()).await;
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(5)).await, 0, "{}", consumer.log());
}
