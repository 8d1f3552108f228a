//! Whether others than the pipeline's pods consume its queue: an old script that is still running
//! takes images away that nobody stores. One pure function of readings and time. It must never take
//! a pod for another: whatever may be ours counts as ours.

use jiff::{SignedDuration, Timestamp};

use super::observed::{Observed, ObservedPod};
use crate::pod_status::ConsumerState;

/// How long readings must agree, and how many of them. A broker counts a consumer whose pod is gone
/// until two heartbeats are missing, and one that has come before its pod was seen.
const HELD_FOR: SignedDuration = SignedDuration::from_secs(30);
const READINGS: u32 = 3;

/// What is believed of others on a queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    believed: u32,
    otherwise: Option<Otherwise>,
}

/// Readings in a row that speak against what is believed.
#[derive(Clone, Debug, PartialEq)]
struct Otherwise {
    /// The fewest of them.
    others: u32,
    since: Timestamp,
    readings: u32,
}

impl Foreign {
    /// What was believed before and has been told.
    pub fn told(others: u32) -> Self {
        Self { believed: others, otherwise: None }
    }

    /// How many others there are, at the least.
    pub fn believed(&self) -> u32 {
        self.believed
    }

    /// With one more reading; `None`: it tells nothing, which changes no belief.
    pub fn with(&self, others: Option<u32>, now: Timestamp) -> Self {
        let Some(others) = others else { return self.clone() };
        if others == self.believed {
            return Self::told(self.believed);
        }
        let same = self.otherwise.clone().filter(|before| (before.others > 0) == (others > 0));
        let otherwise = match same {
            Some(before) => {
                Otherwise { others: before.others.min(others), readings: before.readings.saturating_add(1), ..before }
            }
            None => Otherwise { others, since: now, readings: 1 },
        };
        if otherwise.readings >= READINGS && now.duration_since(otherwise.since) >= HELD_FOR {
            return Self::told(otherwise.others);
        }
        Self { otherwise: Some(otherwise), ..*self }
    }
}

/// The consumers on the queue beyond the pods that may have one open; `None` if that can't be told.
/// Before RabbitMQ 4.3 a quorum queue may answer with the messages that its consumers hold, so that
/// more than our pods count only where these hold none, or so many that it is no count of messages.
pub fn others(observed: &Observed) -> Option<u32> {
    let consumers = observed.depth.as_ref().ok()?.consumers;
    let ours = || observed.pods.iter().filter(|pod| may_consume(pod));
    let pods = u32::try_from(ours().count()).unwrap_or(u32::MAX);
    let others = consumers.saturating_sub(pods);
    // A pod that says nothing may hold anything.
    let held = || ours().map(|pod| Some(pod.report.as_ref()?.in_flight)).sum::<Option<u64>>();
    let counts_consumers = |held| held == 0 || held > u64::from(consumers) + u64::from(pods);
    (others == 0 || held().is_some_and(counts_consumers)).then_some(others)
}

