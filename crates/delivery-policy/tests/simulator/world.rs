//! Simulates one schedule and checks the promises.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use delivery_policy::{Action, Event, Id, Policy, Time};
use fastrand::Rng;

use super::consumer::{Consumer, Subscription};
use super::plan::{Body, Fault, Kind, Plan};
use super::queue::{Message, Queue};
use super::storage::Upload;

/// Much later than any fault.
pub const END: Time = Duration::from_secs(40_000);

const BETWEEN_PUBLISHES: Time = Duration::from_secs(2);

/// The longest time between the effect of a step and its answer, in milliseconds.
const ANSWER: u64 = 20;

#[derive(Debug)]
enum Happening {
    Start,
    /// A step takes effect in S3 or the broker; its answer follows.
    Effect(Event),
    Event(Event),
    Arrival,
    Crash,
    Publish,
    Fault(Fault),
    Wake,
}

#[derive(Clone, Copy, Default)]
struct Fate {
    stored: bool,
    parked: bool,
    returns: u64,
}

pub struct World {
    plan: Plan,
    random: Rng,
    now: Time,
    queue: Queue,
    consumers: Vec<Consumer>,
    fates: Vec<Fate>,
    agenda: BinaryHeap<Reverse<(Time, u64)>>,
    happenings: BTreeMap<u64, (usize, u64, Happening)>,
    count: u64,
    /// Number of faults and publishes still to come.
    from_outside: u64,
    verbose: bool,
    last_settled: Time,
}

impl World {
    pub fn new(plan: Plan, verbose: bool) -> Self {
        let mut random = Rng::with_seed(plan.seed.wrapping_mul(31) + 7);
        let consumers = (0..plan.consumers).map(|_| Consumer::new(&plan, random.u64(..))).collect();
        let queue = Queue::new(plan.bodies.len(), plan.settings.delivery_limit);
        let fates = vec![Fate::default(); plan.bodies.len()];
        let mut world = Self {
            random,
            now: Time::ZERO,
            queue,
            consumers,
            fates,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            count: 0,
            from_outside: 0,
            verbose,
            last_settled: Time::ZERO,
            plan,
        };
        for consumer in 0..world.consumers.len() {
            world.later(consumer, 100, Happening::Start);
        }
        if world.plan.bodies.iter().any(|body| body.is_refused_by_s3()) {
            world.at(BETWEEN_PUBLISHES, 0, Happening::Publish);
        }
        for (at, fault) in std::mem::take(&mut world.plan.faults) {
            world.at(at, 0, Happening::Fault(fault));
        }
        world
    }

    pub fn run(mut self) {
        while let Some(Reverse((at, number))) = self.agenda.pop() {
            let Some((consumer, life, happening)) = self.happenings.remove(&number) else { continue };
            if matches!(happening, Happening::Fault(_) | Happening::Publish) {
                self.from_outside -= 1;
            } else if self.consumers[consumer].life != life || self.is_done() {
                continue;
            }
            self.now = at;
            assert!(at < END, "not done: {} ready", self.queue.ready.len());
            if self.verbose {
                eprintln!("{at:>12.3?} {consumer} {happening:?}");
            }
            self.happen(consumer, happening);
        }
        self.judge();
    }

    fn is_done(&self) -> bool {
        self.from_outside == 0
            && self.queue.ready.is_empty()
            && self.consumers.iter().all(|c| c.held.is_empty() && c.coming.is_empty())
    }

