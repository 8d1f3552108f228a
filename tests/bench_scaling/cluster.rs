//! The operator in a real cluster: the time from a burst to the new size, the drain of a backlog, the stability of the
//! size under constant load, the operator's cost with one pipeline and with a thousand, and the effect of broken
//! pipelines on others.

use std::time::Duration;

use serde_json::Value;

use super::consumers;
use super::crowd::{self, Crowd};
use super::decision::{self, Round, Rounds};
use super::drain::{self, Drained};
use super::figures::{Figure, MIB, mean, percentile};
use super::scene::{self, Scene};
use super::steady::{self, Steady};

/// Namespace of RabbitMQ, S3 and the pipelines with pods. The names of the other namespaces begin with it.
const NAMESPACE: &str = "bench-scaling";

/// Sizes and lengths of the measurements.
pub struct Amounts {
    alone: Duration,
    rounds: usize,
    rounds_with_pods: usize,
    backlog: usize,
    steady: Duration,
    pipelines: usize,
    idle: Duration,
    rounds_in_crowd: usize,
    waiting: Duration,
}

pub const FULL: Amounts = Amounts {
    alone: Duration::from_secs(60),
    rounds: 100,
    rounds_with_pods: 10,
    backlog: 2000,
    steady: Duration::from_secs(600),
    pipelines: 1000,
    idle: Duration::from_secs(300),
    rounds_in_crowd: 10,
    waiting: Duration::from_secs(30),
};

pub const QUICK: Amounts = Amounts {
    alone: Duration::from_secs(15),
    rounds: 10,
    rounds_with_pods: 1,
    backlog: 800,
    steady: Duration::from_secs(120),
    pipelines: 100,
    idle: Duration::from_secs(60),
    rounds_in_crowd: 5,
    waiting: Duration::from_secs(10),
};

impl Amounts {
    /// For the record of the results.
    pub fn circumstances(&self) -> [(&'static str, Value); 4] {
        [
            ("rounds", self.rounds.into()),
            ("pipelines", self.pipelines.into()),
            ("steady_minutes", (self.steady.as_secs() / 60).into()),
            ("idle_minutes", (self.idle.as_secs() / 60).into()),
        ]
    }
}

/// Takes every measurement of the cluster.
pub async fn measure(amounts: &Amounts, say: impl Fn(&str)) -> Vec<Figure> {
    let scene = Scene::new(NAMESPACE).await;
    scene.broker.must_count_redeliveries().await;
    let redelivered = scene.broker.redelivered();
    let alone = format!("{NAMESPACE}-without-pods");
    scene.without_pods(&alone).await;
    let bursts = Rounds::prepare(&scene, &alone, "burst").await;
    say("one idle pipeline");
    let mut figures = one_pipeline(&scene, amounts.alone).await;
    say("bursts, without pods");
    let rounds = bursts.run(amounts.rounds, false).await;
    say("bursts, with pods");
    let bursts = Rounds::prepare(&scene, NAMESPACE, "burst-with-pods").await;
    figures.extend(of_bursts(&rounds, &bursts.run(amounts.rounds_with_pods, true).await));
    say("a backlog");
    let drained = drain::drain(&scene, amounts.backlog).await;
    figures.extend(of_backlog(&drained));
    say("a constant load");
    let steady = steady::steady(&scene, amounts.steady).await;
    say(&format!("  {:.1} messages a second; pods: {:?}", steady.per_second, steady.sizes));
    let redelivered = scene.broker.redelivered() - redelivered;
    figures.extend(of_sizes(&steady, redelivered as f64 / (drained.scale_ins + steady.scale_ins) as f64));
    let peak = scene.operator.peak_rss();
    figures.push(Figure::without_target(
        "operator_peak_rss_bytes",
        "operator, all of the above: peak resident memory",
        peak,
    ));
    say("idle consumers");
    figures.extend(consumers::consumers(&scene.broker, amounts.waiting).await);
    say("many pipelines");
    let crowd = crowd::crowd(&scene, amounts.pipelines, amounts.idle, amounts.rounds_in_crowd).await;
    for (what, times) in &crowd.writes {
        say(&format!("  written while idle: {what}, {times} times"));
    }
    figures.extend(of_crowd(&crowd));
    figures
}

async fn one_pipeline(scene: &Scene, time: Duration) -> Vec<Figure> {
    scene.operator.still(Duration::from_secs(5), scene::LIMIT).await;
    let (cpu, _) = scene.operator.idle(time).await;
    let rss = scene.operator.rss();
    vec![
        Figure::within("operator_rss_bytes", "operator, one pipeline: resident memory", rss, 30.0 * MIB),
        Figure::within("operator_idle_cpu_percent", "  CPU use in percent of one core, idle", cpu, 1.0),
    ]
}

fn of_bursts(rounds: &[Round], with_pods: &[Round]) -> Vec<Figure> {
    let seconds = decision::seconds(rounds);
    let (median, most) = (percentile(&seconds, 50), percentile(&seconds, 99));
    let writes = decision::most_writes(rounds);
    let ready: Vec<f64> = with_pods.iter().filter_map(|round| round.ready).collect();
    let ready = percentile(&ready, 50);
    vec![
        Figure::within("decision_p50_s", "1,000 messages: first confirm to a size of 20, median", median, 1.5),
        Figure::within("decision_p99_s", "  99 of 100", most, 3.0),
        Figure::within("patches_per_scale_up", "  most writes to the size in a round", writes, 1.0),
        Figure::without_target("pods_ready_p50_s", "  first confirm to 20 pods ready, median", ready),
    ]
}

fn of_backlog(drained: &Drained) -> Vec<Figure> {
    let Drained { seconds, of_ideal, peak_backlog, idle_pod_seconds: idle, .. } = *drained;
    vec![
        Figure::without_target("drain_s", "a backlog of images: until the queue is empty", seconds),
        Figure::without_target("drain_of_ideal", "  relative to the ideal at the pods' reported speed", of_ideal),
        Figure::without_target("peak_backlog", "  peak of ready messages, with 10 more per second", peak_backlog),
        Figure::within("idle_pod_seconds_per_replica", "  empty queue to a pod's end, scaleDownAfter 60s", idle, 75.0),
    ]
}

fn of_sizes(steady: &Steady, redelivered: f64) -> Vec<Figure> {
    let flaps = steady.flaps as f64;
    vec![
        Figure::within("flaps_per_10_min", "constant load: changes of direction, start included", flaps, 1.0),
        Figure::within("redeliveries_per_scale_in", "redeliveries per scale-down under load", redelivered, 0.0),
    ]
}

fn of_crowd(crowd: &Crowd) -> Vec<Figure> {
    let Crowd { ready_seconds: ready, rss, cpu_percent: cpu, .. } = *crowd;
    let (connections, writes) = (crowd.connections as f64, crowd.writes.values().sum::<usize>() as f64);
    let ratio = mean(&decision::seconds(&crowd.during)) / mean(&decision::seconds(&crowd.before));
    vec![
        Figure::within("thousand_ready_s", "many pipelines: first creation to all ready", ready, 120.0),
        Figure::within("thousand_rss_bytes", "  operator: resident memory", rss, 60.0 * MIB),
        Figure::without_target("thousand_idle_cpu_percent", "  CPU use in percent of one core, idle", cpu),
        Figure::within("thousand_broker_connections", "  the operator's connections to the broker", connections, 2.0),
        Figure::within("idle_api_writes", "  writes to the API server without Leases, idle", writes, 0.0),
        Figure::within("neighbours_decision_ratio", "  decision with 8 broken neighbors, to before", ratio, 1.2),
    ]
}
