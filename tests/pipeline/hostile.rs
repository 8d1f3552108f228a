//! Bodies made to break a decoder: each is parked with a reason, the memory stays bounded, and the
//! images between them are stored unharmed.

use image_pipeline::broker_address::BrokerAddress;
use image_pipeline::pod_status::PodStatus;
use image_pipeline::reason::Reason;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::broker::{Broker, Version};
use crate::consumer::Consumer;
use crate::eventually::LIMIT;
use crate::images::{Sample, sample, samples};
use crate::parked::done;
use crate::plainly::plainly;
use crate::scene::Scene;

/// What the process may have had in memory at its most, in KiB. All bodies that may be delivered at
/// once, and what decoding them may take, fit in far less.
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
    assert!(peak < PEAK_KIB, "{peak} KiB at the most");
    assert!(consumer.is_running(), "the same process still");
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

/// Publishes through a connection that changes bytes on their way, since a library sends what it takes for right.
async fn publish_changed(scene: &Scene, version: Version, headers: FieldTable, change: (&[u8], &[u8])) {
    let address = Broker::shared(version).await.address();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let here = listener.local_addr().expect("an address");
    let (from, to) = (change.0.to_vec(), change.1.to_vec());
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
        assert!(changed, "the bytes to be changed were not there");
    });
    let address = BrokerAddress { host: here.ip().to_string(), port: here.port(), ..address };
    let connection = plainly(&address).await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(Default::default()).await.expect("confirms");
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let queue = scene.settings.queue.as_str().into();
    let published = channel.basic_publish("".into(), queue, Default::default(), b"no JSON", properties).await;
    published.expect("sent").await.expect("confirmed");
    drop(connection.close(200, "done".into()).await);
    drop(connection);
    changing.await.expect("changed");
}

fn one_header(name: &str, value: Vec<u8>) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
    headers
}

/// Nearly as many as go into a frame, each by a call of the client library; a few less, so that they are parked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_in_each_other_in_a_header_are_survived() {
    let scene = Scene::new("hostile-header", Version::Four).await;
    let levels: u32 = 25_000;
    let nested: Vec<u8> =
        (0..levels).rev().flat_map(|level| [&b"A"[..], &(level * 5).to_be_bytes()].concat()).collect();
    publish_changed(&scene, Version::Four, one_header("deep", nested), (b"\x04deepS", b"\x04deepA")).await;
    let images = samples(3);
    scene.publish(&images).await;
    let consumer = Consumer::start(&scene.settings);
    let counted = |status: &PodStatus| (status.processed, status.parked) == (3, 1);
    consumer.status_is("to count all", LIMIT, counted).await;
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
    let shown = done(&scene.settings, &["show"]);
    assert!(shown.contains("\"deep\"") && shown.contains('…'), "{shown}");
    assert!(done(&scene.settings, &["redrive"]).contains("1 redriven"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_with_a_name_that_is_not_utf_8_is_named() {
    let scene = Scene::new("hostile-name", Version::Three).await;
    publish_changed(&scene, Version::Three, one_header("H-he", b"x".to_vec()), (b"\x04H-heS", b"\x04H\xf6heS")).await;
    let consumer = Consumer::start(&scene.settings);
    let named =
        |status: &PodStatus| status.broker.fault().is_some_and(|fault| fault.reason == Reason::MessageUnreadable);
    consumer.status_is("to name it", LIMIT, named).await;
    assert!(consumer.is_running(), "the same process still");
}
