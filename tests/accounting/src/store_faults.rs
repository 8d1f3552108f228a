//! What the store tap does to requests in the store's place, and which requests it does it to.

use std::time::Duration;

use super::store_tap::length;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It is answered by the store.
    None,
    /// It is answered with this status and S3 error code, and never reaches the store.
    Answer(u16, &'static str),
    /// It is answered 200 with a page, as a login page or a console's port does, and never reaches the store.
    Page,
    /// It is answered by the store after this time.
    Slow(Duration),
    /// It is read and never answered.
    Hang,
    /// Half of its body is read, and no more.
    Stall,
    /// The store has taken it; the answer is thrown away and the connection broken.
    ResetAfterCommit,
}

impl Fault {
    /// The store has too much to do.
    pub const SLOW_DOWN: Self = Self::Answer(503, "SlowDown");
    /// The store does not know either.
    pub const INTERNAL_ERROR: Self = Self::Answer(500, "InternalError");
    /// A policy was changed.
    pub const DENIED: Self = Self::Answer(403, "AccessDenied");
    /// A token was not renewed.
    pub const EXPIRED: Self = Self::Answer(400, "ExpiredToken");
}

/// Which requests meet which fault.
#[derive(Clone, Debug)]
pub struct Faults {
    shares: Vec<(f64, Fault)>,
    seed: u64,
    only: Option<&'static str>,
    unless: Option<&'static str>,
    longer_than: Option<usize>,
}

impl Faults {
    /// Each of them for a share of all requests, from 0 to 1; what is left passes. The same seed draws
    /// the same lots.
    pub fn mixed(seed: u64, shares: &[(f64, Fault)]) -> Self {
        Self { shares: shares.to_vec(), seed, only: None, unless: None, longer_than: None }
    }

    /// The same, but for requests that don't have this in their first line, which pass.
    pub fn only_for(self, part: &'static str) -> Self {
        Self { only: Some(part), ..self }
    }

    /// The same for uploads, but for those that have this in their head, in lower case; all else passes. As a
    /// bucket's policy does.
    pub fn for_uploads_without(self, part: &'static str) -> Self {
        Self { only: Some("PUT "), unless: Some(part), ..self }
    }

    /// The same for requests whose body has more bytes than this; all else passes. As a proxy's limit does.
    pub fn for_longer_than(self, bytes: usize) -> Self {
        Self { longer_than: Some(bytes), ..self }
    }

    /// Whether a request that meets the fault says nothing of another.
    pub fn concern_objects(&self) -> bool {
        self.only.is_some() || self.longer_than.is_some()
    }

    /// What the request of this number and head meets.
    pub fn draw(&self, number: u64, head: &str) -> Fault {
        let line = head.lines().next().unwrap_or_default();
        if self.unless.is_some_and(|part| head.to_ascii_lowercase().contains(part)) {
            return Fault::None;
        }
        if self.only.is_some_and(|part| !line.contains(part)) {
            return Fault::None;
        }
        if self.longer_than.is_some_and(|most| length(head) <= most) {
            return Fault::None;
        }
        let mut lot = fastrand::Rng::with_seed(self.seed ^ number).f64();
        for (share, fault) in &self.shares {
            if lot < *share {
                return *fault;
            }
            lot -= share;
        }
        Fault::None
    }
}

impl From<Fault> for Faults {
    /// For all requests.
    fn from(fault: Fault) -> Self {
        Self::mixed(0, &[(1.0, fault)])
    }
}
