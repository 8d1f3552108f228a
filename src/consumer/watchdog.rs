//! Notices a consumer that is registered and is sent nothing while messages are ready. It must never
//! take a consumer for stalled that holds all it may, or that was sent something since.

use std::time::Duration;

use crate::queue::Channel;

/// Between two looks; silence over two of them, with messages ready at both, is a stall.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// Where only one of several consumers is served (single active consumer, priorities), silence is
/// no fault: each new session that changes nothing makes the next one rarer.
const LONGEST_PATIENCE: Duration = Duration::from_secs(600);

/// How long to wait between looks; kept from one session to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience(Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(FIRST_PATIENCE)
    }
}

impl Patience {
    /// The time between two looks.
    pub fn interval(self) -> Duration {
        self.0
    }

    /// After a stall: twice as long.
    pub fn grown(self) -> Self {
        Self(self.0.saturating_mul(2).min(LONGEST_PATIENCE))
    }
}

/// Looks at one queue beside one consumer.
pub struct Watchdog {
    channel: Channel,
    queue: String,
    suspicious: bool,
}

impl Watchdog {
    /// Looks by a channel of its own: a refused look closes it.
    pub fn new(channel: Channel, queue: String) -> Self {
        Self { channel, queue, suspicious: false }
    }

    /// One look. `served`: whether anything was delivered since the last, or nothing may be.
    pub async fn is_stalled(&mut self, served: bool) -> bool {
        if served || !self.channel.is_open() {
            self.suspicious = false;
            return false;
        }
        // A look that fails says nothing: a connection that is gone is noticed without it.
        let ready = self.channel.depth(&self.queue).await.map_or(0, |depth| depth.ready);
        let (stalled, suspicious) = judge(self.suspicious, ready);
        self.suspicious = suspicious;
        stalled
    }
}

/// Whether it is a stall, and whether the next look may make it one.
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
