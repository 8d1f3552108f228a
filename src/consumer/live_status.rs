//! The consumer's shared state, served by `/status` and `/readyz`. Logs each change of a dependency's health once.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::metrics::{Metrics, Outcome};
use super::throughput::Throughput;
use crate::http::NotReady;
use crate::pod_status::{ConsumerState, Fault, Health, PodStatus};
use crate::reason::Reason;

#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Dependency {
    /// The broker and the source queue.
    Broker,
    Storage,
    Parking,
}

pub struct LiveStatus {
    status: Mutex<PodStatus>,
    /// Lock order: only while `status` is locked.
    throughput: Mutex<Throughput>,
    metrics: Metrics,
}

/// Counts one held message; dropped when the message is settled or its session ends.
pub struct InFlight(Arc<LiveStatus>);

impl LiveStatus {
    pub fn new(metrics: Metrics) -> Arc<Self> {
        let status = PodStatus {
            state: ConsumerState::Connecting,
            consuming: false,
            in_flight: 0,
            processed: 0,
            parked: 0,
            renewed: 0,
            throughput: None,
            broker: Health::Unknown,
            storage: Health::Unknown,
            parking: Health::Unknown,
            last_error: None,
        };
        Arc::new(Self { status: Mutex::new(status), throughput: Mutex::default(), metrics })
    }

    pub fn status(&self) -> PodStatus {
        let status = self.status.lock();
        PodStatus { throughput: self.throughput.lock().per_second(Instant::now()), ..status.clone() }
    }

    /// `Ok` if the consumer can take messages and store them.
    pub fn ready(&self) -> Result<(), NotReady> {
        let status = self.status.lock();
        let not_ready =
            |reason: &str, message: &str| Err(NotReady { reason: reason.to_owned(), message: message.to_owned() });
        let held_for = status.storage.fault().or(status.parking.fault());
        match (status.state, status.consuming, status.broker.fault(), status.storage.fault()) {
            (ConsumerState::Draining, ..) => not_ready("Draining", "stopping: finishing the messages it holds"),
            (ConsumerState::Waiting, ..) => match held_for {
                Some(fault) => not_ready(fault.reason.as_str(), &fault.message),
                None => not_ready("Waiting", "waiting for S3 or the parking queue to recover"),
            },
            (_, false, Some(fault), _) | (_, true, _, Some(fault)) => not_ready(fault.reason.as_str(), &fault.message),
            (_, false, None, _) => not_ready("Connecting", "not consuming from RabbitMQ yet"),
            (_, true, _, None) => Ok(()),
        }
    }

    /// Sets the state of a session after its first subscription. `subscribed`: whether it has a subscription now.
    /// `fault`: the dependency whose failure keeps messages from being finished.
    pub fn session(&self, fault: Option<Dependency>, subscribed: bool) {
        let mut status = self.status.lock();
        let after = if fault.is_some() { ConsumerState::Waiting } else { ConsumerState::Running };
        let before = status.state;
        if before == ConsumerState::Draining {
            return;
        }
        status.state = after;
        // A healthy session replaces its subscription within milliseconds: it counts as consuming meanwhile.
        status.consuming = subscribed || fault.is_none();
        drop(status);
        self.available(Dependency::Broker);
        if let Some(dependency) = fault
            && before != after
        {
            warn!(%dependency, "failing: taking no new messages until it recovers, and keeping the messages held");
        }
    }

    pub fn disconnected(&self, reason: Reason, message: String) {
        let mut status = self.status.lock();
        if status.state != ConsumerState::Draining {
            status.state = ConsumerState::Connecting;
        }
        status.consuming = false;
        forget_parking(&mut status);
        drop(status);
        self.failing(Dependency::Broker, reason, message);
    }

    /// Clears the parking fault when no message waits to be parked: this process may never park a message again, so it
    /// might never see that parking has recovered.
    pub fn forget_parking_fault(&self) {
        forget_parking(&mut self.status.lock());
    }

    /// SIGTERM: no more messages are taken.
    pub fn draining(&self) {
        let mut status = self.status.lock();
        status.state = ConsumerState::Draining;
        status.consuming = false;
    }

    pub fn available(&self, dependency: Dependency) {
        let mut status = self.status.lock();
        let health = health(&mut status, dependency);
        let before = health.fault().map(|fault| fault.reason);
        if !matches!(health, Health::Available { .. }) {
            *health = Health::Available { since: Timestamp::now() };
            drop(status);
            info!(%dependency, was = before.map(Reason::as_str), "available");
        }
    }

    pub fn failing(&self, dependency: Dependency, reason: Reason, message: String) {
        let mut status = self.status.lock();
        let before = health(&mut status, dependency).fault().filter(|fault| fault.reason == reason);
        let since = before.map(|fault| fault.since);
        if since.is_none() {
            warn!(%dependency, %reason, message, "failing");
        }
        let fault = Fault { reason, message, since: since.unwrap_or_else(Timestamp::now) };
        *health(&mut status, dependency) = Health::Failing(fault.clone());
        status.last_error = Some(fault);
    }

    /// Counts a delivered message until the returned guard is dropped.
    pub fn take(self: &Arc<Self>) -> InFlight {
        let mut status = self.status.lock();
        status.in_flight += 1;
        if status.in_flight == 1 {
            self.throughput.lock().begin(Instant::now());
        }
        self.metrics.in_flight(status.in_flight);
        drop(status);
        InFlight(Arc::clone(self))
    }

