//! Answers of S3, and missing answers: a message stays until S3 has confirmed the upload, and the status names the
//! cause.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use image_pipeline::pod_status::PodStatus;
use image_pipeline::reason::Reason;
use serde_json::{Value, json};

use crate::consumer_process::Consumer;
use crate::recorder::{Asked, Recorder};
use crate::scene::Scene;
use accounting::store_faults::{Fault, Faults};
use accounting::store_tap::StoreTap;
use accounting::wire::Wire;
use servers::broker::{Source, Version};
use support::eventually::{LIMIT, eventually};
use support::images::{Sample, sample, samples};
use support::port::Port;

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(12);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(20);

/// A scene that reaches S3 through a tap with a fault.
pub async fn scene(name: &str, source: impl Into<Source>, fault: Fault) -> (Scene, StoreTap) {
    let mut scene = Scene::new(name, source).await;
    let faulty = StoreTap::start(Port::reserve(), scene.store.address(), &Wire::default());
    faulty.set(fault);
    scene.settings.endpoint = faulty.url();
    (scene, faulty)
}

async fn is_survived(name: &str, version: Version, fault: Fault, reason: Reason) {
    let (scene, faulty) = scene(name, version, Fault::None).await;
    let images = samples(40);
    let (before, during) = images.split_at(10);
    scene.publish(before).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to work", LIMIT, |status| status.processed == 10).await;
    faulty.set(fault);
    scene.publish(during).await;
    let named = |status: &image_pipeline::pod_status::PodStatus| {
        status.storage.fault().is_some_and(|fault| fault.reason == reason)
    };
    let status = consumer.status_is(&format!("to name {reason}"), NAMED, named).await;
    assert_eq!((status.processed, status.parked), (10, 0), "nothing is acknowledged, nothing parked");
    eventually("the fault to be met more than once", LIMIT, async || {
        if faulty.met() > 4 { Ok(()) } else { Err(faulty.met().to_string()) }
    })
    .await;
    faulty.set(Fault::None);
    scene.stores(&images, HEALED).await;
    consumer.status_is("to be well", HEALED, |status| status.processed == 40 && status.storage.fault().is_none()).await;
    scene.ends_with_parked(consumer, 0).await;
}

macro_rules! survives {
    ($($test:ident: $version:ident, $fault:expr, $reason:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let name = stringify!($test).replace('_', "-");
            is_survived(&name, Version::$version, $fault, Reason::$reason).await;
        }
    )*};
}

survives! {
    internal_error: Three, Fault::Answer(500, "InternalError"), StorageUnavailable;
    service_unavailable: Four, Fault::Answer(503, "ServiceUnavailable"), StorageUnavailable;
    slow_down: Four, Fault::Answer(503, "SlowDown"), StorageThrottled;
    operation_aborted: Three, Fault::Answer(409, "OperationAborted"), StorageUnavailable;
    expired_token: Four, Fault::Answer(400, "ExpiredToken"), CredentialsExpired;
    forbidden: Three, Fault::Answer(403, "AccessDenied"), AccessDenied;
    clock_skewed: Four, Fault::Answer(403, "RequestTimeTooSkewed"), ClockSkewed;
    hanging: Four, Fault::Hang, StorageTimeout;
    stalling: Three, Fault::Stall, StorageTimeout;
}

/// Slow is not broken: everything is stored once, and no fault is reported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_is_waited_for() {
    let (scene, faulty) = scene("slow-store", Version::Four, Fault::Slow(Duration::from_millis(700))).await;
    let images = samples(20);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    let status = consumer.status_is("to count all", LIMIT, |status| status.processed == 20).await;
    assert_eq!((status.last_error, faulty.met()), (None, 20));
    scene.ends_with_parked(consumer, 0).await;
}

