//! The program behind `make soak`: several pipelines under varying load, while a seeded schedule injects every kind
//! of fault, alone and overlapping. At the end all faults are healed and every message is accounted for, without
//! the product's own reports.
//!
//! ```text
//! make soak                     one hour
//! make soak HOURS=0.1 SEED=7    six minutes; the same seed gives the same run
//! ```
//!
//! Exit code 0: nothing is lost and nothing is wrong. 1: something is wrong; the output names it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod bodies;
mod commands;
mod episodes;
mod faults;
mod kind;
mod memory;
mod outcome;
mod plan;
mod processes;
mod recovery;
mod report;
mod restarts;
mod scene;
mod schedule;
mod seen;
mod timeline;
mod traffic;
mod unreadable;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use accounting::account::Account;
use accounting::read_back::{self, Buckets, Found};
use clap::Parser as _;
use episodes::Soak;
use memory::Memory;
use outcome::Outcome;
use scene::Scene;
use seen::Seen;
use timeline::Timeline;
use tokio_util::sync::CancellationToken;

/// Limit for emptying the queues after the last heal.
const DRAINS: Duration = Duration::from_secs(180);

/// Runs pipelines under every kind of fault and accounts for every message (`make soak`)
#[derive(clap::Parser)]
struct Options {
    /// Hours of fault injection
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Repeats the schedule and the messages of the run with this seed
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 8)]
async fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("the first provider");
    let Options { hours, seed } = Options::parse();
    let seed = seed.unwrap_or_else(|| fastrand::u32(..).into());
    println!("SEED={seed} HOURS={hours} repeats this soak");
    let time = Duration::from_secs_f64(hours * 3600.0);
    let schedule = schedule::schedule(seed, time, plan::HIT);
    let scene = Arc::new(Scene::new(seed).await);
    let soak = Soak {
        seen: Arc::new(Seen::of(plan::PLANS.iter().map(|plan| plan.name).collect())),
        timeline: Arc::new(Timeline::start()),
        scene,
    };
    let memory = watch(&soak);
    let traffic = publish(&soak, seed);
    soak.run(&schedule, time).await;
    soak.timeline.say("the faults and the traffic end");
    traffic().await;
    soak.heal_all().await;
    drain(&soak).await;
    soak.timeline.say("reading back");
    let account = Account::of(&soak.scene.ledger.attempts(), &found(&soak.scene).await, &soak.scene.wire.events());
    let (record, stored) = (soak.timeline.record(), stored(&soak));
    let outcome = Outcome {
        seed,
        hours,
        account,
        recoveries: recovery::recoveries(&record.faults, &stored),
        record,
        memory: memory.lock().unwrap().clone(),
        unexplained: soak.scene.pods.unexplained(),
        restarts: soak.scene.pods.total(),
    };
    let page = report::write(&outcome, &stored);
    println!("{}", serde_json::to_string_pretty(&outcome.json()).expect("JSON"));
    println!("Report: {}", page.display());
    let wrong = outcome.faults();
    wrong.iter().for_each(|sentence| println!("WRONG: {sentence}"));
    println!("SEED={seed} HOURS={hours} repeats this soak");
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Follows pods, memory and the bucket until the program ends.
fn watch(soak: &Soak) -> Arc<Mutex<Memory>> {
    for namespace in [scene::NAMESPACE, faults::operator::NAMESPACE] {
        let scene = Arc::clone(&soak.scene);
        tokio::spawn(async move { scene.pods.follow(scene.client.clone(), namespace).await });
    }
    let (scene, seen) = (Arc::clone(&soak.scene), Arc::clone(&soak.seen));
    tokio::spawn(async move { seen.look(&scene.wire).await });
    let memory = Arc::<Mutex<Memory>>::default();
    let shared = Arc::clone(&memory);
    tokio::spawn(async move { Memory::read(&shared).await });
    memory
}

/// Publishes to every pipeline. The returned function stops the traffic and waits for its end.
fn publish(soak: &Soak, seed: u64) -> impl AsyncFnOnce() {
    let stop = CancellationToken::new();
    let tasks: Vec<_> = (0..soak.scene.pipelines.len())
        .map(|pipeline| {
            let (scene, seen, stop) = (Arc::clone(&soak.scene), Arc::clone(&soak.seen), stop.clone());
            tokio::spawn(traffic::publish(scene, seen, seed, pipeline, stop))
        })
        .collect();
    async move || {
        stop.cancel();
        for ended in futures::future::join_all(tasks).await {
            ended.expect("traffic that stops");
        }
    }
}

/// Waits until every queue is empty and every delivery is acknowledged.
async fn drain(soak: &Soak) {
    let empty = async {
        loop {
            if soak.scene.depths().await.iter().all(|depth| *depth == Some(0)) {
                return;
            }
        }
    };
    match tokio::time::timeout(DRAINS, empty).await {
        Ok(()) => soak.timeline.say("every queue is empty"),
        Err(_) => soak.timeline.trouble(format!("the queues are not empty after {DRAINS:?}")),
    }
}

/// Objects and messages at the end.
async fn found(scene: &Scene) -> Found {
    let [url, access, secret] = &scene.store;
    let (buckets, mut found) = (Buckets::at(url, access, secret), Found::default());
    for pipeline in &scene.pipelines {
        let name = pipeline.plan.name;
        found.stored.extend(buckets.stored(name).await);
        found.parked.extend(read_back::messages(&pipeline.broker, &format!("{name}.parked")).await);
        found.queued.extend(read_back::messages(&pipeline.broker, name).await);
    }
    found
}

/// Times at which each pipeline stored its images, in seconds since the start.
fn stored(soak: &Soak) -> Vec<Vec<f64>> {
    let of = |pipeline| soak.seen.all(pipeline).into_iter().map(|at| soak.timeline.seconds(at)).collect();
    (0..soak.scene.pipelines.len()).map(of).collect()
}
