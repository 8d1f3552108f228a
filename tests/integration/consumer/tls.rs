//! TLS with RabbitMQ on two versions: a private authority, client certificates, the users they name, and the
//! message for each fault.

use std::time::Duration;

use image_pipeline::api::names::SecretRole;
use image_pipeline::rabbitmq::Connection;
use image_pipeline::rabbitmq::address::{BrokerAddress, Tls as Material};
use image_pipeline::reason::Reason;
use serde_json::json;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Tls, Version};
use servers::client::Client;
use support::certificates::{Authority, Certificate};
use support::images::samples;

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(15);

const AUTHORITY: SecretRole = SecretRole::BrokerAuthority;
const CERTIFICATE: SecretRole = SecretRole::BrokerCertificate;

async fn names(consumer: &Consumer, reason: Reason, part: &str) {
    let what = format!("to name {reason} with {part:?}");
    let fits = |fault: &image_pipeline::pod_status::Fault| fault.reason == reason && fault.message.contains(part);
    consumer.status_is(&what, NAMED, |status| status.broker.fault().is_some_and(fits)).await;
}

fn show(scene: &Scene, Certificate { chain, key }: &Certificate) {
    scene.settings.write_secret(CERTIFICATE, &[("tls.crt", chain), ("tls.key", key)]);
}

async fn refused(address: &BrokerAddress, tls: Option<Material>) -> (Reason, String) {
    let address = BrokerAddress { tls, ..address.clone() };
    let refused = Connection::open(&address, "integration tests").await.err().expect("refused");
    (refused.reason(), refused.to_string())
}

/// The broker's certificate comes from an authority that only a Secret has. The Secret is missing at first, then
/// has another authority (in one test of the same name), then the right one.
async fn authority(name: &str, version: Version, host: &str, other: &str) {
    let (ours, other) = (Authority::new("ours"), Authority::new(other));
    let certificate = ours.server("DNS:localhost, IP:127.0.0.1");
    let tls = Tls { certificate: &certificate, authority: &ours, demanding: false };
    let broker = Broker::own_with_tls(version, &tls).await;
    let plain = broker.address();
    let encrypted = broker.with_tls(host, &plain);
    let mut scene = Scene::at(name, version, &plain).await;
    scene.settings.write_broker_secret(&encrypted);
    scene.settings.spec = json!({ "source": { "rabbitmq": { "tls": { "caSecret": { "name": "ca" } } } } });
    let images = samples(12);
    scene.publish(&images).await;

    let consumer = Consumer::start(&scene.settings);
    names(&consumer, Reason::SecretNotFound, "source.rabbitmq.tls.caSecret").await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &other.certificate)]);
    names(&consumer, Reason::TlsFailed, "authority that is not trusted").await;
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &ours.certificate)]);
    scene.stores(&images, HEALED).await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;

    let (reason, words) = refused(&plain, Some(Material::default())).await;
    assert!(reason == Reason::TlsFailed && words.contains("does not speak TLS"), "{reason}: {words}");
    let (reason, words) = refused(&encrypted, None).await;
    assert!(reason == Reason::BrokerUnreachable && words.contains("set source.rabbitmq.tls"), "{reason}: {words}");
    let client = ours.client("guest");
    let certificate = image_pipeline::rabbitmq::address::ClientCertificate {
        chain: client.chain.into_bytes(),
        key: client.key.into_bytes(),
    };
    let external = BrokerAddress { username: String::new(), password: String::new(), ..encrypted };
    let authorities = Some(ours.certificate.into_bytes());
    let (reason, words) = refused(&external, Some(Material { authorities, certificate: Some(certificate) })).await;
    assert!(reason == Reason::AuthenticationFailed, "{reason}: {words}");
    assert!(words.contains("rabbitmq_auth_mechanism_ssl"), "{words}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_ones_own_with_a_classic_queue() {
    authority("tls-classic", Version::Three, "localhost", "other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_of_ones_own_with_a_quorum_queue() {
    authority("tls-quorum", Version::Four, "127.0.0.1", "ours").await;
}

/// The broker requires a client certificate. Later the certificate alone identifies the user, and changes with the
/// user.
async fn mutual(name: &str, version: Version) {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let certificate = ours.server("DNS:localhost");
    let tls = Tls { certificate: &certificate, authority: &ours, demanding: true };
    let broker = Broker::own_with_tls(version, &tls).await;
    let tenant = broker.tenant(name);
    let mut scene = Scene::at(name, version, &tenant).await;
    let rabbitmq = |tls| json!({ "source": { "rabbitmq": { "tls": tls } } });
    scene.settings.spec = rabbitmq(json!({ "caSecret": { "name": "ca" } }));
    scene.settings.write_secret(AUTHORITY, &[("ca.crt", &ours.certificate)]);
    scene.settings.write_broker_secret(&broker.with_tls("127.0.0.1", &tenant));
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, Reason::TlsFailed, r#"not for "127.0.0.1""#).await;
    scene.settings.write_broker_secret(&broker.with_tls("localhost", &tenant));
    names(&consumer, Reason::TlsFailed, "source.rabbitmq.tls.clientCertSecret").await;
    drop(consumer);

    let secrets = json!({ "caSecret": { "name": "ca" }, "clientCertSecret": { "name": "client" } });
    scene.settings.spec = rabbitmq(secrets);
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, Reason::SecretNotFound, "source.rabbitmq.tls.clientCertSecret").await;
    show(&scene, &other.client("device"));
    names(&consumer, Reason::TlsFailed, "refuses the certificate").await;
    show(&scene, &ours.client("device"));
    let images = samples(24);
    scene.publish(&images[..6]).await;
    scene.stores(&images[..6], HEALED).await;

    // No username is set: the certificate's common name is the user.
    scene.settings.write_broker_secret(&BrokerAddress {
        username: String::new(),
        password: String::new(),
        ..broker.with_tls("localhost", &tenant)
    });
    broker.control(&["close_all_connections", "--vhost", name, "rotation"]);
    names(&consumer, Reason::AuthenticationFailed, "client certificate names").await;
    user(&broker, "device", name);
    scene.client = Client::connect(&tenant).await.expect("a connection");
    scene.publish(&images[6..12]).await;
    scene.stores(&images[..12], HEALED).await;

    user(&broker, "device-2", name);
    broker.control(&["delete_user", "device"]);
    broker.control(&["close_all_connections", "--vhost", name, "rotation"]);
    names(&consumer, Reason::AuthenticationFailed, "client certificate names").await;
    show(&scene, &ours.client("device-2"));
    scene.client = Client::connect(&tenant).await.expect("a connection");
    scene.publish(&images[12..]).await;
    scene.stores(&images, HEALED).await;
    assert!(!consumer.log().contains("PRIVATE KEY"), "the log contains a private key");
    scene.ends_with_parked(consumer, 0).await;
}

/// A user without a password, as users with certificates are.
fn user(broker: &Broker, name: &str, vhost: &str) {
    broker.control(&["add_user", name, "none"]);
    broker.control(&["clear_password", name]);
    broker.control(&["set_permissions", "--vhost", vhost, name, ".*", ".*", ".*"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_a_user_with_a_classic_queue() {
    mutual("mutual-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_a_user_with_a_quorum_queue() {
    mutual("mutual-quorum", Version::Four).await;
}
