//! `spec.failures`: what happens to messages that can never succeed, and how long others are held.
//! Its doc comments are what `kubectl explain` shows. It must hold no behaviour beyond defaults.

use kube::core::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::duration_schema;

/// What happens to a message that can never succeed: broken JSON, base64, image or name. Trouble
/// with the store or the broker is never a message's fault: such messages are kept.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// `Park`: it is published, unchanged, to the parking queue with the reason in its headers; it
    /// is acknowledged once the broker has confirmed that, so nothing is lost. `DeadLetter`: it is
    /// rejected, and the queue's own dead-letter exchange has it; a queue without one loses it, and
    /// a classic queue may lose it on the way. `Discard`: it is acknowledged and lost, with a line
    /// in the log and a count in the metrics.
    #[serde(default)]
    pub policy: FailurePolicy,
    /// The parking queue, in the source's virtual host. A consumer declares a queue that does not exist: as a
    /// quorum queue where the broker offers them, otherwise as a durable classic queue. An existing queue is used
    /// unchanged. Absent: the source queue's name followed by `.parked`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub parking_queue: String,
    /// The source queue's own delivery limit: `x-delivery-limit` of a quorum queue, 20 unless it or a policy
    /// sets it. The broker drops or dead-letters a message that was returned more often. The consumer acts at
    /// half of it.
    #[serde(default = "default_delivery_limit")]
    #[schemars(range(min = 2, max = 1_000_000))]
    pub delivery_limit: u32,
    /// How long a message is held from its first failure on while S3, or the parking queue, takes nothing: a
    /// duration such as `15m`. Meanwhile the consumer takes no more messages. Then it returns all but one to the
    /// queue, once, and retries with that one until S3 takes it. It must be less than the broker's delivery
    /// acknowledgement timeout (30 minutes by default), which would return the messages again and again.
    #[serde(default = "default_holding_time")]
    #[schemars(schema_with = "holding_time_schema")]
    pub holding_time: Duration,
}

/// What happens to a message that can never succeed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum FailurePolicy {
    /// It goes to the parking queue.
    #[default]
    Park,
    /// It goes wherever the queue's dead letters go.
    DeadLetter,
    /// It is lost.
    Discard,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            policy: FailurePolicy::default(),
            parking_queue: String::new(),
            delivery_limit: default_delivery_limit(),
            holding_time: default_holding_time(),
        }
    }
}

fn default_delivery_limit() -> u32 {
    20
}

fn default_holding_time() -> Duration {
    std::time::Duration::from_secs(15 * 60).into()
}

fn holding_time_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema("failures.holdingTime", "1s", "24h")
}
