//! Bodies made to break a decoder. Each bad message is parked with a reason, memory stays bounded, and
//! the good images are stored.

use image_pipeline::pod_status::PodStatus;
use lapin::BasicProperties;
use serde_json::json;

use crate::consumer_process::Consumer;
use crate::memory_group::MemoryGroup;
use crate::scene::Scene;
use servers::broker::{Broker, Version};
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
