//! The consumer's Prometheus metrics. Labels are bounded: no queue, image or error text.

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

/// How the consumer finished with a message.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    Stored,
    Parked,
    /// Rejected, so that the broker dead-letters it.
    DeadLettered,
    /// Acknowledged without being stored (`failures.policy: Discard`).
    Discarded,
    /// Acknowledged after a copy was published to the same queue; the copy starts with 0 returns.
    Renewed,
    /// Returned to the queue because the process stops or the holding time is over.
    HandedBack,
    /// Stored or parked, but the session ended before the acknowledgement: the broker redelivers the message.
    AcknowledgementLost,
}

impl Outcome {
    /// The value of the label `outcome` and of the log field `outcome`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A step of processing, the label `stage`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimedStep {
    /// Body to image file.
    Decode,
    /// Image file to PNG, including the wait for memory.
    Encode,
    /// One attempt to upload the PNG.
    Upload,
    /// Publishing to the parking queue.
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

/// Handles to the metrics; clones share the values.
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
        registry.register("messages", "Messages by outcome", messages);
        registry.register_with_unit("stage", "Time that one message spends in one stage", Unit::Seconds, stages);
        registry.register("in_flight", "Messages delivered and not yet settled", in_flight);
        let help = "Redelivered messages";
        registry.register("redelivered", help, redelivered);
        registry.register_with_unit("stored", "Size of the PNGs stored", Unit::Bytes, stored_bytes);
        let help = "Time from the publisher's AMQP timestamp (whole seconds) until the object is stored";
        registry.register_with_unit("publish_to_stored", help, Unit::Seconds, publish_to_stored);
        registry.register("build", "The running version", Info::new(version::LABELS));
        metrics
    }

    /// Counts a finished message.
    pub fn message(&self, outcome: Outcome, reason: Option<Reason>) {
        self.messages.get_or_create(&MessageLabels { outcome: outcome.as_str(), reason }).inc();
    }

    pub fn stage(&self, stage: TimedStep, took: Duration) {
        let stage = match stage {
            TimedStep::Decode => "decode",
            TimedStep::Encode => "encode",
            TimedStep::Upload => "upload",
            TimedStep::Settle => "settle",
        };
        self.stages.get_or_create(&StageLabels { stage }).observe(took.as_secs_f64());
    }

    /// Records a stored object of `bytes` bytes. `age`: time since the message's AMQP timestamp, if it has one.
    pub fn stored(&self, bytes: usize, age: Option<Duration>) {
        self.stored_bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some(age) = age {
            self.publish_to_stored.observe(age.as_secs_f64());
        }
    }

    pub fn redelivered(&self) {
        self.redelivered.inc();
    }

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
        metrics.stage(TimedStep::Upload, Duration::from_millis(3));
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
