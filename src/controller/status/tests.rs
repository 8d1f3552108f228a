//! The status for each cause that can be observed, and the rules of time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use super::*;
use crate::controller::cause::Cause;
use crate::controller::observation::ObservedPod;
use crate::controller::transitions::{Transition, transitions};
use crate::pod_status::{Fault, Health, PodStatus, healthy};
use crate::rabbitmq::QueueDepth;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_700_000_000 + seconds)
}

fn pipeline() -> ImagePipeline {
    let spec = "
source: {rabbitmq: {queue: segmented-images, rabbitmqClusterReference: {name: rabbit}}}
destination: {s3: {bucket: bucket-greench}}";
    let mut pipeline = ImagePipeline::new("forest-tiles", serde_yaml::from_str(spec).unwrap());
    pipeline.metadata.generation = Some(4);
    pipeline
}

fn observed(pods: Vec<ObservedPod>) -> Observation {
    let depth = Ok(QueueDepth { ready: 0, consumers: 1 });
    Observation {
        at: at(0),
        deployment: None,
        spec: "present".to_owned(),
        hold: None,
        written: None,
        depth,
        parked: None,
        foreign: 0,
        credentials: None,
        secrets: String::new(),
        pods,
    }
}

fn unread(reason: Reason) -> Observation {
    Observation { depth: Err(Cause::new(reason, "why")), ..observed(vec![]) }
}

fn applied(cause: Option<Cause>) -> Applied {
    Applied { cause, annotation: Ok(()) }
}

fn decision(replicas: i32) -> Decision {
    Decision {
        replicas,
        basis: Basis::BacklogCounted,
        backlog: Some(0),
        messages_per_replica: 50.0,
        limited: false,
        check_again_in: Duration::from_secs(2),
    }
}

fn failing(reason: Reason) -> Health {
    Health::Failing(Fault { reason, message: "why".to_owned(), since: at(0) })
}

fn pod(change: impl FnOnce(&mut PodStatus)) -> ObservedPod {
    let mut report = PodStatus { parking: Health::Unknown, ..healthy() };
    change(&mut report);
    let spec = Some("present".to_owned());
    ObservedPod { name: "p".to_owned(), ready: true, spec, report: Some(report), ..ObservedPod::default() }
}

fn of(observed: &Observation, decision: &Decision) -> ImagePipelineStatus {
    status(&ImagePipelineStatus::default(), &pipeline(), observed, decision, &applied(None))
}

fn shown(status: &ImagePipelineStatus, kind: &str) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).expect("the condition");
    format!("{}/{}", condition.status, condition.reason)
}

