//! The changes between two statuses that are published as events. A fault that two conditions report is one event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::decide::Decision;
use crate::api::ImagePipelineStatus;
use crate::api::conditions::{ConditionStatus, ConditionType};
use crate::reason::Reason;

/// A change that is published as an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// Whether the event has type `Warning`.
    pub warning: bool,
    pub reason: Reason,
    pub note: String,
}

pub fn transitions(
    previous: &ImagePipelineStatus,
    current: &ImagePipelineStatus,
    decision: &Decision,
) -> Vec<Transition> {
    let parked = current.parked.filter(|parked| *parked > 0 && previous.parked.unwrap_or(0) == 0);
    let parked = parked.map(|_| Transition {
        warning: true,
        reason: Reason::MessagesParked,
        note: "The parking queue holds messages that could not be stored: status.parked counts them, and their header \
               x-image-pipeline-reason says why. List them with `image-pipeline parked list`."
            .to_owned(),
    });
    let summaries = [ConditionType::Ready, ConditionType::ScalingActive].map(ConditionType::as_str);
    let parts = current.conditions.iter().filter(|condition| !summaries.contains(&condition.type_.as_str()));
    // Operator and consumers may report the same fault in two conditions: one event is enough.
    let mut published: Vec<(&str, &str)> =
        previous.conditions.iter().filter(|before| is_wrong(before)).map(words).collect();
    let of_conditions = parts.filter_map(move |condition| {
        let before = previous.conditions.iter().find(|before| before.type_ == condition.type_);
        let news = transition(before, condition)?;
        if news.warning && published.contains(&words(condition)) {
            return None;
        }
        published.push(words(condition));
        Some(news)
    });
    let (from, to) = (previous.desired_replicas, current.desired_replicas);
    let scaled = (from != to).then(|| Transition {
        warning: false,
        reason: if to > from { Reason::ScaledUp } else { Reason::ScaledDown },
        note: format!("Scaled {from} → {to}: {}", decision.explained()),
    });
    of_conditions.chain(parked).chain(scaled).collect()
}

/// Identifies a fault, whichever condition reports it.
fn words(condition: &Condition) -> (&str, &str) {
    (&condition.reason, &condition.message)
}

/// The event for a changed condition: a fault has begun or ended.
fn transition(before: Option<&Condition>, condition: &Condition) -> Option<Transition> {
    let same = before.is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
    let (is_wrong, was_wrong) = (is_wrong(condition), before.is_some_and(is_wrong));
    let starting = condition.reason == Reason::ConsumersStarting.as_str();
    let worth =
        !same && !starting && (is_wrong || (was_wrong && condition.status != ConditionStatus::Unknown.as_str()));
    let reason = condition.reason.parse().ok().filter(|_| worth)?;
    let alone = before.is_some_and(is_foreign) && !is_wrong;
    let message = if alone { "Only this pipeline's consumers read the queue now." } else { &condition.message };
    Some(Transition { warning: is_wrong, reason, note: format!("{}: {message}", condition.type_) })
}

/// Whether the condition is worth a warning. With foreign consumers, `QueueFound` stays `True` and still warns.
fn is_wrong(condition: &Condition) -> bool {
    let limited = condition.type_ == ConditionType::ScalingLimited.as_str();
    let wrong = if limited { ConditionStatus::True } else { ConditionStatus::False };
    condition.status == wrong.as_str() || is_foreign(condition)
}

fn is_foreign(condition: &Condition) -> bool {
    condition.reason == Reason::ForeignConsumers.as_str()
}
