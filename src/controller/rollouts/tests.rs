#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::api::names;

fn at(minutes: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
}

fn key(name: &str) -> ObjectRef<ImagePipeline> {
    ObjectRef::new(name).within("forest")
}

/// Whether `name` may begin now.
fn may(rollouts: &Rollouts, name: &str, minutes: i64) -> bool {
    rollouts.begin(&key(name), false, at(minutes))
}

#[test]
fn a_pipeline_begins_when_one_before_it_is_done() {
    let rollouts = Rollouts::new(2);
    assert_eq!(["a", "b", "c"].map(|name| may(&rollouts, name, 0)), [true, true, false]);
    assert!(may(&rollouts, "a", 0), "it has begun");
    rollouts.note(&key("a"), true, false);
    assert!(!may(&rollouts, "c", 1));
    rollouts.note(&key("a"), false, false);
    assert_eq!(["c", "d"].map(|name| may(&rollouts, name, 1)), [true, false]);
    rollouts.forget(&key("b"));
    assert!(may(&rollouts, "d", 1), "b was deleted");
}

#[test]
fn none_begins_while_one_of_those_before_it_fails() {
    let rollouts = Rollouts::new(10);
    assert!(may(&rollouts, "a", 0));
    rollouts.note(&key("a"), false, true);
    assert!(!may(&rollouts, "b", 59));
    rollouts.note(&key("a"), false, false);
    assert!(may(&rollouts, "b", 59), "a works again");
    rollouts.note(&key("b"), false, true);
    assert!(!may(&rollouts, "c", 118));
    assert!(may(&rollouts, "c", 119), "b counts for an hour");
}

#[test]
fn a_pipeline_that_failed_before_holds_nobody_up_by_failing() {
    let rollouts = Rollouts::new(10);
    assert!(rollouts.begin(&key("a"), true, at(0)));
    rollouts.note(&key("a"), false, true);
    assert!(may(&rollouts, "b", 0));
    let rollouts = Rollouts::new(1);
    assert!(rollouts.begin(&key("a"), true, at(0)));
    assert_eq!([9, 10].map(|minutes| may(&rollouts, "b", minutes)), [false, true], "nor long by not getting ready");
}

#[test]
fn a_rollout_that_never_ends_counts_for_an_hour() {
    let rollouts = Rollouts::new(1);
    assert!(may(&rollouts, "a", 0));
    assert_eq!([59, 60].map(|minutes| may(&rollouts, "b", minutes)), [false, true]);
}

#[test]
fn rollouts_of_an_operator_before_this_one_count() {
    let rollouts = Rollouts::new(2);
    rollouts.count_running([key("x")].into_iter(), at(0));
    assert_eq!(["a", "b"].map(|name| may(&rollouts, name, 0)), [true, false]);
    rollouts.note(&key("x"), false, false);
    assert!(may(&rollouts, "b", 0));
}

fn deployment(annotations: serde_json::Value) -> LiveDeployment {
    serde_json::from_value(json!({ "metadata": { "annotations": annotations } })).unwrap()
}

#[test]
fn a_template_is_outdated_if_only_the_operator_has_changed() {
    let live = deployment(json!({ names::SPEC_ANNOTATION: "old" }));
    let verdict = |digest: &str, is_held| Some(Verdict { digest: digest.to_owned(), is_held });
    let found = |generation, observed, before: Option<Verdict>| {
        outdated(&live, Some(generation), observed, "new", before.as_ref()).is_some()
    };
    assert!(found(3, Some(3), None), "the operator before this one has built a template for this spec");
    assert!(!found(4, Some(3), None), "the spec has changed");
    assert!(found(4, None, None), "nothing is known");
    assert!(found(4, Some(3), verdict("new", true)), "the change of the spec leaves the template");
    assert!(!found(4, Some(4), verdict("new", false)), "the write for the changed spec has failed");
    assert!(!found(4, Some(3), verdict("other", true)), "the spec has changed the template that was held");
    assert_eq!(outdated(&live, Some(3), Some(3), "new", None), Some("old"));
    assert_eq!(outdated(&live, Some(3), Some(3), "old", None), None);
    assert_eq!(outdated(&deployment(json!({})), Some(3), Some(3), "new", None), None, "not ours");
}

#[test]
fn a_deployment_replaces_pods_until_all_are_new_and_available() {
    let replacing = |status: serde_json::Value| {
        let live = json!({ "metadata": { "generation": 5 }, "spec": {
            "replicas": 3, "selector": {}, "template": {} }, "status": status });
        let live = serde_json::from_value(live).unwrap();
        [is_replacing(&live), has_earlier_pods(&live)]
    };
    let status = |observed, replicas, updated, available| {
        json!({ "observedGeneration": observed, "replicas": replicas, "updatedReplicas": updated,
            "availableReplicas": available })
    };
    assert_eq!(replacing(status(5, 3, 3, 3)), [false; 2]);
    assert_eq!(replacing(status(5, 3, 3, 2)), [true, false], "a pod is not available");
    for status in [status(4, 3, 3, 3), status(5, 3, 2, 3), status(5, 4, 3, 3), json!({})] {
        assert_eq!(replacing(status.clone()), [true; 2], "{status}");
    }
}
