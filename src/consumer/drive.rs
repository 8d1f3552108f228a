//! One session with the broker: sends events to the policy (`crates/delivery-policy`) and executes the actions that the
//! policy returns, in their order, so that no acknowledgement overtakes a `basic.cancel`.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use delivery_policy::{Action, Event, Id, Policy};
use futures::StreamExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::broker::SessionError;
use super::live_status::Dependency;
use super::watchdog::{Patience, Watchdog};
use super::work::{Step, Work};
use super::worker::Worker;
use crate::rabbitmq::{Channel, Connection, Deliveries, Delivery};

/// If no delivery arrives for this long, none is in flight: a quorum queue sends the delivery that follows an
/// acknowledgement after one disk write. lapin drops a delivery that arrives after its consumer has ended; that message
/// would stay unacknowledged until the session ends, and then return to the queue.
const QUIET: Duration = Duration::from_millis(250);

pub struct Drive<'a> {
    /// Prefix of this consumer's consumer tags.
    tag_prefix: &'a str,
    worker: &'a Arc<Worker>,
    policy: &'a mut Policy,
    /// The policy's time 0.
    started: Instant,
    channel: &'a Channel,
    deliveries: Option<Deliveries>,
    works: HashMap<Id, Work>,
    tasks: JoinSet<(Id, Step)>,
    events: VecDeque<Event>,
    delivered: u64,
    /// Number of subscriptions in this session, and the latest one's consumer tag.
    subscriptions: u64,
    tag: String,
    /// Whether the status may show a parking fault.
    parking_failed: bool,
}

impl<'a> Drive<'a> {
    pub fn new(
        tag_prefix: &'a str,
        worker: &'a Arc<Worker>,
        channel: &'a Channel,
        policy: &'a mut Policy,
        started: Instant,
    ) -> Self {
        Self {
            tag_prefix,
            worker,
            policy,
            started,
            channel,
            deliveries: None,
            works: HashMap::new(),
            tasks: JoinSet::new(),
            events: VecDeque::from([Event::Connected]),
            delivered: 0,
            subscriptions: 0,
            tag: String::new(),
            parking_failed: false,
        }
    }

