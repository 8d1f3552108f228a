//! Outages of S3 and of the parking queue: the consumer takes no more messages, returns held messages at most once,
//! and resumes with a real message. However long an outage lasts, nothing is lost and no good image is parked.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::time::Duration;

use image::{ImageFormat, Rgb, RgbImage};
use image_pipeline::pod_status::{ConsumerState, PodStatus};
use image_pipeline::reason::Reason;
use serde_json::json;

use crate::accounted::Accounted;
use crate::consumer::poison::header;
use crate::consumer::store_answers::scene;
use crate::consumer_process::Consumer;
use crate::scene::Scene;
use accounting::store_faults::{Fault, Faults};
use accounting::wire::Event;
use servers::broker::{Source, Version};
use support::eventually::{LIMIT, equal, eventually};
use support::images::{Sample, samples};

/// One refused object delays the others by seconds at most.
const SECONDS: Duration = Duration::from_secs(15);

fn is_waiting(status: &PodStatus) -> bool {
    status.state == ConsumerState::Waiting
}

/// Holding times end repeatedly while `consumers` wait for S3, and no message is returned more than once, as the
/// broker's deliveries show.
async fn costs_one_return_at_most(name: &str, version: Version, fault: Fault, consumers: usize, count: u32) {
    let mut accounted = Accounted::new(name, version).await;
    accounted.scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
    let Accounted { scene, store, .. } = &accounted;
    store.set(fault);
    let images = samples(count);
    accounted.publish(&images).await;
    let running: Vec<Consumer> = (0..consumers).map(|_| Consumer::start(&scene.settings)).collect();
    eventually("a consumer to wait", LIMIT, async || {
        for consumer in &running {
            if consumer.status().await.is_ok_and(|status| is_waiting(&status)) {
                return Ok(());
            }
        }
        Err("no consumer waits".to_owned())
    })
    .await;
    // Long after the holding time.
    let met = store.met();
    eventually("many uploads to fail", LIMIT, async || {
        if store.met() > met + 20 { Ok(()) } else { Err(store.met().to_string()) }
    })
    .await;
    let mut returns = BTreeMap::<_, u32>::new();
    for event in accounted.wire.events() {
        if let Event::Delivered { id, redelivered: true, .. } = event {
            *returns.entry(id).or_default() += 1;
        }
    }
    assert!(returns.values().all(|returns| *returns <= 1), "returns by message: {returns:?}");
    store.set(Fault::None);
    scene.stores(&images, LIMIT).await;
    scene.client.holds(&scene.settings.parking, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_outage_costs_a_message_one_return() {
    costs_one_return_at_most("outage-503", Version::Four, Fault::SLOW_DOWN, 1, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_denial_costs_a_message_one_return() {
    costs_one_return_at_most("outage-denied", Version::Four, Fault::DENIED, 1, 8).await;
}

/// A message that one waiting consumer returns must not be taken and returned by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_many_pods_costs_a_message_one_return() {
    costs_one_return_at_most("outage-many", Version::Four, Fault::SLOW_DOWN, 22, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_everything_is_stored() {
    let quorum = [Version::Four, Version::FourThree].map(Source::from);
    let classic = [Version::Three, Version::Four, Version::FourThree].map(Source::classic);
    for source in quorum.into_iter().chain(classic) {
        let name = format!("after-outage-{:?}-{:?}", source.version, source.queue_type).to_lowercase();
        let mut accounted = Accounted::new(&name, source).await;
        accounted.scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
        let Accounted { scene, store, .. } = &accounted;
        store.set(Fault::DENIED);
        accounted.publish(&samples(30)).await;
        let consumer = Consumer::start(&scene.settings);
        consumer.status_is("to wait", LIMIT, is_waiting).await;
        let (code, body) = consumer.get("/readyz").await.expect("an answer");
        assert!(code == 503 && body.contains(Reason::AccessDenied.as_str()), "{code} {body}");
        store.set(Fault::None);
        consumer.status_is("to have stored all", LIMIT, |status| status.processed == 30).await;
        scene.ends_with_parked(consumer, 0).await;
        let account = accounted.account().await;
        assert_eq!((account.stored, account.faults()), (30, vec![]));
    }
}

/// Ten objects that S3 refuses are at the queue's head, followed by twenty that S3 accepts.
async fn refused_objects(name: &str, source: impl Into<Source>, fault: Fault, reason: Reason) {
    let (mut scene, faulty) = scene(name, source, Fault::None).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "4s" } });
    let mut images = samples(30);
    for (number, image) in images[..10].iter_mut().enumerate() {
        image.name = format!("south/refused-{number}.png");
    }
    faulty.set(Faults::from(fault).only_for("/south/"));
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images[10..], SECONDS).await;
    consumer.status_is("to have parked ten", SECONDS, |status| status.parked == 10).await;
    consumer.status_is("to be well", LIMIT, |status| status.storage.fault().is_none()).await;
    let parked = scene.client.take(&scene.settings.parking).await;
    for message in &parked {
        assert_eq!(header(message, "x-image-pipeline-reason").as_deref(), Some(reason.as_str()));
    }
    equal(parked.len(), 10).expect("parked");
}

/// A proxy with a limit on the size of bodies (nginx: client_max_body_size).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_a_proxy_refuses_are_parked_and_the_others_stored() {
    refused_objects("refused-413", Version::Four, Fault::Answer(413, ""), Reason::ImageTooLarge).await;
}

/// A classic queue returns a message as often as it is handed back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_classic_queue_that_a_proxy_refuses_are_parked_and_the_others_stored() {
    let classic = Source::classic(Version::Four);
    refused_objects("refused-413-classic", classic, Fault::Answer(413, ""), Reason::ImageTooLarge).await;
}

