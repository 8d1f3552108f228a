//! What is left of objects whose writer has filled them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::reason::Reason;

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

/// Parses an object as a watch does.
fn parsed<K: DeserializeOwned + Debug>(object: &Value) -> K {
    let object: K = serde_json::from_value(object.clone()).unwrap();
    let kept = format!("{object:?}").len();
    assert!(kept < 6 << 10, "{kept} bytes");
    object
}

#[test]
fn a_deployment_keeps_what_is_compared_with_the_desired_one() {
    let template = json!({ "metadata": metadata(), "spec": { "containers": [{ "name": "consumer" }] } });
    let spec = json!({ "replicas": 4, "selector": {}, "template": template });
    let live: LiveDeployment = parsed(&json!({ "metadata": metadata(), "spec": spec }));
    let kept = live.json();
    for part in [&kept["metadata"], &kept["spec"]["template"]["metadata"]] {
        assert_eq!(part["annotations"], json!({ names::SPEC_ANNOTATION: "digest" }));
        assert_eq!(part["labels"], json!({ names::INSTANCE_LABEL: "tiles" }));
        assert_eq!(part["ownerReferences"][0]["name"], "tiles-consumer-5f");
    }
    assert_eq!((live.meta().generation, live.replicas, &kept["spec"]["replicas"]), (Some(3), 4, &json!(4)));
    assert_eq!(live.pods().unwrap().containers[0].name, "consumer");

    let containers: Vec<_> = (0..2000).map(|number| json!({ "name": format!("{number:050}") })).collect();
    let spec = json!({ "replicas": 4, "selector": {}, "template": { "spec": { "containers": containers } } });
    let failure = json!({ "type": "ReplicaFailure", "status": "True", "message": "m".repeat(100 << 10) });
    let status = json!({ "replicas": 3, "readyReplicas": 2, "conditions": [failure] });
    let large: LiveDeployment = parsed(&json!({ "metadata": metadata(), "spec": spec, "status": status }));
    assert_eq!((large.json()["spec"].clone(), large.pods(), large.replicas), (Value::Null, None, 4));
    let status = large.status.unwrap();
    assert_eq!((status.replicas, status.ready, status.replica_failure.unwrap().len()), (3, 2, 1 << 10));
}

#[test]
fn a_pod_keeps_where_it_runs_and_why_not() {
    let long = "m".repeat(100 << 10);
    let container = |state: Value| {
        json!({ "name": names::CONTAINER, "image": long, "imageID": long, "ready": false, "restartCount": 4,
                "state": state, "lastState": { "terminated": { "reason": "OOMKilled", "exitCode": 137, "message": long } } })
    };
    let pod = |state: Value, annotations: Value| {
        let condition = |kind: &str| json!({ "type": kind, "status": "True", "message": long });
        let conditions = ["Ready", "Other", "PodScheduled"].map(condition);
        let status = json!({
            "podIP": "10.0.0.7", "message": long, "containerStatuses": [container(state)],
            "conditions": conditions,
        });
        let mut metadata = metadata();
        metadata["annotations"] = annotations;
        let spec = json!({ "containers": [{ "name": "consumer", "image": long }] });
        json!({ "metadata": metadata, "spec": spec, "status": status })
    };
    let ours = json!({ names::SPEC_ANNOTATION: "digest", names::SECRETS_ANNOTATION: "7.9", "other": long });
    let live: LivePod = parsed(&pod(json!({ "running": {} }), ours));
    assert_eq!((live.pipeline.as_deref(), live.is_ready), (Some("tiles"), true));
    assert_eq!((live.address.as_deref(), live.cause), (Some("10.0.0.7"), None));
    let annotations = [live.spec.as_deref(), live.secrets.as_deref(), live.deletion_cost.as_deref()];
    assert_eq!(annotations, [Some("digest"), Some("7.9"), None]);

    let waiting = json!({ "waiting": { "reason": "ErrImagePull", "message": long } });
    let live: LivePod = parsed(&pod(waiting, json!({ names::SECRETS_ANNOTATION: long })));
    let cause = live.cause.unwrap();
    assert_eq!((cause.reason, cause.message.len()), (Reason::ImagePullFailed, 2 << 10));
    assert_eq!((live.address, live.secrets), (None, None));
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
