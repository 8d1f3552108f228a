//! Properties and headers that RabbitMQ delivers and a client library can't parse. Their messages are parked, and no
//! other message is returned.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::Connection;
use image_pipeline::rabbitmq::address::BrokerAddress;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::parked::done;
use crate::consumer::poison::header;
use crate::consumer_process::Consumer;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::plainly::plainly;
use support::eventually::{LIMIT, eventually};
use support::images::samples;

/// A message whose bytes are changed on the way to RabbitMQ. The client library would not send the changed bytes.
struct Changed<'a> {
    exchange: &'a str,
    routing_key: &'a str,
    headers: FieldTable,
    body: &'a [u8],
    from: &'a [u8],
    to: &'a [u8],
}

impl Changed<'_> {
    async fn publish(self, version: Version) {
        let address = Broker::shared(version).await.address();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("an address");
        let (from, to) = (self.from.to_vec(), self.to.to_vec());
        let target = (address.host.clone(), address.port);
        let changing = tokio::spawn(async move {
            let (client, _) = listener.accept().await.expect("a connection");
            let broker = TcpStream::connect(target).await.expect("a broker");
            let ((mut from_client, mut to_client), (mut from_broker, mut to_broker)) =
                (client.into_split(), broker.into_split());
            let back = tokio::spawn(async move { tokio::io::copy(&mut from_broker, &mut to_client).await });
            let (mut piece, mut changed) = (vec![0; 1 << 20], false);
            while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                let place = piece[..length].windows(from.len()).position(|window| window == from);
                if let Some(place) = place {
                    piece[place..place + to.len()].copy_from_slice(&to);
                    changed = true;
                }
                to_broker.write_all(&piece[..length]).await.expect("passed on");
            }
            back.abort();
            assert!(changed, "the bytes to change were not found");
        });
        let address = BrokerAddress { host: here.ip().to_string(), port: here.port(), ..address };
        let connection = plainly(&address).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(Default::default()).await.expect("confirms");
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(self.headers);
        let (exchange, key) = (self.exchange.into(), self.routing_key.into());
        let published = channel.basic_publish(exchange, key, Default::default(), self.body, properties).await;
        published.expect("sent").await.expect("confirmed");
        drop(connection.close(200, "done".into()).await);
        drop(connection);
        changing.await.expect("changed");
    }
}

/// Series of the consumer's metrics.
const PARKING_ATTEMPTS: &str = "image_pipeline_stage_seconds_count{stage=\"settle\"}";

fn one_header(name: &str, value: Vec<u8>) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
    headers
}

/// Nearly as many nested arrays as fit into a frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_in_each_other_in_a_header_are_survived() {
    let scene = Scene::new("hostile-header", Version::Four).await;
    let levels: u32 = 25_000;
    let nested: Vec<u8> =
        (0..levels).rev().flat_map(|level| [&b"A"[..], &(level * 5).to_be_bytes()].concat()).collect();
    let deep = Changed {
        exchange: "",
        routing_key: &scene.settings.queue,
        headers: one_header("deep", nested),
        body: b"no JSON",
        from: b"\x04deepS",
        to: b"\x04deepA",
    };
    deep.publish(Version::Four).await;
    let images = samples(3);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let counted = |status: &PodStatus| (status.processed, status.parked) == (3, 1);
    consumer.status_is("to count all", LIMIT, counted).await;
    assert_eq!(consumer.redelivered().await, 0);
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
    let shown = done(&scene.settings, &["show"]);
    assert!(shown.contains("nest more than 32 deep"), "{shown}");
    assert!(done(&scene.settings, &["redrive"]).contains("1 redriven"));
}

/// Uses a quorum queue, which drops messages that return too often. The bad message is at the head, and all other
/// messages are delivered together with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_with_a_name_that_is_not_utf_8_parks_its_message_and_returns_no_other() {
    let scene = Scene::new("hostile-name", Version::Four).await;
    let images = samples(10);
    let (bad, good) = images.split_first().expect("ten");
    let bad_header = Changed {
        exchange: "",
        routing_key: &scene.settings.queue,
        headers: one_header("H-he", b"x".to_vec()),
        body: &bad.body(),
        from: b"\x04H-heS",
        to: b"\x04H\xf6heS",
    };
    bad_header.publish(Version::Four).await;
    scene.publish(good).await;
    let consumer = Consumer::start(&scene.settings);
    let counted = |status: &PodStatus| (status.processed, status.parked) == (9, 1);
    consumer.status_is("to count all", LIMIT, counted).await;
    scene.stores(good, LIMIT).await;
    assert_eq!(consumer.redelivered().await, 0);

    let listed = done(&scene.settings, &["list"]);
    assert!(listed.contains("MessageUnreadable"), "{listed}");
    let shown = done(&scene.settings, &["show"]);
    assert!(shown.contains("the name of a header is not UTF-8"), "{shown}");
    let object = &shown[shown.find('{').expect("an object")..];
    let shown: Value = serde_json::Deserializer::from_str(object).into_iter().next().expect("JSON").expect("JSON");
    let original = find(&shown, "x-image-pipeline-unreadable-properties").expect("the original properties");
    let original = BASE64_STANDARD.decode(original).expect("base64");
    assert!(original.windows(5).any(|window| window == b"\x04H\xf6he"), "{original:?}");

    // Once the properties are set aside, their fault no longer matters.
    assert!(done(&scene.settings, &["redrive"]).contains("1 redriven"));
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// Finds a member by name at any depth.
fn find<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    match value {
        Value::Object(members) => {
            let here = members.get(name).and_then(Value::as_str);
            here.or_else(|| members.values().find_map(|value| find(value, name)))
        }
        _ => None,
    }
}

