//! Decides when S3 counts as failing, and what to retry, move to the end of the queue or return as time passes.

use std::time::Duration;

use crate::backoff;
use crate::held::{Held, Otherwise, Stage};
use crate::{Action, Id, Policy, Scope, Time};

/// After this time, a process that has never stored an image reports a refusal as a fault of S3, even if no other
/// message has shown whether S3 refuses only one object: the status must name a fault within 10 s.
const LONE_REFUSAL: Duration = Duration::from_secs(3);

/// Minimum holding time of the one message that stays held during an outage, to detect the end of the outage.
const SHORTEST_WATCH: Duration = Duration::from_secs(60);

impl Policy {
    /// Decides after a failed upload whether S3 fails for every object.
    pub(crate) fn judge_storage(&mut self, scope: Scope, now: Time) {
        let promising = self.held.values().any(Held::is_promising);
        let refused = usize::try_from(self.storage.refused_in_a_row).unwrap_or(usize::MAX);
        let fails = match scope {
            Scope::Environment => true,
            Scope::Store => !promising,
            Scope::MaybeObject | Scope::MaybeTooLarge => !promising && refused >= self.most_set_aside(),
        };
        if fails || self.storage.failing {
            self.storage.failing = true;
            self.storage.next_try = now + self.backoff.after(self.storage.failed_tries);
            self.storage.failed_tries = self.storage.failed_tries.saturating_add(1);
        }
    }

    pub(crate) fn judge_lone_refusal(&mut self, now: Time) {
        if self.lone_refusal().is_some_and(|due| due <= now) {
            self.judge_storage(Scope::Environment, now);
        }
    }

    fn lone_refusal(&self) -> Option<Time> {
        let undecided =
            !self.storage.failing && self.storage.stored_at.is_none() && self.held.values().all(Held::is_set_aside);
        let first = self.held.values().filter_map(|held| held.failure).map(|failure| failure.since).min();
        first.filter(|_| undecided).map(|since| since + LONE_REFUSAL)
    }

    /// The time of the next step for a message.
    pub(crate) fn due(&self, held: &Held) -> Option<Time> {
        let failure = held.failure.filter(|_| held.is_idle())?;
        let ends = failure.since + failure.hold_for;
        let waits_for_storage = self.storage.failing && held.stage == Stage::Ready;
        Some(if waits_for_storage { ends } else { ends.min(failure.next_try) })
    }

    pub(crate) fn next_check(&self) -> Option<Time> {
        [self.next_try(), self.next_rotation(), self.lone_refusal()].into_iter().flatten().min()
    }

    /// The time of the next trial upload while S3 fails, which detects the recovery. There is one at a time: of the
    /// message that failed longest ago.
    fn next_try(&self) -> Option<Time> {
        let waits = |stage| self.held.values().any(|held| held.stage == stage);
        (self.storage.failing && waits(Stage::Ready) && !waits(Stage::Uploading)).then_some(self.storage.next_try)
    }

    pub(crate) fn retry(&mut self, now: Time) {
        for id in self.ids(|held| held.stage == Stage::Unparked && held.is_due(now)) {
            self.park(id);
        }
        if !self.storage.failing {
            for id in self.ids(|held| held.stage == Stage::Ready && held.is_due(now)) {
                self.upload(id, now);
            }
            return;
        }
        // While S3 has only refused objects, a message that was never tried does not wait for the backoff.
        let untried = self.ids(|held| held.stage == Stage::Ready && held.failure.is_none());
        let only_refused = self.held.values().all(|held| held.failure.is_none() || held.is_set_aside());
        if self.next_try().is_some_and(|due| due <= now || (only_refused && !untried.is_empty())) {
            let tried_at = |held: &Held| held.failure.map_or(Time::ZERO, |failure| failure.failed_at);
            let ready = self.held.iter().filter(|(_, held)| held.stage == Stage::Ready);
            let next = ready.min_by_key(|(id, held)| (tried_at(held), **id)).map(|(id, _)| *id);
            if let Some(id) = next {
                self.upload(id, now);
            }
        }
    }

    /// If S3 refuses every held message and there is no room for another message, moves one to the end of the queue: S3
    /// may store the object of the next message.
    pub(crate) fn rotate(&mut self, now: Time) {
        if self.next_rotation().is_some_and(|due| due <= now) {
            let first = self.held.iter().find(|(_, held)| held.is_idle()).map(|(id, _)| *id);
            if let Some(id) = first {
                self.storage.next_rotation = now + backoff::rotation(self.storage.rotations);
                self.storage.rotations = self.storage.rotations.saturating_add(1);
                self.renew(id, Otherwise::Keep);
            }
        }
    }

    fn next_rotation(&self) -> Option<Time> {
        let most = if self.storage.failing { self.most_set_aside() } else { usize::MAX };
        let enough = self.held.len() >= most.min(self.settings.prefetch.into());
        let all_refused = self.held.values().all(Held::is_set_aside) && self.held.values().any(Held::is_idle);
        let moving = self.held.values().any(|held| matches!(held.stage, Stage::Renewing(_)));
        (enough && all_refused && !moving && self.storage.scouts == 0).then_some(self.storage.next_rotation)
    }

    /// Renews each message whose holding time is over. In an outage, the first such message ends the holding of all
    /// waiting messages.
    pub(crate) fn end_holding(&mut self, now: Time) {
        let over = self.ids(|held| held.is_idle() && held.failure.is_some_and(|failure| failure.is_over(now)));
        for id in over {
            let Some(held) = self.held.get(&id) else { continue };
            if self.storage.failing && held.stage == Stage::Ready {
                return self.hand_back_all_but_one(id, now);
            }
            self.renew(id, Otherwise::HandBack);
        }
    }

    /// In an outage, returns all waiting messages to the queue except one, whose retries detect the end of the outage.
    /// A message that was returned or renewed before is renewed instead, which costs no return.
    fn hand_back_all_but_one(&mut self, watch: Id, now: Time) {
        let others: Vec<Id> =
            self.ids(|held| held.stage == Stage::Ready).into_iter().filter(|id| *id != watch).collect();
        if others.is_empty() && self.held.len() == 1 {
            // Exchanged for another, so that no single message can keep the end of the outage from being detected.
            return self.renew(watch, Otherwise::HandBack);
        }
        for id in others {
            if self.held.get(&id).is_some_and(|held| !held.was_moved) {
                self.held.remove(&id);
                self.actions.push(Action::HandBack(id));
            } else {
                self.renew(id, Otherwise::HandBack);
            }
        }
        let hold_for = self.settings.holding_time.max(SHORTEST_WATCH);
        for failure in self.held.values_mut().filter_map(|held| held.failure.as_mut()) {
            (failure.since, failure.hold_for) = (now, hold_for);
        }
    }

    fn renew(&mut self, id: Id, otherwise: Otherwise) {
        if let Some(held) = self.held.get_mut(&id) {
            held.stage = Stage::Renewing(otherwise);
            self.actions.push(Action::Renew(id));
        }
    }
}
