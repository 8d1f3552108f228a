//! `spec.destination`: where images go, and as what. Its doc comments are what `kubectl explain`
//! shows. It must never let a Secret of another namespace be named.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::source::SecretReference;

/// Where the images go.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Destination {
    /// An S3 bucket, on AWS or any store that speaks its protocol.
    pub s3: S3Destination,
}

/// An S3 bucket.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.prefix) || !self.prefix.startsWith('/') && !self.prefix.matches('(^|/)[.][.]?(/|$)')")
    .message("destination.s3.prefix must not begin with / nor have . or .. as a segment"))]
#[x_kube(validation = Rule::new("self.keyTemplate.matches('^([^{}]|[{](name|stem|digest|year|month|day|hour|metadata[.][A-Za-z0-9_-]+)[}])+$')")
    .message("destination.s3.keyTemplate has an unknown field; it takes {name}, {stem}, {digest}, {year}, {month}, {day}, {hour} and {metadata.FIELD}"))]
#[x_kube(validation = Rule::new("!self.keyTemplate.matches('(^|/)[.]?[.]?(/|$)')")
    .message("destination.s3.keyTemplate must not begin or end with / nor have an empty segment, . or .."))]
#[x_kube(validation = Rule::new("self.onConflict != 'ContentAddressed' || self.keyTemplate.contains('{digest}')")
    .message("destination.s3.onConflict ContentAddressed needs {digest} in destination.s3.keyTemplate, for example {stem}-{digest}.png"))]
pub struct S3Destination {
    /// The bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Put before every image name to make the object's key, as it stands: end it with `/` for a
    /// folder.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// What follows the prefix in an object's key. Fields: `{name}`, the image's name; `{stem}`, the
    /// name without its extension; `{digest}`, the digest of the pixels (64 hexadecimal digits);
    /// `{year}`, `{month}`, `{day}`, `{hour}` of the message's AMQP timestamp, in UTC;
    /// `{metadata.FIELD}`, a field beside the image's name in the message, with `Raw` a header. Never
    /// the clock: a message that is processed again must have the same key. A message that lacks
    /// what is asked for can never succeed.
    #[serde(default = "default_key_template")]
    #[schemars(length(min = 1, max = 512))]
    pub key_template: String,
    /// The bucket's region.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
    /// The store's URL, for stores other than AWS, for example `http://s3.storage.svc:7070`.
    /// Absent: AWS. The variables HTTP_PROXY and HTTPS_PROXY are not used.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512), regex(pattern = "^(https?://[^/?#@\\s]+/?)?$"))]
    pub endpoint: String,
    /// Address the bucket as `endpoint/bucket` instead of `bucket.endpoint`. Most stores other than
    /// AWS need it: they have no host of their own for each bucket.
    #[serde(default)]
    pub force_path_style: bool,
    /// TLS with the store, where its certificate comes from an authority of your own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StoreTls>,
    /// A Secret with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and optionally
    /// `AWS_SESSION_TOKEN`. Absent: the identity of the pod or its node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
    /// What happens when the bucket has an object of the same key already. `Overwrite`: the new image
    /// replaces it; of two different images of one name the one processed last stays, which after an outage
    /// may be the older one. `Fail`: the object stays; a message with the same PNG counts as stored, and a
    /// message with another one can never succeed. `ContentAddressed`: as `Fail`, for keys that contain
    /// `{digest}`, so that different images never meet. The last two need a store that refuses to replace
    /// an object (`If-None-Match`), and the permission to read it (`s3:GetObject`). Each pod verifies the
    /// first with its first image, which it stores twice.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Encryption at rest. Absent: as the bucket says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// The objects' storage class, such as `STANDARD_IA`. Absent: the store's default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = "^[A-Z0-9_]*$"))]
    pub storage_class: String,
    /// Tags of every object. They need the permission `s3:PutObjectTagging`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "tags_schema")]
    pub tags: BTreeMap<String, String>,
    /// Metadata of every object, at most 1024 bytes of names and values, beside what says where it comes
    /// from: `image-pipeline-digest`, the digest of the pixels, and, where the message has them,
    /// `image-pipeline-message-id`, its AMQP message id, percent-encoded, and
    /// `image-pipeline-traceparent`, its header `traceparent` (W3C Trace Context). Names that begin with
    /// `image-pipeline-` are refused, so neither takes the other's place.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: BTreeMap<String, String>,
    /// The objects' Cache-Control header. Absent: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = "^[ -~]*$"))]
    pub cache_control: String,
    /// The checksum that is sent with every object, for the store to verify. `Auto`: CRC32 for AWS;
    /// for other stores none, since some refuse what they don't know. A bucket with Object Lock needs one.
    #[serde(default)]
    pub checksum: Checksum,
    /// The account, 12 digits, that must own the bucket; the store refuses the object otherwise.
    /// Absent: whoever owns it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = "^([0-9]{12})?$"))]
    pub expected_bucket_owner: String,
}

