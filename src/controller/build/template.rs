//! The template of a pipeline's pods, and what is written of the Deployment around it. Both are identified by the
//! template's digest, so that a reconcile that changes nothing builds no pods.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use super::{ConsumerImage, deployment, pods};
use crate::api::ImagePipeline;
use crate::controller::rollouts::Hold;

/// The pod template of a pipeline, by its digest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    digest: String,
    image: Arc<ConsumerImage>,
    hold: Option<Hold>,
    is_live: bool,
}

/// What to write of a Deployment. For one resource, equal values stand for equal writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Desired {
    pub replicas: i32,
    template: Template,
}

impl Desired {
    pub fn new(replicas: i32, template: Template) -> Self {
        Self { replicas, template }
    }

    /// The whole Deployment; `None`: only the size is written, because the pods keep their template.
    pub fn deployment(&self, pipeline: &ImagePipeline) -> Option<Deployment> {
        (!self.template.is_live).then(|| deployment(pipeline, self.replicas, &self.template))
    }
}

impl Template {
    pub fn new(pipeline: &ImagePipeline, image: impl Into<Arc<ConsumerImage>>) -> Self {
        let image = image.into();
        Self::of_digest(digest(&pods(pipeline, &image)), image)
    }

    /// The template that had this digest when it was built for the same spec and image.
    pub fn of_digest(digest: String, image: Arc<ConsumerImage>) -> Self {
        Self { digest, image, hold: None, is_live: false }
    }

    /// A template with the image of the live one.
    pub fn pinned(self) -> Self {
        Self { hold: Some(Hold::Pinned), ..self }
    }

    /// The live template with this digest, which stays for now.
    pub fn held(self, hold: Hold, digest: &str) -> Self {
        Self { digest: digest.to_owned(), hold: Some(hold), is_live: true, ..self }
    }

    pub fn image(&self) -> &ConsumerImage {
        &self.image
    }

    /// Identifies the pods of this template: they carry it as an annotation.
    pub fn digest(&self) -> &str {
        &self.digest
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
