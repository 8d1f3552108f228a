//! The `ImagePipeline` resource, group greench.dev/v1alpha1. The doc comments of this module are the descriptions in
//! the CRD, which `kubectl explain` prints: write them for users.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod assignment;
pub mod conditions;
mod descriptions;
pub mod destination;
pub mod failures;
mod formats;
pub mod image;
pub mod message;
pub mod names;
pub mod pods;
pub mod quantities;
pub mod scaling;
pub mod source;

use destination::Destination;
use failures::Failures;
use image::ImageSettings;
use message::MessageFormat;
use pods::ConsumerPods;
use quantities::replicas_schema;
pub use scaling::Scaling;
use source::Source;

/// An ImagePipeline stores the images of a RabbitMQ queue in an S3 bucket. Consumer pods decode each
/// message, re-encode its image as PNG, upload the PNG, and acknowledge the message after S3 has
/// stored it. The operator sets the number of pods from the depth of the queue.
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
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    doc = "An ImagePipeline stores the images of a RabbitMQ queue in an S3 bucket. Consumer pods decode each message, re-encode its image as PNG, upload the PNG, and acknowledge the message after S3 has stored it. The operator sets the number of pods from the depth of the queue.",
    printcolumn(json_path = ".spec.source.rabbitmq.queue", name = "Queue", type_ = "string"),
    printcolumn(
        json_path = ".status.backlog",
        name = "Backlog",
        type_ = "integer",
        description = "Messages ready or unacknowledged at the last scaling decision"
    ),
    printcolumn(
        json_path = ".status.parked",
        name = "Parked",
        type_ = "integer",
        description = "Messages in the parking queue"
    ),
    printcolumn(json_path = ".status.desiredReplicas", name = "Desired", type_ = "integer"),
    printcolumn(json_path = ".status.readyReplicas", name = "Ready", type_ = "integer"),
    printcolumn(
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        name = "Healthy",
        type_ = "string",
        description = "Status of the condition Ready"
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
        .message("metadata.name must have at most 50 characters: the names of child objects are derived from it")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = descriptions::flow, transform = descriptions::tell_defaults, transform = formats::drop_unrecognized)]
#[x_kube(validation = Rule::new("!has(self.failures.parkingQueue) || self.failures.parkingQueue == '' || self.failures.parkingQueue != self.source.rabbitmq.queue")
    .message("failures.parkingQueue must not be the source queue: parked messages would be consumed again, endlessly"))]
#[x_kube(validation = Rule::new("has(self.failures.parkingQueue) && self.failures.parkingQueue != '' || self.source.rabbitmq.queue.size() <= 248")
    .message("failures.parkingQueue must be set: source.rabbitmq.queue is too long to append .parked"))]
pub struct ImagePipelineSpec {
    /// The queue that the pipeline consumes.
    pub source: Source,
    /// The format of a message: where it holds the image and the image's name.
    #[serde(default)]
    pub message: MessageFormat,
    /// How an image is converted to the PNG that is stored.
    #[serde(default)]
    pub image: ImageSettings,
    /// The bucket that the pipeline stores images in.
    pub destination: Destination,
    /// What happens to a message that can never be stored, such as one with invalid JSON or a damaged image.
    #[serde(default)]
    pub failures: Failures,
    /// How the number of consumer pods follows the backlog of the queue.
    #[serde(default)]
    pub scaling: Scaling,
    /// Fixed number of consumer pods; 0 stops the pipeline. If absent, the operator sets the number from
    /// the backlog (see `scaling`). `kubectl scale imgp NAME --replicas=3` sets this field. A
    /// HorizontalPodAutoscaler sets it too, if it is already set and not 0. To return to automatic
    /// scaling: `kubectl patch imgp NAME --type=merge -p '{"spec": {"replicas": null}}'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "replicas_schema")]
    pub replicas: Option<i32>,
    /// Pauses scaling: the number of consumer pods stays as it is, and the pods continue to consume. Has
    /// no effect if `replicas` is set. To stop the consumers, set `replicas: 0`.
    #[serde(default)]
    pub paused: bool,
    /// Settings of the consumer pods: concurrency, resources and scheduling.
    #[serde(default)]
    pub consumer: ConsumerPods,
}

/// The state that the operator last observed, and its last scaling decision.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = descriptions::flow, transform = formats::drop_unrecognized)]
pub struct ImagePipelineStatus {
    /// The `metadata.generation` that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of consumer pods that exist.
    pub replicas: i32,
    /// Label selector of the consumer pods, for the scale subresource.
    pub selector: String,
    /// Number of consumer pods that are ready: they consume, and uploads to S3 do not fail.
    pub ready_replicas: i32,
    /// Number of consumer pods that the operator last decided on.
    pub desired_replicas: i32,
    /// Number of messages that were ready or unacknowledged at the last scaling decision. Absent if the
    /// queue could not be read. Updated at most every 30 seconds, or every 10 seconds if the value changes
    /// to or from 0. The metric `image_pipeline_queue_messages` is updated at every decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// Number of messages in the parking queue. The headers of each message hold the reason why it was
    /// parked. Read every 10 seconds, and updated as often as `backlog`. Absent if the parking queue does
    /// not exist or `failures.policy` is not `Park`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<i64>,
    /// When the number of pods was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// Conditions of the pipeline. Each has a reason; if something is wrong, the message says what to do.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
