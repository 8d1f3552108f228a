//! One pipeline as the console shows it: its state, the causes, and what to do. Pure functions of the status.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::history::History;
use crate::api::conditions::{ConditionStatus, ConditionType};
use crate::api::names;
use crate::api::{ImagePipeline, ImagePipelineStatus};
use crate::reason::Reason;

#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// `None` if the resource can't be parsed.
    pub flow: Option<Flow>,
    /// The status after the last reconcile; the resource may receive it later.
    pub status: Arc<ImagePipelineStatus>,
    pub history: History,
}

/// Where a pipeline's images come from and go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub queue: String,
    pub parking_queue: String,
    pub bucket: String,
}

impl Flow {
    pub fn of(pipeline: &ImagePipeline) -> Self {
        let spec = &pipeline.spec;
        Self {
            queue: spec.source.rabbitmq.queue.clone(),
            parking_queue: names::parking_queue(&spec.source, &spec.failures),
            bucket: spec.destination.s3.bucket.clone(),
        }
    }
}

/// The state of a pipeline, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Urgency {
    /// `Ready` is `False`.
    Failing,
    /// `Ready` is `True`, but a user should look: parked messages, foreign consumers, or a limited size.
    Noticed,
    /// `Ready` is `Unknown` or absent.
    Unknown,
    /// Nothing to do.
    Fine,
}

impl Urgency {
    /// All states, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Failing, Self::Noticed, Self::Unknown, Self::Fine];

    /// The state as the page writes it.
    pub fn words(self) -> &'static str {
        match self {
            Urgency::Failing => "needs attention",
            Urgency::Noticed => "worth a look",
            Urgency::Unknown => "not known yet",
            Urgency::Fine => "fine",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// What was found and what to do.
    pub text: String,
    /// A command that shows details.
    pub command: String,
}

impl Entry {
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
    }

    pub fn state(&self) -> Urgency {
        match self.condition(ConditionType::Ready).and_then(|ready| ready.status.parse().ok()) {
            Some(ConditionStatus::False) => Urgency::Failing,
            Some(ConditionStatus::True) if self.noticed().next().is_some() || self.is_parked() => Urgency::Noticed,
            Some(ConditionStatus::True) => Urgency::Fine,
            _ => Urgency::Unknown,
        }
    }

    /// What to do, the most urgent first; empty for a pipeline that is fine.
    pub fn advice(&self, namespace: &str, name: &str) -> Vec<Advice> {
        let ready = self.condition(ConditionType::Ready).filter(|ready| ready.status != ConditionStatus::True.as_str());
        let mut texts: Vec<&str> = Vec::new();
        for condition in ready.into_iter().chain(self.noticed()) {
            // The messages of other conditions may contain the same cause.
            let message = condition.message.to_lowercase();
            if !texts.iter().any(|text| message.contains(&text.to_lowercase())) {
                texts.push(&condition.message);
            }
        }
        let describe = format!("kubectl -n {namespace} describe imgp {name}");
        let advice = |text: &str| Advice { text: text.to_owned(), command: describe.clone() };
        texts.into_iter().map(advice).chain(self.parked()).collect()
    }

    /// Conditions that need attention although the pipeline works.
    fn noticed(&self) -> impl Iterator<Item = &Condition> {
        let is = |condition: &Condition, reason: Reason| condition.reason == reason.as_str();
        self.status.conditions.iter().filter(move |condition| {
            let others =
                is(condition, Reason::ForeignConsumers) && condition.type_ == ConditionType::QueueFound.as_str();
            let held = condition.type_ == ConditionType::ScalingActive.as_str()
                && condition.status == ConditionStatus::False.as_str()
                && !is(condition, Reason::FixedSize)
                && !is(condition, Reason::Paused);
            others || held || is(condition, Reason::AtMaximum)
        })
    }

    fn is_parked(&self) -> bool {
        self.status.parked.is_some_and(|parked| parked > 0)
    }

