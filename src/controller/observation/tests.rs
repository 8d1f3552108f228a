//! Why more pods would not help: a table of reports from pods and Kubernetes.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;

use super::*;
use crate::pod_status::{Fault, healthy};

fn pod(change: impl FnOnce(&mut PodStatus)) -> ObservedPod {
    let mut report = healthy();
    change(&mut report);
    ObservedPod { report: Some(report), spec: Some("present".to_owned()), ..ObservedPod::default() }
}

fn failing(reason: Reason) -> Health {
    Health::Failing(Fault { reason, message: "why".to_owned(), since: Timestamp::UNIX_EPOCH })
}

fn stuck(reason: Reason) -> ObservedPod {
    let cause = Some(Cause::new(reason, "why"));
    ObservedPod { cause, spec: Some("present".to_owned()), ..ObservedPod::default() }
}

fn observed(pods: Vec<ObservedPod>) -> Observation {
    let deployment = serde_json::from_value(serde_json::json!({
        "spec": { "replicas": 3, "selector": {}, "template": {} },
    }));
    Observation {
        at: jiff::Timestamp::UNIX_EPOCH,
        deployment: Some(Arc::new(deployment.unwrap())),
        spec: "present".to_owned(),
        hold: None,
        written: None,
        depth: Ok(QueueDepth { ready: 0, consumers: 0 }),
        parked: None,
        foreign: 0,
        credentials: None,
        secrets: String::new(),
        pods,
    }
}

fn refused() -> Observation {
    let mut observed = observed(vec![pod(|_| {})]);
    let deployment = serde_json::from_value(serde_json::json!({
        "spec": { "replicas": 3, "selector": {}, "template": {} },
        "status": { "conditions": [{ "type": "ReplicaFailure", "status": "True" }] },
    }));
    observed.deployment = Some(Arc::new(deployment.unwrap()));
    observed
}

/// Pods of an earlier spec may report the stream that it named.
#[test]
fn a_stream_that_a_pod_of_the_current_spec_reports_has_no_depth() {
    let stream = || pod(|report| report.broker = failing(Reason::StreamNotSupported));
    let earlier = ObservedPod { spec: Some("earlier".to_owned()), ..stream() };
    let reason = |pods| observed(pods).without_depth_of_stream().depth.err().map(|cause| cause.reason);
    assert_eq!(reason(vec![stream(), pod(|_| {})]), Some(Reason::StreamNotSupported));
    assert_eq!(reason(vec![earlier, pod(|_| {})]), None);
    assert_eq!(reason(vec![pod(|report| report.broker = failing(Reason::BrokerUnreachable))]), None);
}

#[test]
fn growing_is_of_no_use_while_storage_or_broker_is_down_or_pods_do_not_start() {
    let no_storage = |report: &mut PodStatus| report.storage = failing(Reason::AccessDenied);
    let idle = |report: &mut PodStatus| report.in_flight = 0;
    let no_broker = |report: &mut PodStatus| {
        (report.broker, report.consuming) = (failing(Reason::BrokerUnreachable), false);
    };
    let credentials = Some(Cause::new(Reason::SecretNotFound, "why"));
    let ending = |pod| ObservedPod { ending: true, ..pod };
    let ready = |pod| ObservedPod { ready: true, ..pod };
    let earlier = |pod| ObservedPod { spec: Some("earlier".to_owned()), ..pod };
    let cases = [
        ("no pod", observed(vec![]), None),
        ("no fault", observed(vec![pod(|_| {}), pod(idle)]), None),
        ("never tried", observed(vec![pod(|report| report.storage = Health::Unknown)]), None),
        ("storage", observed(vec![pod(no_storage)]), Some(Reason::AccessDenied)),
        ("storage, idle pods can't know", observed(vec![pod(idle), pod(no_storage)]), Some(Reason::AccessDenied)),
        ("storage, of one pod only", observed(vec![pod(|_| {}), pod(no_storage)]), None),
        ("broker", observed(vec![pod(no_broker)]), Some(Reason::BrokerUnreachable)),
        ("broker, of one pod only", observed(vec![pod(idle), pod(no_broker)]), None),
        ("parking", observed(vec![pod(|report| report.parking = failing(Reason::ParkingRefused))]), None),
        ("a terminating pod", observed(vec![ending(pod(no_storage)), ending(stuck(Reason::ImagePullFailed))]), None),
        (
            "an earlier spec",
            observed(vec![pod(idle), earlier(pod(no_storage)), earlier(stuck(Reason::ImagePullFailed))]),
            None,
        ),
        ("image", observed(vec![stuck(Reason::ImagePullFailed)]), Some(Reason::ImagePullFailed)),
        (
            "image, the first pod starts",
            observed(vec![pod(idle), stuck(Reason::ImagePullFailed)]),
            Some(Reason::ImagePullFailed),
        ),
        ("image, of one pod only", observed(vec![ready(pod(|_| {})), stuck(Reason::ImagePullFailed)]), None),
        ("a crash of one pod only", observed(vec![stuck(Reason::ContainerFailing), ready(pod(idle))]), None),
        (
            "image, where only pods of an earlier spec are ready",
            observed(vec![earlier(ready(pod(|_| {}))), stuck(Reason::ImagePullFailed)]),
            Some(Reason::ImagePullFailed),
        ),
        (
            "unschedulable",
            observed(vec![ready(pod(|_| {})), stuck(Reason::ContainerFailing), stuck(Reason::Unschedulable)]),
            Some(Reason::Unschedulable),
        ),
        ("quota", refused(), Some(Reason::PodsRefused)),
        ("no Secret", Observation { credentials, ..observed(vec![]) }, Some(Reason::SecretNotFound)),
    ];
    for (name, observed, reason) in cases {
        assert_eq!(observed.growth_blocker().map(|cause| cause.reason), reason, "{name}");
    }
}
