//! The product's own AMQP code on real brokers: the properties of a delivery, a refused passive declare that harms
//! no consumer, and a broker's alarm as an error of its own.

use std::time::Duration;

use futures::StreamExt;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::rabbitmq::{Connection, Deliveries, Delivery, Parked, Published, QueueError};
use image_pipeline::reason::Reason;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::consumer_process::{Consumer, Settings};
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::broker_cluster::Cluster;
use servers::client::{Client, QueueType};
use support::eventually::{LIMIT, eventually};
use support::proxy::{Mode, Proxy};

/// An alarm is reported within this time: less than any exchange with the broker may take.
const TOLD: Duration = Duration::from_secs(5);

const PARKED: Parked<'_> = Parked {
    reason: "InvalidImage",
    detail: "truncated",
    namespace: "greench",
    name: "tests",
    queue: "source",
    attempts: 1,
    first_seen: "2026-01-01T00:00:00Z",
};

async fn next(deliveries: &mut Deliveries) -> Delivery {
    let next = tokio::time::timeout(LIMIT, deliveries.next()).await.expect("a delivery in time");
    next.expect("no end").expect("a delivery")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_says_its_version_and_what_bodies_it_lets_through() {
    for (version, expected, largest_body) in [(Version::Three, (3, 10), 128 << 20), (Version::Four, (4, 0), 16 << 20)] {
        let address = Broker::shared(version).await.address();
        let connection = Connection::open(&address, "integration tests").await.expect("a connection");
        let (major, minor, _) = connection.broker_version().expect("a version");
        assert_eq!(((major, minor), connection.largest_body()), (expected, largest_body));
        connection.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_tells_its_headers_and_is_rejected_for_good() {
    let address = Broker::shared(Version::Four).await.address();
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("delivery", QueueType::Quorum).await;
    let mut headers = FieldTable::default();
    headers.insert("image_name".into(), AMQPValue::LongString("north/4.png".into()));
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    client.publish_with("delivery", b"a body", properties).await;

    let first = Connection::open(&address, "integration tests").await.expect("a connection");
    let mut deliveries =
        first.channel().await.expect("a channel").consume("delivery", "t", 1).await.expect("a consumer");
    let delivery = next(&mut deliveries).await;
    assert_eq!((&delivery.body()[..], delivery.redelivered()), (&b"a body"[..], false));
    assert_eq!(delivery.header("image_name").as_deref(), Some("north/4.png"));
    assert_eq!(delivery.header("nothing"), None);
    let shared = delivery.body().clone();
    assert_eq!(shared.as_ptr(), delivery.body().as_ptr(), "a clone copies nothing");
    first.close().await;
    let lost = delivery.reject().await.expect_err("the session is gone");
    assert_eq!(lost.reason(), Reason::ConnectionLost);

    let second = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = second.channel().await.expect("a channel");
    let mut deliveries = channel.consume("delivery", "t", 1).await.expect("a consumer");
    let again = next(&mut deliveries).await;
    assert!(again.redelivered());
    again.reject().await.expect("rejected");
    second.close().await;
    client.holds("delivery", 0).await;
}

/// A reader may read the depth of the queues it has permission for. A missing or forbidden queue closes one channel
/// only.
async fn a_refused_look(name: &str, version: Version) {
    let broker = Broker::shared(version).await;
    let tenant = broker.tenant(name);
    let client = Client::connect(&tenant).await.expect("a connection");
    client.declare("mine", version.queue_type()).await;
    client.declare("hidden", version.queue_type()).await;
    let user = format!("{name}-reader");
    broker.control(&["add_user", &user, "r"]);
    broker.control(&["set_permissions", "--vhost", name, &user, "^$", "^$", "^mine$"]);
    let reader = BrokerAddress { username: user, password: "r".to_owned(), ..tenant };

    let connection = Connection::open(&reader, "integration tests").await.expect("a connection");
    let consuming = connection.channel().await.expect("a channel");
    let mut deliveries = consuming.consume("mine", "t", 2).await.expect("a consumer");
    client.publish("mine", b"first").await;
    let first = next(&mut deliveries).await;
    let look = connection.channel().await.expect("a channel");
    assert_eq!(look.depth("mine").await.expect("a depth").ready, 0);
    let missing = look.depth("none").await.expect_err("missing");
    assert_eq!(missing.reason(), Reason::QueueNotFound, "{missing}");
    let other = connection.channel().await.expect("a channel");
    let refused = other.consume("hidden", "u", 1).await.err().expect("forbidden");
    assert_eq!(refused.reason(), Reason::DeclareRefused, "{refused}");
    assert!(!look.is_open() && !other.is_open() && consuming.is_open() && connection.is_open());
    first.acknowledge().await.expect("the consuming channel still works");
    client.publish("mine", b"second").await;
    next(&mut deliveries).await.acknowledge().await.expect("acknowledged");
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_look_harms_no_consumer_of_a_classic_queue() {
    a_refused_look("look-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_look_harms_no_consumer_of_a_quorum_queue() {
    a_refused_look("look-quorum", Version::Four).await;
}

async fn an_alarm(version: Version) {
    let broker = Broker::own(version).await;
    let address = broker.address();
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("source", version.queue_type()).await;
    client.declare("parked", version.queue_type()).await;
    client.publish("source", b"poison").await;
    let reading = Connection::open(&address, "integration tests").await.expect("a connection");
    let mut deliveries =
        reading.channel().await.expect("a channel").consume("source", "t", 1).await.expect("a consumer");
    let delivery = next(&mut deliveries).await;

    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    let parking = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = parking.publishing_channel().await.expect("a channel");
    let mut publishing = channel.start_parking("parked", &delivery, &PARKED);
    let blocked = tokio::time::timeout(TOLD, publishing.outcome()).await.expect("reported immediately");
    let Published::UnderWay(blocked) = blocked else { panic!("not blocked") };
    assert_eq!(blocked.reason(), Reason::ParkingRefused);
    assert!(blocked.to_string().contains("memory or disk alarm"), "{blocked}");
    assert!(parking.is_blocked() && parking.is_open() && !reading.is_blocked());

    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    eventually("the alarm to end", LIMIT, async || if parking.is_blocked() { Err(String::new()) } else { Ok(()) })
        .await;
    assert!(matches!(publishing.outcome().await, Published::Confirmed(_)), "the same publish is confirmed");
    client.holds("parked", 1).await;
    delivery.acknowledge().await.expect("acknowledged");
    client.holds("source", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_rabbitmq_3_is_told_apart() {
    an_alarm(Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_of_rabbitmq_4_is_told_apart() {
    an_alarm(Version::Four).await;
}

/// RabbitMQ accepts the message that it received when it began to block. The consumer publishes no second copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_waits_for_the_end_of_an_alarm() {
    let broker = Broker::own(Version::Four).await;
    let scene = Scene::at("alarm", Version::Four, &broker.address()).await;
    let Settings { queue, parking, .. } = &scene.settings;
    scene.client.publish(queue, b"poison").await;
    broker.control(&["set_vm_memory_high_watermark", "0.00001"]);
    let consumer = Consumer::start(&scene.settings);
    let told = |status: &PodStatus| status.parking.fault().is_some_and(|fault| fault.message.contains("alarm"));
    consumer.status_is("to report the alarm", Duration::from_secs(10), told).await;
    let again = |status: &PodStatus| told(status) && status.consuming && status.parked == 0;
    consumer.status_is("to go on consuming", TOLD, again).await;
    let connections = broker.control(&["list_connections", "client_properties"]);
    assert_eq!(connections.matches("parking").count(), 1, "{connections}");
    broker.control(&["set_vm_memory_high_watermark", "0.6"]);
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    drop(consumer);
    scene.client.holds(queue, 0).await;
    let parked = scene.client.take(parking).await;
    assert_eq!(parked.len(), 1, "{parked:?}");
}

/// Foreign consumers are detected by this count. It counts consumers, whatever messages they hold.
async fn a_count_of_consumers(version: Version) {
    let broker = Broker::shared(version).await;
    let address = broker.tenant("counted");
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("counted", version.queue_type()).await;
    let connection = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let counted = async || channel.depth("counted").await.expect("a depth").consumers;
    assert_eq!(counted().await, 0);
    let mut one = channel.consume("counted", "one", 5).await.expect("a consumer");
    let other = connection.channel().await.expect("a channel").consume("counted", "other", 5).await;
    assert_eq!(counted().await, 2);
    for _ in 0..6 {
        client.publish("counted", b"body").await;
    }
    let _held = next(&mut one).await;
    client.holds("counted", 0).await;
    assert_eq!(counted().await, 2);
    drop(other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_a_classic_queue_are_counted() {
    a_count_of_consumers(Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_of_a_quorum_queue_are_counted() {
    a_count_of_consumers(Version::Four).await;
}

/// A test of the test cluster: confirmed messages survive the node that led the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_queue_of_three_nodes_outlives_its_leader() {
    let mut cluster = Cluster::start(Version::FourThree).await;
    let front = cluster.front();
    let address = BrokerAddress { port: front.address().port(), ..cluster.nodes[0].address() };
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("led", QueueType::Quorum).await;
    for _ in 0..20 {
        client.publish("led", b"body").await;
    }
    let killed = cluster.kill_leader("led");
    let client = eventually("a connection to another node", LIMIT, async || {
        let client = Client::connect(&address).await.map_err(|error| error.to_string())?;
        client.try_publish("led", b"body").await.map_err(|error| error.to_string())?;
        Ok(client)
    })
    .await;
    assert_ne!(cluster.leader("led"), killed);
    cluster.restart(killed).await;
    let taken = client.take("led").await.len();
    assert!((21..=22).contains(&taken), "{taken}");
}

/// Compares the counts with RabbitMQ's behavior: whether the queue still has the message.
async fn returns_are_counted(version: Version, requeues: u64) {
    let address = Broker::shared(version).await.address();
    let client = Client::connect(&address).await.expect("a connection");
    client.declare("returned", QueueType::Quorum).await;
    client.publish("returned", b"body").await;
    let connection = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let mut deliveries = channel.consume("returned", "t", 1).await.expect("a consumer");
    for returns in 0..requeues {
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.returns(), delivery.redelivered()), (Some(returns), returns > 0));
        delivery.requeue().await.expect("requeued");
    }
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.returns(), Some(requeues));
    connection.close().await;
    let connection = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let mut deliveries = channel.consume("returned", "t", 1).await.expect("a consumer");
    let delivery = next(&mut deliveries).await;
    assert_eq!(delivery.returns(), Some(requeues + 1), "a closed connection is a return");

    assert_eq!(delivery.renewals(), 0);
    let publishing = connection.publishing_channel().await.expect("a channel");
    publishing.renew("returned", &delivery).await.expect("confirmed");
    delivery.acknowledge().await.expect("acknowledged");
    let renewed = next(&mut deliveries).await;
    assert_eq!((renewed.returns(), renewed.renewals(), &renewed.body()[..]), (Some(0), 1, &b"body"[..]));
    renewed.acknowledge().await.expect("acknowledged");
    connection.close().await;
    client.holds("returned", 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returns_are_counted_by_rabbitmq_4_0() {
    returns_are_counted(Version::Four, 12).await;
}

/// RabbitMQ 4.3 drops a message at its 21st return, but does not count returns by basic.nack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_requeues_of_rabbitmq_4_3_drop_nothing() {
    returns_are_counted(Version::FourThree, 30).await;
}

/// lapin never answers an acknowledgement that it was given while its connection ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_an_answer_ends_with_its_channel() {
    let mut address = Broker::shared(Version::Four).await.address();
    let target = tokio::net::lookup_host((address.host.as_str(), address.port)).await.expect("an address").next();
    let proxy = Proxy::start(target.expect("an address"), Mode::Pass);
    (address.host, address.port) = (proxy.address().ip().to_string(), proxy.address().port());
    let connection = Connection::open(&address, "integration tests").await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let answered = channel.while_open(async { Ok::<_, QueueError>("an answer") }).await;
    assert_eq!(answered, Ok("an answer"));
    let never = channel.while_open(std::future::pending::<Result<(), QueueError>>());
    let closed = async {
        proxy.close_all();
        std::future::pending().await
    };
    let ended = tokio::select! {
        ended = tokio::time::timeout(LIMIT, never) => ended.expect("an end in time"),
        () = closed => Ok(()),
    };
    assert_eq!(ended.map_err(|error| error.reason()), Err(Reason::ConnectionLost));
}