    fn parked(&self) -> Option<Advice> {
        let (parked, flow) = (self.status.parked.filter(|parked| *parked > 0)?, self.flow.as_ref()?);
        let queue = &flow.parking_queue;
        let messages = if parked == 1 { "1 message waits" } else { &format!("{parked} messages wait") };
        Some(Advice {
            text: format!(
                "{messages} in parking queue {queue:?}, each with the reason why it could not be stored. List the \
                 messages, fix the cause, then redrive or drop them."
            ),
            command: format!("image-pipeline parked list --queue {} --broker-secret DIR", for_shell(queue)),
        })
    }
}

/// Quotes a word for a shell (POSIX, "Quoting"): users choose the queue's name.
fn for_shell(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-/:@%+=,".contains(character);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// A pipeline with these conditions, each as type, status, reason, message.
    pub fn entry(conditions: &[(ConditionType, &str, Reason, &str)], parked: Option<i64>) -> Entry {
        let condition = |&(kind, status, reason, message): &(ConditionType, &str, Reason, &str)| Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        let conditions = conditions.iter().map(condition).collect();
        let flow =
            Flow { queue: "tiles".to_owned(), parking_queue: "tiles.parked".to_owned(), bucket: "forest".to_owned() };
        let status = ImagePipelineStatus { conditions, parked, ..ImagePipelineStatus::default() };
        Entry { flow: Some(flow), status: Arc::new(status), history: History::default() }
    }

    const RUNNING: (ConditionType, &str, Reason, &str) = (ConditionType::Ready, "True", Reason::Running, "It runs.");

    #[test]
    fn a_pipeline_is_as_its_conditions_say() {
        use ConditionType::{QueueFound, Ready, ScalingActive, ScalingLimited};
        let others = (QueueFound, "True", Reason::ForeignConsumers, "Others read it.");
        let held = (ScalingActive, "False", Reason::GrowthHeld, "It does not grow.");
        let limited = (ScalingLimited, "True", Reason::AtMaximum, "At the maximum.");
        let fixed = (ScalingActive, "False", Reason::FixedSize, "Fixed.");
        for (conditions, parked, state) in [
            (vec![], None, Urgency::Unknown),
            (vec![(Ready, "Unknown", Reason::ConsumersStarting, "They start.")], None, Urgency::Unknown),
            (vec![(Ready, "False", Reason::AccessDenied, "Denied."), limited], Some(1), Urgency::Failing),
            (vec![RUNNING], None, Urgency::Fine),
            (vec![RUNNING, fixed], Some(0), Urgency::Fine),
            (vec![RUNNING], Some(2), Urgency::Noticed),
            (vec![RUNNING, others], None, Urgency::Noticed),
            (vec![RUNNING, held], None, Urgency::Noticed),
            (vec![RUNNING, limited], None, Urgency::Noticed),
        ] {
            assert_eq!(entry(&conditions, parked).state(), state, "{conditions:?}");
        }
    }

    #[test]
    fn what_to_do_is_said_once_for_each_cause() {
        let denied = "Bucket \"forest\" can't be written: allow s3:PutObject.";
        let held = "The size does not grow, because more consumers would not help (AccessDenied): bucket \"forest\" \
                    can't be written: allow s3:PutObject.";
        let conditions = [
            (ConditionType::Ready, "False", Reason::AccessDenied, denied),
            (ConditionType::StorageAvailable, "False", Reason::AccessDenied, denied),
            (ConditionType::ScalingActive, "False", Reason::GrowthHeld, held),
        ];
        let advice = entry(&conditions, Some(3)).advice("greench", "tiles");
        assert_eq!(advice.len(), 2, "{advice:?}");
        assert_eq!(
            (advice[0].text.as_str(), advice[0].command.as_str()),
            (denied, "kubectl -n greench describe imgp tiles")
        );
        assert!(advice[1].text.starts_with("3 messages wait in parking queue \"tiles.parked\""), "{advice:?}");
        assert_eq!(advice[1].command, "image-pipeline parked list --queue tiles.parked --broker-secret DIR");
        assert_eq!(entry(&[RUNNING], Some(0)).advice("greench", "tiles"), []);
        let mut odd = entry(&[RUNNING], Some(1));
        odd.flow.as_mut().unwrap().parking_queue = "a;id'$(id)".to_owned();
        let command = &odd.advice("greench", "tiles")[0].command;
        assert_eq!(command, r"image-pipeline parked list --queue 'a;id'\''$(id)' --broker-secret DIR");
    }
}
