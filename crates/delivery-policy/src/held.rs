//! A message that the broker has delivered and that is not settled.

use crate::{Scope, Time};

#[derive(Debug)]
pub struct Held {
    pub stage: Stage,
    /// Which subscription brought it.
    pub subscription: u64,
    pub trouble: Option<Trouble>,
    pub object: u64,
    /// When its last upload began.
    pub uploading_since: Time,
    /// It was returned or renewed before.
    pub was_moved: bool,
    /// Its returns were near the limit when it came.
    pub is_worn: bool,
    /// It can never succeed.
    pub is_refused: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Decoding and encoding.
    Converting,
    /// Converted; waits for its first upload or for the next one.
    Ready,
    Uploading,
    /// On its way to the parking queue.
    Parking,
    /// Waits for the next attempt to park it.
    Unparked,
    /// A copy is on its way to the queue's end.
    Renewing(Otherwise),
}

/// What becomes of a message that can't be renewed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Otherwise {
    /// It has just come: it is worked on, or parked where the broker refuses the copy.
    Work,
    /// It is held on.
    Keep,
    /// It was held as long as it may be.
    HandBack,
}

/// A failure that is not known to be the message's own.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    /// Holding begins here, and ends `hold_for` later.
    pub since: Time,
    pub hold_for: Time,
    pub failures: u32,
    pub failed_at: Time,
    /// The scope of the last failed upload; `None`: parking failed.
    pub scope: Option<Scope>,
    pub next_try: Time,
    /// When S3 first refused the object.
    pub refused_at: Option<Time>,
}

impl Trouble {
    /// One more failure, after which the next attempt waits for `pause`.
    pub fn once_more(before: Option<Self>, scope: Option<Scope>, now: Time, holding_time: Time, pause: Time) -> Self {
        let first = Self {
            since: now,
            hold_for: holding_time,
            failures: 0,
            failed_at: now,
            scope,
            next_try: now,
            refused_at: None,
        };
        let before = before.unwrap_or(first);
        let failures = before.failures.saturating_add(1);
        let refused_at = before.refused_at.filter(|_| scope == Some(Scope::MaybeObject));
        Self { failures, failed_at: now, scope, next_try: now + pause, refused_at, ..before }
    }

    pub fn is_over(&self, now: Time) -> bool {
        self.since + self.hold_for <= now
    }
}

impl Held {
    /// Its pause is over, if it has one.
    pub fn is_due(&self, now: Time) -> bool {
        self.trouble.is_none_or(|trouble| trouble.next_try <= now)
    }

    /// Begins another holding time.
    pub fn hold_on(&mut self, now: Time) {
        if let Some(trouble) = &mut self.trouble {
            trouble.since = now;
        }
        self.stage = if self.is_refused { Stage::Unparked } else { Stage::Ready };
    }

    /// Not failed so far: it may show that S3 takes images.
    pub fn is_promising(&self) -> bool {
        self.trouble.is_none() && matches!(self.stage, Stage::Converting | Stage::Ready | Stage::Uploading)
    }

    /// Goes on only after a pause.
    pub fn is_stuck(&self) -> bool {
        self.trouble.is_some()
    }

    /// S3 may refuse this object alone, which only another object shows.
    pub fn is_set_aside(&self) -> bool {
        self.trouble.is_some_and(|trouble| trouble.scope == Some(Scope::MaybeObject))
    }

    /// Neither an upload nor a publish is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Ready | Stage::Unparked)
    }

    /// A stopping process waits for it.
    pub fn is_worth_finishing(&self) -> bool {
        matches!(self.stage, Stage::Renewing(_)) || (self.trouble.is_none() && self.stage != Stage::Unparked)
    }
}
