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
    suspicious: bool,
}

impl Watchdog {
    /// `channel` must not be used otherwise: a refused passive declaration closes it.
    pub fn new(channel: Channel, queue: String) -> Self {
        Self { channel, queue, suspicious: false }
    }

    /// Polls, and returns whether the consumer is stalled. `is_silence_expected`: the broker has delivered since the
    /// last poll, or may not deliver now.
    pub async fn poll(&mut self, is_silence_expected: bool) -> bool {
        if is_silence_expected || !self.channel.is_open() {
            self.suspicious = false;
            return false;
        }
        // A failed poll proves no stall; the session itself detects a lost connection.
        let ready = self.channel.depth(&self.queue).await.map_or(0, |depth| depth.ready);
        let (stalled, suspicious) = judge(self.suspicious, ready);
        self.suspicious = suspicious;
        stalled
    }
}

/// Whether the consumer is stalled, and whether the next poll may find it stalled.
fn judge(suspicious: bool, ready: u32) -> (bool, bool) {
    (suspicious && ready > 0, ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_look_is_no_proof_and_two_are() {
        assert_eq!(judge(false, 0), (false, false));
        assert_eq!(judge(false, 7), (false, true));
        assert_eq!(judge(true, 7), (true, true));
        assert_eq!(judge(true, 0), (false, false), "an empty queue clears the suspicion");
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
