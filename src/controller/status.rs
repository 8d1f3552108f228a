//! The status of an ImagePipeline: a pure function of what was observed, decided and applied. A state that is not known
//! is reported as `Unknown`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::apply::Applied;
use super::decide::Decision;
use super::observation::{Cause, Observation};
use crate::api::conditions::ConditionStatus::{self, False, True, Unknown};
use crate::api::conditions::ConditionType;
use crate::api::names;
use crate::api::{ImagePipeline, ImagePipelineStatus, Scaling};
use crate::pod_status::{Fault, Health, PodStatus};
use crate::reason::Reason;

/// How often the status is written when only the message counts (`backlog`, `parked`) have changed; more often if a
/// count has become 0 or is no longer 0.
const REFRESH_AFTER: SignedDuration = SignedDuration::from_secs(30);
const REFRESH_ZERO_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// The message while only pods of the previous spec have reported, and they report a fault.
const STARTING_ANEW: &str =
    "Consumers of the changed spec are starting; consumers of the previous spec report a fault.";

/// How long consumers may take to start before the condition turns from `Unknown` to `False`.
const STARTS_WITHIN: SignedDuration = SignedDuration::from_secs(60);

/// A condition without transition time and generation.
struct Finding {
    kind: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
}

/// The status after one reconcile.
pub fn status(
    previous: &ImagePipelineStatus,
    pipeline: &ImagePipeline,
    observed: &Observation,
    decision: &Decision,
    applied: &Applied,
) -> ImagePipelineStatus {
    let now = observed.at;
    let live = observed.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
    let generation = pipeline.metadata.generation;
    let starting = is_starting(&previous.conditions, now);
    let findings = findings(pipeline, observed, decision, applied, starting);
    let resized = previous.desired_replicas != decision.replicas;
    ImagePipelineStatus {
        observed_generation: generation,
        replicas: live.and_then(|status| status.replicas).unwrap_or(0),
        selector: names::selector(pipeline.metadata.name.as_deref().unwrap_or_default()),
        ready_replicas: live.and_then(|status| status.ready_replicas).unwrap_or(0),
        desired_replicas: decision.replicas,
        backlog: decision.backlog,
        parked: observed.parked.map(i64::from),
        last_scale_time: if resized { Some(Time(now)) } else { previous.last_scale_time.clone() },
        conditions: findings
            .into_iter()
            .map(|finding| condition(finding, &previous.conditions, generation, now))
            .collect(),
    }
}

/// Whether `current` must be written: immediately if anything but the message counts has changed.
pub fn is_due(previous: &ImagePipelineStatus, current: &ImagePipelineStatus, since_written: SignedDuration) -> bool {
    let counts = |status: &ImagePipelineStatus| [status.backlog, status.parked];
    let any = |status: &ImagePipelineStatus| counts(status).map(|count| count.map(|count| count > 0));
    let still = ImagePipelineStatus { backlog: previous.backlog, parked: previous.parked, ..current.clone() };
    match () {
        () if still != *previous => true,
        () if any(current) != any(previous) => since_written >= REFRESH_ZERO_AFTER,
        () => counts(current) != counts(previous) && since_written >= REFRESH_AFTER,
    }
}

/// The status of a resource that does not parse as an ImagePipeline.
pub fn invalid(generation: Option<i64>, detail: &str, now: Timestamp) -> ImagePipelineStatus {
    let message = format!("this ImagePipeline can't be read: {detail}; correct it against `kubectl explain imgp.spec`");
    let finding = Finding { kind: ConditionType::Ready, status: False, reason: Reason::InvalidSpec, message };
    ImagePipelineStatus {
        observed_generation: generation,
        conditions: vec![condition(finding, &[], generation, now)],
        ..ImagePipelineStatus::default()
    }
}

fn findings(
    pipeline: &ImagePipeline,
    observed: &Observation,
    decision: &Decision,
    applied: &Applied,
    starting: bool,
) -> Vec<Finding> {
    let parts = vec![
        broker_reachable(observed),
        queue_found(pipeline, observed),
        storage_available(observed),
        parking_available(observed),
        consumers_available(observed, decision, applied, starting),
        scaling_active(observed, decision),
        scaling_limited(decision, &pipeline.spec.scaling),
    ];
    std::iter::once(ready(&parts, observed, decision)).chain(parts).collect()
}

fn finding(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { kind, status, reason, message: message.into() }
}

