//! Broker faults: the consumer keeps running, reports the cause and recovers automatically. No confirmed message is
//! lost.

use std::time::Duration;

use image_pipeline::pod_status::{Fault, PodStatus};
use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::reason::Reason;

use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Source, Version};
use servers::client::Client;
use support::eventually::{LIMIT, equal, eventually};
use support::images::{Sample, samples};
use support::proxy::{Mode, Proxy};

/// The status names a fault that a pod can see within this time.
const NAMED: Duration = Duration::from_secs(10);

/// The consumer gives up a silent broker within this time: two heartbeats and one check.
const SILENT: Duration = Duration::from_secs(15);

/// Work resumes within this time.
const HEALED: Duration = Duration::from_secs(15);

async fn names(consumer: &Consumer, reasons: &[Reason]) -> PodStatus {
    let what = format!("to name {reasons:?}");
    let failing = |status: &PodStatus| status.broker.fault().is_some_and(|fault| reasons.contains(&fault.reason));
    let status = consumer.status_is(&what, NAMED, failing).await;
    assert!(!status.consuming, "{status:?}");
    let (code, body) = consumer.get("/readyz").await.expect("an answer");
    assert_eq!(code, 503, "{body}");
    assert_eq!(consumer.get("/livez").await.expect("an answer").0, 200, "a restart would not help");
    status
}

async fn goes_on(scene: &Scene, consumer: Consumer, images: &[Sample]) {
    scene.stores(images, HEALED).await;
    consumer.status_is("to be connected", HEALED, |status| status.consuming && status.broker.fault().is_none()).await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}

/// Publishes images. Returns while the consumer holds messages and waits for S3.
async fn hold(scene: &Scene, proxy: &Proxy, consumer: &Consumer, images: &[Sample]) {
    proxy.set(Mode::HoldAnswers);
    scene.publish(images).await;
    consumer.status_is("to hold messages", LIMIT, |status| status.in_flight > 0).await;
}

