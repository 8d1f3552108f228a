//! The conditions of all pipelines as one metric: one series per condition, with its current status and reason as
//! labels. Messages are not labels, because they are not bounded.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;

use super::PipelineLabels;
use crate::api::ImagePipelineStatus;

/// By pipeline. A family of gauges would keep a series for each earlier status and reason.
#[derive(Clone, Debug, Default)]
pub struct Conditions(Arc<Mutex<HashMap<PipelineLabels, Arc<ImagePipelineStatus>>>>);

impl Conditions {
    /// Replaces the status of the pipeline.
    pub fn set(&self, pipeline: &PipelineLabels, status: Arc<ImagePipelineStatus>) {
        let mut statuses = self.0.lock();
        match statuses.get_mut(pipeline) {
            // An equal copy would spread the statuses over the heap.
            Some(present) if *present == status => {}
            Some(present) => *present = status,
            None => drop(statuses.insert(pipeline.clone(), status)),
        }
    }

    pub fn remove(&self, pipeline: &PipelineLabels) {
        self.0.lock().remove(pipeline);
    }

    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

impl Collector for Conditions {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let one = ConstGauge::new(1_i64);
        let help = "1 for each condition of a pipeline, with its current status and reason";
        let mut family = encoder.encode_descriptor("condition", help, None, one.metric_type())?;
        for (PipelineLabels { namespace, pipeline }, present) in self.0.lock().iter() {
            for Condition { type_, status, reason, .. } in &present.conditions {
                let labels = [
                    ("namespace", namespace.as_str()),
                    ("pipeline", pipeline),
                    ("condition", type_),
                    ("status", status),
                    ("reason", reason),
                ];
                one.encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn condition(kind: &str, status: &str, reason: &str) -> Condition {
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: "Bucket \"forest\" can't be written.".to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_pipeline_has_the_series_of_its_present_conditions() {
        let conditions = Conditions::default();
        let mut registry = Registry::with_prefix("image_pipeline");
        registry.register_collector(Box::new(conditions.clone()));
        let series = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let line = |pipeline: &str, condition: &str, status: &str, reason: &str| {
            format!(
                "image_pipeline_condition{{namespace=\"greench\",pipeline=\"{pipeline}\",condition=\"{condition}\",\
                 status=\"{status}\",reason=\"{reason}\"}} 1"
            )
        };
        let labels = |pipeline: &str| PipelineLabels { namespace: "greench".to_owned(), pipeline: pipeline.to_owned() };
        let (forest, tiles) = (labels("forest"), labels("tiles"));

        let status = |conditions| Arc::new(ImagePipelineStatus { conditions, ..ImagePipelineStatus::default() });
        conditions.set(&forest, status(vec![condition("Ready", "True", "Running")]));
        conditions.set(&tiles, status(vec![condition("Ready", "True", "Idle")]));
        let failing = [("Ready", "AccessDenied"), ("StorageAvailable", "AccessDenied")];
        let failing = failing.map(|(kind, reason)| condition(kind, "False", reason)).to_vec();
        conditions.set(&forest, status(failing));
        let expected = [
            line("forest", "Ready", "False", "AccessDenied"),
            line("forest", "StorageAvailable", "False", "AccessDenied"),
            line("tiles", "Ready", "True", "Idle"),
        ];
        assert_eq!(series(), expected);

        conditions.remove(&forest);
        assert_eq!(series(), expected[2..]);
        conditions.clear();
        assert_eq!(series(), [""; 0]);
    }
}
