//! The next step of a message after each event.

use crate::held::{Failure, Held, Otherwise, Stage};
use crate::{Action, Id, Policy, Scope, Settings, Storage, Time};

/// Maximum number of refused objects to remember.
const MOST_REFUSED: usize = 4096;

/// From this number of broken connections on, a large object counts as refused.
const BREAKS: u32 = 6;

impl Policy {
    pub(crate) fn delivered(&mut self, id: Id, returns: u64, renewals: u64) {
        // A message with 0 returns has nothing to renew, however low the limit is.
        let is_worn = returns >= (self.settings.delivery_limit / 2).max(1);
        let stage = if is_worn { Stage::Renewing(Otherwise::Work) } else { Stage::Converting };
        self.storage.scouts = self.storage.scouts.saturating_sub(1);
        let subscription = self.subscription.number();
        let held = Held {
            stage,
            subscription,
            failure: None,
            object: 0,
            uploading_since: Time::ZERO,
            was_moved: returns > 0 || renewals > 0,
            is_worn,
            is_refused: false,
        };
        self.held.insert(id, held);
        self.actions.push(if is_worn { Action::Renew(id) } else { Action::Convert(id) });
    }

    pub(crate) fn converted(&mut self, id: Id, now: Time) {
        if let Some(held) = self.in_stage(id, Stage::Converting) {
            held.stage = Stage::Ready;
            if !self.storage.failing || self.stopping {
                self.upload(id, now);
            }
        }
    }

