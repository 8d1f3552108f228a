//! How many consumer pods there should be: one pure function of what was observed, what is
//! remembered and the time. It must never take an unreadable depth for an empty queue, and never
//! shrink on one.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use super::observe::Observed;
use crate::api::Scaling;
use crate::queue::QueueDepth;
use crate::reason::Reason;

/// What one look at a pipeline found out about its load.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The Deployment's present size; `None` if there is no Deployment yet.
    pub current: Option<i32>,
    /// Messages ready in the queue and consumers on it; `None` if they could not be read.
    pub depth: Option<QueueDepth>,
    /// Messages that the pods say they hold.
    pub in_flight: u64,
    /// Whether a pod says that it has an open consumer on the queue.
    pub consuming: bool,
    /// Whether a pod could not be asked, so that it may hold messages nobody counted.
    pub unasked: bool,
}

impl Load {
    /// The load in what was observed. A pod that is told to stop still holds messages, so it counts.
    pub fn of(observed: &Observed) -> Self {
        let reports = || observed.pods.iter().filter_map(|pod| pod.report.as_ref());
        Self {
            current: observed.deployment.as_ref().map(|deployment| replicas_of(deployment)),
            depth: observed.depth.as_ref().ok().copied(),
            in_flight: reports().map(|report| report.in_flight).sum(),
            consuming: reports().any(|report| report.consuming),
            unasked: observed.pods.iter().any(|pod| pod.ready && pod.report.is_none()),
        }
    }
}

/// A Deployment's size; the API server fills in 1 where none is given.
fn replicas_of(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What must be remembered from one decision to the next. Lost on a restart of the operator, which
/// only makes a shrink later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Since when a smaller size would have been enough, and the largest of those sizes.
    lower: Option<Lower>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Lower {
    since: Timestamp,
    most: i32,
    samples: u32,
}

/// The size wanted and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The size to apply.
    pub replicas: i32,
    /// What was decided upon.
    pub reason: Reason,
    /// Messages ready or in flight; `None` if the depth is unknown.
    pub backlog: Option<i64>,
    /// Whether the backlog asks for more than the maximum.
    pub limited: bool,
    /// When to look again.
    pub check_again_in: Duration,
}

/// The last pod goes only after this many readings that all allow it: a broker may answer a false
/// zero while a queue's leader moves.
const READINGS_BEFORE_ZERO: u32 = 2;

/// Decides the size. Grows at once, shrinks only after `scaleDownAfter` of lower need (to the
/// largest need within that time), holds while the depth is unknown.
pub fn decide(scaling: &Scaling, load: &Load, memory: &Memory, now: Timestamp) -> (Decision, Memory) {
    let (min, max) = (scaling.min_replicas, scaling.max_replicas.max(scaling.min_replicas));
    let current = load.current.unwrap_or(min).clamp(min, max);
    let decision = |replicas, reason, backlog, limited| Decision {
        replicas,
        reason,
        backlog,
        limited,
        check_again_in: scaling.poll_interval.into(),
    };
    let Some(backlog) = trusted_backlog(load) else {
        return (decision(current, Reason::DepthUnknown, None, false), Memory::default());
    };
    let asked = backlog.unsigned_abs().div_ceil(u64::from(scaling.messages_per_replica.max(1).unsigned_abs()));
    let limited = asked > u64::from(max.unsigned_abs());
    let wanted = i32::try_from(asked).unwrap_or(max).clamp(min, max);
    if wanted >= current {
        let reason = if wanted > current { Reason::ScaledUp } else { Reason::BacklogCounted };
        return (decision(wanted, reason, Some(backlog), limited), Memory::default());
    }
    let lower = match memory.lower {
        Some(Lower { since, most, samples }) => {
            Lower { since, most: most.max(wanted), samples: samples.saturating_add(1) }
        }
        None => Lower { since: now, most: wanted, samples: 1 },
    };
    let waited = now.duration_since(lower.since);
    let long_enough = waited.as_secs_f64() >= Duration::from(scaling.scale_down_after).as_secs_f64();
    let surely = !load.unasked && (lower.most > 0 || lower.samples >= READINGS_BEFORE_ZERO);
    if long_enough && surely {
        return (decision(lower.most, Reason::ScaledDown, Some(backlog), limited), Memory::default());
    }
    (decision(current, Reason::BacklogCounted, Some(backlog), limited), Memory { lower: Some(lower) })
}