#[test]
fn each_cause_has_its_condition_and_the_whole_names_the_first() {
    let waiting = |reason| ObservedPod { cause: Some(Cause::new(reason, "why")), ..ObservedPod::default() };
    let silent = ObservedPod { ready: true, ..ObservedPod::default() };
    let no_secret = Observation { credentials: Some(Cause::new(Reason::SecretNotFound, "why")), ..observed(vec![]) };
    let cases = [
        ("idle", observed(vec![]), 0, "StorageAvailable", "Unknown/NoConsumers", "True/Idle"),
        ("running", observed(vec![pod(|_| {})]), 1, "ConsumersAvailable", "True/ConsumersReady", "True/Running"),
        (
            "starting",
            observed(vec![]),
            1,
            "ConsumersAvailable",
            "Unknown/ConsumersStarting",
            "Unknown/ConsumersStarting",
        ),
        (
            "password",
            unread(Reason::AuthenticationFailed),
            0,
            "BrokerReachable",
            "False/AuthenticationFailed",
            "False/AuthenticationFailed",
        ),
        ("no queue", unread(Reason::QueueNotFound), 0, "QueueFound", "False/QueueNotFound", "False/QueueNotFound"),
        (
            "no queue, but a broker",
            unread(Reason::QueueNotFound),
            0,
            "BrokerReachable",
            "True/Connected",
            "False/QueueNotFound",
        ),
        ("refused", unread(Reason::DeclareRefused), 0, "QueueFound", "Unknown/DeclareRefused", "Unknown/DepthUnknown"),
        (
            "refused, consumers run",
            Observation { pods: vec![pod(|_| {})], ..unread(Reason::DeclareRefused) },
            1,
            "QueueFound",
            "Unknown/DeclareRefused",
            "True/Running",
        ),
        (
            "unknown depth",
            unread(Reason::BrokerUnreachable),
            0,
            "ScalingActive",
            "False/DepthUnknown",
            "False/BrokerUnreachable",
        ),
        (
            "foreign consumers",
            Observation { foreign: 1, ..observed(vec![]) },
            0,
            "QueueFound",
            "True/ForeignConsumers",
            "True/ForeignConsumers",
        ),
        (
            "foreign consumers, and a fault",
            Observation { foreign: 1, ..observed(vec![waiting(Reason::ImagePullFailed)]) },
            1,
            "QueueFound",
            "True/ForeignConsumers",
            "False/ImagePullFailed",
        ),
        (
            "foreign consumers, then no connection",
            Observation { foreign: 1, ..unread(Reason::BrokerUnreachable) },
            0,
            "QueueFound",
            "Unknown/NotYetKnown",
            "False/BrokerUnreachable",
        ),
        ("no credentials", no_secret, 0, "StorageAvailable", "False/SecretNotFound", "False/SecretNotFound"),
        (
            "denied",
            observed(vec![pod(|_| {}), pod(|report| report.storage = failing(Reason::AccessDenied))]),
            2,
            "StorageAvailable",
            "False/AccessDenied",
            "False/AccessDenied",
        ),
        (
            "denied to one pod of two",
            observed(vec![pod(|_| {}), pod(|report| report.storage = failing(Reason::AccessDenied))]),
            2,
            "ConsumersAvailable",
            "True/ConsumersReady",
            "False/AccessDenied",
        ),
        (
            "denied to every pod",
            observed(vec![pod(|report| report.storage = failing(Reason::AccessDenied))]),
            1,
            "ConsumersAvailable",
            "False/AccessDenied",
            "False/AccessDenied",
        ),
        (
            "parking refused, not consuming",
            observed(vec![pod(|report| (report.parking, report.consuming) = (failing(Reason::ParkingRefused), false))]),
            1,
            "ConsumersAvailable",
            "False/ParkingRefused",
            "False/ParkingRefused",
        ),
        (
            "nothing stored yet",
            observed(vec![pod(|report| report.storage = Health::Unknown)]),
            1,
            "StorageAvailable",
            "Unknown/NotYetKnown",
            "True/Running",
        ),
        (
            "parking",
            observed(vec![pod(|report| report.parking = failing(Reason::ParkingRefused))]),
            1,
            "ParkingAvailable",
            "False/ParkingRefused",
            "False/ParkingRefused",
        ),
        (
            "image",
            observed(vec![waiting(Reason::ImagePullFailed)]),
            1,
            "ConsumersAvailable",
            "False/ImagePullFailed",
            "False/ImagePullFailed",
        ),
        ("silent", observed(vec![silent]), 1, "ConsumersAvailable", "Unknown/StatusUnreachable", "True/Running"),
    ];
    for (name, observed, replicas, kind, expected, ready) in cases {
        let basis = if observed.depth.is_ok() { Basis::BacklogCounted } else { Basis::DepthUnknown };
        let status = of(&observed, &Decision { basis, ..decision(replicas) });
        assert_eq!((shown(&status, kind).as_str(), shown(&status, "Ready").as_str()), (expected, ready), "{name}");
        assert_eq!(status.conditions.len(), 8, "{name}");
    }
}

#[test]
fn what_the_api_server_refuses_is_said() {
    let cause = Some(Cause::new(Reason::NameTaken, "why"));
    let status = status(&ImagePipelineStatus::default(), &pipeline(), &observed(vec![]), &decision(1), &applied(cause));
    assert_eq!(shown(&status, "Ready"), "False/NameTaken");
}

#[test]
fn a_condition_keeps_its_time_while_its_status_is_the_same() {
    let first = of(&observed(vec![]), &decision(0));
    let later = |observed: &Observation| {
        let later = Observation { at: at(60), ..observed.clone() };
        let status = status(&first, &pipeline(), &later, &decision(0), &applied(None));
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
        ready.last_transition_time.0
    };
    assert_eq!(later(&observed(vec![])), at(0));
    assert_eq!(later(&unread(Reason::BrokerUnreachable)), at(60));
}

#[test]
fn consumers_may_take_a_minute_to_start_and_not_stop_without_a_word() {
    let next = |previous: &ImagePipelineStatus, pods, replicas, seconds| {
        let observed = Observation { at: at(seconds), ..observed(pods) };
        status(previous, &pipeline(), &observed, &decision(replicas), &applied(None))
    };
    let none = next(&ImagePipelineStatus::default(), vec![], 0, 0);
    let starting = next(&none, vec![], 1, 10);
    assert_eq!(shown(&starting, "Ready"), "Unknown/ConsumersStarting");
    assert_eq!(shown(&next(&starting, vec![], 1, 69), "Ready"), "Unknown/ConsumersStarting");
    let late = next(&starting, vec![], 1, 70);
    assert_eq!(shown(&late, "Ready"), "False/ConsumersStarting");
    assert_eq!(shown(&next(&late, vec![], 1, 71), "Ready"), "False/ConsumersStarting");
    let running = next(&starting, vec![pod(|_| {})], 1, 20);
    assert_eq!(shown(&running, "Ready"), "True/Running");
    assert_eq!(shown(&next(&running, vec![], 1, 30), "Ready"), "False/ConsumersStarting");
}