fn broker_reachable(observed: &Observation) -> Finding {
    let kind = ConditionType::BrokerReachable;
    match &observed.depth {
        Ok(_) => finding(kind, True, Reason::Connected, "Connected to RabbitMQ."),
        Err(Cause { reason, .. }) if is_of_queue(*reason) || *reason == Reason::DeclareRefused => {
            finding(kind, True, Reason::Connected, "Connected to RabbitMQ.")
        }
        Err(cause) => finding(kind, False, cause.reason, &cause.message),
    }
}

fn queue_found(pipeline: &ImagePipeline, observed: &Observation) -> Finding {
    let kind = ConditionType::QueueFound;
    let queue = &pipeline.spec.source.rabbitmq.queue;
    match &observed.depth {
        Ok(_) if observed.foreign > 0 => {
            let others = if observed.foreign == 1 { "consumer" } else { "consumers" };
            let message = format!(
                "Queue {queue:?} exists, but other consumers take messages from it, and those messages are never \
                 stored: RabbitMQ counts {} more {others} than this pipeline has pods. Find them with \
                 `rabbitmqctl list_consumers`; stop them (an old script?), or give them a queue of their own.",
                observed.foreign
            );
            finding(kind, True, Reason::ForeignConsumers, message)
        }
        Ok(_) => finding(kind, True, Reason::QueueFound, format!("Queue {queue:?} exists.")),
        Err(cause) if is_of_queue(cause.reason) => finding(kind, False, cause.reason, &cause.message),
        Err(cause) if cause.reason == Reason::DeclareRefused => finding(kind, Unknown, cause.reason, &cause.message),
        Err(_) => finding(kind, Unknown, Reason::NotYetKnown, "No connection to RabbitMQ: see BrokerReachable."),
    }
}

/// Whether RabbitMQ answered that this queue can't be read.
fn is_of_queue(reason: Reason) -> bool {
    matches!(reason, Reason::QueueNotFound | Reason::QueueUnavailable | Reason::QueueInUse | Reason::StreamNotSupported)
}

fn storage_available(observed: &Observation) -> Finding {
    let kind = ConditionType::StorageAvailable;
    if let Some(cause) = &observed.credentials {
        return finding(kind, False, cause.reason, &cause.message);
    }
    health(kind, observed, |report| &report.storage, Reason::StorageAvailable, "Consumers write to the S3 bucket.")
}

fn parking_available(observed: &Observation) -> Finding {
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
    let mut reports = observed.speaking().map(of).peekable();
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
    if observed.speaks_of_before() {
        return finding(kind, Unknown, Reason::ConsumersStarting, STARTING_ANEW);
    }
    finding(kind, False, fault.reason, &fault.message)
}

fn consumers_available(observed: &Observation, decision: &Decision, applied: &Applied, starting: bool) -> Finding {
    let kind = ConditionType::ConsumersAvailable;
    let pods = || observed.pods.iter().filter(|pod| !pod.ending);
    let causes =
        [applied.cause.as_ref(), observed.replica_failure().as_ref(), pods().find_map(|pod| pod.cause.as_ref())]
            .map(Option::<&Cause>::cloned);
    if let Some(Cause { reason, message }) = causes.into_iter().flatten().next() {
        return finding(kind, False, reason, message);
    }
    if let Some(fault) = observed.speaking().find_map(|report| report.broker.fault()) {
        return from_fault(kind, observed, fault);
    }
    // The rule of the pods' own /readyz.
    let works = |report: &PodStatus| report.consuming && report.storage.fault().is_none();
    let running = pods().filter(|pod| pod.report.as_ref().is_some_and(works)).count();
    let silent = pods().filter(|pod| pod.ready && pod.report.is_none()).count();
    let wanted = decision.replicas;
    let held_up = observed.speaking().find_map(|report| report.storage.fault().or(report.parking.fault()));
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
        () => finding(kind, True, Reason::ConsumersReady, "Consumers read the queue."),
    }
}

/// Whether consumers may still be starting: until now the size was 0, or they have been starting for less than
/// [`STARTS_WITHIN`].
fn is_starting(previous: &[Condition], now: Timestamp) -> bool {
    let before = previous.iter().find(|condition| condition.type_ == ConditionType::ConsumersAvailable.as_str());
    before.is_none_or(|before| match before.reason.parse() {
        Ok(Reason::NoConsumers) => true,
        Ok(Reason::ConsumersStarting) => {
            before.status == Unknown.as_str() && now.duration_since(before.last_transition_time.0) < STARTS_WITHIN
        }
        _ => false,
    })
}