    fn happen(&mut self, who: usize, happening: Happening) {
        match happening {
            // A stopping process may have two starts scheduled: by its own end and by the end of its session.
            Happening::Start if self.consumers[who].is_up => {}
            Happening::Start => {
                self.consumers[who].is_up = true;
                self.tell(who, Event::Connected);
            }
            Happening::Effect(event) => {
                let event = self.outcome(who, event);
                self.later(who, ANSWER, Happening::Event(event));
            }
            Happening::Event(event) => self.tell(who, event),
            Happening::Arrival => self.arrive(who),
            Happening::Publish => self.publish(),
            Happening::Wake => {
                if self.consumers[who].wakes_at <= self.now {
                    self.consumers[who].wakes_at = END;
                    self.tell(who, Event::TimePassed);
                }
            }
            Happening::Crash | Happening::Fault(Fault::Kill(_)) => {
                let who = if let Happening::Fault(Fault::Kill(victim)) = happening { victim } else { who };
                self.end_process(who);
            }
            Happening::Fault(Fault::CloseConnection(victim)) => self.close(victim),
            Happening::Fault(Fault::BrokerRestart) => {
                for victim in 0..self.consumers.len() {
                    self.close(victim);
                }
            }
            Happening::Fault(Fault::Terminate(victim)) => {
                if self.consumers[victim].is_up {
                    self.tell(victim, Event::Stopping);
                }
            }
        }
        self.deliver();
    }

    /// Publishes good messages as long as the object of an unacknowledged message is refused: only stored objects show
    /// that S3 refuses it alone.
    fn publish(&mut self) {
        let delivered = self.consumers.iter().flat_map(Consumer::delivered);
        let mut unacknowledged = self.queue.ready.iter().chain(delivered);
        let is_refused = unacknowledged.any(|message| self.plan.bodies[message.number].is_refused_by_s3());
        drop(unacknowledged);
        if is_refused {
            self.queue.publish(self.plan.bodies.len(), 0);
            self.plan.bodies.push(Body::Good);
            self.fates.push(Fate::default());
            self.at(self.now + BETWEEN_PUBLISHES, 0, Happening::Publish);
        }
    }

    /// The outcome of a step that takes effect now, given the plan's faults.
    fn outcome(&mut self, who: usize, event: Event) -> Event {
        let number = |id: &Id| self.consumers[who].held.get(id).map(|message| message.number);
        match event {
            Event::Stored(id) => {
                let Some(number) = number(&id) else { return event };
                match self.plan.upload(self.plan.bodies[number], self.now, &mut self.random) {
                    Upload::Stored => self.fates[number].stored = true,
                    Upload::Failed(scope) => {
                        return Event::UploadFailed { id, scope, object: u64::try_from(number).unwrap_or(u64::MAX) };
                    }
                }
            }
            Event::Parked(id) => {
                let Some(number) = number(&id) else { return event };
                if !self.plan.parks(self.now) {
                    return Event::ParkFailed(id);
                }
                self.fates[number].parked = true;
            }
            Event::Renewed(id) => {
                let Some(number) = number(&id) else { return event };
                if let Err(refused) = self.plan.renews(self.now) {
                    return Event::RenewFailed { id, refused };
                }
                let renewals = self.consumers[who].held[&id].renewals;
                self.queue.publish(number, renewals + 1);
                self.consumers[who].renewed.insert(id);
            }
            _ => {}
        }
        event
    }

    fn tell(&mut self, who: usize, event: Event) {
        self.consumers[who].hears(event);
        let actions = self.consumers[who].policy.handle(event, self.now);
        for action in actions {
            if self.verbose {
                eprintln!("{:>12.3?} {who}   {action:?}", self.now);
            }
            self.act(who, action);
        }
        if self.consumers[who].policy.is_finished() {
            return self.end_process(who);
        }
        if let Some(wake) = self.consumers[who].policy.wake_at()
            && wake < self.consumers[who].wakes_at
        {
            self.consumers[who].wakes_at = wake;
            self.at(wake.max(self.now), who, Happening::Wake);
        }
    }

