//! Decides what a consumer does with its subscription and with the messages it holds. Pure: events and the time
//! come in, actions go out. The consumer's session drives it, and so does a simulator (`tests/simulator`).

use std::collections::BTreeMap;

mod backoff;
mod event;
mod held;
mod retry;
mod settle;
mod subscription;

pub use event::{Action, Dependency, Event, Id, Scope, Settings, Time};

use backoff::Backoff;
use held::{Held, Stage};
use subscription::Subscription;

/// One consumer process, from its start to its end. Sessions with the broker come and go within it.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    held: BTreeMap<Id, Held>,
    subscription: Subscription,
    storage: Storage,
    parking_failing: bool,
    /// Objects refused before their messages went to the queue's end, and when.
    refused: BTreeMap<u64, Time>,
    /// Messages that may be unacknowledged at a time: 1 after a start or a fault, doubled by each settled message.
    window: u16,
    backoff: Backoff,
    actions: Vec<Action>,
    stopping: bool,
}

/// What S3 does with images, as far as the uploads so far show.
#[derive(Debug, Default)]
struct Storage {
    failing: bool,
    /// When the last successful upload began. What S3 refused before and refuses after it, it refuses alone.
    stored_at: Option<Time>,
    /// Messages refused for the first time since the last image was stored.
    refused_in_a_row: u32,
    /// While failing: when the next upload may be tried, one at a time.
    next_try: Time,
    failed_tries: u32,
    /// When the next set-aside message is moved to the queue's end to make room for another.
    next_rotation: Time,
    rotations: u32,
    /// Messages that may be taken in place of those moved to the queue's end.
    scouts: u32,
}

impl Policy {
    /// A process that has just started. Equal seeds give equal jitter.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings: Settings { prefetch: settings.prefetch.max(1), ..settings },
            held: BTreeMap::new(),
            subscription: Subscription::default(),
            storage: Storage::default(),
            parking_failing: false,
            refused: BTreeMap::new(),
            window: 1,
            backoff: Backoff::new(seed),
            actions: Vec::new(),
            stopping: false,
        }
    }

    /// Takes one event and returns what to do, in this order. Events of messages that are no longer held do nothing.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::Connected => self.subscription.connected(),
            Event::Disconnected => self.disconnected(),
            Event::Subscribed => self.subscription.begun(),
            Event::Unsubscribed => self.subscription.ended(),
            Event::Delivered { id, returns, renewals } => self.delivered(id, returns, renewals),
            Event::Converted(id) => self.converted(id, now),
            Event::Stored(id) => self.stored(id, now),
            Event::UploadFailed { id, scope, object } => self.upload_failed(id, scope, object, now),
            Event::Refused(id) => self.refused(id),
            Event::Parked(id) => self.parked(id, now),
            Event::ParkFailed(id) => self.park_failed(id, now),
            Event::Renewed(id) => self.renewed(id),
            Event::RenewFailed { id, refused } => self.renew_failed(id, refused, now),
            Event::Stopping => self.stop(now),
            Event::TimePassed => {}
        }
        if !self.stopping {
            self.judge_lone_refusal(now);
            self.end_holding(now);
            self.retry(now);
            self.rotate(now);
        }
        self.steer_subscription();
        std::mem::take(&mut self.actions)
    }

    /// When to send [`Event::TimePassed`] at the latest.
    pub fn wake_at(&self) -> Option<Time> {
        if self.stopping {
            return None;
        }
        self.held.values().filter_map(|held| self.due(held)).chain(self.next_check()).min()
    }

    /// Sets the largest number of unacknowledged messages, which may depend on the broker of a session.
    pub fn set_prefetch(&mut self, prefetch: u16) {
        self.settings.prefetch = prefetch.max(1);
        self.window = self.window.min(self.settings.prefetch);
    }

    /// Messages delivered and not settled.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a stopped process holds nothing and takes nothing.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.held.is_empty() && self.subscription.is_closed()
    }

    /// Whether the broker may send a message now.
    pub fn has_room(&self) -> bool {
        self.subscription.active().is_some_and(|granted| !self.is_full(granted))
    }

    /// What keeps the consumer from taking messages.
    pub fn fault(&self) -> Option<Dependency> {
        match (self.storage.failing, self.parking_failing) {
            (true, _) => Some(Dependency::Storage),
            (false, true) if !self.held.is_empty() && self.held.values().all(Held::is_stuck) => {
                Some(Dependency::Parking)
            }
            _ => None,
        }
    }

    /// Whether a message waits to be parked after a failure.
    pub fn is_parking_stuck(&self) -> bool {
        self.held.values().any(|held| held.is_refused && held.trouble.is_some())
    }

    fn disconnected(&mut self) {
        self.held.clear();
        self.subscription.disconnected();
        self.storage.scouts = 0;
        self.parking_failing = false;
        self.window = 1;
    }

    fn ids(&self, of: impl Fn(&Held) -> bool) -> Vec<Id> {
        self.held.iter().filter(|(_, held)| of(held)).map(|(id, _)| *id).collect()
    }

    fn stop(&mut self, now: Time) {
        self.stopping = true;
        for id in self.ids(|held| !held.is_worth_finishing()) {
            self.leave(id);
        }
        for id in self.ids(|held| held.stage == Stage::Ready) {
            self.upload(id, now);
        }
    }
}
