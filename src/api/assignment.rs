//! The parts of the spec that a consumer needs. The controller writes them into the pod template as JSON, so every
//! change of an `Assignment` replaces the pods: fields that do not concern a consumer stay out.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ImagePipelineSpec;
use super::destination::Destination;
use super::failures::Failures;
use super::image::ImageSettings;
use super::message::MessageFormat;
use super::source::Source;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Assignment {
    pub source: Source,
    #[serde(default)]
    pub message: MessageFormat,
    #[serde(default)]
    pub image: ImageSettings,
    pub destination: Destination,
    #[serde(default)]
    pub failures: Failures,
    /// Images processed in parallel. `None`: derived from the CPU limit.
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

/// Parses JSON.
impl FromStr for Assignment {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}