/// TLS with the store.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreTls {
    /// A Secret with the key `ca.crt`: the authorities, in PEM, that the store's certificate may
    /// come from, beside those that the image knows.
    pub ca_secret: SecretReference,
}

/// What happens when an object of the same key is there already.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnConflict {
    /// It is replaced.
    #[default]
    Overwrite,
    /// It stays; another image of the name can never succeed.
    Fail,
    /// It has the same pixels, since the key contains their digest.
    ContentAddressed,
}

/// Encryption at rest.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kmsKeyId) || self.algorithm == 'aws:kms'")
    .message("destination.s3.serverSideEncryption.kmsKeyId needs the algorithm aws:kms"))]
pub struct ServerSideEncryption {
    /// `AES256`, with a key of the store's (SSE-S3), or `aws:kms`, with one of AWS KMS (SSE-KMS).
    pub algorithm: EncryptionAlgorithm,
    /// The KMS key: its id, ARN or alias. Absent: the account's default key for S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// How objects are encrypted at rest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EncryptionAlgorithm {
    /// With a key of the store's.
    #[serde(rename = "AES256")]
    Aes256,
    /// With a key of AWS KMS.
    #[serde(rename = "aws:kms")]
    AwsKms,
}

/// The checksum that is sent with an object.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Checksum {
    /// CRC32 for AWS, none for other stores.
    #[default]
    Auto,
    /// CRC-32.
    #[serde(rename = "CRC32")]
    Crc32,
    /// CRC-32C.
    #[serde(rename = "CRC32C")]
    Crc32c,
    /// SHA-256.
    #[serde(rename = "SHA256")]
    Sha256,
    /// None, unless the store demands one.
    None,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_key_template() -> String {
    "{name}".to_owned()
}

/// S3's own limits: ten tags, 128 and 256 characters.
fn tags_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 10,
        "additionalProperties": { "type": "string", "maxLength": 256 },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key.size() >= 1 && key.size() <= 128)",
            "message": "destination.s3.tags has a key that is empty or longer than 128 characters"
        }]
    })
}

/// Names that are HTTP header names, and text that a header can hold. S3 takes 2048 bytes in all, of
/// which 956 are for the digest, the longest message id and a trace.
fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 256, "pattern": "^[ -~]*$" },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(key, key.matches('^[a-z0-9][a-z0-9-]{0,63}$') && !key.startsWith('image-pipeline-'))",
                "message": "destination.s3.metadata has a key that is not of lower-case letters, digits and hyphens, at most 64, or begins with image-pipeline-"
            },
            {
                "rule": "self.map(key, key.size() + self[key].size()).sum() <= 1024",
                "message": "destination.s3.metadata has more than 1024 bytes of names and values; S3 takes 2048 with those that say where an object comes from"
            }
        ]
    })
}
