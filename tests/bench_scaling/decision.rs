//! The time from a burst to the new size: rounds of a thousand tiny messages on an empty queue, each at a different
//! phase of the operator's two-second poll interval, measured from the first confirm to the size in a watch. Each
//! round must begin at size 0.

use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::{self, QueueType};
use super::figures::phases;
use super::follow::{Size, Sizes};
use super::scene::{LIMIT, Scene};

/// Messages of a burst.
const MESSAGES: usize = 1000;

/// The size for a burst: a thousand messages at five per pod, limited to this maximum.
const SIZE: i32 = 20;

/// Longest time from reading a depth to the watch event of the new size. A size seen within this time of the last
/// confirm may come from a depth read before it.
const READ_BEFORE: Duration = Duration::from_millis(200);

/// The default poll interval.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A pipeline that receives the bursts.
pub struct Rounds<'a> {
    scene: &'a Scene,
    namespace: String,
    name: &'static str,
    sizes: Sizes,
    message: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Seconds from the first confirm to the size.
    pub seconds: f64,
    /// Seconds from the first confirm until that many pods are ready, if the round waited for them.
    pub ready: Option<f64>,
    /// Number of writes to the Deployment's spec.
    pub writes: i64,
    /// Whether every message was confirmed when the depth was read. A reading in the middle of a burst correctly
    /// gives a smaller size.
    pub whole: bool,
}

impl<'a> Rounds<'a> {
    /// Creates a pipeline with its own queue.
    pub async fn prepare(scene: &'a Scene, namespace: &str, name: &'static str) -> Self {
        scene.broker.declare(name, QueueType::Quorum).await;
        let scaling = json!({ "messagesPerReplica": 5, "maxReplicas": SIZE });
        let pods = json!({ "consumer": { "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } } } });
        scene.pipeline(namespace, name, name, scaling, pods).await;
        let sizes = Sizes::of(&scene.client, namespace, name);
        Self { scene, namespace: namespace.to_owned(), name, sizes, message: broker::tiny() }
    }

    /// Runs this many rounds, spread over the poll interval. With `pods`, each round waits until the pods are
    /// ready.
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
        assert_eq!((before.asked, before.pods), (0, 0), "a round must begin at size 0");
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
        // A reconcile writes the status last.
        let decided = |status: &image_pipeline::api::ImagePipelineStatus| status.desired_replicas == SIZE;
        self.scene.statuses.shows((&self.namespace, self.name), "the decision", LIMIT, decided).await;
        let writes = self.sizes.last().expect("a Deployment").generation - before.generation;
        Round { seconds: since(asked.at), ready, writes, whole }
    }

    /// Empties the queue, fixes the size at 0 until the pods are gone, and returns the size to the queue. The
    /// operator polls at that moment, so the phase of the round is known.
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

/// Seconds of each round.
pub fn seconds(rounds: &[Round]) -> Vec<f64> {
    rounds.iter().map(|round| round.seconds).collect()
}

/// Most writes of a round whose burst had arrived completely.
pub fn most_writes(rounds: &[Round]) -> f64 {
    rounds.iter().filter(|round| round.whole).map(|round| round.writes as f64).fold(f64::NAN, f64::max)
}
