//! One consumer of a schedule, and the invariants that always hold for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use delivery_policy::{Event, Id, Policy, Sink, Time};

use super::plan::Plan;
use super::queue::Message;
use super::world::END;

pub struct Consumer {
    pub policy: Policy,
    /// Counts processes and sessions: steps of an earlier process or session no longer happen.
    pub life: u64,
    pub is_up: bool,
    pub held: BTreeMap<Id, Message>,
    /// Deliveries in flight.
    pub coming: VecDeque<(Id, Message)>,
    pub subscription: Option<Subscription>,
    pub next_id: u64,
    pub wakes_at: Time,
    /// Messages that failed and are retried.
    pub stuck: BTreeSet<Id>,
    /// Those of them whose object S3 may refuse while it stores others.
    pub set_aside: BTreeSet<Id>,
    /// Messages whose copies are in the queue.
    pub renewed: BTreeSet<Id>,
    /// Whether S3 refused an object and may store others.
    pub has_refused: bool,
    /// Messages settled in this session.
    pub settled: u32,
}

pub struct Subscription {
    pub prefetch: u16,
    pub unacknowledged: Vec<Id>,
}

impl Consumer {
    pub fn new(plan: &Plan, seed: u64) -> Self {
        Self {
            policy: Policy::new(plan.settings, seed),
            life: 0,
            is_up: false,
            held: BTreeMap::new(),
            coming: VecDeque::new(),
            subscription: None,
            next_id: 0,
            wakes_at: END,
            stuck: BTreeSet::new(),
            set_aside: BTreeSet::new(),
            renewed: BTreeSet::new(),
            has_refused: false,
            settled: 0,
        }
    }

    /// The messages that are held or in flight.
    pub fn delivered(&self) -> impl Iterator<Item = &Message> {
        self.held.values().chain(self.coming.iter().map(|(_, message)| message))
    }

    /// Records an event before the policy handles it.
    pub fn hears(&mut self, event: Event) {
        match event {
            Event::UploadFailed { id, scope, .. } => {
                let may_be_one = scope.may_be_one_object();
                self.has_refused |= may_be_one;
                self.stuck.insert(id);
                match may_be_one {
                    true => self.set_aside.insert(id),
                    false => self.set_aside.remove(&id),
                };
            }
            Event::ParkFailed(id) => {
                self.stuck.insert(id);
                self.set_aside.remove(&id);
            }
            _ => {}
        }
    }

    /// While S3 fails, a consumer that holds a message takes no other message, which another pod may have returned to
    /// the queue. Refused objects are the exception, since only another object shows whether S3 refuses every object.
    pub fn takes_nothing_in_an_outage(&self) {
        let is_failing = self.policy.fault() == Some(Sink::Storage) && !self.stuck.is_empty();
        assert!(!is_failing || self.has_refused || !self.policy.has_room(), "a consumer takes messages in an outage");
    }

    /// With a quarter of the prefetch set aside, messages are taken one at a time.
    pub fn keeps_room_beside_refused_objects(&self, plan: &Plan) {
        let most = usize::from(plan.settings.prefetch / 4).max(2);
        let taken = self.subscription.as_ref().map_or(0, |subscription| subscription.prefetch);
        let takes_many = taken > 1 && self.policy.has_room();
        assert!(self.set_aside.len() < most || !takes_many, "{} set aside, prefetch {taken}", self.set_aside.len());
    }

    /// A session that settled no message returns at most one message at its end. Each settled message doubles the
    /// number that a session may hold, in addition to those held before; stuck messages don't count.
    pub fn began_slowly(&self) {
        let working = self.held.len() + self.coming.len() - self.stuck.len();
        let most = 2_usize.saturating_pow(self.settled + 1) - 1;
        assert!(working <= most, "{working} messages at work after {} were settled", self.settled);
    }
}
