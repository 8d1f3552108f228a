//! Last step: what becomes of a message, judged from the result of the steps before. Pure. It must
//! never let a message be acknowledged that is neither stored nor parked, and never park one for a
//! fault that is not its own.

use super::decode::DecodeError;
use super::encode::EncodeError;
use super::isolate::{Crash, Refusal};
use super::upload::{Kind, UploadError};
use crate::api::failures::FailurePolicy;
use crate::reason::Reason;

/// Why a message is not stored.
#[derive(Debug)]
pub enum Failure {
    /// The message's properties can't be read.
    Unreadable(String),
    /// The body is no job.
    Decode(DecodeError),
    /// The image can't become a PNG.
    Encode(EncodeError),
    /// A decoder gave up without saying why.
    Panicked,
    /// A decoder process found that it is no job, or that the image can't become a PNG.
    Refused(Refusal),
    /// A decoder process ended without a result.
    Crashed(Crash),
    /// The store did not take it.
    Upload(UploadError),
}

/// What to do with a message.
#[derive(Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is stored: acknowledge it.
    Acknowledge,
    /// It can never succeed: do with it as `policy` says.
    Refuse {
        /// `spec.failures.policy`.
        policy: FailurePolicy,
        /// Why.
        reason: Reason,
        /// The same for a person.
        detail: String,
    },
    /// Not its fault: keep it and try again after a pause.
    Retry,
    /// Not its fault, and there is no time left: leave it to the broker, which delivers it again.
    HandBack,
}

/// Judges one result. `stopping`: whether the process was told to stop.
pub fn settle(result: Result<(), Failure>, policy: FailurePolicy, stopping: bool) -> Verdict {
    let refuse = |reason, detail| Verdict::Refuse { policy, reason, detail };
    match result {
        Ok(()) => Verdict::Acknowledge,
        Err(Failure::Unreadable(detail)) => refuse(Reason::MessageUnreadable, detail),
        Err(Failure::Decode(error)) => refuse(error.reason(), error.to_string()),
        Err(Failure::Encode(error)) => refuse(error.reason(), error.to_string()),
        Err(Failure::Panicked) => {
            refuse(Reason::DecoderPanicked, "the image's decoder panicked: the file is damaged, or hostile".to_owned())
        }
        Err(Failure::Refused(Refusal { reason, detail })) => refuse(reason, detail),
        Err(Failure::Crashed(crash)) => refuse(
            Reason::CrashingMessage,
            format!(
                "the process that decoded this message {crash}; save the image with `parked save`, and publish a \
                 repaired one or drop it"
            ),
        ),
        Err(Failure::Upload(error)) => match (error.kind(), stopping) {
            (Kind::Message, _) => refuse(error.reason(), error.to_string()),
            (Kind::Passing | Kind::Environment, false) => Verdict::Retry,
            (Kind::Passing | Kind::Environment, true) => Verdict::HandBack,
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn upload(kind: Kind) -> Result<(), Failure> {
        Err(Failure::Upload(UploadError::of_kind(kind)))
    }

    #[test]
    fn only_a_stored_message_is_acknowledged_and_only_its_own_fault_parks_it() {
        for (stopping, policy) in [false, true].into_iter().zip([FailurePolicy::Park, FailurePolicy::Discard]) {
            assert_eq!(settle(Ok(()), policy, stopping), Verdict::Acknowledge);
            for (own, expected) in [
                (Err(Failure::Decode(DecodeError::MissingField("field /image".to_owned()))), Reason::MissingField),
                (Err(Failure::Encode(EncodeError::InvalidImage("cut off".to_owned()))), Reason::InvalidImage),
                (Err(Failure::Panicked), Reason::DecoderPanicked),
                (Err(Failure::Unreadable("not UTF-8".to_owned())), Reason::MessageUnreadable),
                (Err(Failure::Crashed(Crash::Deadline(60))), Reason::CrashingMessage),
                (
                    Err(Failure::Refused(Refusal { reason: Reason::InvalidName, detail: "empty".to_owned() })),
                    Reason::InvalidName,
                ),
                (upload(Kind::Message), Reason::StorageRefused),
            ] {
                match settle(own, policy, stopping) {
                    Verdict::Refuse { policy: by, reason, detail } => {
                        assert_eq!((by, reason), (policy, expected));
                        assert!(!detail.is_empty());
                    }
                    other => panic!("{expected} gives {other:?}"),
                }
            }
            let not_its_own = if stopping { Verdict::HandBack } else { Verdict::Retry };
            assert_eq!(settle(upload(Kind::Passing), policy, stopping), not_its_own);
            assert_eq!(settle(upload(Kind::Environment), policy, stopping), not_its_own);
        }
    }
}