/// Unless Kubernetes says that it doesn't run, or it says itself that it has closed its session and
/// waits. One that ends may have one open until it is gone.
fn may_consume(pod: &ObservedPod) -> bool {
    let waits = pod.report.as_ref().is_some_and(|report| report.state == ConsumerState::Waiting);
    pod.ending || !(waits || pod.trouble.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::observed::Trouble;
    use super::*;
    use crate::pod_status::{PodStatus, healthy};
    use crate::queue::QueueDepth;
    use crate::reason::Reason;

    fn observed(consumers: u32, pods: Vec<ObservedPod>) -> Observed {
        Observed {
            deployment: None,
            spec: String::new(),
            written: None,
            depth: Ok(QueueDepth { ready: 0, consumers }),
            parked: None,
            foreign: 0,
            credentials: None,
            secrets: String::new(),
            pods,
        }
    }

    fn pod(state: ConsumerState, consuming: bool) -> ObservedPod {
        let report = Some(PodStatus { state, consuming, in_flight: 0, ..healthy() });
        ObservedPod { ready: consuming, report, ..ObservedPod::default() }
    }

    /// What is believed after each reading: second and others.
    fn beliefs(readings: &[(i64, Option<u32>)]) -> Vec<u32> {
        let mut foreign = Foreign::default();
        let next = |(second, others): &(i64, Option<u32>)| {
            foreign = foreign.with(*others, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(*second));
            foreign.believed()
        };
        readings.iter().map(next).collect()
    }

    #[test]
    fn every_pod_that_may_have_a_consumer_open_is_ours() {
        let consuming = || pod(ConsumerState::Running, true);
        let ending = || ObservedPod { ending: true, ..pod(ConsumerState::Draining, false) };
        let starting = || pod(ConsumerState::Connecting, false);
        let silent = || ObservedPod { ready: true, ..ObservedPod::default() };
        let waiting = || pod(ConsumerState::Waiting, false);
        let stuck =
            || ObservedPod { trouble: Some(Trouble::new(Reason::ImagePullFailed, "why")), ..ObservedPod::default() };
        let stuck_and_ending = || ObservedPod { ending: true, ..stuck() };
        let holding = |in_flight| {
            let report = Some(PodStatus { in_flight, ..healthy() });
            ObservedPod { ready: true, report, ..ObservedPod::default() }
        };
        let cases = [
            ("nobody", observed(0, vec![]), Some(0)),
            ("another at size 0", observed(1, vec![]), Some(1)),
            ("our own", observed(2, vec![consuming(), consuming()]), Some(0)),
            ("one more", observed(3, vec![consuming(), consuming()]), Some(1)),
            ("one that ends", observed(2, vec![consuming(), ending()]), Some(0)),
            ("one that starts", observed(2, vec![consuming(), starting()]), Some(0)),
            ("one that does not answer", observed(2, vec![consuming(), silent()]), Some(0)),
            ("one that was not yet asked", observed(2, vec![consuming(), ObservedPod::default()]), Some(0)),
            ("one that waits for the store", observed(1, vec![waiting()]), Some(1)),
            ("one that can't start", observed(2, vec![consuming(), stuck()]), Some(1)),
            ("one that could not start and ends", observed(2, vec![consuming(), stuck_and_ending()]), Some(0)),
            ("fewer than ours", observed(0, vec![consuming(), consuming()]), Some(0)),
            ("more, or messages that ours hold", observed(10, vec![holding(10)]), None),
            ("more, or messages that ours held", observed(10, vec![holding(7), consuming()]), None),
            ("more, or messages of one that does not answer", observed(3, vec![consuming(), silent()]), None),
            ("more, and fewer than the messages", observed(2, vec![holding(10)]), Some(1)),
        ];
        for (name, observed, expected) in cases {
            assert_eq!(others(&observed), expected, "{name}");
        }
        let unread = Observed { depth: Err(Trouble::new(Reason::BrokerUnreachable, "why")), ..observed(1, vec![]) };
        assert_eq!(others(&unread), None);
    }

    #[test]
    fn readings_must_agree_for_a_while_before_anything_is_said() {
        let more = Some(1);
        assert_eq!(beliefs(&[(0, more), (2, more), (29, more), (30, more)]), [0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, more), (300, more), (600, more)]), [0, 0, 1], "three at the least");
        assert_eq!(beliefs(&[(0, more), (20, Some(0)), (25, more), (40, more), (55, more)]), [0, 0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, more), (20, None), (25, more), (40, more)]), [0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, Some(3)), (15, Some(2)), (30, Some(4))]), [0, 0, 2], "as many as were always there");
    }

    #[test]
    fn what_was_said_holds_until_readings_agree_that_it_is_over() {
        let said = [(0, Some(2)), (15, Some(2)), (30, Some(2))];
        let after = |later: &[(i64, Option<u32>)]| beliefs(&[&said, later].concat()).split_off(said.len());
        assert_eq!(after(&[(32, Some(0)), (40, Some(0)), (61, Some(0)), (62, Some(0))]), [2, 2, 2, 0]);
        assert_eq!(after(&[(32, Some(0)), (40, Some(2)), (45, Some(0)), (62, Some(0))]), [2, 2, 2, 2], "an odd 0");
        assert_eq!(after(&[(32, None), (90, None), (150, None)]), [2, 2, 2], "unknown is not zero");
        assert_eq!(after(&[(32, Some(1)), (40, Some(1)), (62, Some(1))]), [2, 2, 1]);
    }
}
