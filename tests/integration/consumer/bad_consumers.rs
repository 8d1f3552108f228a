//! Consumers with deliberate mistakes. Each test checks that the account detects the mistake.

use std::collections::HashSet;
use std::io::Cursor;
use std::time::Duration;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use image::{DynamicImage, ImageFormat};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;

use crate::accounted::Accounted;
use accounting::account::Account;
use accounting::amqp::connect;
use accounting::store_faults::Fault;
use servers::broker::Version;
use support::images::{Sample, samples};

const IMAGES: u32 = 8;

/// Metadata field with the id of the message that the object came from.
const MESSAGE_ID: &str = "image-pipeline-message-id";

/// Uploads are slow, so an acknowledgement that is sent too early overtakes the upload.
const SLOW: Fault = Fault::Slow(Duration::from_millis(100));

/// One step of a consumer.
#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Store,
    /// Stores a different image under the same key.
    StoreAnother,
    /// Stores the image unless an image of this name has been stored.
    StoreNewName,
    Acknowledge,
}
use Deed::{Acknowledge, Store, StoreAnother, StoreNewName};

/// A consumer that uses none of the product's code.
async fn consumed(name: &str, images: &[Sample], fault: Fault, automatic: bool, deeds: &[Deed]) -> Account {
    let accounted = Accounted::new(name, Version::Four).await;
    accounted.store.set(fault);
    accounted.publish(images).await;
    let connection = connect(&accounted.uri).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let queue = accounted.scene.settings.queue.as_str();
    let options = BasicConsumeOptions { no_ack: automatic, ..BasicConsumeOptions::default() };
    let deliveries = channel.basic_consume(queue.into(), "t".into(), options, FieldTable::default()).await;
    let mut deliveries = deliveries.expect("a consumer").take(images.len());
    let mut names = HashSet::new();
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery.expect("a delivery");
        for deed in deeds {
            match deed {
                Acknowledge => drop(delivery.acker.ack(BasicAckOptions::default()).await.expect("sent")),
                StoreNewName if !names.insert(key(&delivery)) => {}
                Store | StoreAnother | StoreNewName => store(&accounted, &delivery, *deed == StoreAnother).await,
            }
        }
    }
    // `close` returns after RabbitMQ has processed all earlier frames.
    connection.close(200, "done".into()).await.expect("closed");
    accounted.account().await
}

fn message(delivery: &Delivery) -> serde_json::Value {
    serde_json::from_slice(&delivery.data).expect("JSON")
}

fn key(delivery: &Delivery) -> String {
    message(delivery)["image_metadata"]["image_name"].as_str().expect("text").to_owned()
}

async fn store(accounted: &Accounted, delivery: &Delivery, inverted: bool) {
    let file = STANDARD.decode(message(delivery)["image"].as_str().expect("text")).expect("base64");
    let mut image: DynamicImage = image::load_from_memory(&file).expect("an image");
    if inverted {
        image.invert();
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).expect("a PNG");
    let settings = &accounted.scene.settings;
    let client = accounted.scene.store.client(&settings.endpoint);
    let body = ByteStream::from(png.into_inner());
    let once = aws_sdk_s3::Config::builder().retry_config(RetryConfig::disabled());
    let id = delivery.properties.message_id().as_ref().expect("a message id").to_string();
    let request = client.put_object().bucket(&settings.bucket).key(key(delivery)).metadata(MESSAGE_ID, id).body(body);
    // The answer is ignored: the correct consumer runs against an S3 without failures.
    drop(request.customize().config_override(once).send().await);
}

/// Expects one fault per image under each of these headings, and no other headings.
async fn is_caught(name: &str, fault: Fault, automatic: bool, deeds: &[Deed], headings: &[&str]) {
    let account = consumed(name, &samples(IMAGES), fault, automatic, deeds).await;
    assert_eq!((account.attempted, account.confirmed), (IMAGES as usize, IMAGES as usize), "{account:?}");
    assert_eq!(account.faults().len(), headings.len(), "{:?}", account.faults());
    let lists = serde_json::to_value(&account).expect("JSON");
    for heading in headings {
        assert_eq!(lists[heading].as_array().expect("a list").len(), IMAGES as usize, "{heading}: {account:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_does_right_is_not_accused() {
    is_caught("does-right", SLOW, false, &[Store, Acknowledge], &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_acknowledges_before_it_stores_is_caught() {
    is_caught("acknowledges-early", SLOW, false, &[Acknowledge, Store], &["early_ack"]).await;
}

/// Automatic acknowledgement, as in the script that this service replaces.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_need_not_acknowledge_is_caught() {
    is_caught("acknowledges-never", SLOW, true, &[Store], &["early_ack"]).await;
}

/// S3 stores the object, but the consumer receives no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_needs_no_answer_is_caught() {
    is_caught("needs-no-answer", Fault::ResetAfterCommit, false, &[Store, Acknowledge], &["early_ack"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_drops_is_caught() {
    is_caught("drops", SLOW, false, &[Acknowledge], &["early_ack", "lost"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stores_wrong_pixels_is_caught() {
    is_caught("wrong-pixels", SLOW, false, &[StoreAnother, Acknowledge], &["early_ack", "wrong_pixels"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stores_different_bytes_is_caught() {
    is_caught("different-bytes", SLOW, false, &[StoreAnother, Store, Acknowledge], &["differing"]).await;
}

/// Half of the images share their name with another image.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stores_one_image_of_each_name_is_caught() {
    let (first, other) = (samples(IMAGES), samples(2 * IMAGES).split_off(IMAGES as usize));
    let other = other.into_iter().zip(&first).map(|(image, first)| Sample { name: first.name.clone(), ..image });
    let images: Vec<_> = first.iter().cloned().chain(other).collect();
    let right = consumed("two-of-a-name", &images, SLOW, false, &[Store, Acknowledge]).await;
    assert_eq!(right.faults(), [""; 0], "{right:?}");
    let account = consumed("one-of-a-name", &images, SLOW, false, &[StoreNewName, Acknowledge]).await;
    let names: Vec<_> = first.iter().map(|image| format!("{:?} of one-of-a-name", image.name)).collect();
    assert_eq!((account.early_ack.as_slice(), account.lost.as_slice()), (&names[..], &names[..]));
    assert_eq!(account.faults().len(), 2, "{account:?}");
}