fn scaling_active(observed: &Observation, decision: &Decision) -> Finding {
    let kind = ConditionType::ScalingActive;
    match (decision.reason, &observed.depth, observed.no_use_growing()) {
        (Reason::FixedSize, ..) => {
            let message = "spec.replicas sets a fixed size; remove the field to scale by queue depth.";
            finding(kind, False, Reason::FixedSize, message)
        }
        (Reason::Paused, ..) => {
            let message = "spec.paused freezes the size; set the field to false to scale by queue depth.";
            finding(kind, False, Reason::Paused, message)
        }
        (_, Err(cause), _) => finding(
            kind,
            False,
            Reason::DepthUnknown,
            format!("The size does not change, because the queue depth is unknown: {}", cause.message),
        ),
        (Reason::DepthUnknown, Ok(_), _) => {
            let message =
                "The size does not change: RabbitMQ reports 0 messages and 0 consumers, but consumers are connected.";
            finding(kind, False, Reason::DepthUnknown, message)
        }
        (_, Ok(_), Some(Cause { reason, message })) => {
            let message =
                format!("The size does not grow, because more consumers would not help ({reason}): {message}");
            finding(kind, False, Reason::GrowthHeld, message)
        }
        (_, Ok(_), None) => finding(kind, True, Reason::BacklogCounted, "The size follows the queue depth."),
    }
}

fn scaling_limited(decision: &Decision, scaling: &Scaling) -> Finding {
    let kind = ConditionType::ScalingLimited;
    if decision.limited {
        let message = format!(
            "The backlog needs more pods than spec.scaling.maxReplicas ({}); raise it to grow further.",
            scaling.max_replicas
        );
        return finding(kind, True, Reason::AtMaximum, message);
    }
    match decision.reason {
        Reason::FixedSize | Reason::Paused => {
            finding(kind, False, decision.reason, "The limits apply only to a size that follows the queue depth.")
        }
        _ => finding(kind, False, Reason::WithinLimits, "The desired size is within the limits."),
    }
}

/// The summary: `False` with the reason of the first condition that is `False`. A condition that is `Unknown` does not
/// make it `False`, and neither do the two scaling conditions.
fn ready(parts: &[Finding], observed: &Observation, decision: &Decision) -> Finding {
    let kind = ConditionType::Ready;
    let counts = |part: &&Finding| {
        part.status == False && !matches!(part.kind, ConditionType::ScalingActive | ConditionType::ScalingLimited)
    };
    if let Some(wrong) = parts.iter().find(counts) {
        return finding(kind, False, wrong.reason, &wrong.message);
    }
    let named = |reason| parts.iter().find(move |part| part.reason == reason);
    if let Some(starting) = named(Reason::ConsumersStarting) {
        return finding(kind, Unknown, starting.reason, &starting.message);
    }
    if let Some(others) = named(Reason::ForeignConsumers) {
        return finding(kind, True, others.reason, &others.message);
    }
    match (decision.replicas, decision.reason) {
        (0, Reason::FixedSize) => finding(kind, True, Reason::Stopped, "spec.replicas is 0: no consumer runs."),
        (0, Reason::Paused) => finding(kind, True, Reason::Paused, "spec.paused keeps the size at 0."),
        (0, Reason::DepthUnknown) => {
            let why = observed
                .depth
                .as_ref()
                .err()
                .map_or("RabbitMQ reports no consumers, but some run", |cause| &cause.message);
            let message = format!("The size is 0, and the queue depth is unknown: {why}");
            finding(kind, Unknown, Reason::DepthUnknown, message)
        }
        (0, _) => finding(kind, True, Reason::Idle, "The queue is empty; consumers start when messages arrive."),
        _ => finding(kind, True, Reason::Running, "Consumers store the images of the queue in the bucket."),
    }
}

/// Adds generation and transition time. The time changes only with the status, not with the reason (Kubernetes API
/// conventions, "Typical status properties").
fn condition(finding: Finding, previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
    let Finding { kind, status, reason, message } = finding;
    let before = previous.iter().find(|before| before.type_ == kind.as_str() && before.status == status.as_str());
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.as_str().to_owned(),
        reason: reason.to_string(),
        message: sentence(&message),
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}

/// Capitalizes the message: errors are worded to stand within a sentence. A message that begins with a URL or a field
/// name stays unchanged.
fn sentence(message: &str) -> String {
    let is_name = |word: &str| word.contains("://") || word.starts_with("spec.");
    if message.split(' ').next().is_some_and(is_name) {
        return message.to_owned();
    }
    let mut characters = message.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
