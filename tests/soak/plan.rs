//! The pipelines of the soak: both types of queue, the three encodings, the three policies for a key
//! that is there already. It must never name a thing that another pipeline has too.

use serde_json::{Value, json};

/// The policy by which another image of a name is refused.
pub const FAIL: &str = "Fail";

/// How a pipeline is set up.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its name, its queue's and its bucket's.
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

/// The first so many are hit by faults of one pipeline. The next is not: its pods live as long as the
/// soak, and what they gather in their memory can be seen.
pub const HIT: usize = 4;

/// The last has a cluster of three brokers for itself, and is hit when the one that leads its queue is killed.
pub const LED: usize = HIT + 1;

/// Both types of queue, the three encodings, the three policies.
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
    /// What a tenth of the keys of its images have in them, and nothing else in the first line of a request.
    pub fn a_part_of_keys(&self) -> &'static str {
        if self.key_template.contains("{digest}") { "7-" } else { "7." }
    }

    /// The ImagePipeline, with the store at this URL.
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
