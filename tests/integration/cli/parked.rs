//! `image-pipeline parked` on each RabbitMQ version: listing changes nothing however often it runs, an interrupted
//! redrive loses nothing, and a message is not redriven forever.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use image_pipeline::controller::build::MEMORY;
use image_pipeline::rabbitmq::Connection;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use crate::consumer_process::{Consumer, Settings};
use crate::scene::Scene;
use servers::broker::{Broker, Version};
use servers::client::Client;
use support::eventually::{LIMIT, eventually};
use support::images::samples;
use support::process::{Process, directory};

/// Adds the arguments of `image-pipeline parked`; the verb comes first.
fn parked(command: &mut Command, settings: &Settings, what: &[&str]) {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(MEMORY);
    command.arg("parked").args(what);
    command.args(["--queue", &settings.parking, "--vhost", &settings.vhost]);
    command.arg("--broker-secret").arg(settings.broker_secret());
}

fn run(settings: &Settings, what: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-pipeline"));
    parked(&mut command, settings, what);
    command.output().expect("the program")
}

/// Standard output of a command that succeeds.
pub fn done(settings: &Settings, what: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(settings, what);
    let said = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{what:?}: {status}: {said}");
    String::from_utf8(stdout).expect("text")
}

/// Error output of a command that fails.
fn refused(settings: &Settings, what: &[&str]) -> String {
    let Output { status, stderr, .. } = run(settings, what);
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{what:?} succeeded: {said}");
    assert!(!said.contains("source.rabbitmq"), "the command line has no spec: {said}");
    said
}

fn listed(settings: &Settings, what: &[&str]) -> Value {
    let what = [&["list", "--output", "json"], what].concat();
    serde_json::from_str(&done(settings, &what)).expect("JSON")
}

fn count(list: &Value) -> usize {
    list["messages"].as_array().expect("messages").len()
}

/// Properties of a message that a consumer parked.
fn parked_from(queue: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (key, value) in [("reason", "InvalidImage"), ("queue", queue), ("first-seen", "2026-01-01T00:00:00Z")] {
        headers.insert(format!("x-image-pipeline-{key}").into(), AMQPValue::LongString(value.into()));
    }
    BasicProperties::default().with_delivery_mode(2).with_headers(headers)
}

async fn park(client: &Client, settings: &Settings, messages: u32) -> BTreeSet<Vec<u8>> {
    let bodies: BTreeSet<Vec<u8>> = (0..messages).map(|number| format!("body {number}").into_bytes()).collect();
    for body in &bodies {
        client.publish_with(&settings.parking, body, parked_from(&settings.queue)).await;
    }
    client.holds(&settings.parking, messages).await;
    bodies
}

fn bodies(taken: &[Delivery]) -> BTreeSet<Vec<u8>> {
    taken.iter().map(|delivery| delivery.data.clone()).collect()
}

fn number(delivery: &Delivery, header: &str) -> Option<i64> {
    match delivery.properties.headers().as_ref()?.inner().get(header)? {
        AMQPValue::LongUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Some(*number),
        other => panic!("{header} is {other:?}"),
    }
}

/// Images that were too large until the limit was raised, and one message that has no image.
async fn a_repair(name: &str, version: Version) {
    let mut scene = Scene::new(name, version).await;
    let parking = scene.settings.parking.clone();
    scene.client.declare(&parking, version.queue_type()).await;
    let images = samples(3);
    scene.settings.spec = json!({ "image": { "maxPixels": 100 } });
    scene.publish(&images).await;
    scene.client.publish(&scene.settings.queue, b"{\"image\": \x1b").await;
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.client.holds(&parking, 4).await;
    scene.ends_with_parked(consumer, 4).await;

    let settings = &scene.settings;
    let list = listed(settings, &[]);
    assert_eq!(list["reasons"], json!({ "ImageTooLarge": 3, "InvalidJson": 1 }));
    let names: BTreeSet<&str> =
        list["messages"].as_array().expect("messages").iter().filter_map(|message| message["image"].as_str()).collect();
    assert_eq!(names, images.iter().map(|image| image.name.as_str()).collect());
    let table = done(settings, &["list"]);
    assert!(
        table.contains("greench/tests") && table.contains(&images[0].name) && table.contains("4 parked"),
        "{table}"
    );
    for (filter, expected) in [
        (["--reason", "InvalidJson"], 1),
        (["--pipeline", "greench/tests"], 4),
        (["--pipeline", "greench/other"], 0),
        (["--since", "1h"], 4),
        (["--until", "1h"], 0),
        (["--limit", "2"], 2),
    ] {
        scene.client.holds(&parking, 4).await;
        assert_eq!(count(&listed(settings, &filter)), expected, "{filter:?}");
    }
    let shown = done(settings, &["show", "--reason", "InvalidJson"]);
    assert!(shown.contains("x-image-pipeline-detail") && !shown.contains('\x1b'), "{shown}");
    let told: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(told["body"]["begins"], "{\"image\": \x1b");

    scene.client.holds(&parking, 4).await;
    let files = directory("saved");
    let save = ["save", files.to_str().expect("text"), "--reason", "ImageTooLarge"];
    assert!(done(settings, &save).contains("3 saved"));
    let saved: BTreeSet<Vec<u8>> = (1..=3).map(|number| read(&files, number, "body")).collect();
    assert_eq!(saved, images.iter().map(|image| image.body()).collect());
    let about: Value = serde_json::from_slice(&read(&files, 1, "json")).expect("JSON");
    assert_eq!(about["properties"]["headers"]["x-image-pipeline-reason"], "ImageTooLarge");
    scene.client.holds(&parking, 4).await;
    assert!(refused(settings, &save).contains("already exists"));

    for dry in [["redrive", "--dry-run"], ["drop", "--dry-run"]] {
        scene.client.holds(&parking, 4).await;
        let said = done(settings, &dry);
        assert!(said.contains("4 would be") && said.contains(&images[2].name), "{said}");
        scene.client.holds(&settings.queue, 0).await;
    }
    assert!(refused(settings, &["drop"]).contains("--yes"));
    scene.client.holds(&parking, 4).await;

    assert!(done(settings, &["redrive", "--reason", "ImageTooLarge"]).contains("3 redriven"));
    scene.client.holds(&settings.queue, 3).await;
    scene.client.holds(&parking, 1).await;
    scene.settings.spec = json!({});
    let consumer = Consumer::consuming(&scene.settings).await;
    scene.stores(&images, LIMIT).await;
    scene.ends_with_parked(consumer, 1).await;
    assert!(done(&scene.settings, &["drop", "--yes"]).contains("1 dropped"));
    scene.client.holds(&parking, 0).await;
}

