//! Options of a pipeline, end to end: message formats, object keys, re-encoding, names that are taken, and messages
//! that can never succeed.

use std::collections::BTreeSet;

use image_pipeline::pod_status::PodStatus;
use image_pipeline::reason::Reason;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::Version;
use support::eventually::LIMIT;
use support::images::{Sample, sample, samples};

fn headers(pairs: &[(&str, &str)]) -> FieldTable {
    let mut headers = FieldTable::default();
    for (key, value) in pairs {
        headers.insert((*key).into(), AMQPValue::LongString((*value).into()));
    }
    headers
}

fn keys(scene: &Scene) -> BTreeSet<String> {
    scene.store.objects(&scene.settings.bucket).into_keys().collect()
}

/// A publisher that sends raw bodies without base64. The key has the day the picture was taken, and the site.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bodies_go_under_keys_made_of_their_properties() {
    let mut scene = Scene::new("raw", Version::Four).await;
    scene.settings.prefix = "raw/".to_owned();
    scene.settings.spec = json!({
        "message": { "encoding": "Raw" },
        "destination": { "s3": { "keyTemplate": "{year}/{month}/{day}/{metadata.site}/{stem}.png" } },
    });
    let image = sample(1);
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_timestamp(1_700_000_000)
        .with_message_id("camera 7: Wälder".into())
        .with_headers(headers(&[("image_name", "north/7.jpg"), ("site", "birch")]));
    let consumer = Consumer::start(&scene.settings);
    scene.client.publish_with(&scene.settings.queue, &image.file, properties).await;
    consumer.status_is("to have stored it", LIMIT, |status| status.processed == 1).await;
    let key = "raw/2023/11/14/birch/north/7.png";
    assert_eq!(keys(&scene), BTreeSet::from([key.to_owned()]));
    let object = &scene.store.objects(&scene.settings.bucket)[key];
    assert!(image::load_from_memory(object).expect("a PNG") == image.pixels());
    let metadata = scene.store.head(&scene.settings.bucket, key).await.metadata.expect("metadata");
    // Spaces are encoded too: S3 collapses several spaces into one.
    assert_eq!(metadata["image-pipeline-message-id"], "camera%207:%20W%C3%A4lder");

    // A message without a timestamp has no key.
    let properties = BasicProperties::default().with_headers(headers(&[("image_name", "n.jpg"), ("site", "birch")]));
    scene.client.publish_with(&scene.settings.queue, &image.file, properties).await;
    let status = consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    assert_eq!(status.last_error.map(|fault| fault.reason), Some(Reason::MissingField));
    scene.ends_with_parked(consumer, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_of_another_shape_is_read_by_its_paths() {
    let mut scene = Scene::new("paths", Version::Three).await;
    scene.settings.spec = json!({ "message": { "imagePath": "/payload/data~1png", "namePath": "/payload/meta/id" } });
    let image = sample(0);
    let devices: serde_json::Value = serde_json::from_slice(&image.body()).expect("JSON");
    let body = json!({
        "version": 3,
        "payload": { "meta": { "id": "a.png", "crowns": [[1, 2], [3, 4]] }, "data/png": devices["image"] },
    });
    let consumer = Consumer::start(&scene.settings);
    scene.client.publish(&scene.settings.queue, body.to_string().as_bytes()).await;
    scene.stores(&[Sample { name: "a.png".to_owned(), ..image }], LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_png_that_need_not_be_encoded_is_stored_as_it_came() {
    let mut scene = Scene::new("as-it-came", Version::Four).await;
    scene.settings.spec = json!({ "image": { "reencode": "WhenNotPng", "encoding": "Smallest" } });
    let images = samples(15);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    let objects = scene.store.objects(&scene.settings.bucket);
    for image in &images {
        let as_it_came = objects[&image.name] == image.file;
        assert_eq!(as_it_came, image.name.ends_with(".png"), "{}", image.name);
    }
    let mut damaged = sample(0);
    let middle = damaged.file.len() / 2;
    damaged.file[middle] ^= 1;
    scene.client.publish(&scene.settings.queue, &damaged.body()).await;
    let status = consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    assert_eq!(status.last_error.map(|fault| fault.reason), Some(Reason::InvalidImage));
    scene.ends_with_parked(consumer, 1).await;
}

/// `Fail`: the first image of a name stays. A repeat of it is no conflict; a different image is parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_taken_is_a_conflict_only_for_other_pixels() {
    let mut scene = Scene::new("conflict", Version::Four).await;
    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    let image = sample(0);
    let consumer = Consumer::start(&scene.settings);
    for processed in 1..=2 {
        scene.client.publish(&scene.settings.queue, &image.body()).await;
        let count = |status: &PodStatus| status.processed == processed;
        consumer.status_is("to count it as stored", LIMIT, count).await;
    }
    let other = Sample { name: image.name.clone(), ..sample(15) };
    scene.client.publish(&scene.settings.queue, &other.body()).await;
    let status = consumer.status_is("to have parked the other", LIMIT, |status| status.parked == 1).await;
    assert_eq!(status.last_error.map(|fault| fault.reason), Some(Reason::ObjectExists));
    scene.stores(&[image], LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
}

/// Two images with the same name get two keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_made_of_the_content_never_meet() {
    let mut scene = Scene::new("content", Version::Three).await;
    scene.settings.spec =
        json!({ "destination": { "s3": { "onConflict": "ContentAddressed", "keyTemplate": "{stem}-{digest}.png" } } });
    let (one, two) = (sample(0), Sample { name: sample(0).name, ..sample(15) });
    for image in [&one, &two, &one] {
        scene.client.publish(&scene.settings.queue, &image.body()).await;
    }
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to count all", LIMIT, |status| status.processed == 3).await;
    assert_eq!(keys(&scene).len(), 2);
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_succeed_is_dead_lettered_where_that_is_the_policy() {
    let mut scene = Scene::new("dead-letter", Version::Four).await;
    scene.settings.queue = "dead-letter-source".to_owned();
    scene.client.declare_dead_lettering(&scene.settings.queue, "dead-letter-target").await;
    scene.client.declare("dead-letter-target", Version::Four.queue_type()).await;
    scene.settings.spec = json!({ "failures": { "policy": "DeadLetter" } });
    scene.client.publish(&scene.settings.queue, b"no JSON").await;
    let consumer = Consumer::start(&scene.settings);
    scene.client.holds("dead-letter-target", 1).await;
    assert_eq!(scene.client.take("dead-letter-target").await[0].data, b"no JSON");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_succeed_is_discarded_where_that_is_the_policy() {
    let mut scene = Scene::new("discard", Version::Three).await;
    scene.settings.spec = json!({ "failures": { "policy": "Discard" } });
    scene.client.publish(&scene.settings.queue, b"no JSON").await;
    let consumer = Consumer::start(&scene.settings);
    let known = |status: &PodStatus| status.last_error.as_ref().map(|fault| fault.reason) == Some(Reason::InvalidJson);
    consumer.status_is("to know it", LIMIT, known).await;
    let (_, metrics) = consumer.get("/metrics").await.expect("an answer");
    let line = r#"image_pipeline_messages_total{outcome="discarded",reason="InvalidJson"} 1"#;
    assert!(metrics.lines().any(|found| found == line), "{metrics}");
    scene.ends_with_parked(consumer, 0).await;
}

/// No image could be stored under such a key, so the process ends at its start and names the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_template_with_an_unknown_field_is_refused_at_the_start() {
    let mut scene = Scene::new("template", Version::Four).await;
    scene.settings.spec = json!({ "destination": { "s3": { "keyTemplate": "{camera}/{name}" } } });
    let mut consumer = Consumer::start(&scene.settings);
    assert_ne!(consumer.exit_code(LIMIT).await, 0);
    let log = consumer.log();
    assert!(log.contains("destination.s3.keyTemplate") && log.contains("camera"), "{log}");
}