/// Credentials that allow one prefix only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_a_policy_denies_are_parked_and_the_others_stored() {
    refused_objects("refused-403", Version::Four, Fault::DENIED, Reason::AccessDenied).await;
}

/// A policy that allows only some keys. If it were not parked, the message would return until RabbitMQ drops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_refused_while_others_are_stored_is_parked() {
    let (mut scene, faulty) = scene("refused-alone", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "6s" } });
    let mut images = samples(5);
    images[0].name = "refused.png".to_owned();
    faulty.set(Faults::from(Fault::DENIED).only_for("/refused.png"));
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.publish(&images).await;
    consumer.status_is("to have parked one", LIMIT, |status| status.parked == 1).await;
    scene.stores(&images[1..], LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
}

/// Uploads under way when an outage begins may still succeed. They don't prove that other uploads succeed.
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
    consumer.status_is("to wait", LIMIT, is_waiting).await;
    faulty.set(Fault::None);
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// Connections of one large upload break again and again, shortly after a broken upload succeeded when it was repeated:
/// the network is at fault, not the image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_image_whose_connections_break_by_chance_is_stored() {
    let (scene, faulty) = scene("breaks", Version::Four, Fault::None).await;
    let broken = async |more: usize| {
        let met = faulty.met();
        eventually("uploads to break", LIMIT, async || {
            if faulty.met() > met + more { Ok(()) } else { Err(faulty.met().to_string()) }
        })
        .await;
    };
    let consumer = Consumer::consuming(&scene.settings).await;
    faulty.set(Faults::from(Fault::ResetAfterCommit).only_for("/first"));
    scene.publish(&[large("first.png")]).await;
    broken(2).await;
    faulty.set(Faults::from(Fault::ResetAfterCommit).only_for("/second"));
    consumer.status_is("to store the first", LIMIT, |status| status.processed == 1).await;
    scene.publish(&[large("second.png")]).await;
    broken(1).await;
    // Uploads that succeeded meanwhile would prove that only the large object is refused.
    let mut small = samples(600).into_iter();
    let mut published = vec![large("first.png"), large("second.png")];
    let met = faulty.met();
    eventually("seven attempts of two requests", LIMIT, async || {
        published.extend(small.next());
        scene.publish(&published[published.len() - 1..]).await;
        if faulty.met() >= met + 14 { Ok(()) } else { Err(faulty.met().to_string()) }
    })
    .await;
    faulty.set(Fault::None);
    scene.stores(&published, LIMIT).await;
    consumer.status_is("to store all", LIMIT, |status| status.processed == published.len() as u64).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// A proxy closes the connection of each upload above its limit. S3 stores all others, and stays available.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_image_that_a_proxy_breaks_off_is_parked_and_storage_stays_available() {
    let (scene, faulty) = scene("proxy-resets", Version::Four, Fault::None).await;
    faulty.set(Faults::from(Fault::Reset).for_longer_than(1 << 20));
    let consumer = Consumer::consuming(&scene.settings).await;
    let mut small = samples(200).into_iter();
    let mut published: Vec<Sample> = small.by_ref().take(3).collect();
    scene.publish(&published).await;
    scene.stores(&published, LIMIT).await;
    scene.publish(&[large("large.png")]).await;
    eventually("the large image to be parked", LIMIT, async || {
        let status = consumer.status().await?;
        assert_eq!(status.storage.fault(), None, "after {} uploads", faulty.met());
        published.extend(small.next());
        scene.publish(&published[published.len() - 1..]).await;
        if status.parked == 1 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let parked = scene.client.peek(&scene.settings.parking).await;
    assert_eq!(header(&parked, "x-image-pipeline-reason").as_deref(), Some(Reason::ImageTooLarge.as_str()));
    let detail = header(&parked, "x-image-pipeline-detail").expect("a detail");
    assert!(detail.contains("client_max_body_size"), "{detail}");
    scene.stores(&published, LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
}

/// More than a megabyte as PNG.
fn large(name: &str) -> Sample {
    let mut random = fastrand::Rng::with_seed(7);
    let pixels = RgbImage::from_fn(700, 700, |_, _| Rgb([random.u8(..), random.u8(..), random.u8(..)]));
    let mut file = Cursor::new(Vec::new());
    pixels.write_to(&mut file, ImageFormat::Png).expect("a PNG");
    Sample { name: name.to_owned(), file: file.into_inner() }
}

/// The parking queue accepts nothing: the message is held, and later republished to the end of its queue, which
/// counts no return. Images are stored meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parking_queue_that_takes_nothing_is_waited_for() {
    let mut scene = Scene::new("parking-outage", Version::Four).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
    scene.client.declare_narrow(&scene.settings.parking, 1).await;
    scene.client.publish(&scene.settings.parking, b"in the way").await;
    scene.client.publish(&scene.settings.queue, b"no JSON").await;
    let consumer = Consumer::start(&scene.settings);
    let refused =
        |status: &PodStatus| status.parking.fault().is_some_and(|fault| fault.reason == Reason::ParkingRefused);
    consumer.status_is("to name the parking queue", LIMIT, refused).await;
    consumer.status_is("to renew the message", LIMIT, |status| status.renewed > 0).await;
    let images = samples(3);
    scene.publish(&images).await;
    scene.stores(&images, LIMIT).await;
    assert_eq!(scene.client.take(&scene.settings.parking).await.len(), 1, "no other message in the parking queue");
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    scene.ends_with_parked(consumer, 1).await;
}
