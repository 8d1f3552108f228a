//! S3 faults: nothing is parked or lost, the status names the cause, and work resumes automatically once the cause
//! is gone.

use std::time::Duration;

use image_pipeline::pod_status::Fault;
use image_pipeline::reason::Reason;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::store::Credentials;
use support::eventually::{LIMIT, eventually};
use support::images::samples;
use support::proxy::Mode;

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(15);

/// Publishes while S3 fails, waits for the reason, repairs S3 and waits for the images.
async fn heals(scene: Scene, reason: Reason, mend: impl AsyncFnOnce(&Scene)) {
    let images = samples(12);
    let consumer = Consumer::start(&scene.settings);
    scene.publish(&images).await;
    let failing = |fault: &Fault| fault.reason == reason && !fault.message.is_empty();
    let what = format!("to name {reason}");
    let status = consumer.status_is(&what, NAMED, |status| status.storage.fault().is_some_and(failing)).await;
    assert_eq!((status.processed, status.parked), (0, 0));
    assert_eq!(status.last_error.map(|fault| fault.reason), Some(reason));
    let (code, body) = consumer.get("/readyz").await.expect("an answer");
    assert!(code == 503 && body.contains(reason.as_str()), "{code} {body}");
    assert_eq!(consumer.get("/livez").await.expect("an answer").0, 200, "a restart would not help");

    mend(&scene).await;
    scene.stores(&images, HEALED).await;
    consumer.status_is("to be available", HEALED, |status| status.storage.fault().is_none()).await;
    eventually("readiness", NAMED, async || match consumer.get("/readyz").await? {
        (code, _) if code == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_down_comes_back() {
    let mut scene = Scene::new("down", Version::Four).await;
    let proxy = scene.through_proxy(Mode::Refuse);
    heals(scene, Reason::EndpointUnreachable, async |_| proxy.set(Mode::Pass)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_goes_down_under_load_comes_back() {
    let mut scene = Scene::new("goes-down", Version::Three).await;
    let proxy = scene.through_proxy(Mode::Pass);
    let images = samples(120);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to be at work", LIMIT, |status| status.processed >= 10).await;
    proxy.set(Mode::Refuse);
    let failing = |fault: &Fault| fault.reason == Reason::EndpointUnreachable;
    let status = consumer.status_is("to name it", NAMED, |status| status.storage.fault().is_some_and(failing)).await;
    assert!(status.processed < 120, "the fault came while there was work: {status:?}");
    assert_eq!(status.parked, 0);
    proxy.set(Mode::Pass);
    scene.stores(&images, HEALED).await;
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_key_is_corrected() {
    let scene = Scene::new("wrong-secret-key", Version::Three).await;
    let right = scene.store.root();
    scene.settings.write_store_secret(&Credentials { secret_key: "wrong".to_owned(), ..right.clone() });
    heals(scene, Reason::CredentialsInvalid, async |scene| scene.settings.write_store_secret(&right)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_access_key_is_corrected() {
    let scene = Scene::new("unknown-access-key", Version::Four).await;
    let right = scene.store.root();
    scene.settings.write_store_secret(&Credentials { access_key: "nobody".to_owned(), ..right.clone() });
    heals(scene, Reason::CredentialsInvalid, async |scene| scene.settings.write_store_secret(&right)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_is_created() {
    let scene = Scene::new("missing-store-secret", Version::Three).await;
    std::fs::remove_dir_all(scene.settings.store_secret()).expect("removed");
    heals(scene, Reason::SecretNotFound, async |scene| {
        std::fs::create_dir(scene.settings.store_secret()).expect("a directory");
        scene.settings.write_store_secret(&scene.store.root());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket_is_created() {
    let broker = Broker::shared(Version::Four).await;
    let scene = Scene::bare("missing-bucket", &broker.address()).await;
    scene.client.declare(&scene.settings.queue, Version::Four.queue_type()).await;
    heals(scene, Reason::BucketNotFound, async |scene| scene.store.create_bucket(&scene.settings.bucket)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_given_them() {
    let scene = Scene::new("without-rights", Version::Four).await;
    let user = scene.store.user("device");
    scene.settings.write_store_secret(&user);
    heals(scene, Reason::AccessDenied, async |scene| scene.store.give(&scene.settings.bucket, &user)).await;
}
