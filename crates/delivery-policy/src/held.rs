//! A delivered message that is not settled yet.

use crate::{Scope, Time};

#[derive(Debug)]
pub struct Held {
    pub stage: Stage,
    /// Number of the subscription that delivered the message.
    pub subscription: u64,
    pub failure: Option<Failure>,
    pub object: u64,
    /// Start of the last upload.
    pub uploading_since: Time,
    /// The message was returned or renewed before.
    pub was_moved: bool,
    /// The message's returns were near the delivery limit when it was delivered.
    pub is_worn: bool,
    /// The message can never succeed.
    pub is_refused: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Decoding and encoding.
    Converting,
    /// Converted; waits for its first upload or for a retry.
    Ready,
    Uploading,
    /// A publish to the parking queue is in progress.
    Parking,
    /// Waits for the next attempt to park.
    Unparked,
    /// A publish of a copy to the end of the queue is in progress.
    Renewing(Otherwise),
}

/// What to do with the message if it can't be renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// Just delivered: convert it, or park it if the broker refused the copy.
    Work,
    /// Keep holding it.
    Keep,
    /// The holding time is over: return it to the queue.
    HandBack,
}

/// A failure that is not known to be the message's fault.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Start of the holding time, which lasts `hold_for`.
    pub since: Time,
    pub hold_for: Time,
    pub failures: u32,
    pub failed_at: Time,
    /// Scope of the last failed upload; `None`: parking failed.
    pub scope: Option<Scope>,
    pub next_try: Time,
    pub refusals: Refusals,
}

/// How often S3 may have refused one object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Refusals {
    /// The first refusal. A broken connection counts as a refusal after several `breaks`.
    pub first: Option<Time>,
    /// Failures of scope [`Scope::MaybeTooLarge`] in a row, without those while S3 failed.
    pub breaks: u32,
}

impl Failure {
    /// Adds a failure; the next attempt follows after `pause`.
    pub fn again(before: Option<Self>, scope: Option<Scope>, now: Time, holding_time: Time, pause: Time) -> Self {
        let first = Self {
            since: now,
            hold_for: holding_time,
            failures: 0,
            failed_at: now,
            scope,
            next_try: now,
            refusals: Refusals::default(),
        };
        let before = before.unwrap_or(first);
        let failures = before.failures.saturating_add(1);
        let refusals = Refusals {
            first: before.refusals.first.filter(|_| scope.is_some_and(Scope::may_be_one_object)),
            breaks: if scope == Some(Scope::MaybeTooLarge) { before.refusals.breaks } else { 0 },
        };
        Self { failures, failed_at: now, scope, next_try: now + pause, refusals, ..before }
    }

    pub fn is_over(&self, now: Time) -> bool {
        self.since + self.hold_for <= now
    }
}

impl Held {
    /// The message may be tried now: it has no failure, or the pause is over.
    pub fn is_due(&self, now: Time) -> bool {
        self.failure.is_none_or(|failure| failure.next_try <= now)
    }

    /// Starts another holding time.
    pub fn hold_on(&mut self, now: Time) {
        if let Some(failure) = &mut self.failure {
            failure.since = now;
        }
        self.stage = if self.is_refused { Stage::Unparked } else { Stage::Ready };
    }

    /// No failure so far: the upload may show that S3 works.
    pub fn is_promising(&self) -> bool {
        self.failure.is_none() && matches!(self.stage, Stage::Converting | Stage::Ready | Stage::Uploading)
    }

    /// An earlier upload or attempt to park failed.
    pub fn is_stuck(&self) -> bool {
        self.failure.is_some()
    }

    /// S3 may refuse only this object; an upload of another object decides.
    pub fn is_set_aside(&self) -> bool {
        self.failure.and_then(|failure| failure.scope).is_some_and(Scope::may_be_one_object)
    }

    /// No upload and no publish is in progress.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Unparked)
    }

    /// A stopping process finishes this message first.
    pub fn is_worth_finishing(&self) -> bool {
        matches!(self.stage, Stage::Renewing(_)) || (self.failure.is_none() && self.stage != Stage::Unparked)
    }
}