    fn act(&mut self, who: usize, action: Action) {
        match action {
            Action::Subscribe { prefetch } => {
                self.consumers[who].subscription = Some(Subscription { prefetch, unacknowledged: Vec::new() });
                self.later(who, 5, Happening::Event(Event::Subscribed));
            }
            Action::Unsubscribe { is_full } => {
                let consumer = &mut self.consumers[who];
                assert!(!is_full || consumer.coming.is_empty(), "a delivery is lost with its subscription");
                consumer.subscription = None;
                // Unless the window is full, the session waits up to 250 ms for deliveries before it cancels.
                for _ in 0..self.consumers[who].coming.len() {
                    self.later(who, 0, Happening::Arrival);
                }
                self.later(who, if is_full { 5 } else { 250 }, Happening::Event(Event::Unsubscribed));
            }
            Action::Convert(id) => self.convert(who, id),
            Action::Upload(id) => {
                let longest = self.plan.longest_upload;
                self.later(who, longest, Happening::Effect(Event::Stored(id)));
            }
            Action::Park(id) => {
                self.consumers[who].set_aside.remove(&id);
                let number = self.consumers[who].held[&id].number;
                assert_ne!(self.plan.bodies[number], Body::Good, "good message {number} is parked");
                self.later(who, 20, Happening::Effect(Event::Parked(id)));
            }
            Action::ParkDeliveredTooOften(id) => {
                assert!(!self.plan.renewal_outages.is_empty(), "parked a message that could have been renewed");
                self.later(who, 20, Happening::Effect(Event::Parked(id)));
            }
            Action::Renew(id) => self.later(who, 20, Happening::Effect(Event::Renewed(id))),
            Action::Acknowledge(id) => self.acknowledge(who, id),
            Action::HandBack(id) => {
                let message = self.release(who, id);
                self.fates[message.number].returns += 1;
                self.queue.give_back(message);
            }
            // The message stays unacknowledged until the session ends.
            Action::Leave(_) => {}
        }
    }

    fn convert(&mut self, who: usize, id: Id) {
        let message = self.consumers[who].held[&id];
        let happening = match self.plan.bodies[message.number] {
            Body::Good | Body::Refused | Body::TooLarge => Happening::Event(Event::Converted(id)),
            Body::Bad => Happening::Event(Event::Refused(id)),
            Body::Crashing if message.redelivered || message.renewals > 0 => Happening::Event(Event::Refused(id)),
            Body::Crashing => Happening::Crash,
        };
        self.later(who, 50, happening);
    }

    fn acknowledge(&mut self, who: usize, id: Id) {
        let message = self.release(who, id);
        let fate = &self.fates[message.number];
        let is_safe = fate.stored || fate.parked || self.consumers[who].renewed.remove(&id);
        assert!(is_safe, "message {} is acknowledged unstored", message.number);
        self.consumers[who].settled += 1;
        self.last_settled = self.now;
    }

    fn release(&mut self, who: usize, id: Id) -> Message {
        let consumer = &mut self.consumers[who];
        if let Some(subscription) = &mut consumer.subscription {
            subscription.unacknowledged.retain(|held| *held != id);
        }
        consumer.stuck.remove(&id);
        consumer.set_aside.remove(&id);
        consumer.held.remove(&id).expect("only a held message is settled")
    }

    /// Delivers ready messages to consumers with room, round robin from a random one.
    fn deliver(&mut self) {
        let count = self.consumers.len();
        self.consumers.iter().for_each(Consumer::takes_nothing_in_an_outage);
        self.consumers.iter().for_each(|consumer| consumer.keeps_room_beside_refused_objects(&self.plan));
        let first = self.random.usize(..count);
        let mut idle = 0;
        for who in (0..count).cycle().skip(first) {
            if self.queue.ready.is_empty() || idle == count {
                return;
            }
            idle += 1;
            let consumer = &mut self.consumers[who];
            let Some(subscription) = &mut consumer.subscription else { continue };
            if subscription.unacknowledged.len() >= subscription.prefetch.into() {
                continue;
            }
            idle = 0;
            let id = Id(consumer.next_id);
            consumer.next_id += 1;
            subscription.unacknowledged.push(id);
            let message = self.queue.ready.pop_front().expect("not empty");
            consumer.coming.push_back((id, message));
            self.later(who, 5, Happening::Arrival);
        }
    }

