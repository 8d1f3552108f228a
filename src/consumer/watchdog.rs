//! Detects a stalled consumer: the broker has its subscription and ready messages, but delivers none. A consumer that
//! has reached its prefetch, or received a delivery since the last poll, is not stalled.

use std::time::Duration;

use crate::rabbitmq::Channel;

/// Poll interval. No delivery over two polls, with messages ready at both, is a stall.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// If the queue serves only one of several consumers (single active consumer, priorities), no delivery is no fault. So
/// each stall doubles the interval, up to this one.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// The poll interval, kept from one session to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(FIRST_PATIENCE)
    }
}

impl Patience {
    pub fn interval(self) -> Duration {
        self.0
    }

    /// Doubled after a stall.
    pub fn grown(self) -> Self {
        Self(self.0.saturating_mul(2).min(LONGEST_PATIENCE))
    }
}

/// Polls the depth of one consumer's queue.
pub struct Watchdog {
    channel: Channel,
    queue: String,
    /// Messages that were ready at the last poll without a delivery before it.
    waiting: u32,
}

impl Watchdog {
    /// `channel` must not be used otherwise: a refused passive declaration closes it.
    pub fn new(channel: Channel, queue: String) -> Self {
        Self { channel, queue, waiting: 0 }
    }

    /// Polls, and returns whether the consumer is stalled. `is_silence_expected`: the broker has delivered since the
    /// last poll, or may not deliver now.
    pub async fn poll(&mut self, is_silence_expected: bool) -> bool {
        if is_silence_expected || !self.channel.is_open() {
            self.waiting = 0;
            return false;
        }
        // A failed poll proves no stall; the session itself detects a lost connection.
        let ready = self.channel.depth(&self.queue).await.map_or(0, |depth| depth.ready);
        is_stalled(std::mem::replace(&mut self.waiting, ready), ready)
    }
}

/// Whether messages were ready at two polls in a row, with no delivery between them.
fn is_stalled(before: u32, now: u32) -> bool {
    before > 0 && now > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_at_one_poll_are_no_stall_and_at_two_polls_are() {
        for (before, now, expected) in [(0, 0, false), (0, 7, false), (7, 7, true), (9, 7, true), (7, 0, false)] {
            assert_eq!(is_stalled(before, now), expected, "{before} ready, then {now}");
        }
    }

    #[test]
    fn patience_grows_to_a_bound() {
        let mut patience = Patience::default();
        assert_eq!(patience.grown().interval(), FIRST_PATIENCE * 2);
        for _ in 0..20 {
            patience = patience.grown();
        }
        assert_eq!(patience.interval(), LONGEST_PATIENCE);
    }
}
