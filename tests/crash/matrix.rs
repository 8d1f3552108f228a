//! Each write of a run without faults, combined with each fault. Cases that do not occur are reported.

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use strum::IntoEnumIterator as _;

use crate::fault::{Fault, Write};
use crate::scenario::{self, Run};
use crate::world::World;

/// Number of concurrent cases. It keeps two cores busy, because a scene mostly waits.
const AT_ONCE: usize = 28;

/// Runs every n-th case, unless `CRASH_EVERY` sets another n. It is coprime to the number of faults, so each fault
/// occurs.
const EVERY: usize = 7;

/// The end of a case.
struct Outcome {
    case: Option<(Write, Fault)>,
    hit: bool,
    failure: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wherever_the_operator_is_stopped_it_ends_where_it_would_have() {
    let began = Instant::now();
    let every = std::env::var("CRASH_EVERY").map_or(EVERY, |every| every.parse().expect("a number"));
    let world = World::new().await;
    let reference = Arc::new(scenario::run(&world, None, None).await.unwrap_or_else(|lacks| panic!("{lacks}")));
    let all: Vec<_> =
        reference.writes.iter().flat_map(|write| Fault::iter().map(|fault| (write.clone(), fault))).collect();
    // Two cases have no fault: differences between such runs are not caused by faults.
    let cases: Vec<_> = [None, None].into_iter().chain(all.iter().cloned().step_by(every).map(Some)).collect();
    for write in &reference.writes {
        println!("{write}");
    }
    println!("{} writes, {} cases, {} selected", reference.writes.len(), all.len(), cases.len());
    let outcomes: Vec<_> = futures::stream::iter(cases.iter().cloned())
        .map(|case| one(&world, case, &reference))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    report(&outcomes, began);
}

async fn one(world: &Arc<World>, case: Option<(Write, Fault)>, reference: &Run) -> Outcome {
    let run = scenario::run(world, case.clone(), Some(reference)).await;
    let (hit, failure) = match run {
        Ok(run) => (run.hit.is_some(), None),
        Err(failure) => (true, Some(failure)),
    };
    if let Some(failure) = &failure {
        println!("{}: {failure}\n", named(case.as_ref()));
    }
    Outcome { case, hit, failure }
}

fn named(case: Option<&(Write, Fault)>) -> String {
    case.map_or("without a fault".to_owned(), |(write, fault)| format!("{write}, {}", <&str>::from(fault)))
}

/// Fails if a case failed. A case whose write did not occur is only reported, and there may be few: the number of
/// status writes depends on how fast pods start.
fn report(outcomes: &[Outcome], began: Instant) {
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    let missed: Vec<_> = outcomes.iter().filter(|outcome| outcome.case.is_some() && !outcome.hit).collect();
    for outcome in &missed {
        println!("did not occur: {}", named(outcome.case.as_ref()));
    }
    let (cases, seconds) = (outcomes.len(), began.elapsed().as_secs());
    println!("{cases} cases in {seconds} s: {} failed, {} did not occur", failed.len(), missed.len());
    let names: Vec<_> = failed.iter().map(|outcome| named(outcome.case.as_ref())).collect();
    assert!(failed.is_empty(), "{} cases ended differently, explained above:\n{}", failed.len(), names.join("\n"));
    assert!(missed.len() * 10 <= cases, "{} of {cases} cases did not occur", missed.len());
}
