//! The names of all metrics, taken from the registries as a scraper sees them.

use std::collections::BTreeSet;
use std::time::Duration;

use image_pipeline::consumer::metrics::{Metrics as Consumer, Outcome, TimedStep};
use image_pipeline::controller::Metrics as Operator;
use image_pipeline::controller::decide::{Basis, Decision};
use image_pipeline::controller::metrics::PipelineLabels;
use image_pipeline::version;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// Prefix of every metric.
pub const PREFIX: &str = "image_pipeline_";

/// The metrics of operator and consumer. Each metric needs a value, because metrics without one are not exposed.
fn exposed() -> [String; 2] {
    let mut registries = [Registry::with_prefix("image_pipeline"), Registry::with_prefix("image_pipeline")];
    let [of_operator, of_consumer] = &mut registries;
    let operator = Operator::default();
    operator.register(of_operator);
    let decision = |backlog| Decision {
        replicas: 1,
        basis: Basis::ScaledUp,
        backlog,
        messages_per_replica: 50.0,
        limited: false,
        check_again_in: Duration::ZERO,
    };
    let pipeline = PipelineLabels { namespace: "forest".to_owned(), pipeline: "tiles".to_owned() };
    operator.decided(&pipeline, &decision(Some(1)), None);
    operator.decided(&pipeline, &decision(None), None);
    operator.parked(&pipeline, Some(1));
    operator.renewed(&pipeline, 1);
    let consumer = Consumer::register(of_consumer);
    for outcome in OUTCOMES {
        consumer.message(outcome, None);
    }
    consumer.stage(TimedStep::Decode, Duration::ZERO);
    registries.map(|registry| {
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    })
}

const OUTCOMES: [Outcome; 7] = [
    Outcome::Stored,
    Outcome::Parked,
    Outcome::DeadLettered,
    Outcome::Discarded,
    Outcome::Renewed,
    Outcome::HandedBack,
    Outcome::AcknowledgementLost,
];

/// Names of metrics and of their samples.
pub fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in exposed() {
        for line in text.lines() {
            let name = line.strip_prefix("# TYPE ").unwrap_or(line);
            names.insert(name.split(['{', ' ']).next().unwrap_or_default().to_owned());
        }
    }
    names
}

/// Whether a word is a value of the label `outcome`.
pub fn is_outcome(word: &str) -> bool {
    exposed().iter().any(|text| text.contains(&format!("outcome=\"{word}\"")))
}

#[test]
fn operator_and_consumer_tell_their_build() {
    let labels = format!("version=\"{}\",revision=\"{}\"", version::VERSION, version::REVISION);
    for text in exposed() {
        assert!(text.contains(&format!("\nimage_pipeline_build_info{{{labels}}} 1\n")), "{labels} in {text}");
    }
}
