//! Foreign consumers: consumers on a pipeline's queue that are not its pods, such as a forgotten script. The pipeline
//! does not store the images that they take. Pure functions of polls and time. A consumer that may belong to one of the
//! pods does not count as foreign.

use jiff::{SignedDuration, Timestamp};

use super::cause::Cause;
use super::observation::ObservedPod;
use crate::api::ImagePipeline;
use crate::api::conditions::ConditionType;
use crate::api::source::RabbitmqSource;
use crate::pod_status::ConsumerState;
use crate::rabbitmq::QueueDepth;
use crate::reason::Reason;

/// At least 3 polls over at least 30 s must agree. RabbitMQ still counts the consumer of a lost pod until two
/// heartbeats are missed, and counts the consumer of a new pod before the operator sees that pod.
const AGREED_FOR: SignedDuration = SignedDuration::from_secs(30);
const POLLS: u32 = 3;

/// The number of foreign consumers that is reported, and the polls that contradict it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ForeignConsumers {
    count: u32,
    contradiction: Option<Contradiction>,
}

/// Polls in a row that contradict the reported number.
#[derive(Clone, Debug, PartialEq)]
struct Contradiction {
    /// The lowest number in these polls.
    foreign: u32,
    since: Timestamp,
    polls: u32,
}

impl ForeignConsumers {
    /// Starts from a number that was reported earlier.
    pub fn reported(foreign: u32) -> Self {
        Self { count: foreign, contradiction: None }
    }

    /// The number of foreign consumers to report; a lower bound.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Adds a poll; `None`: the poll gave no number and changes nothing.
    pub fn with(&self, foreign: Option<u32>, now: Timestamp) -> Self {
        let Some(foreign) = foreign else { return self.clone() };
        if foreign == self.count {
            return Self::reported(self.count);
        }
        let same = self.contradiction.clone().filter(|before| (before.foreign > 0) == (foreign > 0));
        let contradiction = match same {
            Some(before) => {
                Contradiction { foreign: before.foreign.min(foreign), polls: before.polls.saturating_add(1), ..before }
            }
            None => Contradiction { foreign, since: now, polls: 1 },
        };
        if contradiction.polls >= POLLS && now.duration_since(contradiction.since) >= AGREED_FOR {
            return Self::reported(contradiction.foreign);
        }
        Self { contradiction: Some(contradiction), ..*self }
    }
}

/// Adds a poll of a pipeline to its memory, and returns the number of foreign consumers to report. Another source
/// starts from 0. If the status reports foreign consumers, a restarted operator starts from the current poll, at least
/// 1.
pub fn observe(
    memory: &mut Option<(RabbitmqSource, ForeignConsumers)>,
    pipeline: &ImagePipeline,
    depth: &Result<QueueDepth, Cause>,
    pods: &[ObservedPod],
    now: Timestamp,
) -> u32 {
    let (source, polled) = (&pipeline.spec.source.rabbitmq, foreign(depth, pods));
    let before = match memory.take() {
        Some((of, before)) if of == *source => before,
        Some(_) => ForeignConsumers::default(),
        None if reports_foreign(pipeline) => ForeignConsumers::reported(polled.unwrap_or(1).max(1)),
        None => ForeignConsumers::default(),
    };
    let foreign = before.with(polled, now);
    memory.insert((source.clone(), foreign)).1.count()
}

/// Whether the status reports foreign consumers for the current spec.
fn reports_foreign(pipeline: &ImagePipeline) -> bool {
    pipeline.status.as_ref().is_some_and(|status| {
        status.observed_generation == pipeline.metadata.generation
            && status.conditions.iter().any(|condition| {
                condition.type_ == ConditionType::QueueFound.as_str()
                    && condition.reason == Reason::ForeignConsumers.as_str()
            })
    })
}

/// The number of consumers on the queue beyond the pods that may consume; `None`: unknown. Before RabbitMQ 4.3 a quorum
/// queue may return the number of messages that its consumers hold instead of the number of consumers. A higher number
/// therefore counts only if the pods hold no message, or more messages than there are consumers and pods together.
fn foreign(depth: &Result<QueueDepth, Cause>, pods: &[ObservedPod]) -> Option<u32> {
    let consumers = depth.as_ref().ok()?.consumers;
    let ours = || pods.iter().filter(|pod| may_consume(pod));
    let pods = u32::try_from(ours().count()).unwrap_or(u32::MAX);
    let foreign = consumers.saturating_sub(pods);
    // A pod without a report may hold any number of messages.
    let held = || ours().map(|pod| Some(pod.report.as_ref()?.in_flight)).sum::<Option<u64>>();
    let counts_consumers = |held| held == 0 || held > u64::from(consumers) + u64::from(pods);
    (foreign == 0 || held().is_some_and(counts_consumers)).then_some(foreign)
}

