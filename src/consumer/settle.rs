//! The faults for which a message can never be stored, and their reason and detail in the parking headers. Pure.

use super::decode::DecodeError;
use super::encode::EncodeError;
use super::isolate::Crash;
pub use super::isolate::Refusal;
use crate::reason::Reason;

#[derive(Debug)]
pub enum Failure {
    /// The AMQP properties can't be parsed.
    Unreadable(String),
    Decode(DecodeError),
    Encode(EncodeError),
    /// The image decoder panicked.
    Panicked,
    /// A decoder process reported a fault of the message or of its image.
    Refused(Refusal),
    /// A decoder process ended without a result.
    Crashed(Crash),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let (reason, detail) = match failure {
            Failure::Unreadable(detail) => (Reason::MessageUnreadable, detail),
            Failure::Decode(error) => (error.reason(), error.to_string()),
            Failure::Encode(error) => (error.reason(), error.to_string()),
            Failure::Panicked => (
                Reason::DecoderPanicked,
                "the decoder panicked on this image: the file is damaged, or uses an unsupported variant of its \
                 format; open it with another program, and publish it again as PNG"
                    .to_owned(),
            ),
            Failure::Refused(refusal) => return refusal,
            Failure::Crashed(crash) => (
                Reason::CrashingMessage,
                format!(
                    "the process that decoded this message {crash}; save the image with `parked save`, then publish a \
                     repaired image or drop the message"
                ),
            ),
        };
        Self { reason, detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_own_reason_and_a_sentence() {
        for (failure, expected) in [
            (Failure::Decode(DecodeError::MissingField("field /image".to_owned())), Reason::MissingField),
            (Failure::Encode(EncodeError::InvalidImage("cut off".to_owned())), Reason::InvalidImage),
            (Failure::Panicked, Reason::DecoderPanicked),
            (Failure::Unreadable("not UTF-8".to_owned()), Reason::MessageUnreadable),
            (Failure::Crashed(Crash::Deadline(60)), Reason::CrashingMessage),
            (
                Failure::Refused(Refusal { reason: Reason::InvalidName, detail: "empty".to_owned() }),
                Reason::InvalidName,
            ),
        ] {
            let Refusal { reason, detail } = failure.into();
            assert_eq!(reason, expected);
            assert!(!detail.is_empty(), "{expected}");
        }
    }
}