/// Ready plus held; `None` if it can't be known. (0 ready, 0 consumers) while a pod consumes is no
/// empty queue: a quorum queue without a reachable leader answers so (RabbitMQ's
/// `rabbit_quorum_queue:stat/2`).
fn trusted_backlog(load: &Load) -> Option<i64> {
    let depth = load.depth?;
    if depth.ready == 0 && depth.consumers == 0 && load.consuming {
        return None;
    }
    Some(i64::from(depth.ready).saturating_add(i64::try_from(load.in_flight).unwrap_or(i64::MAX)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + seconds)
    }

    fn scaling(min: i32, max: i32, messages: i32) -> Scaling {
        Scaling { min_replicas: min, max_replicas: max, messages_per_replica: messages, ..Scaling::default() }
    }

    fn load(current: Option<i32>, ready: Option<u32>) -> Load {
        let depth = ready.map(|ready| QueueDepth { ready, consumers: 1 });
        Load { current, depth, in_flight: 0, consuming: false, unasked: false }
    }

    fn sizes(scaling: &Scaling, start: i32, readings: &[(i64, Load)]) -> Vec<i32> {
        let (mut current, mut memory) = (start, Memory::default());
        let step = |(seconds, load): &(i64, Load)| {
            let load = Load { current: Some(current), ..load.clone() };
            let (decision, next) = decide(scaling, &load, &memory, at(*seconds));
            memory = next;
            current = decision.replicas;
            current
        };
        readings.iter().map(step).collect()
    }

    #[test]
    fn one_reading_decides() {
        let cases: &[(&str, Scaling, Load, i32, Reason)] = &[
            ("no deployment, empty", scaling(0, 20, 50), load(None, Some(0)), 0, Reason::BacklogCounted),
            ("no deployment, backlog", scaling(0, 20, 50), load(None, Some(101)), 3, Reason::ScaledUp),
            ("no deployment, unknown", scaling(2, 20, 50), load(None, None), 2, Reason::DepthUnknown),
            ("zero to many in one step", scaling(0, 20, 5), load(Some(0), Some(1000)), 20, Reason::ScaledUp),
            ("one message is enough", scaling(0, 20, 50), load(Some(0), Some(1)), 1, Reason::ScaledUp),
            ("exact multiple", scaling(0, 20, 50), load(Some(2), Some(100)), 2, Reason::BacklogCounted),
            ("unknown holds", scaling(0, 20, 50), load(Some(7), None), 7, Reason::DepthUnknown),
            ("minimum raised", scaling(4, 20, 50), load(Some(1), Some(0)), 4, Reason::BacklogCounted),
            ("maximum lowered acts at once", scaling(0, 3, 50), load(Some(9), Some(900)), 3, Reason::BacklogCounted),
            ("lower need waits", scaling(0, 20, 50), load(Some(9), Some(1)), 9, Reason::BacklogCounted),
        ];
        for (name, scaling, load, replicas, reason) in cases {
            let (decision, _) = decide(scaling, load, &Memory::default(), at(0));
            assert_eq!((decision.replicas, decision.reason), (*replicas, *reason), "{name}");
        }
    }

    #[test]
    fn what_pods_hold_counts() {
        let holding = Load { in_flight: 60, ..load(Some(2), Some(0)) };
        let (decision, _) = decide(&scaling(0, 20, 50), &holding, &Memory::default(), at(0));
        assert_eq!((decision.replicas, decision.backlog), (2, Some(60)));
    }

    #[test]
    fn zero_messages_and_zero_consumers_while_a_pod_consumes_is_unknown() {
        let depth = Some(QueueDepth { ready: 0, consumers: 0 });
        let lie = Load { current: Some(3), depth, in_flight: 0, consuming: true, unasked: false };
        assert_eq!(
            sizes(&scaling(0, 20, 50), 3, &[(0, lie.clone()), (61, lie.clone()), (122, lie.clone())]),
            [3, 3, 3]
        );
        let truth = Load { consuming: false, ..lie };
        assert_eq!(sizes(&scaling(0, 20, 50), 3, &[(0, truth.clone()), (61, truth)]), [3, 0]);
    }

    #[test]
    fn shrinks_to_the_most_that_was_needed_within_the_window() {
        let readings = [
            (0, load(None, Some(0))),
            (30, load(None, Some(120))),
            (59, load(None, Some(0))),
            (60, load(None, Some(0))),
        ];
        assert_eq!(sizes(&scaling(0, 20, 50), 8, &readings), [8, 8, 8, 3]);
    }

    #[test]
    fn an_unknown_reading_starts_the_window_anew() {
        let readings =
            [(0, load(None, Some(0))), (59, load(None, None)), (61, load(None, Some(0))), (122, load(None, Some(0)))];
        assert_eq!(sizes(&scaling(0, 20, 50), 2, &readings), [2, 2, 2, 0]);
    }

    #[test]
    fn the_last_pod_needs_two_readings() {
        let immediate = Scaling { scale_down_after: Duration::ZERO.into(), ..scaling(0, 20, 50) };
        let empty = load(None, Some(0));
        assert_eq!(sizes(&immediate, 1, &[(0, empty.clone()), (2, empty)]), [1, 0]);
    }

    #[test]
    fn a_pod_that_could_not_be_asked_keeps_the_size() {
        let unasked = Load { unasked: true, ..load(None, Some(0)) };
        assert_eq!(sizes(&scaling(0, 20, 50), 2, &[(0, unasked.clone()), (70, unasked)]), [2, 2]);
    }

    #[test]
    fn the_maximum_is_told_when_it_binds() {
        let (decision, _) = decide(&scaling(0, 6, 50), &load(Some(0), Some(301)), &Memory::default(), at(0));
        assert_eq!((decision.replicas, decision.limited), (6, true));
    }

    fn any_load() -> impl Strategy<Value = Load> {
        let depth = proptest::option::of(
            (0u32..100_000, 0u32..30).prop_map(|(ready, consumers)| QueueDepth { ready, consumers }),
        );
        (proptest::option::of(0i32..1500), depth, 0u64..5000, any::<bool>(), any::<bool>()).prop_map(
            |(current, depth, in_flight, consuming, unasked)| Load { current, depth, in_flight, consuming, unasked },
        )
    }

    fn any_scaling() -> impl Strategy<Value = Scaling> {
        (0i32..1000, 0i32..1000, 1i32..100_000)
            .prop_map(|(min, more, messages)| scaling(min, (min + more).clamp(1, 1000), messages))
    }

    proptest! {
        #[test]
        fn stays_within_bounds(scaling in any_scaling(), load in any_load()) {
            let (decision, _) = decide(&scaling, &load, &Memory::default(), at(0));
            prop_assert!((scaling.min_replicas..=scaling.max_replicas).contains(&decision.replicas));
        }

        #[test]
        fn unknown_never_shrinks(scaling in any_scaling(), load in any_load(), seconds in 0i64..1_000) {
            let current = load.current.unwrap_or(0).clamp(scaling.min_replicas, scaling.max_replicas);
            let load = Load { depth: None, current: Some(current), ..load };
            let (_, memory) = decide(&scaling, &Load { depth: Some(QueueDepth { ready: 0, consumers: 1 }), ..load.clone() }, &Memory::default(), at(0));
            let (decision, _) = decide(&scaling, &load, &memory, at(seconds));
            prop_assert_eq!(decision.replicas, current);
        }

        #[test]
        fn more_backlog_never_means_fewer(scaling in any_scaling(), load in any_load(), ready in 0u32..50_000, more in 0u32..50_000) {
            let with = |ready| Load { depth: Some(QueueDepth { ready, consumers: 1 }), ..load.clone() };
            let (few, _) = decide(&scaling, &with(ready), &Memory::default(), at(0));
            let (many, _) = decide(&scaling, &with(ready + more), &Memory::default(), at(0));
            prop_assert!(many.replicas >= few.replicas);
        }

        #[test]
        fn deciding_again_changes_nothing(scaling in any_scaling(), load in any_load()) {
            let (first, memory) = decide(&scaling, &load, &Memory::default(), at(0));
            let (second, _) = decide(&scaling, &Load { current: Some(first.replicas), ..load }, &memory, at(0));
            prop_assert_eq!(first.replicas, second.replicas);
        }
    }
}
