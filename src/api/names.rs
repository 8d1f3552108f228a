//! Names derived from an ImagePipeline: child objects, labels, annotations, mounts and Secrets. Writers and readers of
//! a name both use this module.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use strum::{EnumIter, IntoStaticStr};

use super::ImagePipeline;
use super::destination::Destination;
use super::failures::Failures;
use super::source::{RabbitmqClusterReference, RabbitmqSource, Source};

/// The field manager of every server-side apply.
pub const FIELD_MANAGER: &str = "image-pipeline";
/// Annotation on consumer pods. A change of it makes the kubelet refresh mounted Secrets immediately.
pub const SECRETS_ANNOTATION: &str = "greench.dev/secrets";
/// Annotation on the Deployment and its pods: the digest of the desired pod template.
pub const SPEC_ANNOTATION: &str = "greench.dev/spec-digest";
/// Annotation on an ImagePipeline. With `true`, an upgrade of the operator leaves its pods as they are.
pub const PIN_ANNOTATION: &str = "greench.dev/pin-image";
/// Annotation on pods that Kubernetes reads when a ReplicaSet shrinks: it deletes the pod with the lowest cost first.
pub const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Name of the container in a consumer pod.
pub const CONTAINER: &str = "consumer";
/// The port on which a consumer serves `/livez`, `/readyz`, `/metrics` and `/status`.
pub const HTTP_PORT: u16 = 8080;
/// Mount point of the Secrets in a consumer pod: a directory per role, a file per key.
pub const SECRETS_MOUNT: &str = "/etc/image-pipeline/secrets";
/// Label with the name of the ImagePipeline that a child object belongs to.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Label of pods with the hash that ends the name of their ReplicaSet.
pub const POD_TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
/// Label selector of the consumer pods of all pipelines.
pub const CONSUMER_SELECTOR: &str =
    "app.kubernetes.io/name=image-pipeline-consumer,app.kubernetes.io/managed-by=image-pipeline";

/// Name of the consumer Deployment.
pub fn deployment(pipeline: &str) -> String {
    format!("{pipeline}-consumer")
}

/// Labels of every child object of a pipeline.
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

pub fn is_pinned(pipeline: &ImagePipeline) -> bool {
    pipeline.annotations().get(PIN_ANNOTATION).is_some_and(|pin| pin == "true")
}

/// Label selector of the consumer pods of one pipeline.
pub fn selector(pipeline: &str) -> String {
    labels(pipeline).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// What a Secret is used for. The name in kebab-case is the name of its directory and volume.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "kebab-case")]
pub enum SecretRole {
    /// Address and login of RabbitMQ.
    Broker,
    /// Login for RabbitMQ, if `credentialsSecret` names a separate Secret.
    BrokerCredentials,
    /// CA certificates for the connection to RabbitMQ.
    BrokerAuthority,
    /// Client certificate for the connection to RabbitMQ.
    BrokerCertificate,
    /// S3 credentials.
    Store,
    /// CA certificates for the connection to S3.
    StoreAuthority,
}

impl SecretRole {
    /// Name of the role's directory and volume.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Path of the spec field that names the Secret.
    pub fn field(self) -> &'static str {
        match self {
            SecretRole::Broker => "source.rabbitmq.rabbitmqClusterReference",
            SecretRole::BrokerCredentials => "source.rabbitmq.credentialsSecret",
            SecretRole::BrokerAuthority => "source.rabbitmq.tls.caSecret",
            SecretRole::BrokerCertificate => "source.rabbitmq.tls.clientCertSecret",
            SecretRole::Store => "destination.s3.credentialsSecret",
            SecretRole::StoreAuthority => "destination.s3.tls.caSecret",
        }
    }
}

/// Names of the Secrets that a pipeline refers to, with their roles.
pub fn secrets(source: &Source, destination: &Destination) -> Vec<(SecretRole, String)> {
    let (rabbitmq, s3) = (&source.rabbitmq, &destination.s3);
    let broker_tls = rabbitmq.tls.as_ref();
    let optional = [
        (SecretRole::BrokerCredentials, rabbitmq.credentials_secret.as_ref()),
        (SecretRole::BrokerAuthority, broker_tls.and_then(|tls| tls.ca_secret.as_ref())),
        (SecretRole::BrokerCertificate, broker_tls.and_then(|tls| tls.client_cert_secret.as_ref())),
        (SecretRole::Store, s3.credentials_secret.as_ref()),
        (SecretRole::StoreAuthority, s3.tls.as_ref().map(|tls| &tls.ca_secret)),
    ];
    let named = optional.into_iter().filter_map(|(role, secret)| Some((role, secret?.name.clone())));
    std::iter::once((SecretRole::Broker, broker_secret(&rabbitmq.rabbitmq_cluster_reference))).chain(named).collect()
}

/// Name of the parking queue.
pub fn parking_queue(source: &Source, failures: &Failures) -> String {
    match failures.parking_queue.as_str() {
        "" => format!("{}.parked", source.rabbitmq.queue),
        given => given.to_owned(),
    }
}

/// Name of the Secret with the RabbitMQ login.
pub fn login_secret(source: &RabbitmqSource) -> String {
    match &source.credentials_secret {
        Some(secret) => secret.name.clone(),
        None => broker_secret(&source.rabbitmq_cluster_reference),
    }
}

/// Name of the Secret with the RabbitMQ address.
pub fn broker_secret(reference: &RabbitmqClusterReference) -> String {
    match (&reference.name, &reference.connection_secret) {
        (_, Some(secret)) => secret.name.clone(),
        (name, None) => format!("{}-default-user", name.as_deref().unwrap_or_default()),
    }
}
