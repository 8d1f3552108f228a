//! Names that are derived from an ImagePipeline: children, labels, mounts. The one place for each,
//! so that who writes a name and who reads it can't drift apart.

use std::collections::BTreeMap;

use super::{ImagePipelineSpec, RabbitmqClusterReference};

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "image-pipeline";
/// The annotation on consumer pods that makes the kubelet refresh mounted Secrets at once.
pub const SECRETS_ANNOTATION: &str = "greench.dev/secrets";
/// The annotation on the Deployment that holds the digest of what was asked for.
pub const SPEC_ANNOTATION: &str = "greench.dev/spec-digest";
/// The name of the consumer's container.
pub const CONTAINER: &str = "consumer";
/// The port on which a consumer serves `/livez`, `/readyz`, `/metrics` and `/status`.
pub const HTTP_PORT: u16 = 8080;
/// Where the broker's Secret is mounted in a consumer pod, a file a key.
pub const BROKER_MOUNT: &str = "/etc/image-pipeline/broker";
/// Where the S3 credentials are mounted in a consumer pod, a file a key.
pub const S3_MOUNT: &str = "/etc/image-pipeline/s3";
/// How long Kubernetes waits between SIGTERM and SIGKILL of a consumer, in seconds.
pub const GRACE_PERIOD_SECONDS: u16 = 60;
/// The label that says which ImagePipeline a child belongs to.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// A label selector that matches every consumer pod of every pipeline.
pub const CONSUMER_SELECTOR: &str =
    "app.kubernetes.io/name=image-pipeline-consumer,app.kubernetes.io/managed-by=image-pipeline";

/// The consumer Deployment's name.
pub fn deployment(pipeline: &str) -> String {
    format!("{pipeline}-consumer")
}

/// Labels of every child of a pipeline.
pub fn labels(pipeline: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "image-pipeline-consumer"),
        (INSTANCE_LABEL, pipeline),
        ("app.kubernetes.io/component", "consumer"),
        ("app.kubernetes.io/managed-by", "image-pipeline"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The Secret that says where the broker is and who reads it.
pub fn broker_secret(reference: &RabbitmqClusterReference) -> String {
    match (&reference.name, &reference.connection_secret) {
        (_, Some(secret)) => secret.name.clone(),
        (name, None) => format!("{}-default-user", name.as_deref().unwrap_or_default()),
    }
}

/// The Secrets that a pipeline refers to.
pub fn secrets(spec: &ImagePipelineSpec) -> Vec<String> {
    let broker = broker_secret(&spec.source.rabbitmq.rabbitmq_cluster_reference);
    let s3 = spec.destination.s3.credentials_secret.as_ref().map(|secret| secret.name.clone());
    std::iter::once(broker).chain(s3).collect()
}

/// The queue for messages that can never succeed.
pub fn parking_queue(spec: &ImagePipelineSpec) -> String {
    match spec.failures.parking_queue.as_str() {
        "" => format!("{}.parked", spec.source.rabbitmq.queue),
        given => given.to_owned(),
    }
}
