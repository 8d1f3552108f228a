//! Ten thousand pipelines with two pods each: what the operator needs for them, and whether it keeps up. API server,
//! RabbitMQ and the operator's process are real. There are no controllers and no kubelet: the benchmark creates the
//! pods, and one server answers `/status` for all of them.
//!
//! Runs in a network namespace of its own, because the server listens on the consumers' port of every address.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::figures::{Figure, MIB, percentile};
use answers::Answers;
use scene::Scene;

mod answers;
mod bursts;
mod pods;
mod scene;

/// `scaling.pollInterval` of every pipeline.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// Size of every pipeline without messages.
const PODS: usize = 2;

/// Sizes, lengths and targets of the measurements.
pub struct Amounts {
    pipelines: usize,
    idle: Duration,
    bursts: usize,
    most_rss: f64,
    most_cpu_percent: f64,
}

pub const FULL: Amounts = Amounts {
    pipelines: 10_000,
    idle: Duration::from_secs(120),
    bursts: 100,
    most_rss: 400.0 * MIB,
    most_cpu_percent: 50.0,
};

pub const QUICK: Amounts = Amounts {
    pipelines: 1_000,
    idle: Duration::from_secs(60),
    bursts: 50,
    most_rss: 60.0 * MIB,
    most_cpu_percent: 10.0,
};

impl Amounts {
    /// For the record of the results.
    pub fn circumstances(&self) -> [(&'static str, Value); 4] {
        [
            ("pipelines", self.pipelines.into()),
            ("pods", (self.pipelines * PODS).into()),
            ("idle_minutes", (self.idle.as_secs() / 60).into()),
            ("bursts", self.bursts.into()),
        ]
    }
}

/// Creates the pipelines and their pods, and measures the operator while nothing happens, and then while messages
/// arrive in some queues.
pub async fn measure(amounts: &Amounts, say: impl Fn(&str)) -> Vec<Figure> {
    let answers = Answers::serve().await;
    say("an API server, RabbitMQ and the queues");
    let scene = Scene::new(amounts.pipelines).await;
    say("the pipelines and their Deployments");
    let began = Instant::now();
    scene.create_pipelines().await;
    let deployments = scene.deployments().await;
    let created = began.elapsed().as_secs_f64();
    say("the pods");
    pods::create(&scene.client, &deployments).await;
    scene.all_ready().await;
    say("idle");
    scene.operator.still(POLL_INTERVAL, scene::LIMIT).await;
    answers.forget();
    let (cpu, writes) = scene.operator.idle(amounts.idle).await;
    let (gaps, answered) = (answers.gaps(), answers.per_second(amounts.idle));
    let (rss, peak) = (scene.operator.rss(), scene.operator.peak_rss());
    for (what, times) in &writes {
        say(&format!("  written while idle: {what}, {times} times"));
    }
    say("bursts");
    let decisions = bursts::run(&scene, amounts.bursts).await;
    let writes = writes.values().sum::<usize>() as f64;
    let poll = POLL_INTERVAL.as_secs_f64();
    vec![
        Figure::without_target("fleet_created_s", "first pipeline to the last Deployment", created),
        Figure::within("fleet_rss_bytes", "operator: resident memory", rss, amounts.most_rss),
        Figure::without_target("fleet_peak_rss_bytes", "  peak", peak),
        Figure::within("fleet_cpu_percent", "  CPU use in percent of one core", cpu, amounts.most_cpu_percent),
        Figure::within("fleet_idle_api_writes", "  writes to the API server without Leases", writes, 0.0),
        Figure::without_target("fleet_answers_per_second", "  answers of pods per second", answered),
        Figure::without_target(
            "fleet_gap_p50_s",
            "  from one read of a pod to the next, median",
            percentile(&gaps, 50),
        ),
        Figure::within("fleet_gap_p99_s", "    99 of 100", percentile(&gaps, 99), poll + 1.0),
        Figure::without_target(
            "fleet_decision_p50_s",
            "100 messages: first confirm to a size of 20, median",
            percentile(&decisions, 50),
        ),
        Figure::within("fleet_decision_p99_s", "  99 of 100", percentile(&decisions, 99), poll + 1.0),
    ]
}
