//! What has changed from one status to the next and deserves an event. It must never repeat what has been
//! told already.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::reason_named;
use crate::api::ImagePipelineStatus;
use crate::api::conditions::ConditionType;
use crate::controller::decide::Decision;
use crate::reason::Reason;

/// A change worth an event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// Whether a person should look.
    pub warning: bool,
    /// The bounded reason.
    pub reason: Reason,
    /// What happened.
    pub note: String,
}

/// What has changed and deserves an event.
pub fn transitions(
    previous: &ImagePipelineStatus,
    current: &ImagePipelineStatus,
    decision: &Decision,
) -> Vec<Transition> {
    let parked = current.parked.filter(|parked| *parked > 0 && previous.parked.unwrap_or(0) == 0);
    let parked = parked.map(|_| Transition {
        warning: true,
        reason: Reason::MessagesParked,
        note: "Messages that can't be stored as they are wait in the parking queue: status.parked counts them, and \
               each says why in its header x-image-pipeline-reason."
            .to_owned(),
    });
    let summaries = [ConditionType::Ready, ConditionType::ScalingActive].map(ConditionType::as_str);
    let parts = current.conditions.iter().filter(|condition| !summaries.contains(&condition.type_.as_str()));
    // The controller and the consumers may find the same, which is told once.
    let mut told: Vec<(&str, &str)> = previous.conditions.iter().filter(|before| is_wrong(before)).map(words).collect();
    let of_conditions = parts.filter_map(move |condition| {
        let before = previous.conditions.iter().find(|before| before.type_ == condition.type_);
        let news = transition(before, condition)?;
        if news.warning && told.contains(&words(condition)) {
            return None;
        }
        told.push(words(condition));
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

/// What is said of something wrong, whichever condition says it.
fn words(condition: &Condition) -> (&str, &str) {
    (&condition.reason, &condition.message)
}

/// What the change of a condition tells: that something is wrong, or is no longer.
fn transition(before: Option<&Condition>, condition: &Condition) -> Option<Transition> {
    let same = before.is_some_and(|before| before.status == condition.status && before.reason == condition.reason);
    let (is_wrong, was_wrong) = (is_wrong(condition), before.is_some_and(is_wrong));
    let starting = condition.reason == Reason::ConsumersStarting.as_str();
    let worth = !same && !starting && (is_wrong || (was_wrong && condition.status != "Unknown"));
    let reason = reason_named(&condition.reason).filter(|_| worth)?;
    let alone = before.is_some_and(is_foreign) && !is_wrong;
    let message = if alone { "No others consume the queue any more." } else { &condition.message };
    Some(Transition { warning: is_wrong, reason, note: format!("{}: {message}", condition.type_) })
}

/// Whether a person should look. Others on the queue leave it found.
fn is_wrong(condition: &Condition) -> bool {
    let wrong = if condition.type_ == ConditionType::ScalingLimited.as_str() { "True" } else { "False" };
    condition.status == wrong || is_foreign(condition)
}

fn is_foreign(condition: &Condition) -> bool {
    condition.reason == Reason::ForeignConsumers.as_str()
}
