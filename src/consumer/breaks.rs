//! Decides whether a broken connection may be the fault of the uploaded object. A proxy with a body limit breaks every
//! connection that sends a large body, and no other. If small uploads break too, or a broken upload succeeds when it is
//! repeated, the network or S3 is at fault.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The smallest common body limit of HTTP proxies: nginx's default, 1 MiB (`client_max_body_size`).
pub const SMALLEST_LIMIT: usize = 1 << 20;

/// How long a sign that connections break by chance counts.
const CHANCE_FOR: Duration = Duration::from_secs(60);

/// The last sign that connections break by chance.
#[derive(Debug, Default)]
pub struct Breaks(Mutex<Option<Instant>>);

impl Breaks {
    /// Records that the connection of an upload of this size broke. Returns whether it broke by chance.
    pub fn is_chance(&self, bytes: usize) -> bool {
        if bytes < SMALLEST_LIMIT {
            self.recovered();
        }
        self.0.lock().is_some_and(|sign| sign.elapsed() < CHANCE_FOR)
    }

    /// An upload succeeded whose connection had broken before.
    pub fn recovered(&self) {
        *self.0.lock() = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = SMALLEST_LIMIT;

    #[test]
    fn without_a_sign_of_chance_the_object_may_be_at_fault() {
        assert!(!Breaks::default().is_chance(LARGE));
    }

    #[test]
    fn breaks_of_small_uploads_or_of_one_that_succeeds_later_are_chance() {
        for sign in [|breaks: &Breaks| assert!(breaks.is_chance(LARGE - 1)), Breaks::recovered] {
            let breaks = Breaks::default();
            sign(&breaks);
            assert!(breaks.is_chance(LARGE));
            *breaks.0.lock() = Instant::now().checked_sub(CHANCE_FOR);
            assert!(!breaks.is_chance(LARGE), "the sign is a minute old");
        }
    }
}
