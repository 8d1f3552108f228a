//! The public API: the `ImagePipeline` resource as users write it. Doc comments here are exported
//! into the CRD and are what `kubectl explain` shows, so they speak to the user.
//! A field exists only once it works. This file must hold no behaviour beyond defaults.

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
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    doc = "An ImagePipeline carries images from a RabbitMQ queue into an S3 bucket: consumer pods decode each message, re-encode its image as PNG, store it under its name, and acknowledge the message only then. The number of pods follows the depth of the queue.",
    printcolumn(json_path = ".spec.source.rabbitmq.queue", name = "Queue", type_ = "string"),
    printcolumn(
        json_path = ".status.backlog",
        name = "Backlog",
        type_ = "integer",
        description = "Messages ready or in flight when the size was last decided"
    ),
    printcolumn(
        json_path = ".status.parked",
        name = "Parked",
        type_ = "integer",
        description = "Messages in the parking queue, which can't be stored as they are"
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
#[schemars(transform = descriptions::flow, transform = descriptions::tell_defaults, transform = formats::drop_unrecognized)]
#[x_kube(validation = Rule::new("!has(self.failures.parkingQueue) || self.failures.parkingQueue == '' || self.failures.parkingQueue != self.source.rabbitmq.queue")
    .message("failures.parkingQueue is the source queue itself; parked messages would come back for ever"))]
#[x_kube(validation = Rule::new("has(self.failures.parkingQueue) && self.failures.parkingQueue != '' || self.source.rabbitmq.queue.size() <= 248")
    .message("failures.parkingQueue must be given: source.rabbitmq.queue is too long to have .parked appended"))]
pub struct ImagePipelineSpec {
    /// Where the messages come from.
    pub source: Source,
    /// How a message carries its image and the image's name.
    #[serde(default)]
    pub message: MessageFormat,
    /// How an image becomes the PNG that is stored.
    #[serde(default)]
    pub image: ImageSettings,
    /// Where the images go.
    pub destination: Destination,
    /// What happens to a message that can never succeed.
    #[serde(default)]
    pub failures: Failures,
    /// How the number of consumer pods follows the queue.
    #[serde(default)]
    pub scaling: Scaling,
    /// Fixes the number of consumer pods; 0 stops them. Absent: the number follows the queue, as
    /// `scaling` says. `kubectl scale imgp NAME --replicas=3` sets it, and so does a
    /// HorizontalPodAutoscaler, once it is there and not 0. To hand the size back to the queue:
    /// `kubectl patch imgp NAME --type=merge -p '{"spec": {"replicas": null}}'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "replicas_schema")]
    pub replicas: Option<i32>,
    /// Freezes the number of consumer pods as it is; they go on consuming. Changes nothing where
    /// `replicas` fixes the number; `replicas: 0` is what stops consumers.
    #[serde(default)]
    pub paused: bool,
    /// The consumer pods themselves.
    #[serde(default)]
    pub consumer: ConsumerPods,
}

/// What the operator last saw and decided.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = descriptions::flow, transform = formats::drop_unrecognized)]
pub struct ImagePipelineStatus {
    /// The generation of the spec that this status describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Consumer pods that exist.
    pub replicas: i32,
    /// The label selector of the consumer pods, for the scale subresource.
    pub selector: String,
    /// Consumer pods that are ready: they consume, and the store does not fail.
    pub ready_replicas: i32,
    /// The size last decided.
    pub desired_replicas: i32,
    /// Messages ready or in flight when the size was last decided; absent if it could not be read.
    /// Written every 30 seconds at most, every 10 when it becomes 0 or is no longer; the metric
    /// `image_pipeline_queue_messages` has it as of the last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<i64>,
    /// Messages in the parking queue, which can't be stored as they are; each says why in its headers.
    /// Read every 10 seconds and written as `backlog` is. Absent while there is no such queue, or where
    /// `failures.policy` is not `Park`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<i64>,
    /// When the size was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_time: Option<Time>,
    /// Conditions, each with a reason and, where something is wrong, what to do about it.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
