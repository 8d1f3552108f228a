//! Measures the control plane in a real Kubernetes: the time from a burst to the new size, the drain of a backlog,
//! the stability of the size under constant load, the operator's cost with one pipeline and with a thousand, and
//! the effect of broken pipelines on others. Figures come from RabbitMQ, the API server and the kernel where these
//! have them, not from the operator.
//!
//! ```text
//! make bench-scaling            100 rounds, 10 minutes of constant load, 1,000 pipelines
//! make bench-scaling QUICK=1    10 rounds, 2 minutes, 100 pipelines
//! ```
//!
//! Exit code 0: every target is met. 1: a target is missed, or a figure could not be measured.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod broker;
mod consumers;
mod crowd;
mod decision;
mod drain;
mod faults;
mod figures;
mod follow;
mod operator;
mod report;
mod scene;
mod steady;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use crowd::Crowd;
use decision::{Round, Rounds};
use drain::Drained;
use figures::{Figure, mean, percentile};
use scene::Scene;
use steady::Steady;

/// Namespace of RabbitMQ, S3 and the pipelines with pods. The names of the other namespaces begin with it.
const NAMESPACE: &str = "bench-scaling";

const MIB: f64 = (1 << 20) as f64;

/// Measures how the operator scales (`make bench-scaling`)
#[derive(clap::Parser)]
struct Options {
    /// Runs fewer rounds, with 100 pipelines
    #[arg(long)]
    quick: bool,
}

/// Sizes and lengths of the measurements.
struct Amounts {
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

const FULL: Amounts = Amounts {
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

const QUICK: Amounts = Amounts {
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

#[tokio::main]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let (options, began) = (Options::parse(), Instant::now());
    let amounts = if options.quick { QUICK } else { FULL };
    let figures = measure(&amounts, |what| eprintln!("{:>5.0} s  {what}", began.elapsed().as_secs_f64())).await;
    println!("\n{}", report::table(&figures));
    let circumstances = [
        ("quick", options.quick.into()),
        ("rounds", amounts.rounds.into()),
        ("pipelines", amounts.pipelines.into()),
        ("steady_minutes", (amounts.steady.as_secs() / 60).into()),
        ("idle_minutes", (amounts.idle.as_secs() / 60).into()),
    ];
    let file = report::write(&report::record(&figures, &circumstances));
    let (pipelines, seconds) = (amounts.pipelines, began.elapsed().as_secs_f64());
    println!("{pipelines} pipelines, {seconds:.0} s; the figures are in {}", file.display());
    if figures.iter().all(Figure::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure(amounts: &Amounts, say: impl Fn(&str)) -> Vec<Figure> {
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
    figures.push(Figure::told("operator_peak_rss_bytes", "operator, all of the above: peak resident memory", peak));
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
        Figure::told("pods_ready_p50_s", "  first confirm to 20 pods ready, median", ready),
    ]
}

fn of_backlog(drained: &Drained) -> Vec<Figure> {
    let Drained { seconds, of_ideal, peak_backlog, idle_pod_seconds: idle, .. } = *drained;
    vec![
        Figure::told("drain_s", "a backlog of images: until the queue is empty", seconds),
        Figure::told("drain_of_ideal", "  relative to the ideal at the pods' reported speed", of_ideal),
        Figure::told("peak_backlog", "  peak of ready messages, with 10 more per second", peak_backlog),
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
        Figure::within("thousand_rss_bytes", "  operator: resident memory", rss, 100.0 * MIB),
        Figure::told("thousand_idle_cpu_percent", "  CPU use in percent of one core, idle", cpu),
        Figure::within("thousand_broker_connections", "  the operator's connections to the broker", connections, 1.0),
        Figure::within("idle_api_writes", "  writes to the API server without Leases, idle", writes, 0.0),
        Figure::within("neighbours_decision_ratio", "  decision with 8 broken neighbors, to before", ratio, 1.2),
    ]
}