    pub(crate) fn upload(&mut self, id: Id, now: Time) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stage = Stage::Uploading;
            held.uploading_since = now;
            self.actions.push(Action::Upload(id));
        }
    }

    pub(crate) fn stored(&mut self, id: Id, now: Time) {
        let Some(held) = self.in_stage(id, Stage::Uploading) else { return };
        let (began, failed) = (held.uploading_since, held.failure.map(|_| held.object));
        if let Some(object) = failed {
            self.refused.remove(&object);
        }
        self.recovered(began, now);
        self.grow();
        self.held.remove(&id);
        self.actions.push(Action::Acknowledge(id));
    }

    /// Records the success of an upload that began at `began`.
    fn recovered(&mut self, began: Time, now: Time) {
        if self.storage.failing {
            self.window = 1;
        }
        for failure in self.held.values_mut().filter_map(|held| held.failure.as_mut()) {
            let refused = failure.scope == Some(Scope::MaybeObject) && failure.failed_at < began;
            if refused || (self.storage.failing && failure.scope.is_some()) {
                failure.next_try = now;
            }
        }
        let stored_at = self.storage.stored_at.max(Some(began));
        self.storage = Storage { stored_at, ..Storage::default() };
    }

    pub(crate) fn upload_failed(&mut self, id: Id, scope: Scope, object: u64, now: Time) {
        let pause = self.pause(id);
        let Settings { holding_time, parks, .. } = self.settings;
        let is_outage = self.storage.failing;
        let (stored_at, known) = (self.storage.stored_at, self.refused.get(&object).copied().unwrap_or_default());
        let Some(held) = self.in_stage(id, Stage::Uploading) else { return };
        let was_set_aside = held.is_set_aside();
        held.stage = Stage::Ready;
        held.object = object;
        let mut failure = Failure::again(held.failure, Some(scope), now, holding_time, pause);
        if scope.may_be_one_object() {
            let refusals = &mut failure.refusals;
            refusals.first = refusals.first.or(known.first);
            if refusals.breaks == 0 {
                refusals.breaks = known.breaks;
            }
            if scope == Scope::MaybeTooLarge && !is_outage {
                refusals.breaks = refusals.breaks.saturating_add(1);
            }
            if scope == Scope::MaybeObject || refusals.breaks >= BREAKS {
                if parks && refusals.first.is_some_and(|first| stored_at > Some(first)) {
                    held.failure = None;
                    self.refused.remove(&object);
                    return self.park(id);
                }
                refusals.first = refusals.first.or(Some(now));
            }
            if !was_set_aside {
                self.storage.refused_in_a_row = self.storage.refused_in_a_row.saturating_add(1);
            }
        }
        if let Some(held) = self.held.get_mut(&id) {
            held.failure = Some(failure);
        }
        match self.stopping {
            true => self.leave(id),
            false => self.judge_storage(scope, now),
        }
    }

    pub(crate) fn refused(&mut self, id: Id) {
        let Some(held) = self.held.get_mut(&id) else { return };
        if matches!(held.stage, Stage::Converting | Stage::Uploading) {
            held.failure = None;
            self.park(id);
        }
    }

    pub(crate) fn park(&mut self, id: Id) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stage = Stage::Parking;
            held.is_refused = true;
            self.actions.push(Action::Park(id));
        }
    }

    pub(crate) fn parked(&mut self, id: Id, now: Time) {
        if self.in_stage(id, Stage::Parking).is_none() {
            return;
        }
        self.parking_failing = false;
        for held in self.held.values_mut().filter(|held| held.stage == Stage::Unparked) {
            if let Some(failure) = &mut held.failure {
                failure.next_try = now;
            }
        }
        if !self.storage.failing {
            self.grow();
        }
        self.held.remove(&id);
        self.actions.push(Action::Acknowledge(id));
    }

    pub(crate) fn park_failed(&mut self, id: Id, now: Time) {
        let (pause, holding_time) = (self.pause(id), self.settings.holding_time);
        let Some(held) = self.in_stage(id, Stage::Parking) else { return };
        // The message was to be parked only for its returns: storing it also saves it.
        if !held.is_refused {
            return self.convert(id);
        }
        held.stage = Stage::Unparked;
        held.failure = Some(Failure::again(held.failure, None, now, holding_time, pause));
        self.parking_failing = true;
        if self.stopping {
            self.leave(id);
        }
    }

    pub(crate) fn renewed(&mut self, id: Id) {
        let Some(held) = self.held.get(&id) else { return };
        if !matches!(held.stage, Stage::Renewing(_)) {
            return;
        }
        // Take another message: its upload shows whether S3 refuses every image.
        if let Some(failure) = held.failure.filter(|_| held.is_set_aside()) {
            self.storage.scouts = self.storage.scouts.saturating_add(1);
            if self.refused.len() >= MOST_REFUSED {
                self.refused.clear();
            }
            self.refused.insert(held.object, failure.refusals);
        }
        self.held.remove(&id);
        self.actions.push(Action::Acknowledge(id));
    }

    pub(crate) fn renew_failed(&mut self, id: Id, refused: bool, now: Time) {
        let Some(held) = self.held.get_mut(&id) else { return };
        let Stage::Renewing(otherwise) = held.stage else { return };
        let is_worn = held.is_worn;
        if self.stopping && otherwise != Otherwise::Work {
            return self.leave(id);
        }
        match otherwise {
            Otherwise::Work if refused && self.settings.parks => {
                held.stage = Stage::Parking;
                self.actions.push(Action::ParkDeliveredTooOften(id));
            }
            Otherwise::Work => self.convert(id),
            Otherwise::HandBack if !is_worn => {
                self.held.remove(&id);
                self.actions.push(Action::HandBack(id));
            }
            // Don't return it: the broker might drop it at the next return.
            Otherwise::Keep | Otherwise::HandBack => held.hold_on(now),
        }
    }

    fn pause(&mut self, id: Id) -> Time {
        let failure = self.held.get(&id).and_then(|held| held.failure);
        self.backoff.after(failure.map_or(0, |failure| failure.failures))
    }

    fn convert(&mut self, id: Id) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stage = Stage::Converting;
            self.actions.push(Action::Convert(id));
        }
    }

    pub(crate) fn leave(&mut self, id: Id) {
        self.held.remove(&id);
        self.actions.push(Action::Leave(id));
    }

    fn in_stage(&mut self, id: Id, stage: Stage) -> Option<&mut Held> {
        self.held.get_mut(&id).filter(|held| held.stage == stage)
    }
}
