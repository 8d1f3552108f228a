//! Compares the queries of alerts and dashboard with the metrics of operator and consumers: every metric, label,
//! condition and reason in a query exists. An alert on a missing metric would never fire.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use image_pipeline::api::ImagePipelineStatus;
use image_pipeline::api::conditions::ConditionType;
use image_pipeline::consumer::metrics::{self as consumer, Outcome, TimedStep};
use image_pipeline::controller::decide::{Basis, Decision};
use image_pipeline::controller::metrics::{self as controller, PipelineLabels};
use image_pipeline::reason::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use promql_parser::label::{MatchOp, Matcher};
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use serde_json::Value;
use strum::IntoEnumIterator;

use super::{chart, yaml};

/// Metrics and their possible labels.
type Told = BTreeMap<String, BTreeSet<String>>;

/// Labels that a scrape adds, and the label that the PodMonitor adds to consumers.
const OF_A_TARGET: [&str; 3] = ["job", "namespace", "pod"];
const OF_A_CONSUMER: &str = "pipeline";

fn scraped(registry: &Registry, adds: &[&str]) -> Told {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    let mut told = Told::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.split([' ']).next().unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.split(',').filter_map(|label| label.split_once('=')).map(|(label, _)| label);
        told.entry(name.to_owned()).or_default().extend(labels.chain(adds.iter().copied()).map(str::to_owned));
    }
    told
}

fn operators() -> Told {
    let metrics = controller::Metrics::default();
    let mut registry = Registry::with_prefix("image_pipeline");
    metrics.register(&mut registry);
    let pipeline = PipelineLabels { namespace: "greench".to_owned(), pipeline: "forest".to_owned() };
    let decision = Decision {
        replicas: 1,
        basis: Basis::BacklogCounted,
        backlog: Some(5),
        messages_per_replica: 50.0,
        limited: false,
        check_again_in: std::time::Duration::from_secs(2),
    };
    metrics.decided(&pipeline, &decision, None);
    metrics.decided(&pipeline, &Decision { backlog: None, ..decision }, Some(Reason::BrokerUnreachable));
    metrics.parked(&pipeline, Some(2));
    metrics.renewed(&pipeline, 1);
    let condition = Condition {
        type_: ConditionType::Ready.as_str().to_owned(),
        status: "True".to_owned(),
        reason: Reason::Running.as_str().to_owned(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(jiff::Timestamp::UNIX_EPOCH),
    };
    let status = ImagePipelineStatus { conditions: vec![condition], ..ImagePipelineStatus::default() };
    metrics.set_status(&pipeline, Arc::new(status));
    scraped(&registry, &OF_A_TARGET)
}

fn consumers() -> Told {
    let mut registry = Registry::with_prefix("image_pipeline");
    let metrics = consumer::Metrics::register(&mut registry);
    metrics.message(Outcome::Parked, Some(Reason::InvalidImage));
    metrics.stage(TimedStep::Upload, std::time::Duration::from_millis(3));
    scraped(&registry, &[&OF_A_TARGET[..], &[OF_A_CONSUMER]].concat())
}

fn told() -> Told {
    let mut told = operators();
    for (metric, labels) in consumers() {
        told.entry(metric).or_default().extend(labels);
    }
    told
}

/// The series and labels that an expression reads.
#[derive(Default)]
struct Asked {
    series: Vec<VectorSelector>,
    /// Labels in grouping and matching clauses.
    labels: BTreeSet<String>,
}

impl ExprVisitor for Asked {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        let modifier = match expression {
            Expr::VectorSelector(series) => {
                self.series.push(series.clone());
                None
            }
            Expr::MatrixSelector(range) => {
                self.series.push(range.vs.clone());
                None
            }
            Expr::Aggregate(aggregate) => aggregate.modifier.as_ref(),
            Expr::Binary(binary) => binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref()),
            _ => None,
        };
        self.labels.extend(modifier.iter().flat_map(|modifier| modifier.labels().labels.clone()));
        Ok(true)
    }
}

