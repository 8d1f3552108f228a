//! Waiting for a condition: the only way these tests wait. It must never wait for a time alone, nor
//! end in vain without saying what it last saw.

use std::time::{Duration, Instant};

/// Between two looks: short against every promise that is measured, long against the look itself.
const PAUSE: Duration = Duration::from_millis(50);

/// For what has no promise of its own: a loaded machine may take its time, a fault takes for ever.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks until the answer is `Ok`, which it returns. `Err` says what was seen instead.
pub async fn eventually<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        pause.tick().await;
        match look().await {
            Ok(found) => return found,
            Err(seen) if began.elapsed() > limit => panic!("waited {limit:?} in vain for {what}; last seen: {seen}"),
            Err(_) => {}
        }
    }
}

/// An answer for `eventually`: `Ok` once both sides are equal.
pub fn equal<T: PartialEq + std::fmt::Debug>(found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}
