//! An outage that is longer than messages may be held: everything is handed back once, nothing is
//! taken before a probe object was stored, and however many outages follow each other, nothing is
//! lost or parked, not even where the broker counts every return.

use std::time::Duration;

use image_pipeline::pod_status::{ConsumerState, PodStatus};
use image_pipeline::reason::Reason;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use serde_json::json;

use crate::accounted::Accounted;
use crate::accounting::store_tap::{Fault, Faults};
use crate::broker::Version;
use crate::consumer::Consumer;
use crate::eventually::{LIMIT, eventually};
use crate::images::samples;
use crate::scene::Scene;
use crate::store_answers::scene;

fn is_waiting(status: &PodStatus) -> bool {
    status.state == ConsumerState::Waiting && status.in_flight == 0
}

/// How often the broker says that it has delivered a message in vain.
fn returns(delivery: &Delivery) -> i64 {
    let count = delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get("x-delivery-count"));
    match count {
        None => 0,
        Some(AMQPValue::LongLongInt(count)) => *count,
        Some(other) => panic!("a delivery count of another type: {other:?}"),
    }
}

/// Each round the store takes the probe and nothing else, which is the worst there is: the consumer
/// believes in a recovery, takes messages and has to hand them back again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_in_a_row_cost_a_message_one_return_each() {
    let (mut scene, faulty) = scene("outages", Version::Four, Fault::DENIED).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
    let images = samples(8);
    scene.publish(&images).await;
    let mut consumer = Consumer::start(&scene.settings);
    const OUTAGES: i64 = 4;
    for outage in 0..OUTAGES {
        consumer.status_is("to wait with nothing held", LIMIT, is_waiting).await;
        scene.client.holds(&scene.settings.queue, 8).await;
        let (code, body) = consumer.get("/readyz").await.expect("an answer");
        assert!(code == 503 && body.contains(Reason::AccessDenied.as_str()), "{code} {body}");
        // It asks again and again for the probe, and touches no message meanwhile.
        let met = faulty.met();
        eventually("probes to be refused", LIMIT, async || {
            if faulty.met() > met + 1 { Ok(()) } else { Err(faulty.met().to_string()) }
        })
        .await;
        scene.client.holds(&scene.settings.queue, 8).await;
        if outage + 1 < OUTAGES {
            faulty.set(Faults::from(Fault::DENIED).but_for_the_probe());
            consumer.status_is("to consume again", LIMIT, |status| status.in_flight > 0).await;
            faulty.set(Fault::DENIED);
        }
    }
    // At rest, nobody but this test takes them.
    consumer.terminate();
    assert_eq!(consumer.exit_code(Duration::from_secs(5)).await, 0, "{}", consumer.log());
    let taken = scene.client.take(&scene.settings.queue).await;
    assert_eq!(taken.len(), 8, "nothing is lost");
    let most = taken.iter().map(returns).max();
    assert!(most <= Some(OUTAGES), "{OUTAGES} outages cost {most:?} returns");
    scene.client.holds(&scene.settings.parking, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_everything_is_stored() {
    for version in [Version::Three, Version::Four] {
        let mut accounted = Accounted::new(&format!("after-outage-{version:?}").to_lowercase(), version).await;
        accounted.scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
        let Accounted { scene, store, .. } = &accounted;
        store.set(Fault::DENIED);
        accounted.publish(&samples(30)).await;
        let consumer = Consumer::start(&scene.settings);
        consumer.status_is("to wait with nothing held", LIMIT, is_waiting).await;
        store.set(Fault::None);
        consumer.status_is("to have stored all", LIMIT, |status| status.processed == 30).await;
        scene.ends_with_parked(consumer, 0).await;
        let account = accounted.account().await;
        assert_eq!((account.stored, account.faults()), (30, vec![]));
    }
}

/// A policy that allows some keys alone. It would come back until the broker drops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_refused_while_others_are_stored_is_parked() {
    let (mut scene, faulty) = scene("refused-alone", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "6s" } });
    let mut images = samples(5);
    images[0].name = "refused.png".to_owned();
    faulty.set(Faults::from(Fault::DENIED).only_for("/refused.png"));
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.publish(&images[..1]).await;
    // One after the other, again and again until it is parked.
    let mut others = images[1..].chunks(1).cycle();
    let mut sent = 0;
    eventually("it to be parked", LIMIT, async || {
        let status = consumer.status().await?;
        if status.parked == 1 {
            // As long as none other is stored, nobody would find out.
            return if status.storage.fault().is_none() { Ok(()) } else { Err(format!("{status:?}")) };
        }
        if status.processed == sent
            && let Some(other) = others.next()
        {
            scene.publish(other).await;
            sent += 1;
        }
        Err(format!("{status:?}"))
    })
    .await;
    scene.stores(&images[1..], LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
}

/// What was under way when an outage began is stored after it did, and is no sign that others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_that_begins_between_images_parks_none() {
    let (mut scene, faulty) = scene("outage-begins", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "4s" } });
    faulty.set(Fault::Slow(Duration::from_millis(300)));
    let images = samples(60);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to store", LIMIT, |status| status.processed > 0).await;
    faulty.set(Fault::DENIED);
    consumer.status_is("to wait with nothing held", LIMIT, is_waiting).await;
    faulty.set(Fault::None);
    consumer.status_is("to have stored all", LIMIT, |status| status.processed == 60).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// A parking queue that takes nothing holds the messages that belong there, and then hands back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parking_queue_that_takes_nothing_is_waited_for() {
    let mut scene = Scene::new("parking-outage", Version::Four).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
    scene.client.declare_narrow(&scene.settings.parking, 1).await;
    scene.client.publish(&scene.settings.parking, b"in the way").await;
    scene.client.publish(&scene.settings.queue, b"no JSON").await;
    let consumer = Consumer::start(&scene.settings);
    let refused = |status: &PodStatus| {
        is_waiting(status) && status.parking.fault().is_some_and(|fault| fault.reason == Reason::ParkingRefused)
    };
    consumer.status_is("to wait for the parking queue", LIMIT, refused).await;
    scene.client.holds(&scene.settings.queue, 1).await;
    assert_eq!(scene.client.take(&scene.settings.parking).await.len(), 1, "the probe is not in it");
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    scene.ends_with_parked(consumer, 1).await;
}
