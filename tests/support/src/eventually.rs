//! Waits for a condition by polling. On timeout it reports what it last saw.

use std::time::{Duration, Instant};

/// Pause between two polls: short compared with every deadline under test, long compared with one poll.
const PAUSE: Duration = Duration::from_millis(50);

/// Default limit, for conditions without a deadline of their own. It is generous because a loaded machine is slow.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Polls until `look` returns `Ok`, and returns its value. `Err` describes what was seen.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        pause.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > limit => panic!("waited {limit:?} for {what}; last seen: {seen}"),
            Err(_) => {}
        }
    }
}

/// A condition for `eventually`: `Ok` once both values are equal.
pub fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}
