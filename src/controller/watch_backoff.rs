//! Backoff of failed watches: at most 5 s, so that the operator soon sees changes again once the API server is back
//! (kube's default doubles up to half a minute).

use std::time::Duration;

use backon::ExponentialBuilder;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::ExponentialBackoff;

/// The backoff of one watch: 0.5, 1, 2, then 2.5 s, and a random part of up to as much again, so that the four watches
/// of a scope do not restart in the same moment.
pub fn watch_backoff() -> ExponentialBackoff {
    let (first, longest) = (Duration::from_millis(500), Duration::from_millis(2500));
    ExponentialBuilder::new()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .into()
}

/// No backoff for the `Controller`, which by default delays all its watches after one of them has failed. Each watch
/// has its own [`watch_backoff`].
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
        let (soon, late) = (Duration::from_millis(500), Duration::from_secs(5));
        let mut tries = watch_backoff();
        let waits: Vec<_> = tries.by_ref().take(100).collect();
        assert_eq!(waits.len(), 100, "it never gives up");
        assert!(waits.iter().all(|wait| (soon..=late).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait > late - soon), "{waits:?}");
        tries.reset();
        assert!(tries.next().is_some_and(|wait| wait <= 2 * soon));
    }
}
