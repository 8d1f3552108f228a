//! The traffic of a pipeline: a rate in messages per second that changes every few seconds, as long as the
//! consumers keep up. The backlog exceeds what the consumers can hold, and is small enough to drain at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use super::scene::{IN_FLIGHT, Scene};
use super::seen::Seen;

/// Time between two changes of the rate.
const STEADY: Duration = Duration::from_secs(15);

/// The possible rates, in messages per second.
const RATES: [f64; 6] = [10.0, 15.0, 20.0, 30.0, 45.0, 60.0];

/// Publishes that an outage delayed are made up for, up to this number.
const OWED: f64 = 600.0;

/// Maximum of messages that are confirmed but not acknowledged: several times the prefetch of all pods.
const WAITING: usize = 400;

/// Interval between two checks of what is due.
const TICK: Duration = Duration::from_millis(50);

/// Messages per second at this time since the start.
pub fn rate(seed: u64, pipeline: usize, at: Duration) -> f64 {
    let part = at.as_secs() / STEADY.as_secs();
    *Rng::with_seed(seed ^ ((pipeline as u64 + 1) << 40) ^ (part << 8)).choice(RATES.iter()).expect("a rate")
}

/// Publishes to a pipeline until `stop`, then waits until all messages are confirmed or given up.
pub async fn publish(scene: Arc<Scene>, seen: Arc<Seen>, seed: u64, pipeline: usize, stop: CancellationToken) {
    let confirmed = Arc::<AtomicUsize>::default();
    let (began, mut before, mut owed) = (Instant::now(), Duration::ZERO, 0.0_f64);
    let (mut ticks, mut number) = (tokio::time::interval(TICK), 0);
    let Some(to) = scene.pipelines.get(pipeline) else { return };
    while !stop.is_cancelled() {
        ticks.tick().await;
        let now = began.elapsed();
        owed = (owed + rate(seed, pipeline, now) * (now - before).as_secs_f64()).min(OWED);
        before = now;
        let room = |confirmed: usize| confirmed < WAITING + seen.acknowledged(pipeline);
        while owed >= 1.0 && room(confirmed.load(Ordering::Relaxed)) && !stop.is_cancelled() {
            let Ok(permit) = Arc::clone(&to.sending).acquire_owned().await else { return };
            let sent = scene.send(pipeline, scene.bodies.message(&to.plan, number));
            (owed, number) = (owed - 1.0, number + 1);
            let confirmed = Arc::clone(&confirmed);
            tokio::spawn(async move {
                // The ledger has it as unconfirmed.
                if let Ok(Ok(_)) = sent.await {
                    confirmed.fetch_add(1, Ordering::Relaxed);
                }
                drop(permit);
            });
        }
    }
    let _all = to.sending.acquire_many(IN_FLIGHT).await;
}

#[cfg(test)]
mod tests {
    use super::super::plan::PLANS;
    use super::*;

    #[test]
    fn an_hour_has_enough_messages_whatever_the_seed_and_none_is_without() {
        for seed in 0..50 {
            let messages: f64 = (0..PLANS.len())
                .flat_map(|pipeline| (0..3600).map(move |second| (pipeline, Duration::from_secs(second))))
                .map(|(pipeline, at)| rate(seed, pipeline, at))
                .sum();
            assert!((500_000.0..800_000.0).contains(&messages), "{messages}");
        }
        let of_one: Vec<f64> = (0..10).map(|part| rate(3, 0, STEADY * part)).collect();
        assert!(of_one.iter().any(|rate| *rate != of_one[0]), "{of_one:?}");
        assert_eq!(of_one[0], rate(3, 0, STEADY - Duration::from_secs(1)));
    }
}
