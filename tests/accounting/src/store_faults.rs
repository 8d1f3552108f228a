//! The faults that the S3 tap injects, and the requests that they apply to.

use std::time::Duration;

use super::store_tap::length;

/// The treatment of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The request passes.
    None,
    /// Answered with this status and S3 error code. S3 does not see the request.
    Answer(u16, &'static str),
    /// Answered 200 with an HTML page, as a login page or a console's port does. S3 does not see the request.
    Page,
    /// Passed to S3 after this delay.
    Slow(Duration),
    /// Read but never answered.
    Hang,
    /// Only half of the body is read.
    Stall,
    /// Half of the body is read, and the connection is closed.
    Reset,
    /// S3 processes the request; the answer is dropped and the connection closed.
    ResetAfterCommit,
}

impl Fault {
    /// S3 is overloaded.
    pub const SLOW_DOWN: Self = Self::Answer(503, "SlowDown");
    /// S3 has an internal error.
    pub const INTERNAL_ERROR: Self = Self::Answer(500, "InternalError");
    /// A policy denies access.
    pub const DENIED: Self = Self::Answer(403, "AccessDenied");
    /// A token has expired.
    pub const EXPIRED: Self = Self::Answer(400, "ExpiredToken");
}

/// Selects the fault of each request.
#[derive(Clone, Debug)]
pub struct Faults {
    shares: Vec<(f64, Fault)>,
    seed: u64,
    only: Option<&'static str>,
    unless: Option<&'static str>,
    longer_than: Option<usize>,
}

impl Faults {
    /// Each fault applies to a share of all requests (0 to 1); the remaining requests pass. The same seed gives the
    /// same sequence.
    pub fn mixed(seed: u64, shares: &[(f64, Fault)]) -> Self {
        Self { shares: shares.to_vec(), seed, only: None, unless: None, longer_than: None }
    }

    /// Applies only to requests with this text in their first line.
    pub fn only_for(self, part: &'static str) -> Self {
        Self { only: Some(part), ..self }
    }

    /// Applies only to uploads without this text (in lower case) in their head, like a bucket policy.
    pub fn for_uploads_without(self, part: &'static str) -> Self {
        Self { only: Some("PUT "), unless: Some(part), ..self }
    }

    /// Applies only to requests with a longer body, like a proxy's limit. The limit is in bytes.
    pub fn for_longer_than(self, bytes: usize) -> Self {
        Self { longer_than: Some(bytes), ..self }
    }

    /// Whether the faults depend on the request, so that one refused request says nothing about other requests.
    pub fn concern_objects(&self) -> bool {
        self.only.is_some() || self.longer_than.is_some()
    }

    /// The fault for the request with this number and head.
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
    /// The fault applies to all requests.
    fn from(fault: Fault) -> Self {
        Self::mixed(0, &[(1.0, fault)])
    }
}
