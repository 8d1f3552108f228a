//! A backlog of real images: the time until it is gone, its peak while more messages arrive, how long idle pods
//! remain, and redeliveries when a working pod is removed. Every image must be stored; an empty queue alone does
//! not count.

use std::time::{Duration, Instant};

use image_pipeline::publish::{Body, send};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::broker::{QueueType, Tiles};
use super::figures::{idle_pod_seconds, scale_ins};
use super::follow::{Ends, Size, Sizes};
use super::scene::{BUCKET, LIMIT, Scene};

/// Name of the pipeline and of its queue.
const NAME: &str = "drain";

/// Maximum number of pods. The backlog is long enough for all of them.
const PODS: i32 = 6;

/// Messages per second that arrive while the backlog is processed.
const INFLOW: f64 = 10.0;

/// Side length of the tiles, in pixels.
const SIDE: u32 = 320;

/// After the last message, pods are idle for at least this time.
const SCALE_DOWN_AFTER: Duration = Duration::from_secs(60);

const IN_FLIGHT: usize = 16;

/// Interval between two reads of the queue's depth.
const LOOK: Duration = Duration::from_millis(50);

pub struct Drained {
    /// Seconds from the moment the size may follow the queue until the queue is empty.
    pub seconds: f64,
    /// Ratio of `seconds` to the ideal time, in which all pods would have worked from the start at the speed they
    /// report.
    pub of_ideal: f64,
    /// Highest number of ready messages.
    pub peak_backlog: f64,
    /// Mean time in seconds that a pod remained after the queue was empty.
    pub idle_pod_seconds: f64,
    /// Number of scale-downs while pods worked, and after.
    pub scale_ins: usize,
}

/// Fills the queue with `messages`, lets the pods empty it, and repeats that with fewer and fewer pods.
pub async fn drain(scene: &Scene, messages: usize) -> Drained {
    let namespace = scene.parts.name.as_str();
    scene.broker.declare(NAME, QueueType::Quorum).await;
    let scaling = json!({ "maxReplicas": PODS, "scaleDownAfter": format!("{}s", SCALE_DOWN_AFTER.as_secs()) });
    let more =
        json!({ "replicas": 0, "consumer": { "resources": { "requests": { "cpu": "50m", "memory": "64Mi" } } } });
    scene.pipeline(namespace, NAME, NAME, scaling, more).await;
    let (sizes, ends) = (Sizes::of(&scene.client, namespace, NAME), Ends::of(&scene.client, namespace, NAME));
    let tiles = Tiles::draw(SIDE, 16);
    let began = Instant::now();

    let (seconds, of_ideal, peak_backlog, arrived, empty) = work_off(scene, &sizes, &tiles, messages).await;
    let none = |sizes: &Vec<Size>| sizes.last().filter(|size| size.asked == 0 && size.pods == 0).copied();
    sizes.until("the pods to go", SCALE_DOWN_AFTER + LIMIT, none).await;
    let gone =
        |pods: &std::collections::BTreeMap<String, Option<Instant>>| pods.values().copied().collect::<Option<Vec<_>>>();
    let ends = ends.until("the pods' ends", LIMIT, gone).await;
    let after = |end: &Instant| end.saturating_duration_since(empty).as_secs_f64();
    let idle_pod_seconds = idle_pod_seconds(&ends.iter().map(after).collect::<Vec<_>>());

    shrink_at_work(scene, &sizes, messages / 2).await;
    let stored = scene.storage.keys_under(BUCKET, &format!("{NAME}/")).await.len();
    assert_eq!(stored, arrived + messages / 2, "images in the bucket");
    let scale_ins = scale_ins(&sizes.since(began));
    Drained { seconds, of_ideal, peak_backlog, idle_pod_seconds, scale_ins }
}

/// Lets the queue set the size, and publishes more messages until it is empty.
async fn work_off(scene: &Scene, sizes: &Sizes, tiles: &Tiles, messages: usize) -> (f64, f64, f64, usize, Instant) {
    let namespace = scene.parts.name.as_str();
    fill(scene, "first", messages).await;
    let began = Instant::now();
    scene.change(namespace, NAME, json!({ "replicas": null })).await;
    let (mut peak, mut speed, mut published) = (messages as u32, None, 0);
    let mut look = tokio::time::interval(LOOK);
    let empty = loop {
        look.tick().await;
        let ready = scene.broker.ready(NAME).await;
        if ready == 0 {
            break Instant::now();
        }
        assert!(began.elapsed() < LIMIT, "{ready} messages remain after {LIMIT:?}");
        peak = peak.max(ready);
        while (published as f64) < began.elapsed().as_secs_f64() * INFLOW {
            scene.broker.publish(NAME, &tiles.message(&format!("more-{published:05}.png"), published)).await;
            published += 1;
        }
        if speed.is_none() && (ready as usize) < messages / 2 {
            assert_eq!(sizes.last().map(|size| size.asked), Some(PODS), "the backlog must need all pods");
            let reports = scene.reports(namespace, NAME).await;
            speed = Some(reports.iter().filter_map(|report| report.throughput).sum::<f64>());
        }
    };
    let (seconds, arrived) = ((empty - began).as_secs_f64(), messages + published);
    let ideal = arrived as f64 / speed.expect("the speed that the pods report");
    (seconds, seconds / ideal, f64::from(peak), arrived, empty)
}

/// Fills the queue again, and removes pods while all of them hold messages.
async fn shrink_at_work(scene: &Scene, sizes: &Sizes, messages: usize) {
    let namespace = scene.parts.name.as_str();
    scene.change(namespace, NAME, json!({ "replicas": 0 })).await;
    fill(scene, "second", messages).await;
    scene.change(namespace, NAME, json!({ "replicas": PODS })).await;
    let all = |sizes: &Vec<Size>| sizes.last().filter(|size| size.ready == PODS).copied();
    sizes.until("all the pods", LIMIT, all).await;
    for size in (1..PODS).rev() {
        assert!(scene.broker.ready(NAME).await > 0, "the backlog ended before the pods were removed: publish more");
        scene.change(namespace, NAME, json!({ "replicas": size })).await;
        let told = |sizes: &Vec<Size>| sizes.last().filter(|seen| seen.asked == size).copied();
        sizes.until("one pod fewer", LIMIT, told).await;
    }
    support::eventually::eventually("the queue to be empty", LIMIT, async || {
        support::eventually::equal(scene.broker.ready(NAME).await, 0)
    })
    .await;
    scene.change(namespace, NAME, json!({ "replicas": 0 })).await;
    let none = |sizes: &Vec<Size>| sizes.last().filter(|size| size.asked == 0 && size.pods == 0).copied();
    sizes.until("the last pod to go", LIMIT, none).await;
}

/// Publishes a backlog, as `image-pipeline publish` does.
async fn fill(scene: &Scene, prefix: &'static str, messages: usize) {
    let tiles = servers::messages::tiles(SIDE);
    let files: std::sync::Arc<Vec<Vec<u8>>> =
        std::sync::Arc::new((0..16).map(|index| tiles.file(index).expect("a PNG")).collect());
    let source = |number: usize| {
        let files = std::sync::Arc::clone(&files);
        move || Body::new(format!("{prefix}-{number:05}.png"), &files[number % 16]).map_err(|error| error.to_string())
    };
    let sources = (0..messages).map(source).collect();
    let sent = send(&scene.broker.address, NAME, sources, IN_FLIGHT, &CancellationToken::new(), |_| ()).await;
    assert_eq!(sent.expect("a broker that takes messages").confirmed, messages);
}
