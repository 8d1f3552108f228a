//! Which writes are sent, and when.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use jiff::SignedDuration;

use super::deployment::contains;
use super::pods::{annotations, holds, shrinks};
use super::*;
use crate::controller::build::{ConsumerImage, Template};
use crate::controller::observation::ObservedPod;
use crate::controller::rollouts::Hold;
use crate::pod_status::{PodStatus, healthy};
use crate::rabbitmq::QueueDepth;
use crate::reason::Reason;

fn pod(in_flight: Option<u64>, cost: Option<&str>) -> ObservedPod {
    let report = in_flight.map(|in_flight| PodStatus { in_flight, ..healthy() });
    let (secrets, deletion_cost) = (Some("7.9".to_owned()), cost.map(str::to_owned));
    ObservedPod { report, secrets, deletion_cost, ..ObservedPod::default() }
}

/// A Deployment of five pods.
fn observed() -> Observation {
    let deployment = serde_json::from_value(json!({ "spec": { "replicas": 5, "selector": {}, "template": {} } }));
    Observation {
        at: Timestamp::UNIX_EPOCH,
        deployment: Some(Arc::new(deployment.unwrap())),
        spec: String::new(),
        hold: None,
        written: None,
        depth: Ok(QueueDepth { ready: 0, consumers: 5 }),
        parked: None,
        foreign: 0,
        credentials: None,
        secrets: "7.9".to_owned(),
        pods: vec![],
    }
}

#[test]
fn before_a_shrink_pods_are_ranked_by_what_they_hold_and_only_where_it_changes_anything() {
    let cost = names::DELETION_COST_ANNOTATION;
    let cases = [
        ("holds", pod(Some(7), None), 3, json!({ cost: "7" })),
        ("holds as many as before", pod(Some(7), Some("7")), 3, json!({})),
        ("holds less", pod(Some(2), Some("7")), 3, json!({ cost: "2" })),
        ("idle", pod(Some(0), None), 3, json!({})),
        ("idle again", pod(Some(0), Some("7")), 3, json!({ cost: "0" })),
        ("no report", pod(None, Some("7")), 3, json!({})),
        ("the size stays", pod(Some(7), None), 5, json!({})),
        ("the size grows", pod(Some(7), Some("2")), 9, json!({})),
        ("no pod stays", pod(Some(7), None), 0, json!({})),
    ];
    for (name, pod, size, expected) in cases {
        let ranks = shrinks(&observed(), size);
        assert_eq!(json!(annotations(&pod, &observed(), ranks)), expected, "{name}");
    }
}

#[test]
fn a_shrink_that_is_not_carried_out_is_ranked_again_after_a_while_only() {
    let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
    assert!(holds((3, at(0)), 3, at(29)));
    assert!(!holds((3, at(0)), 3, at(30)), "the ranking is 30 s old");
    assert!(!holds((3, at(0)), 2, at(1)), "another size");
}

/// Whether each kind of write reaches the API server.
async fn sends(term: Term) -> Vec<(&'static str, bool)> {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = sent.clone();
    let answer = tower::service_fn(move |_: axum::http::Request<kube::client::Body>| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Ok::<_, std::convert::Infallible>(axum::http::Response::new(kube::client::Body::empty())))
    });
    let reporter = Reporter { controller: "c".to_owned(), instance: None };
    let writer = Writer::new(Client::new(answer, "default"), reporter, term);
    let pipeline = ImagePipeline::new(
        "tiles",
        serde_json::from_value(json!({
            "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
            "destination": { "s3": { "bucket": "tiles" } },
        }))
        .unwrap(),
    );
    let pod = ObservedPod { name: "tiles-1".to_owned(), ..pod(Some(7), None) };
    let observed = Observation { pods: vec![pod], ..observed() };
    let image = ConsumerImage { image: "image:1".to_owned(), pull_policy: "Always".to_owned(), pull_secrets: vec![] };
    let template = Template::new(&pipeline, image);
    let transition = Transition { warning: false, reason: Reason::ScaledUp, note: "0 → 1".to_owned() };
    let mut reached = vec![];
    let mut count = |kind| reached.push((kind, sent.swap(0, std::sync::atomic::Ordering::Relaxed) > 0));
    let whole = Desired::new(3, template.clone());
    let size = Desired::new(3, template.held(Hold::Turn, "an earlier digest"));
    for (kind, desired) in [("Deployment", whole), ("size", size)] {
        drop(writer.write_deployment(&pipeline, &desired, None, &mut Applies::default()).await);
        count(kind);
    }
    drop(writer.annotate_pods(&pipeline, &observed, 3, &mut Applies::default()).await);
    count("pod");
    drop(writer.write_status(&pipeline.metadata, &ImagePipelineStatus::default()).await);
    count("status");
    drop(writer.publish(&pipeline, &[transition], &mut PublishedEvents::default(), Timestamp::UNIX_EPOCH).await);
    count("event");
    reached
}

#[tokio::test]
async fn nothing_is_sent_past_the_term() {
    let kinds = ["Deployment", "size", "pod", "status", "event"];
    assert_eq!(sends(Term::unlimited()).await, kinds.map(|kind| (kind, true)));
    assert_eq!(sends(Term::ending(tokio::time::Instant::now())).await, kinds.map(|kind| (kind, false)));
}

#[test]
fn a_pod_is_told_of_its_secrets_once() {
    let newer = Observation { secrets: "8.9".to_owned(), ..observed() };
    assert_eq!(json!(annotations(&pod(None, None), &newer, false)), json!({ names::SECRETS_ANNOTATION: "8.9" }));
    assert!(annotations(&pod(None, None), &observed(), false).is_empty());
}

#[test]
fn what_others_add_is_no_difference_and_what_they_change_is() {
    let asked = json!({ "a": 1, "list": [{ "name": "x" }] });
    assert!(contains(&json!({ "a": 1, "list": [{ "name": "x", "defaulted": true }], "theirs": 2 }), &asked));
    assert!(!contains(&json!({ "a": 2, "list": [{ "name": "x" }] }), &asked));
    assert!(!contains(&json!({ "a": 1, "list": [{ "name": "x" }, { "name": "y" }] }), &asked));
    assert!(!contains(&json!({ "list": [{ "name": "x" }] }), &asked));
}