/// What is wrong with a query; empty if Prometheus can parse it and every name exists.
fn wrong(query: &str, told: &Told) -> Vec<String> {
    // Grafana's variable for a range.
    let expression = match parser::parse(&query.replace("$__rate_interval", "5m")) {
        Ok(expression) => expression,
        Err(error) => return vec![error],
    };
    let mut asked = Asked::default();
    let Ok(_) = walk_expr(&mut asked, &expression);
    let mut wrong = Vec::new();
    let mut grouped = asked.labels;
    for VectorSelector { name, matchers, .. } in &asked.series {
        let name = name.as_deref().unwrap_or_default();
        let Some(labels) = told.get(name) else {
            wrong.push(format!("no metric {name}"));
            continue;
        };
        for Matcher { op, name: label, value } in &matchers.matchers {
            if !labels.contains(label) {
                wrong.push(format!("{name} has no label {label}"));
            }
            let values = if matches!(op, MatchOp::Re(_)) { value.split('|').collect() } else { vec![value.as_str()] };
            wrong.extend(
                values.into_iter().filter(|value| !can_be(label, value)).map(|value| format!("no {label} is {value}")),
            );
        }
        grouped.retain(|label| !labels.contains(label));
    }
    wrong.extend(grouped.iter().map(|label| format!("no series has the label {label} to group by")));
    if asked.series.is_empty() {
        wrong.push("nothing is asked for".to_owned());
    }
    wrong
}

/// Whether a label with a fixed set of values can have this value.
fn can_be(label: &str, value: &str) -> bool {
    match label {
        "condition" => ConditionType::iter().any(|kind| kind.as_str() == value),
        "reason" => Reason::iter().any(|reason| reason.as_str() == value),
        "status" => ["True", "False", "Unknown"].contains(&value),
        "outcome" => {
            ["stored", "parked", "dead_lettered", "discarded", "renewed", "handed_back", "acknowledgement_lost"]
                .contains(&value)
        }
        _ => true,
    }
}

fn queries_of_the_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&chart("files/dashboard.json")).unwrap();
    let each = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let panels = each(&dashboard["panels"]).into_iter().flat_map(|panel| each(&panel["targets"]));
    let mut queries: Vec<_> = panels.map(|target| text(&target["expr"])).collect();
    for variable in each(&dashboard["templating"]["list"]).iter().filter(|variable| variable["type"] == "query") {
        let query = text(&variable["query"]["query"]);
        let (series, label) =
            query.strip_prefix("label_values(").unwrap().strip_suffix(')').unwrap().rsplit_once(", ").unwrap();
        queries.push(format!("count by ({label}) ({series})"));
    }
    queries
}

fn queries_of_the_alerts() -> Vec<String> {
    let alerts = yaml(&chart("files/alerts.yaml"));
    alerts.as_array().unwrap().iter().map(|alert| alert["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_dashboard_asks_for_what_is_told() {
    let (told, queries) = (told(), queries_of_the_dashboard());
    for query in &queries {
        assert_eq!(wrong(query, &told), [""; 0], "{query}");
    }
    let shown = |metric: &String| queries.iter().any(|query| query.contains(metric.as_str()));
    // The dashboard shows a histogram by its buckets.
    let unseen: Vec<_> = told
        .keys()
        .filter(|metric| !metric.ends_with("_sum") && !metric.ends_with("_count") && !shown(metric))
        .collect();
    assert!(unseen.is_empty(), "metrics without a panel: {unseen:?}");
}

/// Only metrics of the operator: the alerts work without a PodMonitor.
#[test]
fn the_alerts_ask_for_what_the_operator_tells() {
    let told = operators();
    for query in queries_of_the_alerts() {
        assert_eq!(wrong(&query, &told), [""; 0], "{query}");
    }
}

#[test]
fn what_is_asked_for_in_vain_is_seen() {
    let cases = [
        ("rate(image_pipeline_mesages_total[5m])", "no metric image_pipeline_mesages_total"),
        ("image_pipeline_condition{type=\"Ready\"}", "image_pipeline_condition has no label type"),
        ("image_pipeline_condition{condition=\"Redy\"}", "no condition is Redy"),
        ("image_pipeline_condition{reason=~\"Stopped|Pausd\"}", "no reason is Pausd"),
        ("image_pipeline_messages_total{outcome=\"lost\"}", "no outcome is lost"),
        ("sum by (queue) (image_pipeline_queue_messages)", "no series has the label queue to group by"),
        (
            "image_pipeline_in_flight unless on (nam) image_pipeline_in_flight",
            "no series has the label nam to group by",
        ),
        ("vector(1)", "nothing is asked for"),
    ];
    for (query, expected) in cases {
        assert_eq!(wrong(query, &told()), [expected], "{query}");
    }
    assert_eq!(wrong("sum(rate(image_pipeline_messages_total))", &told()).len(), 1, "rate takes a range");
}
