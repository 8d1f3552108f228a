//! The public API: the `ImagePipeline` resource as users write it. Doc comments here are exported
//! into the CRD and are what `kubectl explain` shows, so they speak to the user.
//! A field exists only once it works. This file must hold no behaviour beyond defaults.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Duration;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub mod conditions;
pub mod names;

/// An ImagePipeline carries images from a RabbitMQ queue into an S3 bucket: consumer pods decode
/// each message, re-encode its image as PNG, store it under its name, and acknowledge the message
/// only then. The number of pods follows the depth of the queue.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "greench.dev",
    version = "v1alpha1",
    kind = "ImagePipeline",
    plural = "imagepipelines",
    shortname = "imgp",
    namespaced,
    derive = "PartialEq",
    status = "ImagePipelineStatus",
    doc = "An ImagePipeline carries images from a RabbitMQ queue into an S3 bucket: consumer pods decode each message, re-encode its image as PNG, store it under its name, and acknowledge the message only then. The number of pods follows the depth of the queue.",
    printcolumn(json_path = ".spec.source.rabbitmq.queue", name = "Queue", type_ = "string"),
    printcolumn(
        json_path = ".status.backlog",
        name = "Backlog",
        type_ = "integer",
        description = "Messages ready or in flight when the size was last decided"
    ),
    printcolumn(json_path = ".status.desiredReplicas", name = "Desired", type_ = "integer"),
    printcolumn(json_path = ".status.readyReplicas", name = "Ready", type_ = "integer"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        name = "Healthy",
        type_ = "string",
        description = "The condition Ready"
    ),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        name = "Reason",
        type_ = "string"
    ),
    printcolumn(json_path = ".spec.destination.s3.bucket", name = "Bucket", type_ = "string", priority = 1),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        name = "Message",
        type_ = "string",
        priority = 1
    ),
    printcolumn(json_path = ".metadata.creationTimestamp", name = "Age", type_ = "date"),
    validation = Rule::new("self.metadata.name.size() <= 50")
        .message("metadata.name is longer than 50 characters; child names are derived from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.failures.parkingQueue != self.source.rabbitmq.queue")
    .message("failures.parkingQueue is the source queue itself; parked messages would come back for ever"))]
#[x_kube(validation = Rule::new("self.failures.parkingQueue != '' || self.source.rabbitmq.queue.size() <= 248")
    .message("failures.parkingQueue must be given: source.rabbitmq.queue is too long to have .parked appended"))]
pub struct ImagePipelineSpec {
    /// Where the messages come from.
    pub source: Source,
    /// Where the images go.
    pub destination: Destination,
    /// What happens to a message that can never succeed.
    #[serde(default)]
    pub failures: Failures,
    /// How the number of consumer pods follows the queue.
    #[serde(default)]
    pub scaling: Scaling,
    /// The consumer pods themselves.
    #[serde(default)]
    pub consumer: ConsumerPods,
}

/// Where the messages come from.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Source {
    /// A RabbitMQ queue.
    pub rabbitmq: RabbitmqSource,
}

/// A RabbitMQ queue, read over AMQP 0-9-1.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqSource {
    /// The queue to read. It must exist: it is never created, so that its type and arguments stay
    /// the choice of whoever owns it. Classic and quorum queues work.
    #[schemars(length(min = 1, max = 255))]
    pub queue: String,
    /// The virtual host that holds the queue.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,
    /// How the broker is found: exactly one of `name` and `connectionSecret`.
    pub rabbitmq_cluster_reference: RabbitmqClusterReference,
}

/// How a broker is found, in the shape that RabbitMQ's topology operator made known. Secrets are
/// read from the ImagePipeline's own namespace only.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.connectionSecret)")
    .message("source.rabbitmq.rabbitmqClusterReference needs exactly one of name and connectionSecret"))]
pub struct RabbitmqClusterReference {
    /// The name of a RabbitmqCluster of RabbitMQ's cluster operator. Its Secret
    /// `<name>-default-user` (keys `host`, `port`, `username`, `password`) is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 240))]
    pub name: Option<String>,
    /// A Secret with the keys `host`, `username` and `password`, and optionally `port`
    /// (default 5672).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<SecretReference>,
}

/// A Secret in the ImagePipeline's own namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where the images go.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Destination {
    /// An S3 bucket, on AWS or any store that speaks its protocol.
    pub s3: S3Destination,
}

/// An S3 bucket.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.prefix.startsWith('/') && !self.prefix.matches('(^|/)[.][.]?(/|$)')")
    .message("destination.s3.prefix must not begin with / nor have . or .. as a segment"))]