    /// Counts a message that was stored and acknowledged.
    pub fn processed(&self) {
        let mut status = self.status.lock();
        status.processed += 1;
        self.throughput.lock().finish(Instant::now());
    }

    /// Counts a message whose copy was published to its queue.
    pub fn renewed(&self) {
        self.status.lock().renewed += 1;
    }

    /// Counts a message that can never succeed and was settled as `failures.policy` says.
    pub fn refused(&self, outcome: Outcome, reason: Reason, message: String) {
        let mut status = self.status.lock();
        if outcome == Outcome::Parked {
            status.parked += 1;
        }
        self.throughput.lock().finish(Instant::now());
        status.last_error = Some(Fault { reason, message, since: Timestamp::now() });
    }
}

fn health(status: &mut PodStatus, dependency: Dependency) -> &mut Health {
    match dependency {
        Dependency::Broker => &mut status.broker,
        Dependency::Storage => &mut status.storage,
        Dependency::Parking => &mut status.parking,
    }
}

fn forget_parking(status: &mut PodStatus) {
    if status.parking.fault().is_some() {
        status.parking = Health::Unknown;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut status = self.0.status.lock();
        status.in_flight -= 1;
        if status.in_flight == 0 {
            self.0.throughput.lock().rest(Instant::now());
        }
        self.0.metrics.in_flight(status.in_flight);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    fn state() -> Arc<LiveStatus> {
        LiveStatus::new(Metrics::register(&mut Registry::default()))
    }

    fn unready(state: &LiveStatus) -> String {
        state.ready().expect_err("not ready").reason
    }

    #[test]
    fn is_ready_while_it_consumes_and_storage_is_not_failing() {
        let state = state();
        assert_eq!(unready(&state), "Connecting");
        state.disconnected(Reason::AuthenticationFailed, "wrong password".to_owned());
        assert_eq!(unready(&state), "AuthenticationFailed");
        state.session(None, true);
        assert_eq!(state.ready(), Ok(()));
        state.failing(Dependency::Storage, Reason::AccessDenied, "denied".to_owned());
        assert_eq!(unready(&state), "AccessDenied");
        state.failing(Dependency::Parking, Reason::ParkingRefused, "refused".to_owned());
        state.available(Dependency::Storage);
        assert_eq!(state.ready(), Ok(()), "a parking fault alone does not stop the consumer");
        state.draining();
        assert_eq!(unready(&state), "Draining");
        assert!(!state.status().consuming);
    }

    #[test]
    fn draining_is_final() {
        let state = state();
        state.draining();
        state.session(None, true);
        state.disconnected(Reason::ConnectionLost, "gone".to_owned());
        assert_eq!(state.status().state, ConsumerState::Draining);
        assert!(!state.status().consuming);
    }

    #[test]
    fn a_fault_keeps_its_time_while_its_reason_lasts() {
        let state = state();
        let fault = || state.status().storage.fault().cloned();
        state.failing(Dependency::Storage, Reason::StorageTimeout, "one".to_owned());
        let first = fault().unwrap();
        state.failing(Dependency::Storage, Reason::StorageTimeout, "two".to_owned());
        assert_eq!(fault(), Some(Fault { message: "two".to_owned(), ..first.clone() }));
        state.failing(Dependency::Storage, Reason::AccessDenied, "three".to_owned());
        assert!(fault().unwrap().since > first.since);
        state.available(Dependency::Storage);
        assert_eq!(fault(), None);
        assert_eq!(state.status().last_error.unwrap().reason, Reason::AccessDenied, "kept after the recovery");
    }

    #[test]
    fn that_parking_failed_goes_with_the_session_or_the_last_message_to_park() {
        let state = state();
        let faults = || {
            let PodStatus { storage, parking, .. } = state.status();
            [storage, parking].map(|health| health.fault().is_some())
        };
        let fail = || {
            state.failing(Dependency::Storage, Reason::AccessDenied, "denied".to_owned());
            state.failing(Dependency::Parking, Reason::ParkingRefused, "full".to_owned());
        };
        fail();
        state.forget_parking_fault();
        assert_eq!(faults(), [true, false]);
        fail();
        state.disconnected(Reason::ConnectionLost, "gone".to_owned());
        assert_eq!(faults(), [true, false], "the storage fault stays: more pods can't help while S3 fails");
    }

    #[test]
    fn a_session_that_stores_nothing_is_not_running() {
        let state = state();
        state.session(None, true);
        assert_eq!((state.status().state, state.status().consuming), (ConsumerState::Running, true));
        state.session(None, false);
        assert!(state.status().consuming, "between two subscriptions");
        state.failing(Dependency::Storage, Reason::AccessDenied, "denied".to_owned());
        state.session(Some(Dependency::Storage), false);
        assert_eq!((state.status().state, state.status().consuming), (ConsumerState::Waiting, false));
        assert_eq!(unready(&state), "AccessDenied");
    }

    #[test]
    fn counts_what_it_holds_and_what_it_did() {
        let state = state();
        let (one, two) = (state.take(), state.take());
        assert_eq!(state.status().throughput, None);
        state.processed();
        assert!(state.status().throughput.is_some_and(|throughput| throughput > 0.0));
        drop(one);
        state.refused(Outcome::Parked, Reason::InvalidJson, "not JSON".to_owned());
        assert_eq!(state.status().in_flight, 1);
        drop(two);
        let PodStatus { in_flight, processed, parked, last_error, .. } = state.status();
        assert_eq!((in_flight, processed, parked), (0, 1, 1));
        assert_eq!(last_error.unwrap().reason, Reason::InvalidJson);
    }
}
