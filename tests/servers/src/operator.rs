//! Runs the operator against an API server in memory for the length of a test, and checks requests against the
//! chart's role.

use std::time::Duration;

use image_pipeline::api::names::{self, POD_TEMPLATE_HASH_LABEL};
use image_pipeline::controller::{self, ConsumerImage, Instruments, Settings};
use image_pipeline::rabbitmq::DialPolicy;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Every wait normally takes half of it at most.
const LIMIT: Duration = Duration::from_secs(90);

/// Settings for these namespaces, or for all if the list is empty. The operator may dial local brokers, because the
/// tests have no others.
pub fn settings(namespaces: &[&str]) -> Settings {
    let image =
        ConsumerImage { image: "image:1".to_owned(), pull_policy: "IfNotPresent".to_owned(), pull_secrets: vec![] };
    let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    Settings { image, namespaces, dial_policy: DialPolicy::AnyAddress, brokers_per_namespace: 20, rollouts_at_once: 10 }
}

/// Runs a cluster-wide operator while `happens` runs.
pub async fn during(client: kube::Client, happens: impl Future<Output = ()>) {
    run(settings(&[]), client, Instruments::default(), happens).await;
}

/// Runs an operator while `happens` runs.
pub async fn run(
    settings: Settings,
    client: kube::Client,
    instruments: Instruments,
    happens: impl Future<Output = ()>,
) {
    let stop = CancellationToken::new();
    let operator = tokio::spawn(controller::operate(client, settings, instruments, stop.clone()));
    happens.await;
    stop.cancel();
    operator.await.unwrap().unwrap();
}

/// A pod as Kubernetes creates it for a pipeline in namespace forest.
pub fn pod(name: &str, pipeline: &str) -> Value {
    let mut labels = names::labels(pipeline);
    labels.insert(POD_TEMPLATE_HASH_LABEL.to_owned(), "5d9".to_owned());
    let owner = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{pipeline}-consumer-5d9"), "uid": "rs",
        "controller": true,
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "forest", "labels": labels, "ownerReferences": [owner] },
    })
}

/// Waits until `is` returns true.
pub async fn until(what: &str, is: impl Fn() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(20));
    let looked = async {
        while !is() {
            pause.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, looked).await.is_ok(), "waited {LIMIT:?} for {what}");
}

/// Checks that the chart's role grants every request of a transcript.
pub fn has_leave_for(transcript: &[String]) {
    let path = support::repository().join("charts/image-pipeline/files/rules.yaml");
    let rules: Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).expect("rules");
    let grants = |group: &str, resource: &str, verb: &str| {
        let has = |list: &Value, item: &str| list.as_array().unwrap().iter().any(|entry| entry == item);
        rules.as_array().unwrap().iter().any(|rule| {
            has(&rule["apiGroups"], group) && has(&rule["resources"], resource) && has(&rule["verbs"], verb)
        })
    };
    for request in transcript {
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
        let group = if segments.remove(0) == "api" { "" } else { segments.remove(0) };
        segments.remove(0); // the version
        if segments[0] == "namespaces" {
            segments.drain(..2);
        }
        let resource =
            if segments.len() == 3 { format!("{}/{}", segments[0], segments[2]) } else { segments[0].to_owned() };
        let verbs: &[&str] = match (method, segments.len()) {
            ("GET", 1) => &["list", "watch"],
            ("GET", _) => &["get"],
            ("POST", _) => &["create"],
            ("PATCH", _) => &["patch"],
            _ => panic!("{request}"),
        };
        for verb in verbs {
            assert!(grants(group, &resource, verb), "{verb} {resource} in {group:?}: {request}");
        }
    }
}
