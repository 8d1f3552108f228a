//! What one consumer is told to do: the parts of the spec that are a consumer's, as the controller
//! writes them into a pod and the consumer reads them. It must never hold what does not concern the
//! consumer: a change of it replaces the pods.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ImagePipelineSpec;
use super::destination::Destination;
use super::failures::Failures;
use super::image::ImageSettings;
use super::message::MessageFormat;
use super::source::Source;

/// The parts of an ImagePipeline's spec that concern a consumer.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Assignment {
    /// Where messages come from.
    pub source: Source,
    /// How they carry an image.
    #[serde(default)]
    pub message: MessageFormat,
    /// How it becomes a PNG.
    #[serde(default)]
    pub image: ImageSettings,
    /// Where it goes.
    pub destination: Destination,
    /// What becomes of those that can't.
    #[serde(default)]
    pub failures: Failures,
    /// Images at once; from the CPU limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u16>,
}

impl From<&ImagePipelineSpec> for Assignment {
    fn from(spec: &ImagePipelineSpec) -> Self {
        let ImagePipelineSpec {
            source,
            message,
            image,
            destination,
            failures,
            scaling: _,
            replicas: _,
            paused: _,
            consumer,
        } = spec.clone();
        Self { source, message, image, destination, failures, concurrency: consumer.concurrency }
    }
}

/// From JSON.
impl FromStr for Assignment {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}
