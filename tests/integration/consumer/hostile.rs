//! Bodies and headers made to break a decoder. Each bad message is parked with a reason, memory stays bounded, and
//! the good images are stored.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::rabbitmq::address::BrokerAddress;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::parked::done;
use crate::consumer_process::Consumer;
use crate::memory_group::MemoryGroup;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::plainly::plainly;
use support::eventually::LIMIT;
use support::images::{Sample, sample, samples};

/// Limit of the process's peak memory, in KiB. All bodies that may be delivered together, and their decoding, need
/// far less.
const PEAK_KIB: u64 = 200 << 10;

/// Every kind of file cut at many offsets.
fn damaged() -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    for number in [0, 1, 2, 3, 4, 11] {
        let file = sample(number).file;
        for part in 0..24 {
            let at = file.len() * part / 24;
            bodies.push(Sample { name: format!("cut-{number}-{part}.png"), file: file[..at].to_vec() }.body());
        }
    }
    bodies
}

fn claims(width: u32, height: u32) -> Vec<u8> {
    let mut file = sample(0).file;
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = libdeflater::crc32(&file[12..29]);
    file[29..33].copy_from_slice(&sum.to_be_bytes());
    Sample { name: format!("claims-{width}-{height}.png"), file }.body()
}

fn odd() -> Vec<Vec<u8>> {
    let deep = |depth: usize| {
        let nest = "[".repeat(depth) + &"]".repeat(depth);
        format!(r#"{{"extra": {nest}, "image": "AAAA", "image_metadata": {{"image_name": "a"}}}}"#).into_bytes()
    };
    vec![
        claims(u32::MAX >> 1, u32::MAX >> 1),
        claims(1, 40_000_000),
        claims(16_384, 16_384),
        claims(0, 5),
        deep(100_000),
        b"{".repeat(1 << 20),
        b"\xff\xfe\x00".repeat(1000),
        json!({ "image": "=".repeat(4 << 20), "image_metadata": { "image_name": "a" } }).to_string().into_bytes(),
        json!({ "image": "AAAA", "image_metadata": { "image_name": "\u{202e}gnp.\u{0}" } }).to_string().into_bytes(),
        br#"{"image": "AAAA", "image": "AAAA", "image_metadata": {"image_name": "a"}}"#.to_vec(),
        br#"{"image": 1e999999, "image_metadata": {"image_name": "a"}}"#.to_vec(),
    ]
}

fn peak_kib(consumer: &Consumer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", consumer.id())).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn survives(name: &str, version: Version) {
    let scene = Scene::new(name, version).await;
    let good = samples(30);
    let bad: Vec<_> = damaged().into_iter().chain(odd()).collect();
    let mut images = good.iter();
    for (number, body) in bad.iter().enumerate() {
        if number % 5 == 0 {
            scene.publish(images.next().map(std::slice::from_ref).unwrap_or_default()).await;
        }
        scene.client.publish(&scene.settings.queue, body).await;
    }
    scene.publish(images.as_slice()).await;
    let consumer = Consumer::start(&scene.settings);
    let all = bad.len() as u64;
    let counted = |status: &PodStatus| (status.processed, status.parked) == (30, all);
    consumer.status_is("to count all", LIMIT, counted).await;
    scene.stores(&good, LIMIT).await;
    let peak = peak_kib(&consumer);
    assert!(peak < PEAK_KIB, "peak memory {peak} KiB");
    assert!(consumer.is_running(), "still the same process");
    scene.ends_with_parked(consumer, all as u32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_classic_queue_are_survived() {
    survives("hostile-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_a_quorum_queue_are_survived() {
    survives("hostile-quorum", Version::Four).await;
}

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
            let ((mut asks, mut hears), (mut answers, mut told)) = (client.into_split(), broker.into_split());
            let back = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut hears).await });
            let (mut piece, mut changed) = (vec![0; 1 << 20], false);
            while let Ok(length @ 1..) = asks.read(&mut piece).await {
                let place = piece[..length].windows(from.len()).position(|window| window == from);
                if let Some(place) = place {
                    piece[place..place + to.len()].copy_from_slice(&to);
                    changed = true;
                }
                told.write_all(&piece[..length]).await.expect("passed on");
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

fn one_header(name: &str, value: Vec<u8>) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
    headers
}

/// Number of redelivered messages, from the consumer's metrics. Each return counts toward the queue's delivery
/// limit.
async fn redelivered(consumer: &Consumer) -> u64 {
    let (_, metrics) = consumer.get("/metrics").await.expect("metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix("image_pipeline_redelivered_total "));
    line.expect("counted").parse().expect("a number")
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
    assert_eq!(redelivered(&consumer).await, 0);
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
    assert_eq!(redelivered(&consumer).await, 0);

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
    assert_eq!(redelivered(&consumer).await, 0);
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
    assert_eq!(redelivered(&consumer).await, 1, "only the redelivery by this test");
    scene.stores(&images[1..], LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
    assert!(done(&scene.settings, &["show"]).contains("longer than a frame"));
}

/// RabbitMQ 3 accepts bodies of up to 128 MiB, and sends each body completely before a consumer can refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_only_rabbitmq_3_takes_are_parked_within_a_pods_memory() {
    const MIB: usize = 1 << 20;
    let mut scene = Scene::new("hostile-size", Version::Three).await;
    let group = MemoryGroup::new("hostile-size", 1024 * MIB);
    scene.settings.memory_group = Some(group.directory());
    let images = samples(20);
    let body = vec![b' '; 120 * MIB];
    for _ in 0..10 {
        scene.client.publish_with(&scene.settings.queue, &body, BasicProperties::default()).await;
    }
    drop(body);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let counted = |status: &PodStatus| (status.processed, status.parked) == (20, 10);
    consumer.status_is("to count all", 3 * LIMIT, counted).await;
    // How many bodies wait at the same time is chance, so this checks how many may: 40 % of 1 GiB hold three of 128
    // MiB.
    let consumers = Broker::shared(Version::Three).await.control(&["list_consumers", "queue_name", "prefetch_count"]);
    let own = consumers.lines().filter_map(|line| line.strip_prefix("hostile-size")).map(str::trim);
    let own: Vec<u16> = own.map(|count| count.parse().expect("a number")).collect();
    assert!(matches!(own[..], [1..=3]), "{own:?} {consumers}");
    assert!(group.peak() < 900 * MIB as u64, "peak memory {} MiB", group.peak() / MIB as u64);
    assert!(consumer.is_running(), "still the same process");
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 10).await;
}
