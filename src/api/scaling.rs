//! `spec.scaling`: how the number of pods follows the backlog.

use kube::KubeSchema;
use kube::core::Duration;
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::{duration_schema, messages_schema};

/// How the number of consumer pods follows the backlog. The backlog is the number of messages that are
/// ready in the queue or held by the pods. While it cannot be read, the number of pods does not change.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("scaling.minReplicas must not be greater than scaling.maxReplicas"))]
#[x_kube(validation = Rule::new("!has(self.drainWithin) || !has(self.messagesPerReplica)")
    .message("scaling.drainWithin and scaling.messagesPerReplica are mutually exclusive; set one of them"))]
pub struct Scaling {
    /// Minimum number of consumer pods. With 0, an empty queue has no pods.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// Maximum number of consumer pods.
    #[serde(default = "default_max_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// Backlog per pod, in messages: the number of pods is the backlog divided by this value, rounded up.
    /// Mutually exclusive with `drainWithin`. If both are absent, 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "messages_schema")]
    pub messages_per_replica: Option<i32>,
    /// Time in which the pods are to process the backlog: a duration from `1s` to `24h`, such as `60s`. The
    /// number of pods is the backlog divided by the messages that one pod processes in this time, rounded
    /// up.
    ///
    /// The throughput of a pod is measured: messages per second over its last 30 seconds of work, averaged
    /// over the pods. While no pod is at work, the last measurement applies; before the first measurement,
    /// one pod counts for 50 messages.
    ///
    /// Mutually exclusive with `messagesPerReplica`. If that field is set, remove it in the same change, or
    /// set it to null in a merge patch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "drain_within_schema")]
    pub drain_within: Option<Duration>,
    /// Interval at which the operator reads the depth of the queue: a duration from `500ms` to `5m`, such as
    /// `2s`. A queue that has been empty for 30 minutes is read every 5 intervals, but at least every 10
    /// seconds unless the interval is longer, until it has a message again.
    #[serde(default = "default_poll_interval")]
    #[schemars(schema_with = "poll_interval_schema")]
    pub poll_interval: Duration,
    /// How long fewer pods must have been sufficient before pods are removed: a duration from `0s` to `24h`,
    /// such as `60s`. At least two readings of the depth must agree. A number of pods is sufficient if it
    /// covers the backlog and keeps up with the arriving messages.
    ///
    /// Scaling up is immediate. It is held while more pods would not help: S3 or RabbitMQ is unavailable, or
    /// pods cannot start. If no pod runs, one pod is started even then, to detect the recovery.
    #[serde(default = "default_scale_down_after")]
    #[schemars(schema_with = "scale_down_after_schema")]
    pub scale_down_after: Duration,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: default_max_replicas(),
            messages_per_replica: None,
            drain_within: None,
            poll_interval: default_poll_interval(),
            scale_down_after: default_scale_down_after(),
        }
    }
}

fn default_max_replicas() -> i32 {
    20
}

fn default_poll_interval() -> Duration {
    std::time::Duration::from_secs(2).into()
}

fn default_scale_down_after() -> Duration {
    std::time::Duration::from_secs(60).into()
}

fn drain_within_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema("scaling.drainWithin", "1s", "24h")
}

fn poll_interval_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema("scaling.pollInterval", "500ms", "5m")
}

fn scale_down_after_schema(_: &mut SchemaGenerator) -> Schema {
    duration_schema("scaling.scaleDownAfter", "0s", "24h")
}
