//! One pipeline as the console shows it: how it is, why, and what a person does next. Pure. It must never
//! say more than its status says.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::history::History;
use crate::api::conditions::ConditionType;
use crate::api::names;
use crate::api::{ImagePipeline, ImagePipelineStatus};
use crate::reason::Reason;

/// What is known of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Where its images come from and go to; `None` if its resource can't be read.
    pub flow: Option<Flow>,
    /// Its status as of the last look, which the resource itself may have later.
    pub status: ImagePipelineStatus,
    /// Its last hour.
    pub history: History,
}

/// Where images come from and go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The queue that is read.
    pub queue: String,
    /// The queue of messages that can't succeed.
    pub parking_queue: String,
    /// The bucket that is written.
    pub bucket: String,
}

impl Flow {
    /// That of a pipeline.
    pub fn of(pipeline: &ImagePipeline) -> Self {
        let spec = &pipeline.spec;
        Self {
            queue: spec.source.rabbitmq.queue.clone(),
            parking_queue: names::parking_queue(&spec.source, &spec.failures),
            bucket: spec.destination.s3.bucket.clone(),
        }
    }
}

/// How a pipeline is, the most urgent first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// It does not do its work.
    Failing,
    /// It works, and somebody should look.
    Noticed,
    /// Nothing can be said yet.
    Unknown,
    /// Nothing is to be done.
    Fine,
}

impl State {
    /// Every state, in their order.
    pub const ALL: [Self; 4] = [Self::Failing, Self::Noticed, Self::Unknown, Self::Fine];

    /// The state of one pipeline, in words.
    pub fn words(self) -> &'static str {
        match self {
            State::Failing => "needs attention",
            State::Noticed => "worth a look",
            State::Unknown => "not known yet",
            State::Fine => "fine",
        }
    }
}

/// Something that a person should know of, and what they do next.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// What was found, and what to do about it.
    pub text: String,
    /// A command that shows more.
    pub command: String,
}

impl Entry {
    /// The condition of this type, if there is one.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
    }

    /// How it is.
    pub fn state(&self) -> State {
        match self.condition(ConditionType::Ready).map(|ready| ready.status.as_str()) {
            Some("False") => State::Failing,
            Some("True") if self.noticed().next().is_some() || self.is_parked() => State::Noticed,
            Some("True") => State::Fine,
            _ => State::Unknown,
        }
    }

    /// What a person should know, the most urgent first; nothing for one that is fine.
    pub fn advice(&self, namespace: &str, name: &str) -> Vec<Advice> {
        let ready = self.condition(ConditionType::Ready).filter(|ready| ready.status != "True");
        let mut texts: Vec<&str> = Vec::new();
        for condition in ready.into_iter().chain(self.noticed()) {
            // The cause of one condition is told by others too, within a sentence of theirs.
            let message = condition.message.to_lowercase();
            if !texts.iter().any(|told| message.contains(&told.to_lowercase())) {
                texts.push(&condition.message);
            }
        }
        let describe = format!("kubectl -n {namespace} describe imgp {name}");
        let advice = |text: &str| Advice { text: text.to_owned(), command: describe.clone() };
        texts.into_iter().map(advice).chain(self.parked()).collect()
    }

    /// Conditions that are no fault of the whole.
    fn noticed(&self) -> impl Iterator<Item = &Condition> {
        let is = |condition: &Condition, reason: Reason| condition.reason == reason.as_str();
        self.status.conditions.iter().filter(move |condition| {
            let others =
                is(condition, Reason::ForeignConsumers) && condition.type_ == ConditionType::QueueFound.as_str();
            let held = condition.type_ == ConditionType::ScalingActive.as_str()
                && condition.status == "False"
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
                "{messages} in queue {queue:?}: what can't be stored as it is, each with its reason. Look at them, mend \
                 the cause, then redrive or drop them."
            ),
            command: format!("image-pipeline parked list --queue {} --broker-secret DIR", for_shell(queue)),
        })
    }
}

/// A word that a shell leaves as it is: a queue's name is a text of those who make pipelines (POSIX, "Quoting").
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

    /// A pipeline with these conditions: type, status, reason, message.
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
        Entry { flow: Some(flow), status, history: History::default() }
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
            (vec![], None, State::Unknown),
            (vec![(Ready, "Unknown", Reason::ConsumersStarting, "They start.")], None, State::Unknown),
            (vec![(Ready, "False", Reason::AccessDenied, "Denied."), limited], Some(1), State::Failing),
            (vec![RUNNING], None, State::Fine),
            (vec![RUNNING, fixed], Some(0), State::Fine),
            (vec![RUNNING], Some(2), State::Noticed),
            (vec![RUNNING, others], None, State::Noticed),
            (vec![RUNNING, held], None, State::Noticed),
            (vec![RUNNING, limited], None, State::Noticed),
        ] {
            assert_eq!(entry(&conditions, parked).state(), state, "{conditions:?}");
        }
    }

    #[test]
    fn what_to_do_is_said_once_for_each_cause() {
        let denied = "Bucket \"forest\" can't be written: allow s3:PutObject.";
        let held = "The size does not grow, more consumers could not help (AccessDenied): bucket \"forest\" can't be \
                    written: allow s3:PutObject.";
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
        assert!(advice[1].text.starts_with("3 messages wait in queue \"tiles.parked\""), "{advice:?}");
        assert_eq!(advice[1].command, "image-pipeline parked list --queue tiles.parked --broker-secret DIR");
        assert_eq!(entry(&[RUNNING], Some(0)).advice("greench", "tiles"), []);
        let mut odd = entry(&[RUNNING], Some(1));
        odd.flow.as_mut().unwrap().parking_queue = "a;id'$(id)".to_owned();
        let command = &odd.advice("greench", "tiles")[0].command;
        assert_eq!(command, r"image-pipeline parked list --queue 'a;id'\''$(id)' --broker-secret DIR");
    }
}
