//! `spec.destination`: the S3 bucket and the properties of the objects stored in it. Secrets are referenced by name
//! only, in the ImagePipeline's own namespace (tests/contract/crd.rs checks it).

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::source::SecretReference;

/// The bucket that the pipeline stores images in.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Destination {
    /// An S3 bucket, on AWS or in any S3-compatible store.
    pub s3: S3Destination,
}

/// An S3 bucket, on AWS or in any S3-compatible store.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.prefix) || !self.prefix.startsWith('/') && !self.prefix.matches('(^|/)[.][.]?(/|$)')")
    .message("destination.s3.prefix must not begin with / or contain a segment . or .."))]
#[x_kube(validation = Rule::new("self.keyTemplate.matches('^([^{}]|[{](name|stem|digest|year|month|day|hour|metadata[.][A-Za-z0-9_-]+)[}])+$')")
    .message("destination.s3.keyTemplate has an unknown field; supported fields: {name}, {stem}, {digest}, {year}, {month}, {day}, {hour} and {metadata.FIELD}"))]
#[x_kube(validation = Rule::new("!self.keyTemplate.matches('(^|/)[.]?[.]?(/|$)')")
    .message("destination.s3.keyTemplate must not begin or end with / or contain a segment that is empty, . or .."))]
#[x_kube(validation = Rule::new("self.onConflict != 'ContentAddressed' || self.keyTemplate.contains('{digest}')")
    .message("destination.s3.onConflict ContentAddressed needs {digest} in destination.s3.keyTemplate, for example {stem}-{digest}.png"))]
pub struct S3Destination {
    /// Name of the bucket. The bucket must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$"))]
    pub bucket: String,
    /// Prefix of every object key, prepended verbatim to the expanded `keyTemplate`. End it with `/` to
    /// get a folder, for example `segmented/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub prefix: String,
    /// Template of the object key, after the prefix. Fields: `{name}`, the image's name; `{stem}`, the
    /// name without its extension; `{digest}`, the BLAKE3 digest of the pixels (64 hexadecimal digits);
    /// `{year}`, `{month}`, `{day}` and `{hour}` of the message's AMQP timestamp, in UTC;
    /// `{metadata.FIELD}`, a field of the JSON object that holds the image's name or, if
    /// `message.encoding` is `Raw`, a message header. No field depends on the current time, so a
    /// redelivered message gets the same key. A message that lacks a value of the template is handled
    /// according to `failures.policy`. Example: `{year}/{month}/{stem}-{digest}.png`.
    #[serde(default = "default_key_template")]
    #[schemars(length(min = 1, max = 512))]
    pub key_template: String,
    /// AWS region of the bucket, such as `eu-west-1`.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
    /// URL of an S3-compatible store, for example `http://s3.storage.svc:7070`. If absent, AWS is used.
    /// The environment variables HTTP_PROXY and HTTPS_PROXY are ignored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512), regex(pattern = "^(https?://[^/?#@\\s]+/?)?$"))]
    pub endpoint: String,
    /// Addresses the bucket as `endpoint/bucket` (path style) instead of `bucket.endpoint`. Most stores
    /// other than AWS need `true`, since they have no host name for each bucket.
    #[serde(default)]
    pub force_path_style: bool,
    /// TLS settings of the connection to S3. Needed only if a private CA issued the certificate of the
    /// endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StoreTls>,
    /// Secret with the S3 credentials: the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and
    /// optionally `AWS_SESSION_TOKEN`. If absent, the pods use the AWS identity that `identity` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<SecretReference>,
    /// AWS identity of pods without `credentialsSecret`. `ServiceAccount` is the role of their
    /// ServiceAccount (IRSA or EKS Pod Identity), and nothing else. `Instance` is also the role of the node
    /// that a pod runs on, which every pod of that node can use.
    #[serde(default)]
    pub identity: AwsIdentity,
    /// What happens if the bucket already has an object with the same key.
    ///
    /// `Overwrite` replaces the object. If two different images have the same key, the image that is
    /// processed last stays; after an outage that can be the older image. `Fail` keeps the object: a
    /// message with an identical PNG counts as stored, a message with a different PNG is handled according
    /// to `failures.policy`. `ContentAddressed` is `Fail` for keys that contain `{digest}`, where two
    /// different images never have the same key.
    ///
    /// `Fail` and `ContentAddressed` need a store that supports conditional writes (`If-None-Match`), and
    /// the permission `s3:GetObject`. Each pod verifies the support with its first image, which it uploads
    /// twice.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// Server-side encryption of the objects. If absent, the default of the bucket applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_side_encryption: Option<ServerSideEncryption>,
    /// Storage class of the objects, such as `STANDARD_IA`. If absent, the default of the store applies.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = "^[A-Z0-9_]*$"))]
    pub storage_class: String,
    /// Tags of every object: at most 10, with keys of 1 to 128 characters. Needs the permission
    /// `s3:PutObjectTagging`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "tags_schema")]
    pub tags: BTreeMap<String, String>,
    /// User metadata of every object: at most 1024 bytes of names and values. Names consist of lowercase
    /// letters, digits and hyphens, at most 64 characters.
    ///
    /// The consumers add metadata about the origin of the object: `image-pipeline-digest`, the digest of the
    /// pixels; `image-pipeline-message-id`, the AMQP message id, percent-encoded; and
    /// `image-pipeline-traceparent`, the message header `traceparent` (W3C Trace Context). The last two are
    /// absent if the message does not have them. Names that begin with `image-pipeline-` are therefore
    /// reserved.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "metadata_schema")]
    pub metadata: BTreeMap<String, String>,
    /// `Cache-Control` header of the objects, for example `max-age=3600`. If absent, no header is set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256), regex(pattern = "^[ -~]*$"))]
    pub cache_control: String,
    /// Checksum that is sent with every object, for S3 to verify. `Auto` is CRC32 for AWS and none for
    /// other stores, since some reject checksum headers. A bucket with Object Lock needs a checksum.
    #[serde(default)]
    pub checksum: Checksum,
    /// AWS account that must own the bucket, as 12 digits. S3 rejects the upload if another account owns
    /// the bucket. If absent, the owner is not checked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = "^([0-9]{12})?$"))]
    pub expected_bucket_owner: String,
}

