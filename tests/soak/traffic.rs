//! What is published to a pipeline: so many messages a second, another number every few seconds. It
//! must never have more on the way than the broker can confirm, nor make up for an outage for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use super::accounting::publisher::Publisher;
use super::scene::{IN_FLIGHT, Scene};

/// The load stays the same for so long.
const STEADY: Duration = Duration::from_secs(15);

/// Messages a second, one of which is chosen each time.
const RATES: [f64; 6] = [1.5, 2.0, 3.0, 4.0, 6.0, 10.0];

/// What an outage has kept back is published after it, up to so many.
const OWED: f64 = 200.0;

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(50);

/// Messages a second at a time from the start.
pub fn rate(seed: u64, pipeline: usize, at: Duration) -> f64 {
    let part = at.as_secs() / STEADY.as_secs();
    *Rng::with_seed(seed ^ ((pipeline as u64 + 1) << 40) ^ (part << 8)).choice(RATES.iter()).expect("a rate")
}

/// Publishes to a pipeline until it is stopped, and all is confirmed or given up.
pub async fn publish(scene: Arc<Scene>, seed: u64, pipeline: usize, stop: CancellationToken) {
    let publisher = Publisher::new(&scene.broker, &scene.ledger);
    let (began, mut before, mut owed) = (Instant::now(), Duration::ZERO, 0.0_f64);
    let (mut ticks, mut number) = (tokio::time::interval(TICK), 0);
    let Some(to) = scene.pipelines.get(pipeline) else { return };
    while !stop.is_cancelled() {
        ticks.tick().await;
        let now = began.elapsed();
        owed = (owed + rate(seed, pipeline, now) * (now - before).as_secs_f64()).min(OWED);
        before = now;
        while owed >= 1.0 && !stop.is_cancelled() {
            let Ok(permit) = Arc::clone(&to.sending).acquire_owned().await else { return };
            let (entry, body) = scene.bodies.message(&to.plan, number);
            (owed, number) = (owed - 1.0, number + 1);
            let publisher = publisher.clone();
            tokio::spawn(async move {
                // What was not confirmed is in the ledger as that.
                let _unconfirmed = publisher.publish(entry, &body).await;
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
            assert!((60_000.0..100_000.0).contains(&messages), "{messages}");
        }
        let of_one: Vec<f64> = (0..10).map(|part| rate(3, 0, STEADY * part)).collect();
        assert!(of_one.iter().any(|rate| *rate != of_one[0]), "{of_one:?}");
        assert_eq!(of_one[0], rate(3, 0, STEADY - Duration::from_secs(1)));
    }
}
