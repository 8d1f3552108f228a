//! The operator's metrics. Labels are enumerations and the names of pipelines; the series of a deleted pipeline are
//! removed.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::decide::Decision;
use crate::api::ImagePipelineStatus;
use crate::reason::Reason;
use crate::version;

mod conditions;

use conditions::Conditions;

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct PipelineLabels {
    pub namespace: String,
    /// The name of the ImagePipeline.
    pub pipeline: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabels {
    reason: Reason,
}

/// Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    queue_messages: Family<PipelineLabels, Gauge>,
    parked_messages: Family<PipelineLabels, Gauge>,
    renewed_messages: Family<PipelineLabels, Counter>,
    desired_replicas: Family<PipelineLabels, Gauge>,
    conditions: Conditions,
    decisions: Family<ReasonLabels, Counter>,
    depth_unknown: Family<ReasonLabels, Counter>,
    /// Duration of one reconcile in seconds.
    pub reconcile_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            queue_messages: Family::default(),
            parked_messages: Family::default(),
            renewed_messages: Family::default(),
            desired_replicas: Family::default(),
            conditions: Conditions::default(),
            decisions: Family::default(),
            depth_unknown: Family::default(),
            reconcile_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let Self {
            queue_messages,
            parked_messages,
            renewed_messages,
            desired_replicas,
            conditions,
            decisions,
            depth_unknown,
            reconcile_seconds,
        } = self;
        registry.register("queue_messages", "Messages ready or in flight, as last read", queue_messages.clone());
        registry.register("parked_messages", "Messages in the parking queue, as last read", parked_messages.clone());
        let renewed = "Messages that consumers moved to the end of their queue by publishing a copy";
        registry.register("renewed_messages", renewed, renewed_messages.clone());
        registry.register("desired_replicas", "Number of consumer pods, as last decided", desired_replicas.clone());
        registry.register_collector(Box::new(conditions.clone()));
        registry.register("decisions", "Scale decisions by reason", decisions.clone());
        registry.register("depth_unknown", "Failed reads of a queue depth, by reason", depth_unknown.clone());
        registry.register("reconcile_seconds", "Duration of one reconcile", reconcile_seconds.clone());
        registry.register("build", "The running version", Info::new(version::LABELS));
    }

    /// Counts a decision. `unknown`: why the queue depth could not be read.
    pub fn decided(&self, pipeline: &PipelineLabels, decision: &Decision, unknown: Option<Reason>) {
        self.desired_replicas.get_or_create(pipeline).set(i64::from(decision.replicas));
        self.decisions.get_or_create(&ReasonLabels { reason: decision.basis.reason() }).inc();
        match (decision.backlog, unknown) {
            (Some(backlog), _) => drop(self.queue_messages.get_or_create(pipeline).set(backlog)),
            (None, reason) => {
                let reason = reason.unwrap_or(Reason::DepthUnknown);
                self.depth_unknown.get_or_create(&ReasonLabels { reason }).inc();
            }
        }
    }

    /// Sets the number of parked messages; `None` ends the series.
    pub fn parked(&self, pipeline: &PipelineLabels, messages: Option<u32>) {
        match messages {
            Some(messages) => drop(self.parked_messages.get_or_create(pipeline).set(i64::from(messages))),
            None => drop(self.parked_messages.remove(pipeline)),
        }
    }

    /// Counts renewed messages. Call it with 0 too: Prometheus sees no increase in the first value of a series.
    pub fn renewed(&self, pipeline: &PipelineLabels, messages: u64) {
        self.renewed_messages.get_or_create(pipeline).inc_by(messages);
    }

    /// Sets the status whose conditions are a metric.
    pub fn set_status(&self, pipeline: &PipelineLabels, status: Arc<ImagePipelineStatus>) {
        self.conditions.set(pipeline, status);
    }

    /// Ends the series of all pipelines: another operator is the leader now.
    pub fn forget_all(&self) {
        self.conditions.clear();
        self.queue_messages.clear();
        self.parked_messages.clear();
        self.renewed_messages.clear();
        self.desired_replicas.clear();
    }

    /// Ends the series of a deleted pipeline.
    pub fn forget(&self, pipeline: &PipelineLabels) {
        self.conditions.remove(pipeline);
        self.queue_messages.remove(pipeline);
        self.parked_messages.remove(pipeline);
        self.renewed_messages.remove(pipeline);
        self.desired_replicas.remove(pipeline);
    }
}