/// S3 stores the object, but the answer is lost. The consumer uploads again: the same bytes under the same key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_after_the_commit_is_asked_for_again() {
    let (scene, faulty) = scene("lost-answer", Version::Four, Fault::ResetAfterCommit).await;
    let images = samples(10);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    eventually("repeated uploads of an object", LIMIT, async || match faulty.met() {
        met if met > 4 => Ok(()),
        met => Err(met.to_string()),
    })
    .await;
    let first = scene.store.objects(&scene.settings.bucket);
    assert!(!first.is_empty(), "S3 stored it");
    assert_eq!(consumer.status().await.expect("a status").processed, 0, "no acknowledgement without an answer");
    faulty.set(Fault::None);
    consumer.status_is("to count all", HEALED, |status| status.processed == 10).await;
    let all = scene.store.objects(&scene.settings.bucket);
    assert!(first.iter().all(|(key, object)| all[key] == *object), "the same bytes under the same keys");
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

fn names(reason: Reason, part: &str) -> impl Fn(&PodStatus) -> bool {
    move |status| status.storage.fault().is_some_and(|fault| fault.reason == reason && fault.message.contains(part))
}

/// For example a console's port, a captive portal, or a proxy's sign-in page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_200_to_everything_stores_nothing() {
    let mut scene = Scene::new("page", Version::Four).await;
    let page = Recorder::start(|_| "<html>Sign in</html>");
    scene.settings.endpoint = page.url();
    scene.publish(&samples(3)).await;
    let consumer = Consumer::start(&scene.settings);
    let status = consumer.status_is("to name it", NAMED, names(Reason::StorageRefused, "not like S3")).await;
    assert_eq!((status.processed, status.parked), (0, 0), "nothing is acknowledged, nothing parked");
    eventually("it to be tried again", LIMIT, async || match page.asked().len() {
        asked if asked > 6 => Ok(()),
        asked => Err(asked.to_string()),
    })
    .await;
    assert_eq!(consumer.status().await.expect("a status").processed, 0);
    drop(consumer);
    scene.client.holds(&scene.settings.queue, 3).await;
    scene.client.holds(&scene.settings.parking, 0).await;
}

/// An HTTP proxy limits the size of bodies: the image is parked immediately, and S3 is not at fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_too_large_for_a_proxy_is_parked_at_once() {
    let (scene, faulty) = scene("proxy-limit", Version::Four, Fault::None).await;
    faulty.set(Faults::from(Fault::Answer(413, "")).only_for("/large"));
    let mut images = samples(30);
    for (number, image) in images[..10].iter_mut().enumerate() {
        image.name = format!("large{number}.png");
    }
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let all = |status: &PodStatus| (status.processed, status.parked) == (20, 10);
    let status = consumer.status_is("to have parked the large images", LIMIT, all).await;
    assert_eq!(status.storage.fault(), None);
    let last = status.last_error.expect("an error");
    assert!(last.reason == Reason::ImageTooLarge && last.message.contains("an HTTP proxy"), "{last:?}");
    assert_eq!(faulty.met(), 10, "no upload is retried");
    scene.stores(&images[10..], LIMIT).await;
    scene.ends_with_parked(consumer, 10).await;
}

/// An S3 that ignores `If-None-Match`, and the objects it holds.
pub fn ignoring() -> (Recorder, Arc<Mutex<BTreeMap<String, Bytes>>>) {
    let objects = Arc::<Mutex<BTreeMap<String, Bytes>>>::default();
    let held = Arc::clone(&objects);
    let answer = move |asked: &Asked| -> Response {
        let (method, path) = asked.line.split_once(' ').expect("a line");
        let path = path.split('?').next().expect("a path").to_owned();
        let mut held = held.lock().unwrap();
        match (method, held.get(&path)) {
            ("PUT", _) => {
                held.insert(path, asked.body.clone());
                [("etag", "\"1\"")].into_response()
            }
            ("DELETE", _) => {
                held.remove(&path);
                StatusCode::NO_CONTENT.into_response()
            }
            (_, None) => StatusCode::NOT_FOUND.into_response(),
            // For HEAD the server sends the length without the body.
            (_, Some(body)) => ([("etag", "\"1\"")], body.clone()).into_response(),
        }
    };
    (Recorder::start(answer), objects)
}

