//! TLS with S3: a private authority, its rotation while the consumer runs, and the message for each fault.

use std::time::Duration;

use image_pipeline::api::names::SecretRole;
use image_pipeline::pod_status::{Fault, PodStatus};
use image_pipeline::reason::Reason;
use serde_json::json;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::Version;
use support::certificates::Authority;
use support::images::samples;

/// A fault is reported, or cleared, by the second attempt.
const NOTICED: Duration = Duration::from_secs(20);

const AUTHORITY: SecretRole = SecretRole::StoreAuthority;

async fn names(consumer: &Consumer, reason: Reason, part: &str) -> PodStatus {
    let what = format!("to name {reason} with {part:?}");
    let fits = |fault: &Fault| fault.reason == reason && fault.message.contains(part);
    let status = consumer.status_is(&what, NOTICED, |status| status.storage.fault().is_some_and(fits)).await;
    assert_eq!(status.parked, 0);
    status
}

/// An unknown authority is not trusted, and the certificate must name the endpoint's host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_known_by_authority_or_name_is_refused() {
    let ours = Authority::new("ours");
    let mut scene = Scene::new("store-unknown", Version::Three).await;
    let store = scene.store.over_tls(&ours.server("DNS:localhost")).await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &ours.certificate)]);
    scene.publish(&samples(2)).await;

    scene.settings.endpoint = store.url("localhost");
    let consumer = Consumer::start(&scene.settings);
    let untold = "its certificate comes from an authority that is not trusted: put that authority's certificate as \
                  ca.crt into a Secret and name it in destination.s3.tls.caSecret";
    assert_eq!(names(&consumer, Reason::TlsFailed, untold).await.processed, 0);
    drop(consumer);

    scene.settings.endpoint = store.url("127.0.0.1");
    scene.settings.spec = json!({ "destination": { "s3": { "tls": { "caSecret": { "name": "ca" } } } } });
    let consumer = Consumer::start(&scene.settings);
    let unnamed = "its certificate must name the host in destination.s3.endpoint";
    assert_eq!(names(&consumer, Reason::TlsFailed, unnamed).await.processed, 0);
}

/// The Secret is missing at first, then wrong in several ways. Once right, it changes to another authority and
/// back, all with one consumer.
async fn authority(name: &str, version: Version, other: &str) {
    let (ours, other) = (Authority::new("ours"), Authority::new(other));
    let mut scene = Scene::new(name, version).await;
    let store = scene.store.over_tls(&ours.server("DNS:localhost, IP:127.0.0.1")).await;
    scene.settings.endpoint = store.url("localhost");
    scene.settings.spec = json!({ "destination": { "s3": { "tls": { "caSecret": { "name": "ca" } } } } });
    let images = samples(18);
    let untrusted = "no authority in ca.crt issued its certificate: correct the Secret of \
                     destination.s3.tls.caSecret";
    scene.publish(&images[..6]).await;
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, Reason::SecretNotFound, "key ca.crt is missing in the Secret of destination.s3.tls.caSecret")
        .await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", "no certificate")]);
    names(&consumer, Reason::SecretInvalid, "ca.crt in the Secret of destination.s3.tls.caSecret has no").await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &other.certificate)]);
    names(&consumer, Reason::TlsFailed, untrusted).await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &ours.certificate)]);
    scene.stores(&images[..6], NOTICED).await;

    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &other.certificate)]);
    scene.publish(&images[6..12]).await;
    assert_eq!(names(&consumer, Reason::TlsFailed, untrusted).await.processed, 6, "trust was removed");
    // During a rotation the Secret has both authorities.
    let both = format!("{}{}", other.certificate, ours.certificate);
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &both)]);
    scene.stores(&images[..12], NOTICED).await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &ours.certificate)]);
    scene.publish(&images[12..]).await;
    scene.stores(&images, NOTICED).await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_ones_own_is_replaced_by_another() {
    authority("store-authority", Version::Four, "other").await;
}

/// The new authority has the same name and another key, so S3's certificate still names it as issuer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_ones_own_is_replaced_by_one_of_its_name() {
    authority("store-authority-anew", Version::Three, "ours").await;
}
