//! How soon the size follows a burst: rounds of a thousand tiny messages on an empty queue, each at
//! another moment of the operator's two seconds between readings, from the broker's first confirm to
//! the size that a watch tells. It must never count a round that did not begin at none.

use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::{self, QueueType};
use super::figures::phases;
use super::follow::{Size, Sizes};
use super::scene::{LIMIT, Scene};

/// In a burst.
const MESSAGES: usize = 1000;

/// The size that a burst asks for: of a thousand messages, five a pod, at most this.
const SIZE: i32 = 20;

/// From the reading of a depth to the news of the size that follows, at most: a write that is told of
/// so soon after the last confirm may come from a reading before it.
const READ_BEFORE: Duration = Duration::from_millis(200);

/// As the operator reads the depth where nothing else is said.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A pipeline that bursts come to.
pub struct Rounds<'a> {
    scene: &'a Scene,
    namespace: String,
    name: &'static str,
    sizes: Sizes,
    message: Vec<u8>,
}

/// One round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// From the first confirm to the size.
    pub seconds: f64,
    /// From the first confirm to that many ready pods, where they were waited for.
    pub ready: Option<f64>,
    /// Writes to the Deployment's spec.
    pub writes: i64,
    /// Whether every message was confirmed when the depth was read: a reading in the middle of a burst
    /// asks for a part of the size, rightly.
    pub whole: bool,
}

impl<'a> Rounds<'a> {
    /// With a pipeline and a queue of its own.
    pub async fn prepare(scene: &'a Scene, namespace: &str, name: &'static str) -> Self {
        scene.broker.declare(name, QueueType::Quorum).await;
        let scaling = json!({ "messagesPerReplica": 5, "maxReplicas": SIZE });
        let pods = json!({ "consumer": { "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } } } });
        scene.pipeline(namespace, name, name, scaling, pods).await;
        let sizes = Sizes::of(&scene.client, namespace, name);
        Self { scene, namespace: namespace.to_owned(), name, sizes, message: broker::tiny() }
    }

    /// So many rounds, over all parts of the interval; with `pods`, each until they are ready.
    pub async fn run(&self, rounds: usize, pods: bool) -> Vec<Round> {
        let mut seen = Vec::new();
        for phase in phases(rounds) {
            self.reset().await;
            tokio::time::sleep(POLL_INTERVAL.mul_f64(phase)).await;
            seen.push(self.round(pods).await);
        }
        self.scene.broker.purge(self.name).await;
        seen
    }

    async fn round(&self, pods: bool) -> Round {
        let before = self.sizes.last().expect("a Deployment");
        assert_eq!((before.asked, before.pods), (0, 0), "a round begins at none");
        let confirms = self.scene.broker.burst(self.name, &self.message, MESSAGES).await;
        let whole = |sizes: &Vec<Size>| {
            let asked = sizes.iter().find(|size| size.generation > before.generation && size.asked == SIZE)?;
            let first = sizes.iter().find(|size| size.generation > before.generation)?;
            Some((*asked, first.at > confirms.last + READ_BEFORE))
        };
        let (asked, whole) = self.sizes.until("the size of a burst", LIMIT, whole).await;
        let since = |at: Instant| at.saturating_duration_since(confirms.first).as_secs_f64();
        let mut ready = None;
        if pods {
            let all_ready =
                |sizes: &Vec<Size>| sizes.iter().rev().find(|size| size.at > asked.at && size.ready == SIZE).copied();
            ready = Some(since(self.sizes.until("the pods of a burst", LIMIT, all_ready).await.at));
        }
        // Its status is the last that a reconciliation writes.
        let decided = |status: &image_pipeline::api::ImagePipelineStatus| status.desired_replicas == SIZE;
        self.scene.statuses.shows((&self.namespace, self.name), "the decision", LIMIT, decided).await;
        let writes = self.sizes.last().expect("a Deployment").generation - before.generation;
        Round { seconds: since(asked.at), ready, writes, whole }
    }

    /// Empties the queue, has the size fixed at none until the pods are gone, and lets it follow the
    /// queue again: the operator has looked by then, at a moment that is known to the round's phase.
    async fn reset(&self) {
        self.scene.broker.purge(self.name).await;
        self.scene.change(&self.namespace, self.name, json!({ "replicas": 0 })).await;
        let none = |sizes: &Vec<Size>| {
            sizes.last().filter(|size| size.asked == 0 && size.pods == 0 && size.ready == 0 && !size.refused).copied()
        };
        self.sizes.until("no pods", LIMIT, none).await;
        self.scene.broker.purge(self.name).await;
        self.scene.change(&self.namespace, self.name, json!({ "replicas": null })).await;
        let idle = |status: &image_pipeline::api::ImagePipelineStatus| {
            super::follow::has(status, "Ready", "True", Some("Idle"))
        };
        self.scene.statuses.shows((&self.namespace, self.name), "an idle pipeline", LIMIT, idle).await;
    }
}

/// The seconds of the rounds.
pub fn seconds(rounds: &[Round]) -> Vec<f64> {
    rounds.iter().map(|round| round.seconds).collect()
}

/// The most writes of any round whose burst had wholly arrived.
pub fn most_writes(rounds: &[Round]) -> f64 {
    rounds.iter().filter(|round| round.whole).map(|round| round.writes as f64).fold(f64::NAN, f64::max)
}
