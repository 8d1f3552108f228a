//! The consumer's metrics. It must never make a label of anything unbounded: no queue, no image, no
//! error text.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use strum::IntoStaticStr;

use crate::reason::Reason;
use crate::version;

/// What became of a message.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Stored and acknowledged.
    Stored,
    /// Parked and acknowledged.
    Parked,
    /// Rejected, for the queue's dead-letter exchange.
    DeadLettered,
    /// Acknowledged and lost, as the policy says.
    Discarded,
    /// A copy of it was published to its queue, where its returns count from 0, and it was acknowledged.
    Renewed,
    /// Returned to the broker because the process stops or held it too long.
    HandedBack,
    /// Stored or parked, and the session was gone before the acknowledgement: it comes again.
    AcknowledgementLost,
}

impl Outcome {
    /// As metrics and the log have it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A step of the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Body to image file, with the waiting for a processor.
    Decode,
    /// Image file to PNG, with the waiting for memory.
    Encode,
    /// PNG to bucket, one attempt.
    Upload,
    /// Parking and acknowledgement.
    Settle,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct MessageLabels {
    outcome: &'static str,
    reason: Option<Reason>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StageLabels {
    stage: &'static str,
}

/// Handles to the metrics; clones share them.
#[derive(Clone)]
pub struct Metrics {
    messages: Family<MessageLabels, Counter>,
    stages: Family<StageLabels, Histogram>,
    in_flight: Gauge,
    redelivered: Counter,
    stored_bytes: Counter,
    publish_to_stored: Histogram,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            messages: Family::default(),
            stages: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            in_flight: Gauge::default(),
            redelivered: Counter::default(),
            stored_bytes: Counter::default(),
            publish_to_stored: Histogram::new(exponential_buckets(0.125, 2.0, 16)),
        };
        let Self { messages, stages, in_flight, redelivered, stored_bytes, publish_to_stored } = metrics.clone();
        registry.register("messages", "Messages by what became of them", messages);
        registry.register_with_unit("stage", "Time that one message spends in a step", Unit::Seconds, stages);
        registry.register("in_flight", "Messages delivered and neither acknowledged nor handed back", in_flight);
        let help = "Messages delivered that had been delivered before";
        registry.register("redelivered", help, redelivered);
        registry.register_with_unit("stored", "Size of the PNGs stored", Unit::Bytes, stored_bytes);
        let help = "Time from the publisher's AMQP timestamp (whole seconds) to the bucket";
        registry.register_with_unit("publish_to_stored", help, Unit::Seconds, publish_to_stored);
        registry.register("build", "The running version", Info::new(version::LABELS));
        metrics
    }

    /// Counts a message whose fate is known.
    pub fn message(&self, outcome: Outcome, reason: Option<Reason>) {
        self.messages.get_or_create(&MessageLabels { outcome: outcome.as_str(), reason }).inc();
    }

    /// Records how long a step took.
    pub fn stage(&self, stage: Stage, took: Duration) {
        let stage = match stage {
            Stage::Decode => "decode",
            Stage::Encode => "encode",
            Stage::Upload => "upload",
            Stage::Settle => "settle",
        };
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    /// Records a stored object and, if the publisher said when it published, its age.
    pub fn stored(&self, bytes: usize, age: Option<Duration>) {
        self.stored_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some(age) = age {
            self.publish_to_stored.observe(age.as_secs_f64());
        }
    }

    /// Counts a message that had been delivered before.
    pub fn redelivered(&self) {
        self.redelivered.inc();
    }

    /// Sets the number of messages held.
    pub fn in_flight(&self, messages: u64) {
        self.in_flight.set(i64::try_from(messages).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn names_and_labels_are_the_documented_ones() {
        let mut registry = Registry::with_prefix("image_pipeline");
        let metrics = Metrics::register(&mut registry);
        metrics.message(Outcome::Stored, None);
        metrics.message(Outcome::Parked, Some(Reason::InvalidImage));
        metrics.message(Outcome::AcknowledgementLost, None);
        metrics.stage(Stage::Upload, Duration::from_millis(3));
        metrics.stored(1000, Some(Duration::from_secs(2)));
        metrics.in_flight(4);
        metrics.redelivered();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "image_pipeline_messages_total{outcome=\"stored\",reason=\"\"} 1",
            "image_pipeline_messages_total{outcome=\"parked\",reason=\"InvalidImage\"} 1",
            "image_pipeline_messages_total{outcome=\"acknowledgement_lost\",reason=\"\"} 1",
            "image_pipeline_stage_seconds_count{stage=\"upload\"} 1",
            "image_pipeline_in_flight 4",
            "image_pipeline_redelivered_total 1",
            "image_pipeline_stored_bytes_total 1000",
            "image_pipeline_publish_to_stored_seconds_sum 2.0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}