    /// Consumes until `stop`, then until no message is held.
    ///
    /// # Errors
    /// The session ended, or stalled: the caller opens another session.
    pub async fn run(
        &mut self,
        connection: &Connection,
        stop: &CancellationToken,
        patience: &mut Patience,
    ) -> Result<(), SessionError> {
        let mut watchdog = Watchdog::new(connection.channel().await?, self.worker.queue.clone());
        let (mut polls, mut served, mut stopping) = (polls(*patience), false, false);
        loop {
            self.handle_events().await?;
            if self.policy.is_finished() {
                return Ok(());
            }
            let wake = self.policy.wake_at().map(|at| self.started + at);
            tokio::select! {
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    info!(in_flight = self.works.len(), "stopping: finishing the messages held");
                    self.events.push_back(Event::Stopping);
                }
                next = next(&mut self.deliveries) => {
                    self.deliver(next.ok_or_else(|| SessionError::Canceled(self.worker.queue.clone()))??);
                    served = true;
                    // If the queue serves one consumer at a time, it now serves this one.
                    if *patience != Patience::default() {
                        *patience = Patience::default();
                        polls = self::polls(*patience);
                    }
                }
                Some(done) = self.tasks.join_next() => self.step(done)?,
                () = sleep_until(wake) => self.events.push_back(Event::TimePassed),
                _ = polls.tick() => {
                    if watchdog.poll(served || !self.policy.has_room()).await {
                        *patience = patience.grown();
                        return Err(SessionError::Stalled(self.worker.queue.clone()));
                    }
                    served = false;
                }
            }
        }
    }

    async fn handle_events(&mut self) -> Result<(), SessionError> {
        while let Some(event) = self.events.pop_front() {
            self.parking_failed |= matches!(event, Event::ParkFailed(_));
            for action in self.policy.handle(event, self.started.elapsed()) {
                self.act(action).await?;
            }
            self.report();
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) {
        let id = Id(self.delivered);
        self.delivered += 1;
        let (returns, renewals) = (delivery.returns().unwrap_or(u64::MAX), u64::from(delivery.renewals()));
        if delivery.redelivered() {
            self.worker.metrics.redelivered();
        }
        self.works.insert(id, Work::new(delivery, self.worker.state.take()));
        self.events.push_back(Event::Delivered { id, returns, renewals });
    }

    fn step(&mut self, done: Result<(Id, Step), JoinError>) -> Result<(), SessionError> {
        match done {
            Ok((id, step)) => {
                if let Some(work) = self.works.get_mut(&id) {
                    self.events.push_back(self.worker.finish_step(id, work, step));
                }
                Ok(())
            }
            // `Action::Leave` dropped the work, which aborted its task.
            Err(error) if error.is_cancelled() => Ok(()),
            Err(_) => Err(SessionError::WorkerLost),
        }
    }

    async fn act(&mut self, action: Action) -> Result<(), SessionError> {
        match action {
            Action::Subscribe { prefetch } => {
                // For a consumer tag that it knows, a quorum queue counts the earlier consumer's unacknowledged
                // messages against the new prefetch. So every subscription has its own tag.
                self.subscriptions += 1;
                self.tag = format!("{}.{}", self.tag_prefix, self.subscriptions);
                self.deliveries = Some(self.channel.consume(&self.worker.queue, &self.tag, prefetch).await?);
                self.events.push_back(Event::Subscribed);
            }
            Action::Unsubscribe { is_full } => {
                self.unsubscribe(is_full).await?;
                self.events.push_back(Event::Unsubscribed);
            }
            Action::Convert(id) => self.spawn(id, Worker::convert)?,
            Action::Upload(id) => self.spawn(id, Worker::upload)?,
            Action::Park(id) => self.spawn(id, Worker::dispose)?,
            Action::ParkDeliveredTooOften(id) => {
                if let Some(work) = self.works.get_mut(&id) {
                    self.worker.refuse_delivered_too_often(work);
                }
                self.spawn(id, Worker::dispose)?;
            }
            Action::Renew(id) => self.spawn(id, Worker::renew)?,
            Action::Acknowledge(id) => {
                if let Some(work) = self.works.remove(&id) {
                    self.worker.settler.acknowledge(work).await?;
                }
            }
            Action::HandBack(id) => {
                if let Some(work) = self.works.remove(&id) {
                    self.worker.settler.hand_back(work).await?;
                }
            }
            Action::Leave(id) => {
                if let Some(work) = self.works.remove(&id) {
                    self.worker.settler.leave(&work);
                }
            }
        }
        Ok(())
    }

    /// Takes the deliveries in flight, then cancels the consumer. The messages held stay unacknowledged on the channel.
    async fn unsubscribe(&mut self, is_full: bool) -> Result<(), SessionError> {
        while !is_full && let Ok(Some(delivery)) = tokio::time::timeout(QUIET, next(&mut self.deliveries)).await {
            self.deliver(delivery?);
        }
        self.channel.cancel(&self.tag).await?;
        if let Some(mut deliveries) = self.deliveries.take() {
            while let Some(delivery) = deliveries.next().await {
                self.deliver(delivery?);
            }
        }
        Ok(())
    }

    fn spawn<F>(&mut self, id: Id, step: impl FnOnce(Arc<Worker>, &mut Work) -> Option<F>) -> Result<(), SessionError>
    where
        F: Future<Output = Step> + Send + 'static,
    {
        if let Some(work) = self.works.get_mut(&id) {
            let step = step(Arc::clone(self.worker), work).ok_or(SessionError::WorkerLost)?;
            let task = self.tasks.spawn(async move { (id, step.await) });
            work.follow(task);
        }
        Ok(())
    }

    /// Copies the policy's conclusions to the state.
    fn report(&mut self) {
        let state = &self.worker.state;
        let fault = self.policy.fault().map(|fault| match fault {
            delivery_policy::Sink::Storage => Dependency::Storage,
            delivery_policy::Sink::Parking => Dependency::Parking,
        });
        if fault == Some(Dependency::Storage)
            && let Some(refusal) = self.works.values().find_map(Work::refusal_of_storage)
        {
            state.failing(Dependency::Storage, refusal.reason(), refusal.to_string());
        }
        if self.parking_failed && !self.policy.is_parking_stuck() {
            self.parking_failed = false;
            state.forget_parking_fault();
        }
        if self.subscriptions > 0 {
            state.session(fault, self.deliveries.is_some());
        }
    }
}

/// The next delivery; pending while there is no subscription.
async fn next(deliveries: &mut Option<Deliveries>) -> Option<Result<Delivery, crate::rabbitmq::QueueError>> {
    match deliveries {
        Some(deliveries) => deliveries.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn polls(patience: Patience) -> Interval {
    tokio::time::interval_at(Instant::now() + patience.interval(), patience.interval())
}
