//! The delay before a reconnect, or before another decoder process is started: exponential with full jitter, so that
//! consumers that failed together do not retry together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);

/// A random delay of up to 0.5 s × 2^`failures`, and at most `cap`.
pub fn delay(failures: u32, cap: Duration) -> Duration {
    let doublings = failures.min(16);
    FIRST.saturating_mul(1 << doublings).min(cap).mul_f32(fastrand::f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_is_spread_below_it() {
        let cap = Duration::from_secs(5);
        let longest = |failures| (0..1000).map(|_| delay(failures, cap)).max().unwrap_or_default();
        assert!(longest(0) <= FIRST && longest(0) > FIRST / 2);
        assert!(longest(2) <= FIRST * 4 && longest(2) > FIRST * 2);
        assert!(longest(4) <= cap && longest(u32::MAX) <= cap && longest(u32::MAX) > cap / 2);
        assert!((0..1000).any(|_| delay(9, cap) < cap / 10), "short waits occur too");
    }
}
