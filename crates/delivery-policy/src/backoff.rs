//! Delays between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);

/// Longest delay: a repaired bucket is detected after this time plus the time of one attempt.
const LONGEST: Duration = Duration::from_secs(5);

const FIRST_ROTATION: Duration = Duration::from_millis(100);
const LONGEST_ROTATION: Duration = Duration::from_secs(30);

/// Exponential with full jitter, so that consumers that failed together do not retry together.
#[derive(Debug)]
pub struct Backoff {
    random: fastrand::Rng,
}

impl Backoff {
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    pub fn after(&mut self, failures: u32) -> Duration {
        let longest = FIRST.saturating_mul(1 << failures.min(8)).min(LONGEST);
        longest.mul_f32(self.random.f32())
    }
}

/// The delay before the next message moves to the end of the queue: ten moves within 8 s, then slower, up to one every
/// 30 s.
pub fn rotation(rotations: u32) -> Duration {
    FIRST_ROTATION.mul_f32(1.5_f32.powi(rotations.min(20).try_into().unwrap_or(20))).min(LONGEST_ROTATION)
}
