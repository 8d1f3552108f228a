//! The JSON that a consumer serves at `/status` and the operator polls. It holds no Secret, message body or image name:
//! anyone in the cluster's network may read it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// The body of `GET /status`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub state: ConsumerState,
    /// Whether RabbitMQ has registered this consumer on the queue and the delivery stream is open.
    pub consuming: bool,
    /// Messages delivered, and neither acknowledged nor requeued yet.
    pub in_flight: u64,
    /// Messages stored and acknowledged since the process started.
    pub processed: u64,
    /// Messages parked and acknowledged since the process started.
    pub parked: u64,
    /// Messages moved to the end of their queue since the process started, by publishing a copy: a message came near
    /// the queue's delivery limit, or S3 or the parking queue refused it for too long.
    #[serde(default)]
    pub renewed: u64,
    /// Messages finished per second of work, over the last 30 s of work; absent if the consumer has not worked yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throughput: Option<f64>,
    /// RabbitMQ, seen from this pod.
    pub broker: Health,
    /// The S3 bucket, seen from this pod.
    pub storage: Health,
    /// The parking queue, seen from this pod.
    pub parking: Health,
    /// The last fault of any kind; kept after it has passed.
    pub last_error: Option<Fault>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ConsumerState {
    /// No connection to RabbitMQ: connecting with backoff.
    Connecting,
    Running,
    /// Stopped consuming until the failed dependency works again.
    Waiting,
    /// Received SIGTERM: finishes the messages it holds and takes no more.
    Draining,
}

/// State of one dependency of the consumer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all_fields = "camelCase")]
pub enum Health {
    /// Not used since the process started.
    #[default]
    Unknown,
    /// The last attempt succeeded.
    Available {
        /// When the dependency became available.
        since: Timestamp,
    },
    /// The last attempt failed.
    Failing(Fault),
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    pub reason: Reason,
    /// One or two sentences: value found, value expected, what to do.
    pub message: String,
    /// First failure with this reason since the last success.
    pub since: Timestamp,
}

/// The status of a consumer without faults.
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
    /// The fault of the last attempt; `None` if it succeeded or nothing was tried.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Health::Failing(fault) => Some(fault),
            Health::Unknown | Health::Available { .. } => None,
        }
    }
}