pub struct S3Destination {
    /// The bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Put before every image name to make the object's key, as it stands: end it with `/` for a
    /// folder.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// The bucket's region.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
    /// The store's URL, for stores other than AWS, for example `http://s3.storage.svc:7070`. Empty:
    /// AWS.
    #[serde(default)]
    #[schemars(length(max = 512), regex(pattern = "^(https?://[^/?#@\\s]+/?)?$"))]
    pub endpoint: String,
    /// Address the bucket as `endpoint/bucket` instead of `bucket.endpoint`. Most stores other than
    /// AWS need it.
    #[serde(default)]
    pub force_path_style: bool,
    /// A Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and optionally
    /// `AWS_SESSION_TOKEN`. Absent: the identity of the pod or its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
}

/// What happens to a message that can never succeed: it is published, unchanged and confirmed, to
/// a parking queue with the reason in its headers, and only then acknowledged.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// The parking queue, in the source's virtual host. Declared durable if absent, used as it is
    /// if there. Empty: the source queue's name followed by `.parked`.
    #[serde(default)]
    #[schemars(length(max = 255))]
    pub parking_queue: String,
}

/// How the number of consumer pods follows the queue. The backlog counts messages that are ready
/// in the queue and those that the pods hold; a backlog that can't be read leaves the size as it is.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("scaling.minReplicas is greater than scaling.maxReplicas"))]
#[x_kube(validation = Rule::new("duration(self.pollInterval) >= duration('500ms') && duration(self.pollInterval) <= duration('5m')")
    .message("scaling.pollInterval must be between 500ms and 5m"))]
#[x_kube(validation = Rule::new("duration(self.scaleDownAfter) <= duration('24h')")
    .message("scaling.scaleDownAfter must be at most 24h"))]
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
    #[serde(default = "default_messages_per_replica")]
    #[schemars(range(min = 1, max = 1000000))]
    pub messages_per_replica: i32,
    /// How often the queue's depth is read, as a duration such as `2s`.
    #[serde(default = "default_poll_interval")]
    #[schemars(schema_with = "duration_schema")]
    pub poll_interval: Duration,
    /// How long a smaller size must have been enough before pods are removed, as a duration such
    /// as `60s`. Growing is immediate.
    #[serde(default = "default_scale_down_after")]
    #[schemars(schema_with = "duration_schema")]
    pub scale_down_after: Duration,
}

/// The consumer pods themselves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct ConsumerPods {
    /// CPU and memory of a consumer pod. The CPU limit decides how many images are worked on at
    /// once; the memory limit, how many bytes of images are held decoded at once.
    #[serde(default)]
    pub resources: Resources,
}

/// CPU and memory of a consumer pod. Each of the two maps is taken as a whole: giving `limits`
/// replaces the default limits and leaves the default requests.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(default)]
pub struct Resources {
    /// What the scheduler reserves. Default: 100m CPU, 128Mi memory.
    #[schemars(schema_with = "quantities_schema")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What the pod may use at most. Default: 1Gi memory, CPU not limited.
    #[schemars(schema_with = "quantities_schema")]
    pub limits: BTreeMap<String, IntOrString>,
}

/// What the operator last saw and decided.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImagePipelineStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Consumer pods that exist.
    pub replicas: i32,
    /// Consumer pods that are ready: connected and consuming.
    pub ready_replicas: i32,
    /// The size last decided.
    pub desired_replicas: i32,
    /// Messages ready or in flight when the size was last decided; absent if it could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// When the size was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// Conditions, each with a reason and, where something is wrong, what to do about it.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min_replicas: 0,
            max_replicas: default_max_replicas(),
            messages_per_replica: default_messages_per_replica(),
            poll_interval: default_poll_interval(),
            scale_down_after: default_scale_down_after(),
        }
    }
}

impl Default for Resources {
    fn default() -> Self {
        let quantities = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), IntOrString::String((*value).to_owned()))).collect()
        };
        Self { requests: quantities(&[("cpu", "100m"), ("memory", "128Mi")]), limits: quantities(&[("memory", "1Gi")]) }
    }
}

fn default_vhost() -> String {
    "/".to_owned()
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_max_replicas() -> i32 {
    20
}

fn default_messages_per_replica() -> i32 {
    50
}

fn default_poll_interval() -> Duration {
    std::time::Duration::from_secs(2).into()
}

fn default_scale_down_after() -> Duration {
    std::time::Duration::from_secs(60).into()
}

/// A duration as Go writes it, which CEL's `duration()` reads: `500ms`, `2s`, `1m30s`.
fn duration_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "maxLength": 32, "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$" })
}

/// Kubernetes quantities by resource name; numbers are allowed where they are unambiguous.
fn quantities_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": r"^([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
        }
    })
}
