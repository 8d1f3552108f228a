//! How to follow one image: the message's id and trace are in the object's metadata and in the one log line of each
//! outcome, also after the message was parked and redriven.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::cli::parked::done;
use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::Version;
use support::eventually::LIMIT;
use support::images::{Sample, sample};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn properties(id: &str, trace: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(trace.into()));
    BasicProperties::default().with_delivery_mode(2).with_message_id(id.into()).with_headers(headers)
}

async fn publish(scene: &Scene, image: &Sample, properties: BasicProperties) {
    scene.client.publish_with(&scene.settings.queue, &image.body(), properties).await;
}

async fn metadata(scene: &Scene, key: &str) -> HashMap<String, String> {
    scene.store.head(&scene.settings.bucket, key).await.metadata.expect("metadata")
}

/// The only log line with this message id.
fn line(consumer: &Consumer, id: &str) -> Value {
    let log = consumer.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
    let mut of_it: Vec<Value> = lines.filter(|line: &Value| line["message_id"] == id).collect();
    assert_eq!(of_it.len(), 1, "{of_it:?}");
    of_it.remove(0)
}

/// Removes the times and the fields that all lines share.
fn told(mut line: Value) -> Value {
    assert!(line["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{line}");
    assert_eq!(line["pipeline"], "greench/tests");
    for field in ["timestamp", "target", "seconds", "pipeline", "delivery_tag", "detail"] {
        line.as_object_mut().expect("an object").remove(field);
    }
    line
}

fn hides(scene: &Scene, consumer: &Consumer, images: &[&Sample]) {
    let log = consumer.log();
    for image in images {
        let body = STANDARD.encode(&image.file);
        assert!(!log.contains(&body[..40]), "the log has a body");
    }
    assert!(!log.contains(&scene.store.root().secret_key), "the log has a secret");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_followed_from_its_message_to_its_object() {
    let mut scene = Scene::new("trace", Version::Four).await;
    scene.settings.environment = vec![("RUST_LOG", "debug".to_owned())];
    scene.settings.spec = json!({ "image": { "maxPixels": 100 } });
    let image = sample(0);
    publish(&scene, &image, properties("flight 7", TRACE)).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    let parked = json!({
        "level": "WARN", "message": "refused a message that can never succeed",
        "outcome": "parked", "reason": "ImageTooLarge", "message_id": "flight%207", "traceparent": TRACE,
    });
    assert_eq!(told(line(&consumer, "flight%207")), parked);
    scene.ends_with_parked(consumer, 1).await;

    let shown: Value = serde_json::from_str(&done(&scene.settings, &["show"])).expect("JSON");
    assert_eq!(shown["properties"]["message_id"], "flight 7");
    assert_eq!(shown["properties"]["headers"]["traceparent"], TRACE);
    scene.client.holds(&scene.settings.parking, 1).await;
    assert!(done(&scene.settings, &["redrive"]).contains("1 redriven"));
    scene.client.holds(&scene.settings.parking, 0).await;

    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have stored it", LIMIT, |status| status.processed == 1).await;
    let stored = json!({
        "level": "DEBUG", "message": "done with a message", "outcome": "stored", "stored": "New", "key": image.name,
        "message_id": "flight%207", "traceparent": TRACE,
    });
    assert_eq!(told(line(&consumer, "flight%207")), stored);
    let of_object = metadata(&scene, &image.name).await;
    assert_eq!(of_object["image-pipeline-message-id"], "flight%207");
    assert_eq!(of_object["image-pipeline-traceparent"], TRACE);

    // Another message with the same pixels: the object keeps the first message's metadata, and the log says so.
    publish(&scene, &image, properties("repeat", TRACE)).await;
    consumer.status_is("to have compared it", LIMIT, |status| status.processed == 2).await;
    assert_eq!(line(&consumer, "repeat")["stored"], "AlreadyThere");
    assert_eq!(metadata(&scene, &image.name).await, of_object);

    let other = sample(15);
    publish(&scene, &other, properties("evil\u{9b}\r\n", &format!("{TRACE}\r\nx-evil: 1"))).await;
    consumer.status_is("to have stored the other", LIMIT, |status| status.processed == 3).await;
    assert_eq!(line(&consumer, "evil%C2%9B%0D%0A").get("traceparent"), None);
    let of_object = metadata(&scene, &other.name).await;
    assert_eq!(of_object["image-pipeline-message-id"], "evil%C2%9B%0D%0A");
    assert_eq!(of_object.get("image-pipeline-traceparent"), None);
    hides(&scene, &consumer, &[&image, &other]);
    scene.ends_with_parked(consumer, 0).await;
}
