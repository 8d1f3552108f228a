//! Decides what a consumer does with its subscription and its held messages. Pure: the caller passes events and the
//! time, and executes the returned actions. Callers are the consumer's session and a simulator (`tests/simulator`).

use std::collections::BTreeMap;

mod backoff;
mod event;
mod held;
mod retry;
mod settle;
mod subscription;

pub use event::{Action, Event, Id, Scope, Settings, Sink, Time};

use backoff::Backoff;
use held::{Held, Refusals, Stage};
use subscription::Subscription;

/// The policy of one consumer process, over all its sessions with the broker.
#[derive(Debug)]
pub struct Policy {
    settings: Settings,
    held: BTreeMap<Id, Held>,
    subscription: Subscription,
    storage: Storage,
    parking_failing: bool,
    /// Objects that S3 refused before their messages were renewed.
    refused: BTreeMap<u64, Refusals>,
    /// Messages that may be unacknowledged: 1 after a start or a fault, doubled by each settled message.
    window: u16,
    backoff: Backoff,
    actions: Vec<Action>,
    stopping: bool,
}

/// The state of S3, as far as the uploads have shown.
#[derive(Debug, Default)]
struct Storage {
    failing: bool,
    /// Start of the last successful upload. S3 refuses only a certain object if it refused it both before and after
    /// this time.
    stored_at: Option<Time>,
    /// Messages that were first refused after the last image was stored.
    refused_in_a_row: u32,
    /// While failing: time of the next upload; one at a time.
    next_try: Time,
    failed_tries: u32,
    /// Time at which the next set-aside message moves to the end of the queue, to make room for another message.
    next_rotation: Time,
    rotations: u32,
    /// Number of messages that may be taken in exchange for those moved to the end of the queue.
    scouts: u32,
}

impl Policy {
    /// The state of a process that has just started. Equal seeds give equal jitter.
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

    /// Handles one event and returns the actions, to be executed in this order. Ignores events of messages that are no
    /// longer held.
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

    /// The latest time at which to send [`Event::TimePassed`].
    pub fn wake_at(&self) -> Option<Time> {
        if self.stopping {
            return None;
        }
        self.held.values().filter_map(|held| self.due(held)).chain(self.next_check()).min()
    }

    /// Sets the largest number of unacknowledged messages, which depends on the broker's limit on body sizes.
    pub fn set_prefetch(&mut self, prefetch: u16) {
        self.settings.prefetch = prefetch.max(1);
        self.window = self.window.min(self.settings.prefetch);
    }

    /// Number of messages delivered and not settled.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether a stopping process holds no message and has no subscription.
    pub fn is_finished(&self) -> bool {
        self.stopping && self.held.is_empty() && self.subscription.is_closed()
    }

    /// Whether the broker may deliver a message now.
    pub fn has_room(&self) -> bool {
        self.subscription.active().is_some_and(|granted| !self.is_full(granted))
    }

    /// The dependency whose failure keeps the consumer from taking messages.
    pub fn fault(&self) -> Option<Sink> {
        match (self.storage.failing, self.parking_failing) {
            (true, _) => Some(Sink::Storage),
            (false, true) if !self.held.is_empty() && self.held.values().all(Held::is_stuck) => Some(Sink::Parking),
            _ => None,
        }
    }

    /// Whether a message waits to be parked after a failure.
    pub fn is_parking_stuck(&self) -> bool {
        self.held.values().any(|held| held.is_refused && held.failure.is_some())
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