/// The routing key is the publisher's choice, and has no use after the exchange.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_routing_key_that_is_not_utf_8_is_no_matter() {
    let scene = Scene::new("hostile-key", Version::Four).await;
    let images = samples(3);
    scene.client.bind(&scene.settings.queue, "amq.fanout").await;
    let key = Changed {
        exchange: "amq.fanout",
        routing_key: "k-nig",
        headers: FieldTable::default(),
        body: &images[0].body(),
        from: b"\x05k-nig",
        to: b"\x05k\xf6nig",
    };
    key.publish(Version::Four).await;
    scene.publish(&images[1..]).await;
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to have stored all", LIMIT, |status| status.processed == 3).await;
    assert_eq!(consumer.redelivered().await, 0);
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 0).await;
}

/// RabbitMQ adds a count when it redelivers a message, and does not check whether the headers still fit into a
/// frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_outgrow_a_frame_with_the_brokers_own_park_their_message() {
    let scene = Scene::new("hostile-growing", Version::Four).await;
    let queue = &scene.settings.queue;
    let images = samples(3);
    // Eight bytes less than a frame holds.
    let headers = one_header("filler", vec![b'x'; (128 << 10) - 8 - 12 - 2 - 1 - 4 - 7 - 5 - 8]);
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    scene.client.publish_with(queue, &images[0].body(), properties).await;
    scene.client.take_and_return(queue).await;
    scene.publish(&images[1..]).await;
    let consumer = Consumer::start(&scene.settings);
    let counted = |status: &PodStatus| (status.processed, status.parked) == (2, 1);
    consumer.status_is("to count all", LIMIT, counted).await;
    assert_eq!(consumer.redelivered().await, 1, "only the redelivery by this test");
    scene.stores(&images[1..], LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
    assert!(done(&scene.settings, &["show"]).contains("longer than a frame"));
}

/// The broker's count of the returns is among the headers that can't be parsed. The consumer's user may neither park
/// nor renew, for longer than the broker would return the message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_message_is_kept_from_the_delivery_limit() {
    let mut scene = Scene::new("hostile-kept", Version::Four).await;
    scene.settings.spec = json!({ "failures": { "holdingTime": "1s" } });
    let (broker, queue) = (Broker::shared(Version::Four).await, scene.settings.queue.clone());
    let bad_header = Changed {
        exchange: "",
        routing_key: &queue,
        headers: one_header("H-he", b"x".to_vec()),
        body: &samples(1)[0].body(),
        from: b"\x04H-heS",
        to: b"\x04H\xf6heS",
    };
    bad_header.publish(Version::Four).await;
    // The broker drops the message at its 21st return; this is the 18th.
    let connection = Connection::open(&broker.address(), "integration tests").await.expect("a connection");
    let channel = connection.channel().await.expect("a channel");
    let mut deliveries = channel.consume(&queue, "t", 1).await.expect("a consumer");
    for _ in 0..17 {
        deliveries.next().await.expect("a delivery").expect("checked").requeue().await.expect("requeued");
    }
    deliveries.next().await.expect("a delivery").expect("checked");
    connection.close().await;

    broker.control(&["add_user", "hostile-kept", "hostile-kept"]);
    let may = |write: &str| {
        broker.control(&["set_permissions", "hostile-kept", write, write, &format!("^{queue}$")]);
    };
    may("^$");
    let user = "hostile-kept".to_owned();
    let reader = BrokerAddress { username: user.clone(), password: user, ..broker.address() };
    scene.settings.write_broker_secret(&reader);
    let consumer = Consumer::start(&scene.settings);
    consumer.status_is("to report the parking queue", LIMIT, |status| status.parking.fault().is_some()).await;
    // Several holding times pass between so many attempts.
    eventually("ten attempts to park", LIMIT, async || match consumer.counted(PARKING_ATTEMPTS).await {
        attempts if attempts >= 10 => Ok(()),
        attempts => Err(attempts.to_string()),
    })
    .await;
    assert_eq!(consumer.redelivered().await, 1, "only the redelivery by this test");
    may(".*");
    consumer.status_is("to have parked it", LIMIT, |status| status.parked == 1).await;
    scene.ends_with_parked(consumer, 1).await;
    let parked = scene.client.peek(&scene.settings.parking).await;
    assert_eq!(header(&parked, "x-image-pipeline-reason").as_deref(), Some("MessageUnreadable"));
}
