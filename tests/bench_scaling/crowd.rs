//! A thousand pipelines with one RabbitMQ: the time until all are ready, the operator's resources while they are
//! idle, and the effect of broken pipelines on others. A quota admits none of their pods, because this machine
//! can't run a thousand pods.

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

/// Number of namespaces that the pipelines are spread over.
const NAMESPACES: usize = 10;

/// Number of pipelines created concurrently.
const AT_ONCE: usize = 16;

const READY_WITHIN: Duration = Duration::from_secs(600);

/// The operator has finished once it has written nothing for this time.
const STILL: Duration = Duration::from_secs(5);

pub struct Crowd {
    /// Seconds from the first creation until the last pipeline is ready.
    pub ready_seconds: f64,
    /// Resident bytes of the operator after the idle time.
    pub rss: f64,
    /// The operator's CPU use in the idle time, in percent of one core.
    pub cpu_percent: f64,
    /// Number of the operator's connections to RabbitMQ.
    pub connections: usize,
    /// The operator's API writes in the idle time, by kind.
    pub writes: BTreeMap<String, usize>,
    /// Rounds with one pipeline while all are well.
    pub before: Vec<Round>,
    /// Rounds with the same pipeline while others are broken.
    pub during: Vec<Round>,
}

/// Creates the pipelines, leaves them idle, then runs rounds with one more pipeline before and after eight others
/// are broken.
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