/// TLS settings of the connection to S3.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreTls {
    /// Secret with the key `ca.crt`: CA certificates in PEM format. They are trusted in addition to the CA
    /// certificates of the container image.
    pub ca_secret: SecretReference,
}

/// The AWS identity of pods without S3 credentials of their own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AwsIdentity {
    /// The role of the pod's ServiceAccount.
    #[default]
    ServiceAccount,
    /// Also the role of the node.
    Instance,
}

/// What happens if the bucket already has an object with the same key.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum OnConflict {
    /// The new image replaces the object.
    #[default]
    Overwrite,
    /// The object stays. A message with a different image is handled according to `failures.policy`.
    Fail,
    /// The object stays. It has the same pixels, since the key contains their digest.
    ContentAddressed,
}

/// Server-side encryption of the objects.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.kmsKeyId) || self.algorithm == 'aws:kms'")
    .message("destination.s3.serverSideEncryption.kmsKeyId requires algorithm aws:kms"))]
pub struct ServerSideEncryption {
    /// Encryption algorithm: `AES256` uses keys that S3 manages (SSE-S3), `aws:kms` a key of AWS KMS
    /// (SSE-KMS).
    pub algorithm: EncryptionAlgorithm,
    /// KMS key: an id, ARN or alias. Allowed only with `aws:kms`. If absent, the default key of the account
    /// for S3 is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key_id: Option<String>,
}

/// Algorithm of the server-side encryption.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum EncryptionAlgorithm {
    /// SSE-S3: keys that S3 manages.
    #[serde(rename = "AES256")]
    Aes256,
    /// SSE-KMS: a key of AWS KMS.
    #[serde(rename = "aws:kms")]
    AwsKms,
}

/// Checksum that is sent with an object.
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
    /// No checksum, unless the operation requires one.
    None,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_key_template() -> String {
    "{name}".to_owned()
}

/// The limits of S3: 10 tags, keys of 128 characters, values of 256 characters.
fn tags_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 10,
        "additionalProperties": { "type": "string", "maxLength": 256 },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key.size() >= 1 && key.size() <= 128)",
            "message": "destination.s3.tags must have keys of 1 to 128 characters"
        }]
    })
}

/// Names must be HTTP header names, and values printable ASCII. S3 allows 2048 bytes in total; the consumer's own
/// entries need up to 956 of them (digest, longest message id, traceparent).
fn metadata_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 256, "pattern": "^[ -~]*$" },
        "x-kubernetes-validations": [
            {
                "rule": "self.all(key, key.matches('^[a-z0-9][a-z0-9-]{0,63}$') && !key.startsWith('image-pipeline-'))",
                "message": "destination.s3.metadata must have keys of 1 to 64 lowercase letters, digits and hyphens that do not begin with image-pipeline-"
            },
            {
                "rule": "self.map(key, key.size() + self[key].size()).sum() <= 1024",
                "message": "destination.s3.metadata has more than 1024 bytes of names and values; S3 allows 2048 bytes, including the metadata that consumers add"
            }
        ]
    })
}