/// Whether the operator or a consumer finds the fault first.
#[test]
fn what_the_controller_and_the_consumers_find_is_one_event() {
    let (nothing, decided) = (ImagePipelineStatus::default(), decision(1));
    let of_pods = vec![pod(|report| (report.broker, report.consuming) = (failing(Reason::QueueNotFound), false))];
    let both = of(&Observation { pods: of_pods.clone(), ..unread(Reason::QueueNotFound) }, &decided);
    let by_controller = of(&unread(Reason::QueueNotFound), &decided);
    let by_consumers = of(&observed(of_pods), &decided);
    let warnings =
        |from, to| transitions(from, to, &decided).into_iter().filter(|transition| transition.warning).count();
    assert_eq!(shown(&both, "QueueFound"), "False/QueueNotFound");
    assert_eq!(shown(&both, "ConsumersAvailable"), "False/QueueNotFound");
    assert_eq!(warnings(&nothing, &both), 1);
    assert_eq!((warnings(&nothing, &by_controller), warnings(&by_controller, &both)), (1, 0));
    assert_eq!((warnings(&nothing, &by_consumers), warnings(&by_consumers, &both)), (1, 0));
}

#[test]
fn what_moves_by_itself_is_written_seldom_and_anything_else_at_once() {
    let previous = ImagePipelineStatus { backlog: Some(3), parked: Some(4), ..of(&observed(vec![]), &decision(0)) };
    let moved = ImagePipelineStatus { backlog: Some(7), ..previous.clone() };
    let none = ImagePipelineStatus { backlog: Some(0), ..previous.clone() };
    let unknown = ImagePipelineStatus { parked: None, ..previous.clone() };
    let resized = ImagePipelineStatus { desired_replicas: 3, ..previous.clone() };
    let due = |current, seconds| is_due(&previous, current, SignedDuration::from_secs(seconds));
    assert!(!due(&previous, 3600), "without a change nothing is written");
    assert!(!due(&moved, 29) && due(&moved, 30));
    assert!(!due(&none, 9) && due(&none, 10));
    assert!(!due(&unknown, 9) && due(&unknown, 10));
    assert!(due(&resized, 0));
}

#[test]
fn events_tell_transitions_and_sizes() {
    let decided = decision(0);
    let nothing = ImagePipelineStatus::default();
    let idle = of(&observed(vec![]), &decision(0));
    assert_eq!(transitions(&nothing, &idle, &decided), [], "a healthy start is no event");

    let broken = of(&unread(Reason::AuthenticationFailed), &decision(0));
    let reasons = |from: &ImagePipelineStatus, to: &ImagePipelineStatus| -> Vec<_> {
        transitions(from, to, &decided).into_iter().map(|transition| (transition.warning, transition.reason)).collect()
    };
    assert_eq!(reasons(&idle, &broken), [(true, Reason::AuthenticationFailed)]);
    assert_eq!(reasons(&broken, &broken), []);
    assert_eq!(reasons(&broken, &idle), [(false, Reason::Connected)]);

    let others = of(&Observation { foreign: 1, ..observed(vec![]) }, &decision(0));
    assert_eq!(reasons(&idle, &others), [(true, Reason::ForeignConsumers)]);
    assert_eq!(reasons(&others, &others), []);
    let over = Transition {
        warning: false,
        reason: Reason::QueueFound,
        note: "QueueFound: Only this pipeline's consumers read the queue now.".to_owned(),
    };
    assert_eq!(transitions(&others, &idle, &decided), [over]);

    let parked = |messages| ImagePipelineStatus { parked: Some(messages), ..idle.clone() };
    assert_eq!(reasons(&idle, &parked(2)), [(true, Reason::MessagesParked)]);
    assert_eq!(reasons(&parked(0), &parked(1)), [(true, Reason::MessagesParked)]);
    assert_eq!(reasons(&parked(1), &parked(2)), []);
    assert_eq!(reasons(&parked(1), &parked(0)), []);

    let scaled = ImagePipelineStatus { desired_replicas: 9, backlog: Some(431), ..idle.clone() };
    let notes = |decided: Decision| -> Vec<_> {
        transitions(&idle, &scaled, &decided).into_iter().map(|transition| transition.note).collect()
    };
    let counted = Decision { backlog: Some(431), ..decision(9) };
    assert_eq!(notes(counted.clone()), ["Scaled 0 → 9: backlog 431, 50 messages per pod"]);
    let fixed = Decision { basis: Basis::FixedSize, ..counted };
    assert_eq!(notes(fixed), ["Scaled 0 → 9: fixed by spec.replicas"]);
    assert_eq!(reasons(&scaled, &idle), [(false, Reason::ScaledDown)]);
}

