//! What a consumer tells of itself at `/status`, written by the consumer and read by the
//! controller. It must never hold a secret, a body or an image name: anyone in the cluster's
//! network may read it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// The body of `GET /status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// What the consumer is doing as a whole.
    pub state: ConsumerState,
    /// Whether the broker has registered this consumer on the queue and its stream is open.
    pub consuming: bool,
    /// Messages delivered and neither acknowledged nor handed back.
    pub in_flight: u64,
    /// Messages stored and acknowledged since the process started.
    pub processed: u64,
    /// Messages parked and acknowledged since the process started.
    pub parked: u64,
    /// Copies published in place of messages whose returns came near their queue's delivery limit, or that S3 took
    /// too long to take, since the process started.
    #[serde(default)]
    pub renewed: u64,
    /// Messages finished per second of work, over the last half minute of work; absent if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<f64>,
    /// The broker, seen from this pod.
    pub broker: Health,
    /// The S3 bucket, seen from this pod.
    pub storage: Health,
    /// The parking queue, seen from this pod.
    pub parking: Health,
    /// The last fault of any kind, also when it has passed.
    pub last_error: Option<Fault>,
}

/// The consumer's own state.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ConsumerState {
    /// No session with the broker yet, or none any more: connecting with backoff.
    Connecting,
    /// Consuming.
    Running,
    /// Takes no more messages until what failed works again.
    Waiting,
    /// Told to stop: finishing what it holds, taking nothing.
    Draining,
}

/// What is known of one thing the consumer depends on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Health {
    /// Not tried yet since the process started.
    #[default]
    Unknown,
    /// The last attempt succeeded.
    Available {
        /// When it became so.
        since: Timestamp,
    },
    /// The last attempt failed.
    Failing(Fault),
}

/// A failure, named.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The bounded reason.
    pub reason: Reason,
    /// What was found, what was expected, what to do next: one or two sentences for a person.
    pub message: String,
    /// When this reason was first seen without a success between.
    pub since: Timestamp,
}

/// A consumer that works, for tests.
#[cfg(test)]
pub fn healthy() -> PodStatus {
    let available = Health::Available { since: Timestamp::UNIX_EPOCH };
    PodStatus {
        state: ConsumerState::Running,
        consuming: true,
        in_flight: 1,
        processed: 0,
        parked: 0,
        renewed: 0,
        throughput: None,
        broker: available.clone(),
        storage: available.clone(),
        parking: available,
        last_error: None,
    }
}

impl Health {
    /// The fault, if the last attempt failed.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Health::Failing(fault) => Some(fault),
            Health::Unknown | Health::Available { .. } => None,
        }
    }
}
