//! RabbitMQ drops a message of a quorum queue after more than 20 returns. The consumer publishes a message again to
//! its queue after ten returns, so no message reaches the limit.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, interval_at};

use crate::accounted::Accounted;
use crate::consumer::poison::header;
use crate::consumer_process::Consumer;
use crate::scene::Scene;
use accounting::account::Account;
use accounting::store_faults::{Fault, Faults};
use servers::broker::{Broker, Version};
use support::eventually::{LIMIT, eventually};
use support::images::samples;

/// More than the limit of 20 returns.
const ENDS: usize = 25;

const KILLED_EVERY: Duration = Duration::from_millis(4_500);

/// Long enough that no upload ends before the next connection is closed.
const UPLOAD: Duration = Duration::from_millis(2_500);

async fn meets_more(accounted: &Accounted, met: usize) {
    eventually("an upload to begin", LIMIT, async || {
        if accounted.store.met() > met { Ok(()) } else { Err(accounted.store.met().to_string()) }
    })
    .await;
}

/// Kills 25 consumers, one after the other, within two minutes. An upload takes 6 s and a kill comes every 4.5 s,
/// so no consumer sees an upload end. The interval is the fault, not a wait for something.
async fn kills(name: &str, version: Version) {
    let mut accounted = Accounted::new(name, version).await;
    accounted.scene.settings.spec = json!({ "source": { "rabbitmq": { "prefetch": 10 } } });
    let images = samples(50);
    accounted.publish(&images).await;
    accounted.store.set(Fault::Slow(Duration::from_secs(6)));
    let began = Instant::now();
    let mut kills = interval_at(began + KILLED_EVERY, KILLED_EVERY);
    for _ in 0..ENDS {
        let met = accounted.store.met();
        let mut consumer = Consumer::start(&accounted.scene.settings);
        meets_more(&accounted, met).await;
        kills.tick().await;
        consumer.kill();
    }
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
    let account = finishes(&accounted, images.len()).await;
    assert!(account.redelivered <= ENDS, "a consumer that stored nothing held more than one message: {account:?}");
}

/// Lets one consumer finish the work.
async fn finishes(accounted: &Accounted, images: usize) -> Account {
    accounted.store.set(Fault::None);
    let consumer = Consumer::start(&accounted.scene.settings);
    let queue = &accounted.scene.settings.queue;
    eventually("an empty queue", LIMIT, async || {
        let status = consumer.status().await?;
        let ready = accounted.scene.client.ready(queue).await?;
        if ready == 0 && status.in_flight == 0 && status.processed > 0 {
            Ok(())
        } else {
            Err(format!("{ready} {status:?}"))
        }
    })
    .await;
    accounted.scene.ends_with_parked(consumer, 0).await;
    let account = accounted.account().await;
    assert_eq!((account.stored, account.parked, account.faults()), (images, 0, vec![]), "{account:?}");
    account
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_kills_lose_nothing_on_4_0() {
    kills("limit-kills", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_kills_lose_nothing_on_4_3() {
    kills("limit-kills-4-3", Version::FourThree).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_closed_connections_lose_nothing() {
    let accounted = Accounted::new("limit-closed", Version::Four).await;
    let images = samples(50);
    accounted.publish(&images).await;
    accounted.store.set(Fault::Slow(UPLOAD));
    let consumer = Consumer::start(&accounted.scene.settings);
    for _ in 0..ENDS {
        meets_more(&accounted, accounted.store.met()).await;
        accounted.broker.close_all();
    }
    drop(consumer);
    finishes(&accounted, images.len()).await;
}

/// One upload of ten fails, and a message is held for at most a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_fail_now_and_then_lose_nothing() {
    let mut accounted = Accounted::new("limit-flaky", Version::Four).await;
    accounted.scene.settings.spec =
        json!({ "failures": { "holdingTime": "1s" }, "source": { "rabbitmq": { "prefetch": 600 } } });
    accounted.store.set(Faults::mixed(7, &[(0.05, Fault::INTERNAL_ERROR), (0.05, Fault::SLOW_DOWN)]));
    let images = samples(620);
    accounted.publish(&images).await;
    let consumer = Consumer::start(&accounted.scene.settings);
    eventually("most to be stored", Duration::from_secs(120), async || {
        if accounted.uploads() > 560 { Ok(()) } else { Err(accounted.uploads().to_string()) }
    })
    .await;
    drop(consumer);
    finishes(&accounted, images.len()).await;
}

/// The queue is full: it takes no copy, so the message can't be renewed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_near_the_limit_that_cannot_be_renewed_is_parked_once() {
    let scene = Scene::new("limit-full", Version::Four).await;
    let (queue, parking) = (&scene.settings.queue, &scene.settings.parking);
    scene.publish(&samples(1)).await;
    for _ in 0..12 {
        scene.client.take_and_return(queue).await;
    }
    scene.publish(&samples(8)[1..]).await;
    let limits = r#"{"max-length": 1, "overflow": "reject-publish"}"#;
    Broker::shared(Version::Four).await.control(&["set_policy", "limit-full", &format!("^{queue}$"), limits]);
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    let parked = scene.client.peek(parking).await;
    assert_eq!(header(&parked, "x-image-pipeline-reason").as_deref(), Some("DeliveredTooOften"));
    scene.ends_with_parked(consumer, 1).await;
}
