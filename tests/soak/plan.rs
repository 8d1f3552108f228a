//! The pipelines of the soak: both queue types, the three encodings, and the three policies for a key that exists.
//! No two pipelines share a name.

use serde_json::{Value, json};

/// The policy that refuses a different image of the same name.
pub const FAIL: &str = "Fail";

/// Configuration of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Name of the pipeline, its queue and its bucket.
    pub name: &'static str,
    /// `quorum` or `classic`.
    pub queue_type: &'static str,
    /// `spec.image.encoding`.
    pub encoding: &'static str,
    /// `spec.image.reencode`.
    pub reencode: &'static str,
    /// `spec.destination.s3.onConflict`.
    pub on_conflict: &'static str,
    /// `spec.destination.s3.keyTemplate`.
    pub key_template: &'static str,
}

/// Faults of one pipeline affect only this many pipelines. The next pipeline is spared: its pods live as long as
/// the soak, which shows the growth of their memory.
pub const HIT: usize = 4;

/// The last pipeline has its own cluster of three RabbitMQ nodes. It is affected when the queue's leader is killed.
pub const LED: usize = HIT + 1;

/// Both queue types, the three encodings, the three policies.
pub const PLANS: [Plan; LED + 1] = [
    Plan {
        name: "overwrite",
        queue_type: "quorum",
        encoding: "Fast",
        reencode: "Always",
        on_conflict: "Overwrite",
        key_template: "{name}",
    },
    Plan {
        name: "fail",
        queue_type: "quorum",
        encoding: "Balanced",
        reencode: "Always",
        on_conflict: FAIL,
        key_template: "{name}",
    },
    Plan {
        name: "addressed",
        queue_type: "classic",
        encoding: "Smallest",
        reencode: "Always",
        on_conflict: "ContentAddressed",
        key_template: "{stem}-{digest}.png",
    },
    Plan {
        name: "classic",
        queue_type: "classic",
        encoding: "Fast",
        reencode: "WhenNotPng",
        on_conflict: "Overwrite",
        key_template: "{name}",
    },
    Plan {
        name: "spared",
        queue_type: "quorum",
        encoding: "Fast",
        reencode: "Always",
        on_conflict: "Overwrite",
        key_template: "{name}",
    },
    Plan {
        name: "led",
        queue_type: "quorum",
        encoding: "Fast",
        reencode: "Always",
        on_conflict: "Overwrite",
        key_template: "{name}",
    },
];

impl Plan {
    /// A text that a tenth of the image keys contain, and that occurs nowhere else in a request's first line.
    pub fn a_part_of_keys(&self) -> &'static str {
        if self.key_template.contains("{digest}") { "7-" } else { "7." }
    }

    /// The ImagePipeline, with this S3 endpoint.
    pub fn manifest(&self, endpoint: &str) -> Value {
        let Self { name, encoding, reencode, on_conflict, key_template, .. } = *self;
        json!({
            "apiVersion": "greench.dev/v1alpha1",
            "kind": "ImagePipeline",
            "metadata": { "name": name },
            "spec": {
                "source": { "rabbitmq": {
                    "queue": name,
                    "rabbitmqClusterReference": { "connectionSecret": { "name": format!("{name}-broker") } },
                } },
                "image": { "encoding": encoding, "reencode": reencode },
                "destination": { "s3": {
                    "bucket": name,
                    "endpoint": endpoint,
                    "forcePathStyle": true,
                    "credentialsSecret": { "name": format!("{name}-s3") },
                    "onConflict": on_conflict,
                    "keyTemplate": key_template,
                } },
                "scaling": { "minReplicas": 2, "maxReplicas": 4, "scaleDownAfter": "20s" },
                "consumer": { "resources": {
                    "requests": { "cpu": "20m", "memory": "64Mi" }, "limits": { "memory": "1Gi" },
                } },
            },
        })
    }
}
