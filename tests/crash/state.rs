//! The state of a namespace without the parts that differ in every run: generated names, times, revisions,
//! generations. Everything that the operator decides is included.

use std::collections::BTreeMap;

use image_pipeline::api::{ImagePipeline, names};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// The objects, by kind and a name that is the same in every run.
pub type State = BTreeMap<String, Value>;

/// Fields that differ in every run and are not decided by the operator.
const DIFFERENT: &[&str] = &[
    "creationTimestamp",
    "deletionTimestamp",
    "generateName",
    "generation",
    "lastTransitionTime",
    "lastUpdateTime",
    "resourceVersion",
    "startTime",
    "time",
    "uid",
];

/// Reads the state of a namespace.
pub async fn state(client: &kube::Client, namespace: &str) -> Result<State, kube::Error> {
    let (pipelines, deployments, sets, pods, secrets) = tokio::try_join!(
        list::<ImagePipeline>(client, namespace),
        list::<Deployment>(client, namespace),
        list::<ReplicaSet>(client, namespace),
        list::<Pod>(client, namespace),
        list::<Secret>(client, namespace),
    )?;
    let owners: Vec<(String, String)> = [&pipelines, &deployments, &sets].into_iter().flatten().map(uid_of).collect();
    let plain = |object: &Value| without_differences(object, namespace, &owners);
    let mut state = State::new();
    for pipeline in &pipelines {
        state.insert(format!("ImagePipeline {}", text(&pipeline["metadata"]["name"])), plain(&told(pipeline)));
    }
    for deployment in &deployments {
        state.insert(format!("Deployment {}", text(&deployment["metadata"]["name"])), plain(&told(deployment)));
    }
    for set in &sets {
        let revision = &set["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
        let replicas = json!({ "asked": set["spec"]["replicas"], "ready": set["status"]["readyReplicas"] });
        state.insert(format!("ReplicaSet of revision {}", text(revision)), replicas);
    }
    let revisions = revisions(&pipelines, &secrets);
    let mut pods: Vec<_> = pods.iter().map(|pod| plain(&pod_told(pod, &deployments, &revisions)).to_string()).collect();
    pods.sort();
    for (number, pod) in pods.iter().enumerate() {
        state.insert(format!("Pod {number}"), serde_json::from_str(pod).expect("JSON"));
    }
    Ok(state)
}

async fn list<K>(client: &kube::Client, namespace: &str) -> Result<Vec<Value>, kube::Error>
where
    K: kube::Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K::DynamicType: Default,
{
    let objects = Api::<K>::namespaced(client.clone(), namespace).list(&Default::default()).await?;
    Ok(objects.items.iter().map(|object| serde_json::to_value(object).expect("JSON")).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("none")
}

/// An object's uid, and its replacement text.
fn uid_of(object: &Value) -> (String, String) {
    (text(&object["metadata"]["uid"]).to_owned(), format!("uid of {}", text(&object["kind"])))
}

/// The versions of the Secrets, in the format of the pods' annotation.
fn revisions(pipelines: &[Value], secrets: &[Value]) -> Vec<String> {
    let revision = |name: &str| {
        let secret = secrets.iter().find(|secret| secret["metadata"]["name"] == name);
        secret.map_or("absent", |secret| text(&secret["metadata"]["resourceVersion"])).to_owned()
    };
    let of = |pipeline: &Value| {
        let pipeline: ImagePipeline = serde_json::from_value(pipeline.clone()).ok()?;
        let named = names::secrets(&pipeline.spec.source, &pipeline.spec.destination);
        Some(named.iter().map(|(_, secret)| revision(secret)).collect::<Vec<_>>().join("."))
    };
    pipelines.iter().filter_map(of).collect()
}

/// Replaces observed generations by "present" or "earlier", and removes the backlog and messages that name a
/// ReplicaSet.
fn told(object: &Value) -> Value {
    let mut told = object.clone();
    let generation = object["metadata"]["generation"].clone();
    let compare = |value: &mut Value| {
        if !value.is_null() {
            *value = json!(if *value == generation { "present" } else { "earlier" });
        }
    };
    if let Some(status) = told["status"].as_object_mut() {
        status.entry("observedGeneration").and_modify(compare);
        // The backlog changes without a write by the operator, and is written at most every half minute.
        status.remove("backlog");
        status.entry("lastScaleTime").and_modify(|time| *time = json!("some"));
        for condition in status.get_mut("conditions").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(generation) = condition.get_mut("observedGeneration") {
                compare(generation);
            }
            if condition["type"] == "Progressing" {
                condition["message"] = Value::Null;
            }
        }
    }
    if let Some(annotations) = told["metadata"]["annotations"].as_object_mut() {
        annotations.entry(names::SPEC_ANNOTATION).and_modify(|digest| *digest = json!("some"));
    }
    if let Some(annotations) = told["spec"]["template"]["metadata"]["annotations"].as_object_mut() {
        annotations.entry(names::SPEC_ANNOTATION).and_modify(|digest| *digest = json!("some"));
    }
    told
}

/// The operator's annotations of a pod, and the pod's phase.
fn pod_told(pod: &Value, deployments: &[Value], revisions: &[String]) -> Value {
    let annotations = &pod["metadata"]["annotations"];
    let digest = |object: &Value| object["metadata"]["annotations"][names::SPEC_ANNOTATION].clone();
    let told = annotations[names::SECRETS_ANNOTATION].as_str();
    json!({
        "spec": if deployments.iter().any(|deployment| digest(deployment) == digest(pod)) { "present" } else { "earlier" },
        "secrets": told.map(|told| if revisions.iter().any(|now| now == told) { "present" } else { "earlier" }),
        "cost": annotations[names::DELETION_COST_ANNOTATION],
        "ending": !pod["metadata"]["deletionTimestamp"].is_null(),
        "phase": pod["status"]["phase"],
    })
}

fn without_differences(value: &Value, namespace: &str, owners: &[(String, String)]) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, _)| !DIFFERENT.contains(&key.as_str()));
            let same = |text: &str| the_same(text, namespace, owners);
            let kept = kept.map(|(key, value)| (same(key), without_differences(value, namespace, owners)));
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(|item| without_differences(item, namespace, owners)).collect(),
        Value::String(text) => the_same(text, namespace, owners).into(),
        other => other.clone(),
    }
}

fn the_same(text: &str, namespace: &str, owners: &[(String, String)]) -> String {
    owners.iter().fold(text.replace(namespace, "NAMESPACE"), |text, (uid, name)| text.replace(uid.as_str(), name))
}

/// The differences between two states, one line each.
pub fn differences(expected: &State, found: &State) -> Vec<String> {
    let mut lines = Vec::new();
    let (expected, found) = (json!(expected), json!(found));
    compare("", &expected, &found, &mut lines);
    lines
}

fn compare(path: &str, expected: &Value, found: &Value, lines: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
            for key in keys {
                let side = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or_default();
                compare(&format!("{path}/{key}"), &side(expected), &side(found), lines);
            }
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{path}/{index}"), expected, found, lines);
            }
        }
        _ if expected == found => {}
        _ => lines.push(format!("{path}: {found} instead of {expected}")),
    }
}
