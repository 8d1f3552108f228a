//! `spec.source`: the queue and the connection to RabbitMQ. Secrets are referenced by name only, in the ImagePipeline's
//! own namespace (tests/contract/crd.rs checks it).

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::{Bytes, bytes_schema};

/// The queue that the pipeline consumes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Source {
    /// A RabbitMQ queue, consumed over AMQP 0-9-1.
    pub rabbitmq: RabbitmqSource,
}

/// A RabbitMQ queue, consumed over AMQP 0-9-1.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RabbitmqSource {
    /// Name of the queue, at most 255 bytes. The queue must exist, as a classic or quorum queue: the pipeline
    /// never declares it, so that its owner chooses type and arguments.
    #[schemars(length(min = 1, max = 255))]
    pub queue: String,
    /// Virtual host of the queue.
    #[serde(default = "default_vhost")]
    #[schemars(length(min = 1, max = 255))]
    pub vhost: String,
    /// Reference to the RabbitMQ cluster. Set exactly one of `name` and `connectionSecret`.
    pub rabbitmq_cluster_reference: RabbitmqClusterReference,
    /// Secret with the keys `username` and `password`. They replace those in the Secret of
    /// `rabbitmqClusterReference`. The Messaging Topology Operator writes such a Secret for each User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
    /// TLS settings of the connection to RabbitMQ. If present, even if empty, the connection uses TLS, on
    /// port 5671 by default. If absent, it uses plain TCP, on port 5672 by default, unless the Secret has no
    /// `host` and a `uri` that begins with `amqps:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BrokerTls>,
    /// Prefetch count (`basic.qos`) of a pod: the maximum number of unacknowledged messages that it holds.
    /// If absent, twice the concurrency plus 2, or fewer if that many bodies of the maximum size would fill
    /// more than 40 % of the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2000))]
    pub prefetch: Option<u16>,
    /// Maximum size of a message body, from 1 byte to `999Mi`, such as `16Mi` or `512Ki`. A message with a
    /// larger body is handled according to `failures.policy`. RabbitMQ 4.0 and later reject bodies of more
    /// than 16Mi, unless `max_message_size` is raised.
    ///
    /// A pod reserves memory for `prefetch` bodies of this size or of RabbitMQ's own limit, whichever is
    /// larger, since an oversized body arrives completely before it can be rejected.
    #[serde(default = "default_max_body_bytes")]
    #[schemars(schema_with = "max_body_bytes_schema")]
    pub max_body_bytes: Bytes,
}

/// Reference to a RabbitMQ cluster, in the form that the Messaging Topology Operator uses. Secrets are
/// read from the namespace of the ImagePipeline only.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.name) != has(self.connectionSecret)")
    .message("source.rabbitmq.rabbitmqClusterReference must have exactly one of name and connectionSecret"))]
pub struct RabbitmqClusterReference {
    /// Name of a RabbitmqCluster of the RabbitMQ Cluster Operator. The operator and the pods read its
    /// Secret `<name>-default-user` (keys `host`, `port`, `username` and `password`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 240))]
    pub name: Option<String>,
    /// Secret with the keys `host`, `username` and `password`, and optionally `port` (default 5672, or 5671
    /// with TLS). Alternatively, the Secret has the key `uri`: `amqp://user:password@host:port` or
    /// `amqps://…`, percent-encoded. The other keys take precedence over `uri`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<SecretReference>,
}

/// TLS settings of the connection to RabbitMQ.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerTls {
    /// Secret with the key `ca.crt`: CA certificates in PEM format. They are trusted in addition to the CA
    /// certificates of the container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretReference>,
    /// Secret of type `kubernetes.io/tls` (keys `tls.crt` and `tls.key`) with the client certificate of the
    /// pods. If no Secret has a username, the pods also authenticate with this certificate (SASL EXTERNAL;
    /// RabbitMQ needs the plugin rabbitmq_auth_mechanism_ssl).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<SecretReference>,
}

/// Reference to a Secret in the namespace of the ImagePipeline.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn default_vhost() -> String {
    "/".to_owned()
}

fn default_max_body_bytes() -> Bytes {
    Bytes::mebi(16)
}

fn max_body_bytes_schema(_: &mut SchemaGenerator) -> Schema {
    bytes_schema("source.rabbitmq.maxBodyBytes")
}
