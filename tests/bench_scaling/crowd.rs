//! A thousand pipelines at one broker: how soon all are ready, what the operator needs for them
//! while nothing happens, and whether one's trouble is felt by another. It must never let one
//! of their pods in: what a thousand pods would take of this machine is not what is asked here.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use image_pipeline::api::ImagePipelineStatus;
use serde_json::json;

use super::broker::QueueType;
use super::decision::{Round, Rounds};
use super::faults;
use super::follow::has;
use super::scene::Scene;

/// How many namespaces they are in.
const NAMESPACES: usize = 10;

/// How many are made at a time.
const AT_ONCE: usize = 16;

const READY_WITHIN: Duration = Duration::from_secs(600);

/// The operator has written what it had to once it has written nothing for so long.
const STILL: Duration = Duration::from_secs(5);

/// What came of it.
pub struct Crowd {
    /// From the first that is made to the last that is ready.
    pub ready_seconds: f64,
    /// Of the operator, after the idle time.
    pub rss: f64,
    /// Of one processor, in the idle time.
    pub cpu_percent: f64,
    /// Of the operator's at the broker.
    pub connections: usize,
    /// In the idle time.
    pub writes: BTreeMap<String, usize>,
    /// Rounds at one of them while all are well.
    pub before: Vec<Round>,
    /// Rounds at the same one while others are broken.
    pub during: Vec<Round>,
}

/// Makes so many, leaves them alone for `idle`, then has rounds at one of them before and after
/// eight others are broken.
pub async fn crowd(scene: &Scene, pipelines: usize, idle: Duration, rounds: usize) -> Crowd {
    let namespaces: Vec<String> = (0..NAMESPACES).map(|number| format!("{}-{number}", scene.parts.name)).collect();
    for namespace in &namespaces {
        scene.without_pods(namespace).await;
    }
    let place = |number: usize| (namespaces[number % NAMESPACES].clone(), format!("crowd-{number:04}"));
    for number in 0..pipelines {
        scene.broker.declare(&place(number).1, QueueType::Classic).await;
    }
    let began = Instant::now();
    let make = async |number: usize| {
        let (namespace, name) = place(number);
        scene.pipeline(&namespace, &name, &name, json!({}), json!({})).await;
    };
    stream::iter(0..pipelines).map(make).buffer_unordered(AT_ONCE).count().await;
    all_ready(scene, pipelines).await;
    let ready_seconds = began.elapsed().as_secs_f64();

    scene.operator.still(STILL, READY_WITHIN).await;
    let (cpu_percent, writes) = scene.operator.idle(idle).await;
    let (rss, connections) = (scene.operator.rss(), scene.broker.operators_connections());

    let probe = Rounds::prepare(scene, &namespaces[0], "probe").await;
    let before = probe.run(rounds, false).await;
    faults::breaks(scene, &(0..faults::WAYS).map(place).collect::<Vec<_>>()).await;
    let during = probe.run(rounds, false).await;
    Crowd { ready_seconds, rss, cpu_percent, connections, writes, before, during }
}

async fn all_ready(scene: &Scene, pipelines: usize) {
    let ready = |(_, status): &&(i64, ImagePipelineStatus)| has(status, "Ready", "True", None);
    let all = |statuses: &HashMap<(String, String), (i64, ImagePipelineStatus)>| {
        let of_crowd = statuses.iter().filter(|((_, name), _)| name.starts_with("crowd-"));
        (of_crowd.map(|(_, status)| status).filter(ready).count() == pipelines).then_some(())
    };
    scene.statuses.until("every pipeline to be ready", READY_WITHIN, all).await;
}