/// Whether the pod may have a consumer on the queue: not if Kubernetes reports that it does not run, nor if it reports
/// that it has stopped consuming and waits. A terminating pod may consume until it is gone.
fn may_consume(pod: &ObservedPod) -> bool {
    let waits = pod.report.as_ref().is_some_and(|report| report.state == ConsumerState::Waiting);
    pod.ending || !(waits || pod.cause.is_some())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::pod_status::{PodStatus, healthy};

    type Poll = (Result<QueueDepth, Cause>, Vec<ObservedPod>);

    fn poll(consumers: u32, pods: Vec<ObservedPod>) -> Poll {
        (Ok(QueueDepth { ready: 0, consumers }), pods)
    }

    fn pod(state: ConsumerState, consuming: bool) -> ObservedPod {
        let report = Some(PodStatus { state, consuming, in_flight: 0, ..healthy() });
        ObservedPod { ready: consuming, report, ..ObservedPod::default() }
    }

    /// The number reported after each poll. A poll is its second and its number of foreign consumers.
    fn beliefs(readings: &[(i64, Option<u32>)]) -> Vec<u32> {
        let mut foreign = ForeignConsumers::default();
        let next = |(second, others): &(i64, Option<u32>)| {
            foreign = foreign.with(*others, Timestamp::UNIX_EPOCH + SignedDuration::from_secs(*second));
            foreign.count()
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
            || ObservedPod { cause: Some(Cause::new(Reason::ImagePullFailed, "why")), ..ObservedPod::default() };
        let stuck_and_ending = || ObservedPod { ending: true, ..stuck() };
        let holding = |in_flight| {
            let report = Some(PodStatus { in_flight, ..healthy() });
            ObservedPod { ready: true, report, ..ObservedPod::default() }
        };
        let cases = [
            ("no consumer", poll(0, vec![]), Some(0)),
            ("a foreign consumer at size 0", poll(1, vec![]), Some(1)),
            ("the pods", poll(2, vec![consuming(), consuming()]), Some(0)),
            ("one more", poll(3, vec![consuming(), consuming()]), Some(1)),
            ("a terminating pod", poll(2, vec![consuming(), ending()]), Some(0)),
            ("a starting pod", poll(2, vec![consuming(), starting()]), Some(0)),
            ("a pod that does not answer", poll(2, vec![consuming(), silent()]), Some(0)),
            ("a pod that was not polled yet", poll(2, vec![consuming(), ObservedPod::default()]), Some(0)),
            ("a pod that waits for S3", poll(1, vec![waiting()]), Some(1)),
            ("a pod that can't start", poll(2, vec![consuming(), stuck()]), Some(1)),
            ("a pod that could not start and terminates", poll(2, vec![consuming(), stuck_and_ending()]), Some(0)),
            ("fewer than the pods", poll(0, vec![consuming(), consuming()]), Some(0)),
            ("more, or messages that the pods hold", poll(10, vec![holding(10)]), None),
            ("more, or messages that the pods held", poll(10, vec![holding(7), consuming()]), None),
            ("more, or messages of a silent pod", poll(3, vec![consuming(), silent()]), None),
            ("more, and fewer than the messages", poll(2, vec![holding(10)]), Some(1)),
        ];
        for (name, (depth, pods), expected) in cases {
            assert_eq!(foreign(&depth, &pods), expected, "{name}");
        }
        let unread = Err(Cause::new(Reason::BrokerUnreachable, "why"));
        assert_eq!(foreign(&unread, &[]), None);
    }

    #[test]
    fn readings_must_agree_for_a_while_before_anything_is_said() {
        let more = Some(1);
        assert_eq!(beliefs(&[(0, more), (2, more), (29, more), (30, more)]), [0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, more), (300, more), (600, more)]), [0, 0, 1], "at least three polls");
        assert_eq!(beliefs(&[(0, more), (20, Some(0)), (25, more), (40, more), (55, more)]), [0, 0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, more), (20, None), (25, more), (40, more)]), [0, 0, 0, 1]);
        assert_eq!(beliefs(&[(0, Some(3)), (15, Some(2)), (30, Some(4))]), [0, 0, 2], "the lowest number");
    }

    #[test]
    fn what_was_said_holds_until_readings_agree_that_it_is_over() {
        let said = [(0, Some(2)), (15, Some(2)), (30, Some(2))];
        let after = |later: &[(i64, Option<u32>)]| beliefs(&[&said, later].concat()).split_off(said.len());
        assert_eq!(after(&[(32, Some(0)), (40, Some(0)), (61, Some(0)), (62, Some(0))]), [2, 2, 2, 0]);
        assert_eq!(after(&[(32, Some(0)), (40, Some(2)), (45, Some(0)), (62, Some(0))]), [2, 2, 2, 2], "a single 0");
        assert_eq!(after(&[(32, None), (90, None), (150, None)]), [2, 2, 2], "unknown is not zero");
        assert_eq!(after(&[(32, Some(1)), (40, Some(1)), (62, Some(1))]), [2, 2, 1]);
    }
}
