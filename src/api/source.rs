//! `spec.source`: where messages come from, and who reads them. Its doc comments are what `kubectl
//! explain` shows. It must never let a Secret of another namespace be named.

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::quantities::{Bytes, bytes_schema};

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
    /// A Secret with the keys `username` and `password` to use in place of those in the broker's
    /// Secret, for example the one that RabbitMQ's topology operator writes for a User.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
    /// Speak TLS with the broker. Present: TLS, by default on port 5671. Absent: plain TCP, by
    /// default on port 5672, unless the Secret has no `host` and its `uri` begins with `amqps:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BrokerTls>,
    /// The most messages that one pod holds at once: sent to it by the broker and not acknowledged
    /// yet. Absent: two more than twice the concurrency, and fewer where so many bodies of the largest
    /// size would fill 40 % of the memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2000))]
    pub prefetch: Option<u16>,
    /// The largest body that is taken, such as `16Mi` or `512Ki`; a larger one can never succeed.
    /// RabbitMQ itself refuses more than 16Mi since 4.0, unless its `max_message_size` is raised.
    /// Pods plan their memory for up to `prefetch` bodies of this size, or of the broker's own limit
    /// where that is larger: a larger body arrives whole before it is refused.
    #[serde(default = "default_max_body_bytes")]
    #[schemars(schema_with = "max_body_bytes_schema")]
    pub max_body_bytes: Bytes,
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
    /// (default 5672, with TLS 5671). In place of them it may have the one key `uri`
    /// (`amqp://user:password@host:port` or `amqps://…`, percent-encoded); the keys that are there
    /// count before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_secret: Option<SecretReference>,
}

/// TLS with the broker.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerTls {
    /// A Secret with the key `ca.crt`: the authorities, in PEM, that the broker's certificate may
    /// come from, beside those that the image knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretReference>,
    /// A Secret of type `kubernetes.io/tls` (keys `tls.crt` and `tls.key`): the certificate that
    /// the pods show to the broker. If no username is given anywhere, it is also who they are
    /// (SASL EXTERNAL; RabbitMQ needs its plugin rabbitmq_auth_mechanism_ssl for it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_secret: Option<SecretReference>,
}

/// A Secret in the ImagePipeline's own namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretReference {
    /// The Secret's name.
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
