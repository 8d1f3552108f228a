//! The status of an ImagePipeline: a pure function of what was observed, decided and applied. A state that is not known
//! is reported as `Unknown`.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::apply::Applied;
use super::decide::{Basis, Decision};
use super::observation::Observation;
use crate::api::conditions::ConditionStatus::{self, False, True, Unknown};
use crate::api::conditions::ConditionType;
use crate::api::names;
use crate::api::{ImagePipeline, ImagePipelineStatus};
use crate::reason::Reason;

mod broker;
mod consumers;
mod scaling;

/// How often the status is written when only the message counts (`backlog`, `parked`) have changed; more often if a
/// count has become 0 or is no longer 0.
const REFRESH_AFTER: SignedDuration = SignedDuration::from_secs(30);
const REFRESH_ZERO_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// The most bytes of a condition's message. Parts of a message come from brokers, stores and pods.
const MESSAGE_BYTES: usize = 1024;

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
    // In whole seconds, as Kubernetes writes times: the status that the watch delivers is equal to this one.
    let now = Timestamp::from_second(observed.at.as_second()).unwrap_or(observed.at);
    let live = observed.deployment.as_ref().and_then(|deployment| deployment.status.as_ref());
    let generation = pipeline.metadata.generation;
    let starting = consumers::is_starting(&previous.conditions, now);
    let findings = findings(pipeline, observed, decision, applied, starting);
    let resized = previous.desired_replicas != decision.replicas;
    ImagePipelineStatus {
        observed_generation: generation,
        replicas: live.map_or(0, |status| status.replicas),
        selector: names::selector(pipeline.metadata.name.as_deref().unwrap_or_default()),
        ready_replicas: live.map_or(0, |status| status.ready),
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
    match () {
        () if without_counts(previous) != without_counts(current) => true,
        () if any(current) != any(previous) => since_written >= REFRESH_ZERO_AFTER,
        () => counts(current) != counts(previous) && since_written >= REFRESH_AFTER,
    }
}

/// Everything but the message counts.
fn without_counts(status: &ImagePipelineStatus) -> impl PartialEq {
    let ImagePipelineStatus {
        observed_generation,
        replicas,
        selector,
        ready_replicas,
        desired_replicas,
        backlog: _,
        parked: _,
        last_scale_time,
        conditions,
    } = status;
    (observed_generation, replicas, selector, ready_replicas, desired_replicas, last_scale_time, conditions)
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
        broker::reachable(observed),
        broker::queue_found(pipeline, observed),
        consumers::storage_available(observed),
        consumers::parking_available(observed),
        consumers::available(observed, decision, applied, starting),
        scaling::active(observed, decision),
        scaling::limited(decision, &pipeline.spec.scaling),
    ];
    std::iter::once(ready(&parts, observed, decision)).chain(parts).collect()
}

fn finding(kind: ConditionType, status: ConditionStatus, reason: Reason, message: impl Into<String>) -> Finding {
    Finding { kind, status, reason, message: message.into() }
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
    match (decision.replicas, decision.basis) {
        (0, Basis::FixedSize) => finding(kind, True, Reason::Stopped, "spec.replicas is 0: no consumer runs."),
        (0, Basis::Paused) => finding(kind, True, Reason::Paused, "spec.paused keeps the size at 0."),
        (0, Basis::DepthUnknown) => {
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
        message: bounded(sentence(&message)),
        observed_generation: generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    }
}

fn bounded(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES - '…'.len_utf8()));
        message.push('…');
    }
    message
}

/// Capitalizes the message: errors are worded to stand within a sentence. A message that begins with a URL, a host or a
/// field stays unchanged.
fn sentence(message: &str) -> String {
    let is_name = |word: &str| word.trim_end_matches(['.', ',', ':']).contains(['.', '/']);
    if message.split(' ').next().is_some_and(is_name) {
        return message.to_owned();
    }
    let mut characters = message.chars();
    characters.next().map(|first| first.to_uppercase().chain(characters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
