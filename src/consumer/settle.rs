//! How a message ends: stored, renewed, or refused with the reason and detail of the parking headers. Pure.

use serde::{Deserialize, Serialize};

use super::capacity::Panicked;
use super::decode::DecodeError;
use super::encode::EncodeError;
use super::metrics::Outcome;
use crate::api::failures::FailurePolicy;
use crate::reason::Reason;

/// Why a message can never succeed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Refusal {
    pub reason: Reason,
    /// The cause for people, with the fix.
    pub detail: String,
}

/// How a message is settled when the policy returns `Action::Acknowledge`.
#[derive(Debug, Eq, PartialEq)]
pub enum Settlement {
    Stored,
    Renewed,
    Refused(Refusal),
}

impl Settlement {
    pub fn outcome(&self, policy: FailurePolicy) -> Outcome {
        match (self, policy) {
            (Self::Stored, _) => Outcome::Stored,
            (Self::Renewed, _) => Outcome::Renewed,
            (Self::Refused(_), FailurePolicy::Park) => Outcome::Parked,
            (Self::Refused(_), FailurePolicy::DeadLetter) => Outcome::DeadLettered,
            (Self::Refused(_), FailurePolicy::Discard) => Outcome::Discarded,
        }
    }

    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Stored | Self::Renewed => None,
        }
    }
}

impl Refusal {
    /// The properties of the message can't be parsed.
    pub fn unreadable(detail: String) -> Self {
        Self { reason: Reason::MessageUnreadable, detail }
    }

    /// The broker refused the new copy of a message that was returned `returns` times; it drops the message after
    /// `limit` returns.
    pub fn delivered_too_often(returns: u64, limit: u64) -> Self {
        let detail = format!(
            "this message was returned to its queue {returns} times, and the broker drops it after {limit} \
             (failures.deliveryLimit); the broker refused a new copy of it: allow this user to write to the default \
             exchange, or raise the queue's length limit, then redrive the message"
        );
        Self { reason: Reason::DeliveredTooOften, detail }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        Self { reason: error.reason(), detail: error.to_string() }
    }
}

impl From<EncodeError> for Refusal {
    fn from(error: EncodeError) -> Self {
        Self { reason: error.reason(), detail: error.to_string() }
    }
}

impl From<Panicked> for Refusal {
    fn from(_: Panicked) -> Self {
        let detail = "the decoder panicked on this image: the file is damaged, or uses an unsupported variant of its \
                      format; open it with another program, and publish it again as PNG";
        Self { reason: Reason::DecoderPanicked, detail: detail.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_own_reason_and_a_sentence() {
        for (refusal, expected) in [
            (DecodeError::MissingField("field /image".to_owned()).into(), Reason::MissingField),
            (EncodeError::InvalidImage("cut off".to_owned()).into(), Reason::InvalidImage),
            (Panicked.into(), Reason::DecoderPanicked),
            (Refusal::delivered_too_often(10, 20), Reason::DeliveredTooOften),
        ] {
            let Refusal { reason, detail } = refusal;
            assert_eq!(reason, expected);
            assert!(!detail.is_empty(), "{expected}");
        }
    }

    #[test]
    fn only_the_policy_decides_what_becomes_of_a_refused_message() {
        let refused = Settlement::Refused(Panicked.into());
        for (policy, expected) in [
            (FailurePolicy::Park, Outcome::Parked),
            (FailurePolicy::DeadLetter, Outcome::DeadLettered),
            (FailurePolicy::Discard, Outcome::Discarded),
        ] {
            assert_eq!(refused.outcome(policy), expected);
            assert_eq!(Settlement::Stored.outcome(policy), Outcome::Stored);
            assert_eq!(Settlement::Renewed.outcome(policy), Outcome::Renewed);
        }
    }
}
