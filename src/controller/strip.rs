//! What the operator keeps of watched objects: the fields that it reads. Users who may create objects decide how large
//! they are: a Deployment with our labels may carry 256 KiB of annotations. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodSpec, PodStatus, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;
use kube::core::PartialObjectMeta;

use super::Guarded;
use crate::api::names;

/// The longest annotation that is kept, in bytes. Those that the operator writes are shorter.
const ANNOTATION_BYTES: usize = 1 << 10;

/// The largest `spec` of a Deployment that is kept, as JSON in bytes. A larger one is none that the operator wrote.
const SPEC_BYTES: usize = 64 << 10;

/// The longest text of the kubelet or the scheduler that is kept, in bytes.
const TEXT_BYTES: usize = 1 << 10;

pub fn pipeline(pipeline: &mut Guarded) {
    let meta = pipeline.meta_mut();
    let annotations = only(meta.annotations.take(), |name| name == names::PIN_ANNOTATION);
    *meta = ObjectMeta { annotations, labels: None, owner_references: None, ..kept(std::mem::take(meta)) };
}

pub fn deployment(deployment: &mut Deployment) {
    deployment.metadata = kept(std::mem::take(&mut deployment.metadata));
    if let Some(template) = deployment.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut()) {
        *template = kept(std::mem::take(template));
    }
    let fits = |spec| serde_json::to_vec(spec).is_ok_and(|json| json.len() <= SPEC_BYTES);
    if !deployment.spec.as_ref().is_some_and(fits) {
        deployment.spec = None;
    }
}

pub fn pod(pod: &mut Pod) {
    pod.metadata = kept(std::mem::take(&mut pod.metadata));
    // Only whether a pod is on the host network is read.
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network);
    pod.spec = Some(PodSpec { host_network, ..PodSpec::default() });
    let Some(status) = pod.status.take() else { return };
    let mut conditions = status.conditions.unwrap_or_default();
    conditions.retain(|condition| ["Ready", "PodScheduled"].contains(&condition.type_.as_str()));
    conditions.iter_mut().for_each(|condition| shorten(&mut condition.message));
    let mut containers = status.container_statuses.unwrap_or_default();
    containers.retain(|container| container.name == names::CONTAINER);
    pod.status = Some(PodStatus {
        conditions: Some(conditions),
        container_statuses: Some(containers.into_iter().map(container).collect()),
        pod_ip: status.pod_ip,
        ..PodStatus::default()
    });
}

/// Leaves a Secret's name and version. Its data is not watched; the annotation last-applied-configuration may hold it.
pub fn secret(secret: &mut PartialObjectMeta<Secret>) {
    let ObjectMeta { name, namespace, uid, resource_version, deletion_timestamp, .. } =
        std::mem::take(&mut secret.metadata);
    secret.metadata =
        ObjectMeta { name, namespace, uid, resource_version, deletion_timestamp, ..ObjectMeta::default() };
}

/// Metadata with the labels and annotations that the operator reads or writes, and the owner that controls the object.
fn kept(meta: ObjectMeta) -> ObjectMeta {
    let labels = names::labels("");
    let is_label = |name: &str| labels.contains_key(name) || name == names::POD_TEMPLATE_HASH_LABEL;
    let is_annotation = |name: &str| {
        [names::SECRETS_ANNOTATION, names::SPEC_ANNOTATION, names::DELETION_COST_ANNOTATION].contains(&name)
    };
    let mut owners = meta.owner_references;
    owners.iter_mut().for_each(|owners| owners.retain(|owner| owner.controller == Some(true)));
    ObjectMeta {
        owner_references: owners,
        labels: only(meta.labels, is_label),
        annotations: only(meta.annotations, is_annotation),
        managed_fields: None,
        finalizers: None,
        ..meta
    }
}

fn only(texts: Option<BTreeMap<String, String>>, reads: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let mut texts = texts?;
    texts.retain(|name, text| reads(name) && text.len() <= ANNOTATION_BYTES);
    Some(texts)
}

fn container(status: ContainerStatus) -> ContainerStatus {
    let state = |state: ContainerState| {
        let ContainerState { mut waiting, running, mut terminated } = state;
        if let Some(waiting) = &mut waiting {
            shorten(&mut waiting.message);
        }
        if let Some(terminated) = &mut terminated {
            terminated.message = None;
        }
        ContainerState { waiting, running, terminated }
    };
    ContainerStatus {
        name: status.name,
        state: status.state.map(state),
        last_state: status.last_state.map(state),
        ..ContainerStatus::default()
    }
}

