//! Runs the policy of 1 to 50 consumers against models of a quorum queue, of S3 and of the network, with seeded faults,
//! and checks the product's promises. `SEED=n KIND=k` runs one schedule and prints it.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::atomic::{AtomicU64, Ordering};

mod consumer;
mod plan;
mod queue;
mod storage;
mod world;

use plan::{Kind, Plan};
use world::World;

/// Runs one schedule, and on failure prints the command that repeats it.
fn run(seed: u64, kind: Kind) {
    let result = std::panic::catch_unwind(|| World::new(Plan::new(seed, kind), false).run());
    if let Err(violated) = result {
        eprintln!(
            "seed {seed} of {kind:?}: SEED={seed} KIND={kind:?} cargo test -p delivery-policy -- --exact --nocapture seeded"
        );
        std::panic::resume_unwind(violated);
    }
}

fn run_many(kind: Kind, count: u64) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < count
                {
                    run(seed, kind);
                }
            });
        }
    });
}

#[test]
fn a_million_schedules_of_all_faults_lose_nothing_and_park_no_good_image() {
    run_many(Kind::Everything, 1_000_000);
}

#[test]
fn an_outage_of_any_length_costs_a_message_at_most_one_return() {
    run_many(Kind::Outage, 2_000);
}

#[test]
fn each_crashing_message_is_parked_and_returns_its_neighbors_at_most_once() {
    run_many(Kind::CrashingBody, 10_000);
}

#[test]
fn objects_that_s3_refuses_one_by_one_are_parked_within_half_a_minute_and_the_others_stored() {
    run_many(Kind::RefusedObjects, 5_000);
}

#[test]
fn kills_and_closed_connections_one_after_the_other_lose_nothing() {
    run_many(Kind::Kills, 2_000);
}

#[test]
fn uploads_that_fail_now_and_then_return_nothing() {
    run_many(Kind::Flaky, 50);
}

/// Repeats the schedule of a seed that another test printed.
#[test]
fn seeded() {
    let Ok(seed) = std::env::var("SEED") else { return };
    let kind = std::env::var("KIND").ok().and_then(|kind| Kind::named(&kind)).expect("KIND");
    World::new(Plan::new(seed.parse().expect("SEED is a number"), kind), true).run();
}
