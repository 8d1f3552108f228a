//! An even load that needs more than one pod and less than three: how often the size turns round. It
//! must never let the load be none to speak of: it is made from the speed of one pod, measured here.

use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::{QueueType, Tiles};
use super::figures::{flaps, scale_ins};
use super::follow::{Size, Sizes};
use super::scene::{LIMIT, Scene};
use support::eventually::{equal, eventually};

/// The pipeline and its queue.
const NAME: &str = "steady";

/// So slow that a few messages a second are work for two pods, on any machine.
const CPU: &str = "50m";

/// Pods' worth of messages.
const PODS: f64 = 2.5;

/// Pixels along a side of the tiles.
const SIDE: u32 = 160;

/// To measure one pod by.
const SAMPLE: usize = 200;

/// What came of it.
pub struct Steady {
    /// How often the size turned round.
    pub flaps: usize,
    /// How often it went down.
    pub scale_ins: usize,
    /// The sizes that were asked for, one after the other.
    pub sizes: Vec<i32>,
    /// Messages published every second.
    pub per_second: f64,
}

/// Publishes evenly for so long and watches the size.
pub async fn steady(scene: &Scene, time: Duration) -> Steady {
    let namespace = scene.parts.name.as_str();
    scene.broker.declare(NAME, QueueType::Quorum).await;
    let resources =
        json!({ "requests": { "cpu": "10m", "memory": "64Mi" }, "limits": { "cpu": CPU, "memory": "256Mi" } });
    let more = json!({ "replicas": 0, "consumer": { "resources": resources } });
    scene.pipeline(namespace, NAME, NAME, json!({}), more).await;
    let sizes = Sizes::of(&scene.client, namespace, NAME);
    let tiles = Tiles::draw(SIDE, 16);
    // Under few names, so that the store's disk does not fill.
    let body = |number: usize| tiles.message(&format!("{:03}.png", number % 500), number);
    let per_second = PODS * speed_of_one_pod(scene, &sizes, &body).await;

    scene.change(namespace, NAME, json!({ "replicas": null })).await;
    let began = Instant::now();
    scene.broker.stream(NAME, per_second, time, body).await;
    let mut asked = sizes.since(began);
    asked.dedup();
    let empty = async || equal(scene.broker.ready(NAME).await, 0);
    eventually("the queue to be empty", LIMIT, empty).await;
    scene.change(namespace, NAME, json!({ "replicas": 0 })).await;
    none_left(&sizes).await;
    Steady { flaps: flaps(&asked), scale_ins: scale_ins(&asked), sizes: asked, per_second }
}

/// Messages a second, once the pod works.
async fn speed_of_one_pod(scene: &Scene, sizes: &Sizes, body: impl Fn(usize) -> Vec<u8>) -> f64 {
    let namespace = scene.parts.name.as_str();
    for number in 0..SAMPLE {
        scene.broker.publish(NAME, &body(number)).await;
    }
    scene.change(namespace, NAME, json!({ "replicas": 1 })).await;
    let left = async |messages: u32| {
        eventually(&format!("{messages} messages to be left"), LIMIT, async || {
            let ready = scene.broker.ready(NAME).await;
            if ready <= messages { Ok((ready, Instant::now())) } else { Err(format!("{ready}")) }
        })
        .await
    };
    let ((more, from), (fewer, to)) = (left(SAMPLE as u32 * 8 / 10).await, left(SAMPLE as u32 / 10).await);
    left(0).await;
    scene.change(namespace, NAME, json!({ "replicas": 0 })).await;
    none_left(sizes).await;
    f64::from(more - fewer) / (to - from).as_secs_f64()
}

async fn none_left(sizes: &Sizes) {
    let none = |sizes: &Vec<Size>| sizes.last().filter(|size| size.asked == 0 && size.pods == 0).copied();
    sizes.until("the pods to go", LIMIT, none).await;
}
