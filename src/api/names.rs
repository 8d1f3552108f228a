//! Names that are derived from an ImagePipeline: children, labels, mounts. The one place for each,
//! so that who writes a name and who reads it can't drift apart.

use std::collections::BTreeMap;

use strum::{EnumIter, IntoStaticStr};

use super::destination::Destination;
use super::failures::Failures;
use super::source::{RabbitmqClusterReference, RabbitmqSource, Source};

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "image-pipeline";
/// The annotation on consumer pods that makes the kubelet refresh mounted Secrets at once.
pub const SECRETS_ANNOTATION: &str = "greench.dev/secrets";
/// The annotation on the Deployment and its pods that holds the digest of what was asked for.
pub const SPEC_ANNOTATION: &str = "greench.dev/spec-digest";
/// The annotation on pods that Kubernetes reads when a ReplicaSet shrinks: the least goes first.
pub const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";
/// The name of the consumer's container.
pub const CONTAINER: &str = "consumer";
/// The port on which a consumer serves `/livez`, `/readyz`, `/metrics` and `/status`.
pub const HTTP_PORT: u16 = 8080;
/// Where Secrets are mounted in a consumer pod: a directory for each role, a file a key.
pub const SECRETS_MOUNT: &str = "/etc/image-pipeline/secrets";
/// The label that says which ImagePipeline a child belongs to.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// The label of pods that is the end of their ReplicaSet's name.
pub const POD_TEMPLATE_HASH_LABEL: &str = "pod-template-hash";
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

/// The label selector that matches the consumer pods of one pipeline.
pub fn selector(pipeline: &str) -> String {
    labels(pipeline).iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// What a Secret is for. The name in lower case with hyphens is that of its directory and volume.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "kebab-case")]
pub enum SecretRole {
    /// Where the broker is, and who reads it.
    Broker,
    /// Who reads it, where that is a Secret of its own.
    BrokerCredentials,
    /// The authorities of the broker's certificate.
    BrokerAuthority,
    /// The certificate shown to the broker.
    BrokerCertificate,
    /// Who writes to the store.
    Store,
    /// The authorities of the store's certificate.
    StoreAuthority,
}

impl SecretRole {
    /// The name of the role's directory and volume.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The field of the spec that names the Secret.
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

/// The Secrets that a pipeline refers to, by what they are for.
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

/// The queue for messages that can never succeed.
pub fn parking_queue(source: &Source, failures: &Failures) -> String {
    match failures.parking_queue.as_str() {
        "" => format!("{}.parked", source.rabbitmq.queue),
        given => given.to_owned(),
    }
}

/// The Secret that says who reads the broker.
pub fn login_secret(source: &RabbitmqSource) -> String {
    match &source.credentials_secret {
        Some(secret) => secret.name.clone(),
        None => broker_secret(&source.rabbitmq_cluster_reference),
    }
}

/// The Secret that says where the broker is.
pub fn broker_secret(reference: &RabbitmqClusterReference) -> String {
    match (&reference.name, &reference.connection_secret) {
        (_, Some(secret)) => secret.name.clone(),
        (name, None) => format!("{}-default-user", name.as_deref().unwrap_or_default()),
    }
}
