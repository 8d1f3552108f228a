//! `spec.failures`: what happens to messages that can never be stored, and how long messages are held during an outage.

use kube::core::Duration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::duration_schema;

/// What happens to a message that can never be stored, because its JSON, base64, image or name is
/// invalid. Faults of S3 or RabbitMQ do not count: the message is held and retried.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// What the consumer does with a message that can never be stored.
    ///
    /// `Park` publishes the message to the parking queue, with the body unchanged and the reason in the
    /// headers, and acknowledges it after RabbitMQ has confirmed the copy; no message is lost. `DeadLetter`
    /// rejects the message, and RabbitMQ routes it to the dead-letter exchange of the queue. Without a
    /// dead-letter exchange the message is lost, and a classic queue can lose it on the way. `Discard`
    /// acknowledges the message: it is lost, and only logged and counted in the metrics.
    #[serde(default)]
    pub policy: FailurePolicy,
    /// Name of the parking queue, in the virtual host of the source queue. If the queue does not exist, a
    /// consumer declares it as a quorum queue or, if RabbitMQ has no quorum queues, as a durable classic
    /// queue. An existing queue is used unchanged. If absent, the name is that of the source queue followed
    /// by `.parked`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 255))]
    pub parking_queue: String,
    /// Delivery limit of the source queue: set it to the `x-delivery-limit` of the queue or its policy.
    /// RabbitMQ drops or dead-letters a message that is returned to a quorum queue more often than that
    /// (20 times by default). The consumer acts at half of the limit.
    #[serde(default = "default_delivery_limit")]
    #[schemars(range(min = 2, max = 1_000_000))]
    pub delivery_limit: u32,
    /// How long a consumer holds its messages while S3 or the parking queue is unavailable: a duration from
    /// `1s` to `24h`, such as `15m`, counted from a message's first failure. Meanwhile the consumer takes no
    /// further messages. When the time is over, it returns all messages but one to the queue, once, and
    /// retries the remaining message. After each further holding time (at least `1m`) it exchanges that
    /// message for another. The value must be less than the delivery acknowledgement timeout of RabbitMQ
    /// (30 minutes by default); otherwise RabbitMQ returns the messages again and again.
    #[serde(default = "default_holding_time")]
    #[schemars(schema_with = "holding_time_schema")]
    pub holding_time: Duration,
}

/// What happens to a message that can never be stored.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum FailurePolicy {
    /// Publish it to the parking queue.
    #[default]
    Park,
    /// Reject it: RabbitMQ routes it to the dead-letter exchange of the queue, if there is one.
    DeadLetter,
    /// Acknowledge it: the message is lost.
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
