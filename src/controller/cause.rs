//! The cause of a fault, as a condition reports it.

use crate::reason::Reason;

/// The reason and message of a condition that reports a fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cause {
    pub reason: Reason,
    /// One or two sentences.
    pub message: String,
}

impl Cause {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}
