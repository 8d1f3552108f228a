//! `spec.scaling`: how the size follows the queue. Its doc comments are what `kubectl explain`
//! shows. It must hold no behaviour beyond defaults.

use kube::KubeSchema;
use kube::core::Duration;
use schemars::{Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::{duration_schema, messages_schema};

/// How the number of consumer pods follows the queue. The backlog counts messages that are ready
/// in the queue and those that the pods hold; a backlog that can't be read leaves the size as it is.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("scaling.minReplicas is greater than scaling.maxReplicas"))]
#[x_kube(validation = Rule::new("!has(self.drainWithin) || !has(self.messagesPerReplica)")
    .message("scaling.drainWithin and scaling.messagesPerReplica exclude each other"))]
pub struct Scaling {
    /// The fewest consumer pods.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,
    /// The most consumer pods.
    #[serde(default = "default_max_replicas")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,
    /// How much backlog one pod is for: the size wanted is the backlog divided by this, rounded up.
    /// Absent, and without `drainWithin`: 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "messages_schema")]
    pub messages_per_replica: Option<i32>,
    /// In place of `messagesPerReplica`: the time within which the backlog is to be gone, as a
    /// duration such as `60s`. The size wanted is the backlog divided by what one pod gets done in
    /// this time, rounded up; what that is, the pods tell (messages per second of work over the last
    /// half minute of it, the mean of the pods), and what they told last counts while there is none.
    /// Until one has told, one pod is taken to be for 50 messages.
    /// Remove `messagesPerReplica` with it: one that was once stored stays until it is set to null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "drain_within_schema")]
    pub drain_within: Option<Duration>,
    /// How often the queue's depth is read, as a duration such as `2s`.
    #[serde(default = "default_poll_interval")]
    #[schemars(schema_with = "poll_interval_schema")]
    pub poll_interval: Duration,
    /// How long a smaller size must have been enough before pods are removed, as a duration such
    /// as `60s`; at least two readings of the depth must agree. Enough is what the backlog asks for,
    /// and as many pods as keep up with what comes. Growing is immediate, and held while more pods
    /// could not help: storage or the broker is down, or pods can't start. From none, one pod is
    /// started even then, to find out.
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
