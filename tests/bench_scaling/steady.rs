//! A constant load that needs more than two pods and at most three: how often the size changes direction. The load
//! is derived from the measured speed of one pod.

use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::{QueueType, Tiles};
use super::figures::{flaps, scale_ins};
use super::follow::{Size, Sizes};
use super::scene::{LIMIT, Scene};
use support::eventually::{equal, eventually};

/// Name of the pipeline and of its queue.
const NAME: &str = "steady";

/// So little CPU that a few messages per second keep two pods busy on any machine.
const CPU: &str = "50m";

/// Load in multiples of one pod's speed.
const PODS: f64 = 2.5;

/// Side length of the tiles, in pixels.
const SIDE: u32 = 160;

/// Number of messages for measuring the speed of one pod.
const SAMPLE: usize = 200;

pub struct Steady {
    /// Number of changes of direction.
    pub flaps: usize,
    /// Number of scale-downs.
    pub scale_ins: usize,
    /// The sizes in the Deployment's spec, in order.
    pub sizes: Vec<i32>,
    /// Messages published per second.
    pub per_second: f64,
}

/// Publishes at a constant rate for this time, and follows the size.
pub async fn steady(scene: &Scene, time: Duration) -> Steady {
    let namespace = scene.parts.name.as_str();
    scene.broker.declare(NAME, QueueType::Quorum).await;
    let resources =
        json!({ "requests": { "cpu": "10m", "memory": "64Mi" }, "limits": { "cpu": CPU, "memory": "256Mi" } });
    let more = json!({ "replicas": 0, "consumer": { "resources": resources } });
    scene.pipeline(namespace, NAME, NAME, json!({}), more).await;
    let sizes = Sizes::of(&scene.client, namespace, NAME);
    let tiles = Tiles::draw(SIDE, 16);
    // Few different names, so that the S3 server's disk does not fill.
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

/// Speed of one working pod, in messages per second.
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
