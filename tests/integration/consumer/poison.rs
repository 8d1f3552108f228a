//! Messages that can never succeed are parked with a reason, and stop no other message.

use std::collections::BTreeSet;
use std::time::Duration;

use image_pipeline::pod_status::PodStatus;
use image_pipeline::reason::Reason;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::consumer_process::{Consumer, Settings};
use crate::scene::Scene;
use servers::broker::{Source, Version};
use support::eventually::{LIMIT, equal, eventually};
use support::images::{Sample, sample, samples};

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

fn named(name: &str) -> Vec<u8> {
    Sample { name: name.to_owned(), ..sample(0) }.body()
}

fn file(file: &[u8]) -> Vec<u8> {
    Sample { name: "poison.png".to_owned(), file: file.to_vec() }.body()
}

/// A PNG whose header claims 30,000 × 30,000 pixels: 900 million.
fn vast() -> Vec<u8> {
    let mut file = sample(0).file;
    file[16..20].copy_from_slice(&30_000u32.to_be_bytes());
    file[20..24].copy_from_slice(&30_000u32.to_be_bytes());
    let mut sum = !0u32;
    for byte in &file[12..29] {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 };
        }
    }
    file[29..33].copy_from_slice(&(!sum).to_be_bytes());
    file
}

fn poison() -> Vec<(Vec<u8>, Reason)> {
    let (png, jpeg) = (sample(0).file, sample(1).file);
    let without = |field: &str| {
        let mut message = json!({"image": "AAAA", "image_metadata": {"image_name": "x.png"}, "device": 4});
        message.as_object_mut().expect("an object").remove(field);
        message.to_string().into_bytes()
    };
    vec![
        (b"\x89PNG not JSON at all".to_vec(), Reason::InvalidJson),
        (Vec::new(), Reason::InvalidJson),
        (without("image"), Reason::MissingField),
        (without("image_metadata"), Reason::MissingField),
        (br#"{"image": "AA*A", "image_metadata": {"image_name": "x.png"}}"#.to_vec(), Reason::InvalidBase64),
        (file(b"\0\0\0\x18ftypheic is a format that nobody reads here"), Reason::UnsupportedImage),
        (file(b"four score and seven years ago"), Reason::UnknownFormat),
        (file(&png[..png.len() / 2]), Reason::InvalidImage),
        (file(&jpeg[..jpeg.len() / 2]), Reason::InvalidImage),
        (file(&vast()), Reason::ImageTooLarge),
        (named(""), Reason::InvalidName),
        (named("../../etc/passwd"), Reason::InvalidName),
        (named("/absolute.png"), Reason::InvalidName),
        (named("nul\0.png"), Reason::InvalidName),
        (named(&"long/".repeat(300)), Reason::InvalidName),
    ]
}

/// Properties that a publisher may set. Some of them would act again on a parked message.
fn properties(number: usize) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("device".into(), AMQPValue::LongString("drone-4".into()));
    headers.insert("CC".into(), AMQPValue::FieldArray(vec![].into()));
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_headers(headers)
        .with_message_id(format!("message-{number}").into())
        .with_timestamp(1_700_000_000)
        .with_expiration("3600000".into())
        .with_user_id("guest".into())
}

/// A header of a parked message as text.
pub fn header(parked: &Delivery, name: &str) -> Option<String> {
    let headers = parked.properties.headers().as_ref()?;
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        other => Some(format!("{other:?}")),
    }
}

fn assert_parked(parked: &Delivery, queue: &str, body: &[u8], reason: Reason, number: usize) {
    let what = format!("message-{number} ({reason})");
    assert_eq!(parked.data, body, "{what}: the body is untouched");
    let text = |name: &str| header(parked, name).unwrap_or_else(|| panic!("{what} has no header {name}"));
    assert_eq!(text("x-image-pipeline-reason"), reason.as_str(), "{what}");
    assert!(text("x-image-pipeline-detail").len() > 10, "{what}");
    assert_eq!(text("x-image-pipeline-namespace"), "greench", "{what}");
    assert_eq!(text("x-image-pipeline-name"), "tests", "{what}");
    assert_eq!(text("x-image-pipeline-queue"), queue, "{what}");
    assert_eq!(text("x-image-pipeline-attempts"), "LongUInt(1)", "{what}");
    let first_seen = text("x-image-pipeline-first-seen");
    assert!(first_seen.parse::<jiff::Timestamp>().is_ok(), "{what}: {first_seen} is a time");
    assert_eq!(text("device"), "drone-4", "{what}");
    assert_eq!(text("x-original-expiration"), "3600000", "{what}");
    assert_eq!(text("x-original-user-id"), "guest", "{what}");
    assert_eq!(header(parked, "CC"), None, "{what}");
    let properties = &parked.properties;
    assert_eq!(*properties.delivery_mode(), Some(2), "{what} is persistent");
    assert_eq!(*properties.expiration(), None, "{what} does not expire in the parking queue");
    assert_eq!(*properties.user_id(), None, "{what}");
    assert_eq!(*properties.timestamp(), Some(1_700_000_000), "{what}");
}