fn shorten(text: &mut Option<String>) {
    if let Some(text) = text {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    /// What every user who may create objects can write into metadata.
    fn metadata() -> Value {
        let flood = "x".repeat(250 << 10);
        json!({
            "name": "tiles-consumer", "namespace": "forest", "uid": "7", "generation": 3, "resourceVersion": "9",
            "labels": { "app.kubernetes.io/instance": "tiles", "pod-template-hash": "5f", "other": "l".repeat(63) },
            "annotations": { names::SPEC_ANNOTATION: "digest", names::SECRETS_ANNOTATION: flood, "other": flood },
            "managedFields": [{ "manager": "kubectl", "operation": "Apply", "fieldsV1": { "f:spec": {} } }],
            "finalizers": [format!("example.org/{}", "f".repeat(63))],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "tiles-consumer-5f", "uid": "6",
                "controller": true,
            }],
        })
    }

    fn stripped<K: DeserializeOwned + Serialize>(object: Value, strip: fn(&mut K)) -> Value {
        let mut object: K = serde_json::from_value(object).unwrap();
        strip(&mut object);
        let kept = serde_json::to_value(object).unwrap();
        assert!(kept.to_string().len() < 4 << 10, "{} bytes", kept.to_string().len());
        kept
    }

    #[test]
    fn a_deployment_keeps_what_is_compared_with_the_desired_one() {
        let template = json!({ "metadata": metadata(), "spec": { "containers": [{ "name": "consumer" }] } });
        let spec = json!({ "replicas": 4, "selector": {}, "template": template });
        let kept = stripped(json!({ "metadata": metadata(), "spec": spec }), deployment);
        for part in [&kept["metadata"], &kept["spec"]["template"]["metadata"]] {
            let ours = json!({ names::SPEC_ANNOTATION: "digest", });
            assert_eq!(part["annotations"], ours);
            assert_eq!(part["labels"]["app.kubernetes.io/instance"], "tiles");
            assert_eq!(part["ownerReferences"][0]["name"], "tiles-consumer-5f");
        }
        assert_eq!((&kept["metadata"]["generation"], &kept["spec"]["replicas"]), (&json!(3), &json!(4)));
        let containers: Vec<_> = (0..2000).map(|number| json!({ "name": format!("{number:050}") })).collect();
        let spec = json!({ "selector": {}, "template": { "spec": { "containers": containers } } });
        assert_eq!(stripped(json!({ "metadata": metadata(), "spec": spec }), deployment)["spec"], Value::Null);
    }

    #[test]
    fn a_pod_keeps_where_it_runs_and_why_not() {
        let long = "m".repeat(100 << 10);
        let state = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": long } });
        let last = json!({ "terminated": { "reason": "OOMKilled", "exitCode": 137, "message": long } });
        let container = |name: &str| {
            json!({ "name": name, "image": long, "imageID": long, "ready": false, "restartCount": 4,
                    "state": state, "lastState": last })
        };
        let condition = |kind: &str| json!({ "type": kind, "status": "False", "message": long });
        let status = json!({
            "podIP": "10.0.0.7", "message": long, "containerStatuses": [container("consumer"), container("other")],
            "conditions": [condition("Ready"), condition("Other"), condition("PodScheduled")],
        });
        let spec = json!({ "hostNetwork": true, "containers": [{ "name": "consumer", "image": long }] });
        let mut pod: Pod =
            serde_json::from_value(json!({ "metadata": metadata(), "spec": spec, "status": status })).unwrap();
        super::pod(&mut pod);
        let kept = serde_json::to_value(&pod).unwrap();
        assert!(kept.to_string().len() < 6 << 10, "{} bytes", kept.to_string().len());
        assert_eq!(kept["spec"]["hostNetwork"], true);
        let status = &kept["status"];
        assert_eq!(status["podIP"], "10.0.0.7");
        assert_eq!(status["containerStatuses"].as_array().unwrap().len(), 1);
        assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 137);
        assert_eq!(status["conditions"][1]["type"], "PodScheduled");
    }

    #[test]
    fn a_pipeline_keeps_its_spec_and_a_secret_its_version() {
        let spec = json!({
            "source": { "rabbitmq": { "queue": "tiles", "rabbitmqClusterReference": { "name": "rabbit" } } },
            "destination": { "s3": { "bucket": "tiles" } },
        });
        let mut metadata = metadata();
        metadata["annotations"][names::PIN_ANNOTATION] = json!("true");
        let mut guarded: Guarded = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        pipeline(&mut guarded);
        let pin = json!({ names::PIN_ANNOTATION: "true" });
        assert_eq!((json!(guarded.meta().annotations), guarded.meta().generation), (pin, Some(3)));
        assert_eq!(guarded.0.unwrap().spec.source.rabbitmq.queue, "tiles");

        let mut partial: PartialObjectMeta<Secret> =
            serde_json::from_value(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata })).unwrap();
        secret(&mut partial);
        let expected = json!({ "name": "tiles-consumer", "namespace": "forest", "uid": "7", "resourceVersion": "9" });
        assert_eq!(serde_json::to_value(&partial.metadata).unwrap(), expected);
    }
}