#[test]
fn a_fault_that_a_pod_of_an_earlier_spec_has_met_may_be_mended() {
    let storage = |reason| pod(|report| report.storage = failing(reason));
    let broker = pod(|report| (report.broker, report.consuming) = (failing(Reason::AuthenticationFailed), false));
    let earlier = |pod| ObservedPod { spec: Some("earlier".to_owned()), ..pod };
    let seen = |pods: Vec<ObservedPod>, kind| shown(&of(&observed(pods), &decision(1)), kind);
    for (pod, kind) in [(storage(Reason::CredentialsInvalid), "StorageAvailable"), (broker, "ConsumersAvailable")] {
        let pods = vec![earlier(pod)];
        assert_eq!(seen(pods.clone(), kind), "Unknown/ConsumersStarting");
        assert_eq!(seen(pods, "Ready"), "Unknown/ConsumersStarting");
    }
    let met = || earlier(storage(Reason::CredentialsInvalid));
    let present = storage(Reason::EndpointUnreachable);
    assert_eq!(seen(vec![met(), present], "StorageAvailable"), "False/EndpointUnreachable");
    assert_eq!(seen(vec![met(), pod(|_| {})], "StorageAvailable"), "True/StorageAvailable");
    assert_eq!(seen(vec![earlier(pod(|_| {}))], "Ready"), "True/Running");
}

#[test]
fn a_size_that_does_not_follow_the_queue_says_why() {
    let held = || observed(vec![pod(|report| report.storage = failing(Reason::AccessDenied))]);
    let decided = |replicas, basis| Decision { basis, ..decision(replicas) };
    let cases = [
        (observed(vec![]), decided(3, Basis::ScaledUp), "True/BacklogCounted", "False/WithinLimits"),
        (held(), decided(3, Basis::GrowthHeld), "False/GrowthHeld", "False/WithinLimits"),
        (held(), decided(3, Basis::BacklogCounted), "False/GrowthHeld", "False/WithinLimits"),
        (held(), decided(3, Basis::FixedSize), "False/FixedSize", "False/FixedSize"),
        (unread(Reason::QueueNotFound), decided(3, Basis::Paused), "False/Paused", "False/Paused"),
        (unread(Reason::QueueNotFound), decided(3, Basis::DepthUnknown), "False/DepthUnknown", "False/WithinLimits"),
    ];
    for (observed, decision, active, limited) in cases {
        let status = of(&observed, &decision);
        assert_eq!(
            (shown(&status, "ScalingActive"), shown(&status, "ScalingLimited")),
            (active.into(), limited.into())
        );
    }
    let ready = |reason| shown(&of(&observed(vec![]), &decided(0, reason)), "Ready");
    assert_eq!(ready(Basis::DepthUnknown), "Unknown/DepthUnknown", "0 messages and 0 consumers is not trusted");
    assert_eq!(ready(Basis::FixedSize), "True/Stopped");
    assert_eq!(ready(Basis::Paused), "True/Paused");
    let selector = of(&observed(vec![]), &decision(0)).selector;
    assert_eq!(selector, names::selector("forest-tiles"));
}

#[test]
fn a_message_is_a_sentence_and_a_name_in_it_is_left_as_it_is() {
    assert_eq!(sentence("the queue is gone"), "The queue is gone");
    for unchanged in ["spec.replicas is 0", "destination.s3.endpoint: no URL", "rabbit.greench.svc does not resolve"] {
        assert_eq!(sentence(unchanged), unchanged);
    }
    assert_eq!(sentence("https://s3.example does not answer"), "https://s3.example does not answer");
}

#[test]
fn a_message_is_bounded() {
    for text in ["x".repeat(5000), "ä".repeat(600), "…".repeat(400)] {
        let status = invalid(Some(1), &text, at(0));
        let message = &status.conditions[0].message;
        assert!((MESSAGE_BYTES - 5..=MESSAGE_BYTES).contains(&message.len()), "{}", message.len());
        assert!(message.ends_with('…'));
    }
    let whole = "x".repeat(MESSAGE_BYTES);
    assert_eq!(bounded(whole.clone()), whole);
}