fn read(directory: &std::path::Path, number: u32, end: &str) -> Vec<u8> {
    let path: PathBuf = directory.join(format!("{number:06}.{end}"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_classic_parking_queue_is_repaired() {
    a_repair("repair-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_parking_queue_is_repaired() {
    a_repair("repair-quorum", Version::Four).await;
}

/// RabbitMQ 4 drops a message at its 21st return.
async fn fifty_looks(version: Version) {
    const MESSAGES: u32 = 12;
    let scene = Scene::new(&format!("looks-{version:?}").to_lowercase(), version).await;
    let Settings { parking, .. } = &scene.settings;
    scene.client.declare(parking, version.queue_type()).await;
    let parked = park(&scene.client, &scene.settings, MESSAGES).await;
    for look in 0..50 {
        // Requeued messages are ready a moment after the command ends.
        scene.client.holds(parking, MESSAGES).await;
        assert_eq!(count(&listed(&scene.settings, &[])), MESSAGES as usize, "look {look}");
    }
    scene.client.holds(parking, MESSAGES).await;
    let taken = scene.client.take(parking).await;
    assert_eq!((taken.len(), bodies(&taken)), (parked.len(), parked));
    for message in &taken {
        let counts = ["x-delivery-count", "x-acquired-count"].map(|name| number(message, name).unwrap_or(0));
        assert!(counts.iter().all(|count| *count < 10), "too many returns: {counts:?}");
        assert_eq!(number(message, "x-image-pipeline-redriven"), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_looks_lose_nothing_of_rabbitmq_4_0() {
    fifty_looks(Version::Four).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_looks_lose_nothing_of_rabbitmq_4_3() {
    fifty_looks(Version::FourThree).await;
}

/// Each message is in at least one queue after the kill. A second redrive finishes the work.
async fn a_redrive_that_is_killed(name: &str, version: Version) {
    const MESSAGES: u32 = 300;
    let scene = Scene::new(name, version).await;
    let Settings { queue, parking, .. } = &scene.settings;
    scene.client.declare(parking, version.queue_type()).await;
    let parked_bodies = park(&scene.client, &scene.settings, MESSAGES).await;
    let connection = Connection::open(&Broker::shared(version).await.address(), "integration tests").await;
    let channel = connection.expect("a connection").channel().await.expect("a channel");
    let ready = async |queue: &str| channel.depth(queue).await.expect("a depth").ready;

    let mut process = Process::start("a redrive", &directory(name), |command| {
        command.arg(env!("CARGO_BIN_EXE_image-pipeline"));
        parked(command, &scene.settings, &["redrive"]);
    });
    eventually("some messages to be redriven", LIMIT, async || {
        let redriven = ready(queue).await;
        if redriven > 10 { Ok(()) } else { Err(format!("{redriven} redriven")) }
    })
    .await;
    process.kill();
    let left = eventually("held messages to return", LIMIT, async || {
        let (left, redriven) = (ready(parking).await, ready(queue).await);
        if left + redriven >= MESSAGES { Ok(left) } else { Err(format!("{left} left, {redriven} redriven")) }
    })
    .await;
    assert!(left > 0, "the redrive finished before the kill");

    // A message that is in both queues may have returned a moment after the count.
    let said = done(&scene.settings, &["redrive"]);
    assert!([left, left + 1].iter().any(|all| said.contains(&format!(" {all} redriven"))), "{left} left: {said}");
    scene.client.holds(parking, 0).await;
    let taken = scene.client.take(queue).await;
    assert_eq!(bodies(&taken), parked_bodies, "nothing lost, nothing changed");
    assert!(taken.len() <= parked_bodies.len() + 1, "at most one message may be duplicated: {}", taken.len());
    for message in &taken {
        assert_eq!(number(message, "x-image-pipeline-redriven"), Some(1));
        let headers = message.properties.headers().clone().expect("headers");
        assert!(!headers.contains_key("x-image-pipeline-reason"), "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redrive_of_a_classic_queue_loses_nothing() {
    a_redrive_that_is_killed("redrive-killed-classic", Version::Three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redrive_of_a_quorum_queue_loses_nothing() {
    a_redrive_that_is_killed("redrive-killed-quorum", Version::Four).await;
}

/// A message whose cause is not fixed returns each time. Its count of redrives shows that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_is_not_redriven_for_ever() {
    let scene = Scene::new("loop", Version::Four).await;
    let Settings { queue, parking, .. } = &scene.settings;
    scene.client.publish(queue, b"no JSON").await;
    let consumer = Consumer::consuming(&scene.settings).await;
    let back = async |times: u64| {
        consumer.status_is("to have parked it", LIMIT, |status| status.parked == times).await;
        scene.client.holds(parking, 1).await;
        assert_eq!(listed(&scene.settings, &[])["messages"][0]["redriven"], times - 1);
        scene.client.holds(parking, 1).await;
    };
    for times in 1..=3 {
        back(times).await;
        assert!(done(&scene.settings, &["redrive"]).contains("1 redriven"));
    }
    back(4).await;
    assert!(refused(&scene.settings, &["redrive"]).contains("1 already redriven three times"));
    scene.client.holds(parking, 1).await;
    assert!(done(&scene.settings, &["redrive", "--again"]).contains("1 redriven"));
    back(5).await;
    scene.ends_with_parked(consumer, 1).await;
}

/// A message that can't be redriven stays in the parking queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_redriven_stays_and_is_said() {
    let mut scene = Scene::new("not-redriven", Version::Four).await;
    let Settings { queue, parking, .. } = &scene.settings;
    scene.client.declare(parking, Version::Four.queue_type()).await;
    scene.client.declare_narrow("narrow", 1).await;
    let parked_bodies = park(&scene.client, &scene.settings, 3).await;
    assert!(refused(&scene.settings, &["redrive", "--to", "nowhere"]).contains("queue \"nowhere\""));
    scene.client.holds(parking, 3).await;
    assert!(refused(&scene.settings, &["redrive", "--to", parking]).contains("the parking queue itself"));
    assert!(refused(&scene.settings, &["redrive", "--to", "narrow"]).contains("is full"));
    scene.client.holds("narrow", 1).await;
    scene.client.holds(parking, 2).await;
    // A publisher may write any header. No header may choose the queue that an administrator's redrive publishes
    // to.
    scene.client.declare("payroll", Version::Four.queue_type()).await;
    let evil = "id\u{9b}2J\u{202e}\u{7f}";
    let properties = parked_from("payroll").with_message_id(evil.into());
    scene.client.publish_with(parking, b"unknown", properties).await;
    scene.client.holds(parking, 3).await;
    let json = done(&scene.settings, &["list", "--output", "json"]);
    assert!(!json.contains(['\u{9b}', '\u{202e}', '\u{7f}']), "control characters for a terminal: {json:?}");
    let list: Value = serde_json::from_str(&json).expect("JSON");
    let messages = list["messages"].as_array().expect("messages");
    assert!(messages.iter().any(|message| message["message_id"] == evil), "{list}");
    scene.client.holds(parking, 3).await;
    assert!(refused(&scene.settings, &["redrive"]).contains("set --to"));
    scene.client.holds("payroll", 0).await;
    scene.client.holds(queue, 2).await;
    scene.client.holds(parking, 1).await;
    assert!(done(&scene.settings, &["redrive", "--to", queue]).contains("1 redriven"));
    let mut all = bodies(&scene.client.take("narrow").await);
    all.extend(bodies(&scene.client.take(queue).await));
    assert!(all.remove(b"unknown".as_slice()));
    assert_eq!(all, parked_bodies);

    scene.settings.parking = "no-such-queue".to_owned();
    let said = refused(&scene.settings, &["list"]);
    assert!(said.contains("queue \"no-such-queue\" does not exist; create it, or correct --queue"), "{said}");
    let said = refused(&scene.settings, &["list", "--reason", "Bad", "--since", "soon"]);
    assert!(said.contains("parked list counts"), "{said}");
}
