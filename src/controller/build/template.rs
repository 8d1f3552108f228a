//! The template of a pipeline's pods, with its digest, and what is written of the Deployment around it.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ConsumerImage, pod};
use crate::api::{ImagePipeline, names};
use crate::controller::rollouts::Hold;

/// The pod template and its digest.
pub struct Template {
    pods: PodTemplateSpec,
    digest: String,
    hold: Option<Hold>,
    is_live: bool,
}

/// What to write of a Deployment.
#[derive(Debug)]
pub enum Desired {
    Whole(Box<Deployment>),
    /// Only the size: the pods keep their template.
    Size(i32),
}

impl Desired {
    pub fn replicas(&self) -> i32 {
        match self {
            Self::Whole(deployment) => deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0),
            Self::Size(replicas) => *replicas,
        }
    }

    pub fn set_replicas(&mut self, size: i32) {
        match self {
            Self::Whole(deployment) => {
                if let Some(spec) = &mut deployment.spec {
                    spec.replicas = Some(size);
                }
            }
            Self::Size(replicas) => *replicas = size,
        }
    }
}

impl Template {
    pub fn new(pipeline: &ImagePipeline, image: &ConsumerImage) -> Self {
        let labels = names::labels(pipeline.metadata.name.as_deref().unwrap_or_default());
        let pods = PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
            spec: Some(pod(pipeline, image)),
        };
        let digest = digest(&pods);
        Self { pods, digest, hold: None, is_live: false }
    }

    /// A template with the image of the live one.
    pub fn pinned(self) -> Self {
        Self { hold: Some(Hold::Pinned), ..self }
    }

    /// The live template with this digest, which stays for now.
    pub fn held(self, hold: Hold, digest: &str) -> Self {
        Self { digest: digest.to_owned(), hold: Some(hold), is_live: true, ..self }
    }

    pub fn pods(&self) -> &PodTemplateSpec {
        &self.pods
    }

    pub fn into_pods(self) -> PodTemplateSpec {
        self.pods
    }

    /// Identifies the pods of this template: they carry it as an annotation.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether it stands for the live template, which stays.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Why the pods do not get this operator's version.
    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }
}

/// A digest of the pod template. It makes a removed field visible as a difference. `DefaultHasher::new` has fixed keys;
/// if a later Rust version hashes differently, each Deployment is applied once.
fn digest(template: &PodTemplateSpec) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