/// A broker stops in two ways: with a notice (its application is stopped) and without (it is killed).
async fn restarts(name: &str, source: impl Into<Source>) {
    let source = source.into();
    let mut broker = Broker::own(source.version).await;
    let address = broker.address();
    let mut scene = Scene::at(name, source, &address).await;
    let proxy = scene.through_proxy(Mode::Pass);
    let images = samples(90);
    let (first, second, third) = (&images[..30], &images[30..60], &images[60..]);
    let consumer = Consumer::start(&scene.settings);
    hold(&scene, &proxy, &consumer, first).await;
    broker.control(&["stop_app"]);
    names(&consumer, &[Reason::BrokerUnreachable, Reason::ConnectionLost]).await;
    proxy.set(Mode::Pass);
    broker.control(&["start_app"]);
    scene.client = Client::connect(&address).await.expect("a connection");
    scene.publish(second).await;
    scene.stores(&images[..60], HEALED).await;

    hold(&scene, &proxy, &consumer, third).await;
    broker.kill();
    names(&consumer, &[Reason::BrokerUnreachable, Reason::ConnectionLost]).await;
    proxy.set(Mode::Pass);
    broker.restart().await;
    scene.client = Client::connect(&address).await.expect("a connection");
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_classic_queue_restarts() {
    restarts("restart-classic", Version::Three).await;
}

/// RabbitMQ 4 has another implementation of classic queues than 3.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_classic_queue_restarts_of_rabbitmq_4_0() {
    restarts("restart-classic-4-0", Source::classic(Version::Four)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_classic_queue_restarts_of_rabbitmq_4_3() {
    restarts("restart-classic-4-3", Source::classic(Version::FourThree)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_quorum_queue_restarts() {
    restarts("restart-quorum", Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_a_quorum_queue_restarts_of_rabbitmq_4_3() {
    restarts("restart-quorum-4-3", Version::FourThree).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_closed_by_an_operator_under_load() {
    let broker = Broker::shared(Version::Four).await;
    let tenant = broker.tenant("closed");
    let mut scene = Scene::at("closed", Version::Four, &tenant).await;
    let proxy = scene.through_proxy(Mode::Pass);
    let images = samples(60);
    let consumer = Consumer::consuming(&scene.settings).await;
    let mut since = None;
    for round in images.chunks(20) {
        hold(&scene, &proxy, &consumer, round).await;
        broker.control(&["close_all_connections", "--vhost", "closed", "maintenance"]);
        let another = |fault: &Fault| fault.reason == Reason::ConnectionLost && Some(fault.since) > since;
        let known = |status: &PodStatus| status.last_error.as_ref().is_some_and(another);
        let status = consumer.status_is("to remember ConnectionLost", NAMED, known).await;
        since = status.last_error.map(|fault| fault.since);
        proxy.set(Mode::Pass);
        scene.client = Client::connect(&tenant).await.expect("a connection");
    }
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_changes_and_the_secret_follows() {
    let broker = Broker::shared(Version::Three).await;
    let tenant = broker.tenant("password");
    let mut scene = Scene::at("password", Version::Three, &tenant).await;
    let consumer = Consumer::consuming(&scene.settings).await;
    broker.control(&["change_password", "password", "rotated"]);
    broker.control(&["close_all_connections", "--vhost", "password", "rotation"]);
    let rotated = BrokerAddress { password: "rotated".to_owned(), ..tenant };
    scene.client = Client::connect(&rotated).await.expect("a connection");
    let images = samples(12);
    scene.publish(&images).await;
    let status = names(&consumer, &[Reason::AuthenticationFailed]).await;
    assert_eq!(status.processed, 0);
    let fault = status.broker.fault().expect("a fault");
    assert!(fault.message.contains("password"), "the message must name the key: {}", fault.message);
    assert!(!consumer.log().contains("rotated"), "the log contains a password");
    scene.settings.write_broker_secret(&rotated);
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_is_created() {
    let address = Broker::shared(Version::Three).await.address();
    let scene = Scene::new("missing-broker-secret", Version::Three).await;
    std::fs::remove_dir_all(scene.settings.broker_secret()).expect("removed");
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &[Reason::SecretNotFound]).await;
    std::fs::create_dir(scene.settings.broker_secret()).expect("a directory");
    let images = samples(6);
    scene.publish(&images).await;
    scene.settings.write_broker_secret(&address);
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_vhost_is_created() {
    let broker = Broker::shared(Version::Four).await;
    let tenant = broker.tenant("vhost");
    let mut scene = Scene::at("vhost", Version::Four, &tenant).await;
    scene.settings.vhost = "vhost-to-come".to_owned();
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &[Reason::VhostNotFound]).await;
    broker.control(&["add_vhost", "vhost-to-come"]);
    broker.control(&["set_permissions", "--vhost", "vhost-to-come", "vhost", ".*", ".*", ".*"]);
    let address = BrokerAddress { vhost: "vhost-to-come".to_owned(), ..tenant };
    scene.client = Client::connect(&address).await.expect("a connection");
    scene.client.declare(&scene.settings.queue, Version::Four.queue_type()).await;
    let images = samples(6);
    scene.publish(&images).await;
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_queue_is_created() {
    let broker = Broker::shared(Version::Four).await;
    let scene = Scene::bare("missing-queue", &broker.address()).await;
    scene.store.create_bucket(&scene.settings.bucket);
    let consumer = Consumer::start(&scene.settings);
    names(&consumer, &[Reason::QueueNotFound]).await;
    scene.client.declare(&scene.settings.queue, Version::Four.queue_type()).await;
    let images = samples(12);
    scene.publish(&images).await;
    goes_on(&scene, consumer, &images).await;
}

/// Deleting a queue deletes its messages. The consumer serves the messages that are published after the queue
/// exists again.
async fn is_deleted(name: &str, version: Version) {
    let scene = Scene::new(name, version).await;
    let queue = &scene.settings.queue;
    scene.publish(&samples(90)).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to be at work", LIMIT, |status| status.processed >= 5).await;
    scene.client.delete(queue).await;
    names(&consumer, &[Reason::QueueNotFound]).await;
    scene.client.declare(queue, version.queue_type()).await;
    let after: Vec<Sample> =
        samples(30).into_iter().map(|image| Sample { name: format!("after/{}", image.name), ..image }).collect();
    scene.publish(&after).await;
    eventually("what was published after the deletion to be stored", HEALED, async || {
        let objects = scene.store.objects(&scene.settings.bucket);
        equal(after.iter().filter(|image| objects.contains_key(&image.name)).count(), after.len())
    })
    .await;
    assert!(consumer.is_running(), "recovered without a restart");
    scene.ends_with_parked(consumer, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_queue_is_deleted_under_load_and_comes_back() {
    is_deleted("deleted-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_is_deleted_under_load_and_comes_back() {
    is_deleted("deleted-quorum", Version::Four).await;
}

/// A network that drops every packet reports no error. Only missing heartbeats reveal it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_falls_silent_is_given_up_and_found_again() {
    let broker = Broker::shared(Version::Four).await;
    let scene = Scene::new("silent", Version::Four).await;
    let address = broker.address();
    let proxy = Proxy::start(broker.listener(), Mode::Pass);
    let through = BrokerAddress { port: proxy.address().port(), ..address };
    scene.settings.write_broker_secret(&through);
    let images = samples(60);
    let (before, during) = images.split_at(20);
    scene.publish(before).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have stored the first", LIMIT, |status| status.processed == 20).await;
    proxy.set(Mode::Blackhole);
    scene.publish(during).await;
    let named = |status: &PodStatus| status.broker.fault().is_some();
    consumer.status_is("to give the broker up", SILENT, named).await;
    proxy.set(Mode::Pass);
    goes_on(&scene, consumer, &images).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_is_deleted_under_load_and_comes_back() {
    let broker = Broker::shared(Version::Four).await;
    let tenant = broker.tenant("deleted-user");
    let mut scene = Scene::at("deleted-user", Version::Four, &tenant).await;
    let images = samples(60);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to be at work", LIMIT, |status| status.processed >= 5).await;
    broker.control(&["delete_user", "deleted-user"]);
    broker.control(&["close_all_connections", "--vhost", "deleted-user", "gone"]);
    names(&consumer, &[Reason::AuthenticationFailed]).await;
    broker.control(&["add_user", "deleted-user", "deleted-user"]);
    broker.control(&["set_permissions", "--vhost", "deleted-user", "deleted-user", ".*", ".*", ".*"]);
    scene.client = Client::connect(&tenant).await.expect("a connection");
    goes_on(&scene, consumer, &images).await;
}