    fn arrive(&mut self, who: usize) {
        // A channel keeps the order; an earlier arrival may have taken this delivery.
        if let Some((id, message)) = self.consumers[who].coming.pop_front() {
            self.consumers[who].held.insert(id, message);
            self.tell(who, Event::Delivered { id, returns: message.returns, renewals: message.renewals });
        }
    }

    /// The session ends: all unacknowledged messages return to the queue.
    fn take_back(&mut self, who: usize) {
        let consumer = &mut self.consumers[who];
        consumer.began_slowly();
        (consumer.settled, consumer.subscription) = (0, None);
        consumer.stuck.clear();
        consumer.set_aside.clear();
        consumer.renewed.clear();
        let held = std::mem::take(&mut consumer.held).into_values();
        let all: Vec<Message> = held.chain(consumer.coming.drain(..).map(|(_, message)| message)).collect();
        for message in &all {
            self.fates[message.number].returns += 1;
        }
        self.queue.give_back_all(all.into_iter());
    }

    fn close(&mut self, who: usize) {
        if !self.consumers[who].is_up {
            return;
        }
        self.take_back(who);
        self.consumers[who].life += 1;
        self.consumers[who].is_up = false;
        self.consumers[who].wakes_at = END;
        self.tell(who, Event::Disconnected);
        if self.consumers[who].is_up || !self.consumers[who].policy.is_finished() {
            self.later(who, self.plan.longest_restart, Happening::Start);
        }
    }

    fn end_process(&mut self, who: usize) {
        self.take_back(who);
        let (life, next_id) = (self.consumers[who].life + 1, self.consumers[who].next_id);
        let seed = self.random.u64(..);
        self.consumers[who] = Consumer { life, next_id, ..Consumer::new(&self.plan, seed) };
        self.later(who, self.plan.longest_restart, Happening::Start);
    }

    fn later(&mut self, who: usize, longest: u64, happening: Happening) {
        let delay = if longest == 0 { 0 } else { self.random.u64(1..=longest * 1_000) };
        self.at(self.now + Duration::from_micros(delay), who, happening);
    }

    fn at(&mut self, at: Time, who: usize, happening: Happening) {
        self.count += 1;
        self.from_outside += u64::from(matches!(happening, Happening::Fault(_) | Happening::Publish));
        self.agenda.push(Reverse((at, self.count)));
        self.happenings.insert(self.count, (who, self.consumers[who].life, happening));
    }

    fn judge(&self) {
        let held: Vec<&Policy> = self.consumers.iter().map(|c| &c.policy).filter(|policy| policy.held() > 0).collect();
        assert!(self.is_done(), "not done: {} ready, {held:#?}", self.queue.ready.len());
        for (number, (fate, body)) in self.fates.iter().zip(&self.plan.bodies).enumerate() {
            match body {
                Body::Good if self.plan.renewal_outages.is_empty() => {
                    assert!(fate.stored, "message {number} is not stored")
                }
                Body::Good => assert!(fate.stored || fate.parked, "message {number} is lost"),
                Body::Bad | Body::Crashing | Body::Refused | Body::TooLarge => {
                    assert!(fate.parked, "bad message {number} is not parked")
                }
            }
            let crashing = self.plan.bodies.iter().filter(|body| **body == Body::Crashing).count() as u64;
            let most = match (self.plan.kind, body) {
                (Kind::CrashingBody, _) => crashing,
                (Kind::Outage | Kind::Flaky, _) => 1,
                (Kind::RefusedObjects, _) => 0,
                (Kind::Everything | Kind::Kills, _) => continue,
            };
            assert!(fate.returns <= most, "message {number} was returned {} times", fate.returns);
        }
        if self.plan.kind == Kind::RefusedObjects && self.plan.consumers == 1 {
            assert!(self.last_settled < Duration::from_secs(30), "took {:?}", self.last_settled);
        }
    }
}
