//! A message leaves its queue only after S3 has confirmed the upload.

use std::time::Duration;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::Version;
use support::eventually::{LIMIT, eventually};
use support::images::samples;
use support::proxy::Mode;

async fn held(name: &str, version: Version) {
    let mut scene = Scene::new(name, version).await;
    let proxy = scene.through_proxy(Mode::Pass);
    let queue = scene.settings.queue.clone();
    // A consumer that has just started takes one message at a time.
    let images = samples(1);
    let mut consumer = Consumer::consuming(&scene.settings).await;
    proxy.set(Mode::HoldAnswers);
    scene.publish(&images).await;

    // S3 has the image; the consumer has not received the answer.
    scene.stores(&images, LIMIT).await;
    eventually("answers to be held", LIMIT, async || if proxy.held() > 0 { Ok(()) } else { Err(String::new()) }).await;
    let stored = scene.store.objects(&scene.settings.bucket);
    let status = consumer.status().await.expect("a status");
    assert_eq!((status.processed, status.in_flight), (0, 1), "{status:?}");
    scene.client.holds(&queue, 0).await;

    // RabbitMQ requeues the message, which nobody has acknowledged.
    consumer.kill();
    scene.client.holds(&queue, 1).await;
    proxy.set(Mode::Pass);
    let consumer = Consumer::consuming(&scene.settings).await;
    consumer.status_is("to have stored it again", LIMIT, |status| status.processed == 1).await;
    assert!(scene.store.objects(&scene.settings.bucket) == stored, "the same bytes under the same keys");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_queue_keeps_a_message_until_the_store_has_answered() {
    held("held-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_keeps_a_message_until_the_store_has_answered() {
    held("held-quorum", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_keeps_a_message_until_the_store_has_answered_of_rabbitmq_4_3() {
    held("held-quorum-4-3", Version::FourThree).await;
}

/// A late answer from S3 causes neither a requeue nor a second upload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_late_is_taken() {
    let mut scene = Scene::new("late", Version::Four).await;
    let proxy = scene.through_proxy(Mode::Pass);
    let images = samples(2);
    let consumer = Consumer::consuming(&scene.settings).await;
    proxy.set(Mode::HoldAnswers);
    scene.publish(&images).await;
    eventually("answers to be held", LIMIT, async || if proxy.held() > 0 { Ok(()) } else { Err(String::new()) }).await;
    proxy.set(Mode::Pass);
    let status = consumer.status_is("to count both", Duration::from_secs(15), |status| status.processed == 2).await;
    assert_eq!(status.parked, 0);
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}
