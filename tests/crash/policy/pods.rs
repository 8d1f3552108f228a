//! Patches of pods with the operator's token.

use image_pipeline::api::names;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{NAMESPACE, Stage, must_be_refused};

const CONSUMER: &str = "tiles-0";

const NO_CONSUMER: &str = "the pod must be a consumer";
const ANNOTATION: &str = "no annotation may change except";
const REST: &str = "spec, labels, owners and finalizers of a pod must not change";

/// Patches of the consumer pod as JSON, and the rule that refuses each.
const PATCHES: &[(&str, &str)] = &[
    (r#"{"metadata": {"annotations": {"example.com/role": "admin"}}}"#, ANNOTATION),
    (r#"{"metadata": {"annotations": {"greench.dev/spec-digest": "other"}}}"#, ANNOTATION),
    (r#"{"metadata": {"annotations": {"greench.dev/spec-digest": null}}}"#, ANNOTATION),
    (r#"{"metadata": {"labels": {"app": "api"}}}"#, REST),
    (r#"{"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}}"#, REST),
    (r#"{"metadata": {"labels": {"app.kubernetes.io/name": null}}}"#, REST),
    (r#"{"metadata": {"finalizers": ["example.com/never"]}}"#, REST),
    (
        r#"{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other"}]}}"#,
        REST,
    ),
    (r#"{"spec": {"containers": [{"name": "consumer", "image": "attacker:1"}]}}"#, REST),
    (r#"{"spec": {"activeDeadlineSeconds": 1}}"#, REST),
];

/// Creates a consumer pod, a pod without labels, and two pods with one of the labels each.
pub async fn make(stage: &Stage) {
    let [name, managed] = ["app.kubernetes.io/name", "app.kubernetes.io/managed-by"];
    let labels = names::labels("tiles");
    for (pod, labels) in [
        (CONSUMER, json!(labels)),
        ("other", json!({})),
        ("named", json!({ name: labels[name] })),
        ("managed", json!({ managed: labels[managed] })),
    ] {
        let metadata = json!({ "name": pod, "labels": labels, "annotations": { names::SPEC_ANNOTATION: "digest" } });
        let containers = json!([{ "name": names::CONTAINER, "image": "image:1" }]);
        let pod = json!({ "metadata": metadata, "spec": { "containers": containers } });
        let pod = serde_json::from_value(pod).expect("a pod");
        pods(&stage.admin).create(&PostParams::default(), &pod).await.expect("created");
    }
}

fn pods(client: &kube::Client) -> Api<Pod> {
    Api::namespaced(client.clone(), NAMESPACE)
}

async fn patch(client: &kube::Client, pod: &str, patch: &Value, dry_run: bool) -> Result<Pod, kube::Error> {
    let parameters = PatchParams { dry_run, ..PatchParams::default() };
    pods(client).patch(pod, &parameters, &Patch::Strategic(patch)).await
}

fn own() -> Value {
    json!({ "metadata": { "annotations": { names::SECRETS_ANNOTATION: "1.2", names::DELETION_COST_ANNOTATION: "3" } } })
}

/// A patch that the policy refuses.
pub async fn attempt(stage: &Stage) -> Result<Pod, kube::Error> {
    patch(&stage.operator, "other", &own(), true).await
}

pub async fn each_rule_refuses(stage: &Stage) {
    patch(&stage.operator, CONSUMER, &own(), false).await.expect("the operator's own annotations");
    for (change, rule) in PATCHES {
        let value = serde_json::from_str(change).expect("JSON");
        must_be_refused(change, patch(&stage.operator, CONSUMER, &value, true).await, rule);
        patch(&stage.admin, CONSUMER, &value, true).await.expect("others are not limited");
    }
    for pod in ["other", "named", "managed"] {
        must_be_refused(pod, patch(&stage.operator, pod, &own(), true).await, NO_CONSUMER);
    }
    stage.each_validation_has_a_case("pods", &[NO_CONSUMER, ANNOTATION, REST]);
}
