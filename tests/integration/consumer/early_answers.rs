//! A store that refuses a large object before it has read the body closes the connection, and its answer may be lost
//! on the way. versitygw answers 412 so, and the tap before it passes only complete requests on.

use std::io::Cursor;

use image::{ImageFormat, RgbImage};
use serde_json::json;

use crate::consumer::store_answers::scene;
use crate::consumer_process::Consumer;
use accounting::store_faults::Fault;
use servers::broker::Version;
use support::eventually::LIMIT;
use support::images::{Sample, samples};

/// An image whose PNG has 3 MB.
fn large(name: &str, seed: u64) -> Sample {
    let mut random = fastrand::Rng::with_seed(seed);
    let pixels = std::iter::repeat_with(|| random.u8(..)).take(3 * 1000 * 1000).collect();
    let mut file = Cursor::new(Vec::new());
    RgbImage::from_raw(1000, 1000, pixels).expect("pixels").write_to(&mut file, ImageFormat::Png).expect("a PNG");
    Sample { name: name.to_owned(), file: file.into_inner() }
}

/// A pod uploads its first image twice, and a message may be published twice: the second upload is refused, although
/// the object is stored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_image_that_is_stored_already_is_none_that_is_too_large() {
    let (mut scene, _faulty) = scene("stored-large", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    let images = [vec![large("large.png", 1)], samples(12)].concat();
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    scene.publish(&images[..1]).await;
    consumer.status_is("to be done with all", LIMIT, |status| status.processed + status.parked == 14).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// Of two large images of one name the first stays, and the second is parked with the right reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_image_of_a_name_that_is_taken_is_parked_for_that() {
    let (mut scene, _faulty) = scene("taken-large", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    let images = [samples(6), vec![large("large.png", 1)]].concat();
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    scene.publish(&[large("large.png", 2)]).await;
    let status = consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    assert_eq!(status.last_error.map(|fault| fault.reason.to_string()).as_deref(), Some("ObjectExists"));
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
}
