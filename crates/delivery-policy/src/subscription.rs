//! The subscription: how many messages the broker may deliver, and when to replace it by one with another prefetch.
//!
//! The prefetch of a subscription is fixed (quorum queues do not support `basic.qos` for a whole channel), so a larger
//! window needs a new subscription. It begins once the held and the new messages together fit the configured prefetch.

use crate::{Action, Held, Policy};

#[derive(Debug, Default)]
pub struct Subscription {
    state: Phase,
    /// Number of the latest subscription.
    number: u64,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Disconnected,
    None,
    Subscribing(u16),
    Active(u16),
    Unsubscribing,
}

impl Subscription {
    pub fn connected(&mut self) {
        self.state = Phase::None;
    }

    pub fn disconnected(&mut self) {
        self.state = Phase::Disconnected;
    }

    pub fn begun(&mut self) {
        if let Phase::Subscribing(prefetch) = self.state {
            self.state = Phase::Active(prefetch);
        }
    }

    pub fn ended(&mut self) {
        if self.state != Phase::Disconnected {
            self.state = Phase::None;
        }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    /// The prefetch of a subscription that the broker has confirmed.
    pub fn active(&self) -> Option<u16> {
        match self.state {
            Phase::Active(prefetch) => Some(prefetch),
            _ => None,
        }
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, Phase::Disconnected | Phase::None)
    }
}

impl Policy {
    /// The wanted number of unacknowledged messages, without stuck ones; 0: take no message.
    fn target(&self) -> u16 {
        let stuck = self.held.values().filter(|held| held.is_stuck()).count();
        let room = self.settings.prefetch.saturating_sub(u16::try_from(stuck).unwrap_or(u16::MAX));
        match () {
            () if self.stopping => 0,
            () if self.is_crowded() => u16::from(!self.held.values().any(Held::is_promising)).min(room),
            () if !self.storage.failing => self.window.min(room),
            () if self.held.is_empty() => 1,
            () if self.storage.scouts > 0 => 1.min(room),
            () if self.held.values().all(Held::is_set_aside) && stuck < self.most_set_aside() => 1.min(room),
            () => 0,
        }
    }

    pub(crate) fn steer_subscription(&mut self) {
        let target = self.target();
        match self.subscription.state {
            Phase::Active(granted) => {
                let is_full = self.is_full(granted);
                let all_stuck = self.held.values().all(Held::is_stuck);
                let is_too_large = granted > target && (self.storage.failing || self.is_crowded());
                if target == 0 || is_too_large || (is_full && (granted < target || all_stuck)) {
                    self.unsubscribe(granted);
                }
            }
            Phase::None if target > 0 && self.held.len() + usize::from(target) <= self.settings.prefetch.into() => {
                self.subscription.number += 1;
                self.subscription.state = Phase::Subscribing(target);
                self.actions.push(Action::Subscribe { prefetch: target });
            }
            _ => {}
        }
    }

    /// Doubles the window, and cancels the subscription before the settled message is acknowledged: while the window is
    /// full, no delivery is in flight that could be lost with the subscription. A larger subscription follows.
    pub(crate) fn grow(&mut self) {
        self.window = self.window.saturating_mul(2).min(self.settings.prefetch);
        if let Phase::Active(granted) = self.subscription.state
            && self.is_full(granted)
            && granted < self.target()
        {
            self.unsubscribe(granted);
        }
    }

    pub(crate) fn is_full(&self, granted: u16) -> bool {
        let number = self.subscription.number;
        self.held.values().filter(|held| held.subscription == number).count() >= usize::from(granted)
    }

    /// Whether as many messages are set aside as may be, although S3 stores others: each further message is taken
    /// alone.
    fn is_crowded(&self) -> bool {
        let set_aside = self.held.values().filter(|held| held.is_set_aside()).count();
        !self.storage.failing && set_aside >= self.most_set_aside()
    }

    /// With this many set-aside messages, S3 counts as refusing every object, unless it stores others.
    pub(crate) fn most_set_aside(&self) -> usize {
        usize::from(self.settings.prefetch / 4).max(2)
    }

    fn unsubscribe(&mut self, granted: u16) {
        let is_full = self.is_full(granted);
        self.subscription.state = Phase::Unsubscribing;
        self.actions.push(Action::Unsubscribe { is_full });
    }
}
