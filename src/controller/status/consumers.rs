//! The conditions that consumer pods show: `StorageAvailable`, `ParkingAvailable` and `ConsumersAvailable`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Finding, finding};
use crate::api::conditions::ConditionStatus::{False, True, Unknown};
use crate::api::conditions::ConditionType;
use crate::api::names;
use crate::controller::apply::Applied;
use crate::controller::cause::Cause;
use crate::controller::decide::Decision;
use crate::controller::observation::Observation;
use crate::controller::rollouts::Hold;
use crate::pod_status::{Fault, Health, PodStatus};
use crate::reason::Reason;

/// The message while only pods of the previous spec have reported, and they report a fault.
const NEW_SPEC_STARTING: &str =
    "Consumers of the changed spec are starting; consumers of the previous spec report a fault.";

/// How long consumers may take to start before the condition turns from `Unknown` to `False`.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn storage_available(observed: &Observation) -> Finding {
    let kind = ConditionType::StorageAvailable;
    if let Some(cause) = &observed.credentials {
        return finding(kind, False, cause.reason, &cause.message);
    }
    health(kind, observed, |report| &report.storage, Reason::StorageAvailable, "Consumers write to the S3 bucket.")
}

pub(super) fn parking_available(observed: &Observation) -> Finding {
    let kind = ConditionType::ParkingAvailable;
    health(
        kind,
        observed,
        |report| &report.parking,
        Reason::ParkingAvailable,
        "Consumers publish to the parking queue.",
    )
}

/// The condition of one dependency of the consumers: `False` if any pod reports a fault.
fn health(
    kind: ConditionType,
    observed: &Observation,
    of: impl Fn(&PodStatus) -> &Health,
    good: Reason,
    message: &str,
) -> Finding {
    let mut reports = observed.current_reports().map(of).peekable();
    if reports.peek().is_none() {
        return finding(kind, Unknown, Reason::NoConsumers, "No consumer reports its status.");
    }
    let (mut available, mut failing) = (false, None);
    for report in reports {
        available |= matches!(report, Health::Available { .. });
        failing = failing.or(report.fault());
    }
    match failing {
        Some(fault) => from_fault(kind, observed, fault),
        None if available => finding(kind, True, good, message),
        None => finding(kind, Unknown, Reason::NotYetKnown, "Not used since the consumers started."),
    }
}

/// The condition for a fault that pods report. If only pods of a previous spec report it, the new spec may have fixed
/// it.
fn from_fault(kind: ConditionType, observed: &Observation, fault: &Fault) -> Finding {
    if observed.only_previous_spec_reports() {
        return finding(kind, Unknown, Reason::ConsumersStarting, NEW_SPEC_STARTING);
    }
    finding(kind, False, fault.reason, &fault.message)
}

pub(super) fn available(observed: &Observation, decision: &Decision, applied: &Applied, starting: bool) -> Finding {
    let kind = ConditionType::ConsumersAvailable;
    let pods = || observed.pods.iter().filter(|pod| !pod.ending);
    let causes =
        [applied.cause.as_ref(), observed.replica_failure().as_ref(), pods().find_map(|pod| pod.cause.as_ref())]
            .map(Option::<&Cause>::cloned);
    if let Some(Cause { reason, message }) = causes.into_iter().flatten().next() {
        return finding(kind, False, reason, message);
    }
    if let Some(fault) = observed.current_reports().find_map(|report| report.broker.fault()) {
        return from_fault(kind, observed, fault);
    }
    // The rule of the pods' own /readyz.
    let works = |report: &PodStatus| report.consuming && report.storage.fault().is_none();
    let running = pods().filter(|pod| pod.report.as_ref().is_some_and(works)).count();
    let silent = pods().filter(|pod| pod.ready && pod.report.is_none()).count();
    let wanted = decision.replicas;
    let held_up = observed.current_reports().find_map(|report| report.storage.fault().or(report.parking.fault()));
    if let Some(fault) = held_up.filter(|_| wanted > 0 && running == 0) {
        return from_fault(kind, observed, fault);
    }
    match () {
        () if wanted == 0 => finding(kind, True, Reason::NoConsumers, "The desired size is 0."),
        () if running == 0 && silent > 0 => {
            let message = format!(
                "{silent} ready consumers don't answer the operator on port {}; check NetworkPolicies",
                names::HTTP_PORT
            );
            finding(kind, Unknown, Reason::StatusUnreachable, message)
        }
        () if running == 0 => {
            let status = if starting { Unknown } else { False };
            finding(
                kind,
                status,
                Reason::ConsumersStarting,
                "No consumer reads the queue yet; if that lasts, see `kubectl logs` of its pods.",
            )
        }
        () => finding(kind, True, Reason::ConsumersReady, ready(observed.hold)),
    }
}

fn ready(hold: Option<Hold>) -> &'static str {
    match hold {
        None => "Consumers read the queue.",
        Some(Hold::Turn) => {
            "Consumers read the queue. They run an earlier version of the operator until other pipelines have been \
             upgraded."
        }
        Some(Hold::Pinned) => {
            "Consumers read the queue. The annotation greench.dev/pin-image keeps them at an earlier version of the \
             operator."
        }
    }
}

/// Whether consumers may still be starting: until now the size was 0, or they have been starting for less than
/// [`STARTS_WITHIN`].
pub(super) fn is_starting(previous: &[Condition], now: Timestamp) -> bool {
    let before = previous.iter().find(|condition| condition.type_ == ConditionType::ConsumersAvailable.as_str());
    before.is_none_or(|before| match before.reason.parse() {
        Ok(Reason::NoConsumers) => true,
        Ok(Reason::ConsumersStarting) => {
            before.status == Unknown.as_str() && now.duration_since(before.last_transition_time.0) < STARTS_WITHIN
        }
        _ => false,
    })
}