/// The first image of a name stays, and the status names the fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_preconditions_replaces_no_image() {
    let mut scene = Scene::new("ignoring", Version::Four).await;
    let (store, objects) = ignoring();
    scene.settings.endpoint = store.url();
    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    let images = samples(3);
    let first = format!("/ignoring/{}", images[0].name);
    objects.lock().unwrap().insert(first.clone(), Bytes::from_static(b"the first"));
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let named = names(Reason::StorageRefused, "ignores If-None-Match");
    let status = consumer
        .status_is("to name it, and to have parked the second", NAMED, |status| named(status) && status.parked == 1)
        .await;
    assert_eq!(status.processed, 0);
    assert_eq!(objects.lock().unwrap()[&first], b"the first".as_slice());
    drop(consumer);
    scene.client.holds(&scene.settings.queue, 2).await;
    scene.client.holds(&scene.settings.parking, 1).await;
}

/// A bucket policy that requires conditional writes accepts every image, the first included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_demands_conditional_writes_is_kept_to() {
    let (mut scene, faulty) = scene("demands-condition", Version::Four, Fault::None).await;
    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    faulty.set(Faults::from(Fault::DENIED).for_uploads_without("if-none-match: *"));
    let images = samples(12);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&images, LIMIT).await;
    consumer.status_is("to count all", LIMIT, |status| status.processed == 12).await;
    assert_eq!(faulty.met(), 0);
    scene.ends_with_parked(consumer, 0).await;
}

/// An outage longer than the holding time ends with a bucket policy that allows only what the product sends: no test
/// object is needed to find that out.
async fn stores_under(name: &str, spec: Value, policy: Faults) {
    let (mut scene, faulty) = scene(name, Version::Four, Fault::SLOW_DOWN).await;
    scene.settings.spec = spec;
    let mut images = samples(40);
    images.retain(|image| image.name.ends_with(".png"));
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    eventually("uploads for several holding times", LIMIT, async || match faulty.met() {
        met if met > 12 => Ok(()),
        met => Err(met.to_string()),
    })
    .await;
    faulty.set(policy);
    scene.stores(&images, LIMIT).await;
    consumer.status_is("to be well", LIMIT, |status| status.storage.fault().is_none()).await;
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_a_policy_that_demands_conditional_writes_is_no_obstacle() {
    let spec = json!({ "failures": { "holdingTime": "1s" }, "destination": { "s3": { "onConflict": "Fail" } } });
    let policy = Faults::from(Fault::DENIED).for_uploads_without("if-none-match: *");
    stores_under("outage-condition", spec, policy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_a_policy_on_the_end_of_keys_is_no_obstacle() {
    let spec = json!({ "failures": { "holdingTime": "1s" } });
    stores_under("outage-suffix", spec, Faults::from(Fault::DENIED).for_uploads_without(".png")).await;
}

/// Credentials that may put objects and not read them can't compare an image with the object of its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_that_cannot_be_compared_are_parked_and_the_others_stored() {
    let (mut scene, faulty) = scene("no-get-object", Version::Four, Fault::None).await;
    let images = samples(30);
    let first: Vec<Sample> = images[..10]
        .iter()
        .zip(100..)
        .map(|(image, number)| Sample { name: image.name.clone(), ..sample(number) })
        .collect();
    scene.publish(&first).await;
    let consumer = Consumer::start(&scene.settings);
    scene.stores(&first, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
    let before = scene.store.objects(&scene.settings.bucket);

    scene.settings.spec = json!({ "destination": { "s3": { "onConflict": "Fail" } } });
    faulty.set(Faults::from(Fault::DENIED).only_for("HEAD "));
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let all = |status: &PodStatus| (status.processed, status.parked) == (20, 10);
    consumer.status_is("to have parked what exists", LIMIT, all).await;
    let after = scene.store.objects(&scene.settings.bucket);
    assert!(before.iter().all(|(key, object)| after[key] == *object), "an object was replaced");
    scene.ends_with_parked(consumer, 10).await;
}