async fn set_aside(name: &str, source: impl Into<Source>) {
    let source = source.into();
    let scene = Scene::new(name, source).await;
    let (good, mut bad) = (samples(20), poison());
    // RabbitMQ 4 rejects such a body itself.
    if source.version == Version::Three {
        bad.push((vec![b' '; (16 << 20) + 1], Reason::BodyTooLarge));
    }
    let consumer = Consumer::consuming(&scene.settings).await;
    for number in 0..good.len().max(bad.len()) {
        scene.publish(&good[number.min(good.len())..(number + 1).min(good.len())]).await;
        if let Some((body, _)) = bad.get(number) {
            scene.client.publish_with(&scene.settings.queue, body, properties(number)).await;
        }
    }
    scene.stores(&good, LIMIT).await;
    let parking = &scene.settings.parking;
    let all = bad.len() as u32;
    scene.client.holds(parking, all).await;
    let counted = |status: &PodStatus| (status.processed, status.parked) == (20, u64::from(all));
    let status = consumer.status_is("to count all", LIMIT, counted).await;
    assert!(status.storage.fault().is_none() && status.parking.fault().is_none(), "{status:?}");
    scene.ends_with_parked(consumer, all).await;

    let parked = scene.client.take(parking).await;
    for (number, (body, reason)) in bad.iter().enumerate() {
        let id = format!("message-{number}");
        let is_it = |parked: &&Delivery| parked.properties.message_id().as_ref().is_some_and(|own| own.as_str() == id);
        let found: Vec<&Delivery> = parked.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{id} ({reason}) is parked once");
        assert_parked(found[0], &scene.settings.queue, body, *reason, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_from_a_classic_queue() {
    set_aside("poison-classic", Version::Three).await;
}

/// RabbitMQ 4 has another implementation of classic queues than 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_from_a_classic_queue_of_rabbitmq_4_0() {
    set_aside("poison-classic-4-0", Source::classic(Version::Four)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_from_a_classic_queue_of_rabbitmq_4_3() {
    set_aside("poison-classic-4-3", Source::classic(Version::FourThree)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_from_a_quorum_queue() {
    set_aside("poison-quorum", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_parked_from_a_quorum_queue_of_rabbitmq_4_3() {
    set_aside("poison-quorum-4-3", Version::FourThree).await;
}

/// An existing parking queue is used unchanged. While it is full or missing, the message stays in its queue: parked
/// means confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_or_deleted_parking_queue_loses_nothing_and_stops_no_image() {
    const BODY: &[u8] = b"no JSON, and nothing for a log";
    let scene = Scene::new("full-parking", Version::Four).await;
    let Settings { queue, parking, .. } = &scene.settings;
    scene.client.declare_narrow(parking, 1).await;
    for number in 0..3 {
        scene.client.publish_with(queue, BODY, properties(number)).await;
    }
    let images = samples(10);
    scene.publish(&images).await;
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.stores(&images, LIMIT).await;
    let refused = |status: &PodStatus| {
        let fault = status.parking.fault().map(|fault| fault.reason);
        (status.processed, status.parked, fault) == (10, 1, Some(Reason::ParkingRefused))
    };
    let status = consumer.status_is("to say that parking is refused", NAMED, refused).await;
    assert_eq!(status.in_flight, 2, "held until there is room");

    let mut parked = Vec::new();
    eventually("the messages to be parked one by one", LIMIT, async || {
        parked.extend(scene.client.take(parking).await);
        equal(parked.len(), 3)
    })
    .await;
    let ids: BTreeSet<_> = parked.iter().map(|parked| parked.properties.message_id().clone()).collect();
    assert_eq!(ids.len(), 3, "each of them once");
    consumer.status_is("to hold nothing", LIMIT, |status| status.in_flight == 0).await;

    scene.client.delete(parking).await;
    scene.client.publish_with(queue, BODY, properties(3)).await;
    consumer.status_is("to have parked one more", LIMIT, |status| status.parked == 4).await;
    let log = consumer.log();
    let numbers = BODY.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    assert!(!log.contains("nothing for a log") && !log.contains(&numbers), "a body in the log:\n{log}");
    scene.ends_with_parked(consumer, 1).await;
}

/// A header that fills the frame leaves no room for a reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_headers_fill_a_frame_is_parked_without_the_largest() {
    let scene = Scene::new("full-headers", Version::Four).await;
    let mut headers = FieldTable::default();
    headers.insert("device".into(), AMQPValue::LongString("north-4".into()));
    // The name has the product's prefix, but the header is not the product's.
    headers.insert("x-image-pipeline-filler".into(), AMQPValue::LongString(vec![b'x'; 130_800].into()));
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    scene.client.publish_with(&scene.settings.queue, b"no JSON", properties).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    let parked = scene.client.take(&scene.settings.parking).await;
    let headers = parked[0].properties.headers().clone().expect("headers");
    let names: BTreeSet<&str> = headers.inner().keys().map(|name| name.as_str()).collect();
    assert!(names.contains("device") && names.contains("x-image-pipeline-reason"), "{names:?}");
    assert!(!names.contains("x-image-pipeline-filler"), "{names:?}");
    assert_eq!(headers.inner().get("x-image-pipeline-headers-left-out"), Some(&AMQPValue::LongUInt(1)));
}
