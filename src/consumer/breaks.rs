//! Whether a broken connection says something of the object that was uploaded. A proxy with a body limit breaks every
//! connection that sends a large body, and no other. If small uploads break too, or a broken upload succeeds when it is
//! repeated, the network or the store is at fault.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The smallest common body limit of HTTP proxies: nginx's default, 1 MiB (`client_max_body_size`).
pub const SMALLEST_LIMIT: usize = 1 << 20;

/// From this number of attempts on, broken connections of a large upload point to the object.
const BREAKS: u32 = 6;

/// How long a sign that connections break by chance counts.
const CHANCE_FOR: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub struct Breaks(Mutex<Option<Instant>>);

impl Breaks {
    /// Records that the connection of an upload of this size broke, at this attempt. Returns whether it broke by chance.
    pub fn broke(&self, bytes: usize, attempts: u32) -> bool {
        if bytes < SMALLEST_LIMIT {
            self.recovered();
            return true;
        }
        let is_recent = |sign: Instant| sign.elapsed() < CHANCE_FOR;
        attempts < BREAKS || self.0.lock().is_some_and(is_recent)
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
    fn large_uploads_that_alone_break_again_and_again_are_no_chance() {
        let breaks = Breaks::default();
        assert!((1..BREAKS).all(|attempts| breaks.broke(LARGE, attempts)));
        assert!(!breaks.broke(LARGE, BREAKS));
    }

    #[test]
    fn breaks_of_small_uploads_or_of_one_that_succeeds_later_are_chance() {
        for sign in [|breaks: &Breaks| assert!(breaks.broke(LARGE - 1, 9)), Breaks::recovered] {
            let breaks = Breaks::default();
            sign(&breaks);
            assert!(breaks.broke(LARGE, 9));
            *breaks.0.lock() = Instant::now().checked_sub(CHANCE_FOR);
            assert!(!breaks.broke(LARGE, 9), "the sign is a minute old");
        }
    }
}
