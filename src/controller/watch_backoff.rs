//! Backoff of failed watches: at most 5 s, so that the operator soon sees changes again once the API server is back
//! (kube's default doubles up to a minute).

use std::time::Duration;

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);

/// The backoff of one watch: 1, 2, 4, then 5 s, each reduced by a random part of up to one half, so that the four
/// watches of a scope do not restart in the same moment.
#[derive(Default)]
pub struct WatchBackoff {
    failures: u32,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let longest = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        Some(longest.mul_f32(1.0 - fastrand::f32() / 2.0))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// No backoff for the `Controller`, which by default delays all its watches after one of them has failed. Each watch
/// has its own [`WatchBackoff`].
pub struct NoBackoff;

impl Iterator for NoBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Backoff for NoBackoff {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_soon_tried_again_and_never_at_once() {
        let mut tries = WatchBackoff::default();
        let waits: Vec<_> = tries.by_ref().take(100).collect();
        assert!(waits.iter().all(|wait| *wait >= FIRST / 2 && *wait <= LONGEST), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > LONGEST - FIRST), "{waits:?}");
        tries.reset();
        assert!(tries.next().is_some_and(|wait| wait <= FIRST));
    }
}
