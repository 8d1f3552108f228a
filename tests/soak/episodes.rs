//! Runs the schedule, one episode after the other: injects the faults, waits, heals them, and waits for the first
//! image of every affected pipeline. If a fault can't be injected or healed, the episode records that and heals
//! everything.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::join_all;

use super::faults;
use super::kind::Kind;
use super::scene::Scene;
use super::schedule::{Episode, Fault};
use super::seen::Seen;
use super::timeline::{Happened, Timeline};

/// Limit for injecting and healing a fault, in addition to its length.
const LIMIT: Duration = Duration::from_secs(240);

/// Limit for the first image after a heal.
const RECOVERS: Duration = Duration::from_secs(90);

/// Interval between checks for a stored image.
const LOOK: Duration = Duration::from_millis(50);

/// The state that episodes share.
pub struct Soak {
    pub scene: Arc<Scene>,
    pub seen: Arc<Seen>,
    pub timeline: Arc<Timeline>,
}

impl Soak {
    /// Runs as much of the schedule as fits into the time.
    pub async fn run(&self, schedule: &[Episode], time: Duration) {
        let start = self.timeline.began();
        for (number, episode) in schedule.iter().enumerate() {
            tokio::time::sleep_until((start + episode.at).into()).await;
            if start.elapsed() + episode.length() > time {
                self.timeline.say(&format!("{} episodes skipped: no time left", schedule.len() - number));
                break;
            }
            self.episode(number, episode).await;
        }
        tokio::time::sleep_until((start + time).into()).await;
    }

    async fn episode(&self, number: usize, episode: &Episode) {
        let faults = episode.faults.iter().map(async |fault| {
            let there = AssertUnwindSafe(self.fault(number, *fault, episode.pipeline)).catch_unwind();
            tokio::time::timeout(LIMIT + fault.length, there).await
        });
        let mut healed: Vec<(Kind, Instant)> = Vec::new();
        let mut failed = false;
        for (result, fault) in join_all(faults).await.into_iter().zip(&episode.faults) {
            let name = fault.kind.name();
            let why = match result {
                Ok(Ok(at)) => {
                    healed.push((fault.kind, at));
                    continue;
                }
                Ok(Err(panic)) => message(panic),
                Err(_) => "it does not finish".to_owned(),
            };
            failed = true;
            self.timeline.trouble(format!("{name} of episode {number}: {why}"));
        }
        if failed {
            self.heal_all().await;
        }
        self.recovered(episode.pipeline, &healed).await;
    }

    /// Ends every fault that may be active.
    pub async fn heal_all(&self) {
        let healing = AssertUnwindSafe(faults::heal_all(&self.scene)).catch_unwind();
        match tokio::time::timeout(LIMIT, healing).await {
            Ok(Ok(())) => self.timeline.say("all faults are healed"),
            Ok(Err(panic)) => self.timeline.trouble(format!("healing failed: {}", message(panic))),
            Err(_) => self.timeline.trouble("healing does not finish".to_owned()),
        }
    }

    /// Runs one fault from injection to heal, and returns the time of the heal.
    async fn fault(&self, episode: usize, Fault { kind, after, length }: Fault, pipeline: usize) -> Instant {
        tokio::time::sleep(after).await;
        let hit = kind.felt_by(pipeline);
        let at = hit.map_or("all", |pipeline| self.scene.pipelines[pipeline].plan.name);
        self.timeline.say(&format!("{:>4}  {} begins, {at}, {:.1} s", episode, kind.name(), length.as_secs_f64()));
        let began = self.timeline.seconds(Instant::now());
        let heal = faults::inject(&self.scene, kind, pipeline).await;
        // The length of the fault is part of the test, so this is no wait for a condition.
        tokio::time::sleep(length).await;
        heal.await;
        let now = Instant::now();
        let healed = self.timeline.seconds(now);
        self.timeline.say(&format!("{episode:>4}  {} is healed, after {:.1} s", kind.name(), healed - began));
        self.timeline.note(|record| {
            record.faults.push(Happened { kind, pipeline: hit, episode, began, healed });
        });
        now
    }

    /// Waits for the first image of every pipeline that one of these faults affected.
    async fn recovered(&self, hit: usize, healed: &[(Kind, Instant)]) {
        let last = |pipeline: usize| {
            let felt = healed.iter().filter(|(kind, _)| kind.felt_by(hit).is_none_or(|hit| hit == pipeline));
            Some((pipeline, felt.map(|(_, at)| *at).max()?))
        };
        let waits =
            (0..self.scene.pipelines.len()).filter_map(last).map(async |(pipeline, last)| match tokio::time::timeout(
                RECOVERS,
                self.first_since(pipeline, last),
            )
            .await
            {
                Ok(first) => first.duration_since(last).as_secs_f64(),
                Err(_) => {
                    let name = self.scene.pipelines[pipeline].plan.name;
                    self.timeline.trouble(format!("{name} has stored nothing in {RECOVERS:?}"));
                    f64::INFINITY
                }
            });
        let slowest = join_all(waits).await.into_iter().fold(0.0, f64::max);
        self.timeline.say(&format!("      stored again {slowest:.1} s after the last heal"));
    }

    async fn first_since(&self, pipeline: usize, moment: Instant) -> Instant {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            if let Some(at) = self.seen.first_since(pipeline, moment) {
                return at;
            }
        }
    }
}

/// The message of a panic.
fn message(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}
