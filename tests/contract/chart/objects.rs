//! For any values, the chart renders objects that Kubernetes knows to the last field, each once, labeled, and only
//! in the requested namespaces. The pod of helm test is among them.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Cli, REPOSITORY, arguments, command_line, container, render, rendered};

/// Serializes the object again as `T`, which drops fields that `T` does not have.
fn again<T: DeserializeOwned + Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<T>(object.clone()).unwrap()).unwrap()
}

/// The object after a round trip through its type; `None` for kinds without a type here.
fn typed(object: &Value) -> Option<Value> {
    Some(match object["kind"].as_str().unwrap() {
        "ClusterRole" => again::<ClusterRole>(object),
        "ClusterRoleBinding" => again::<ClusterRoleBinding>(object),
        "ConfigMap" => again::<ConfigMap>(object),
        "Deployment" => again::<Deployment>(object),
        "NetworkPolicy" => again::<NetworkPolicy>(object),
        "Pod" => again::<Pod>(object),
        "PodDisruptionBudget" => again::<PodDisruptionBudget>(object),
        "Role" => again::<Role>(object),
        "RoleBinding" => again::<RoleBinding>(object),
        "Service" => again::<Service>(object),
        "ServiceAccount" => again::<ServiceAccount>(object),
        "ValidatingAdmissionPolicy" => again::<ValidatingAdmissionPolicy>(object),
        "ValidatingAdmissionPolicyBinding" => again::<ValidatingAdmissionPolicyBinding>(object),
        "CustomResourceDefinition" | "ServiceMonitor" | "PodMonitor" | "PrometheusRule" => return None,
        other => panic!("{other} needs a type or an exception here"),
    })
}

fn are_in_order(objects: &[Value], namespaces: &[&str]) {
    let mut seen = BTreeSet::new();
    for object in objects {
        let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
        let namespace = metadata["namespace"].as_str();
        let cluster_wide = kind.starts_with("Cluster")
            || kind.starts_with("ValidatingAdmissionPolicy")
            || kind == "CustomResourceDefinition";
        assert_eq!(namespace.is_none(), cluster_wide, "{object}");
        assert!(namespace.is_none_or(|namespace| namespaces.contains(&namespace)), "{object}");
        assert_eq!(metadata["labels"]["app.kubernetes.io/instance"], "image-pipeline", "{object}");
        assert!(seen.insert((kind, namespace, metadata["name"].as_str())), "twice: {object}");
        if let Some(typed) = typed(object) {
            assert_eq!(typed, *object);
        }
    }
}

#[test]
fn whatever_is_chosen_the_objects_are_in_order() {
    let choices: [&[&str]; 5] = [
        &["replicas=2", "console.enabled=false"],
        &["namespaces={north,south}"],
        &["networkPolicy.enabled=true", "networkPolicy.ingressFrom[0].namespaceSelector.matchLabels.a=b"],
        &[
            "serviceMonitor.enabled=true",
            "podMonitor.enabled=true",
            "prometheusRule.enabled=true",
            "dashboard.enabled=true",
        ],
        &[
            "image.pullSecrets={east}",
            "priorityClassName=high",
            "extraEnv[0].name=A,extraEnv[0].valueFrom.secretKeyRef.name=s,extraEnv[0].valueFrom.secretKeyRef.key=k",
            "podLabels.team=north",
            "nodeSelector.disk=ssd",
            "tolerations[0].operator=Exists",
            "consumers.serviceAccounts={tiles}",
            "consumers.priorityClasses={batch}",
        ],
    ];
    for chosen in 0..1_u32 << choices.len() {
        let of = |index: usize| chosen & 1 << index != 0;
        let values = choices.iter().enumerate().filter(|(index, _)| of(*index)).flat_map(|(_, set)| *set).copied();
        let objects = render(&[&[REPOSITORY], &values.collect::<Vec<_>>()[..]].concat());
        let namespaces: &[&str] = if of(1) { &["operators", "north", "south"] } else { &["operators"] };
        are_in_order(&objects, namespaces);
        let has = |kind: &str| objects.iter().any(|object| object["kind"] == kind);
        assert_eq!(has("PodDisruptionBudget"), of(0));
        assert_eq!(has("ClusterRole"), !of(1));
        assert_eq!(has("NetworkPolicy"), of(2));
        assert_eq!([has("ServiceMonitor"), has("PodMonitor"), has("PrometheusRule"), has("ConfigMap")], [of(3); 4]);
    }
}

#[test]
fn a_field_that_is_not_there_is_seen() {
    let mut service = rendered("Service", &[REPOSITORY]);
    assert_eq!(typed(&service).as_ref(), Some(&service));
    service["spec"]["port"] = json!(8080);
    assert_ne!(typed(&service), Some(service));
}

#[test]
fn the_service_leads_to_the_operator() {
    let (service, template) = (rendered("Service", &[REPOSITORY]), super::template(&[REPOSITORY]));
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(template["metadata"]["labels"][label], *value);
    }
    let port = arguments(&container(&[REPOSITORY])).listen.port();
    assert_eq!(service["spec"]["ports"], json!([{ "name": "http", "port": port, "targetPort": "http" }]));
}

/// Only helm test starts it, in a namespace that enforces Pod Security "restricted".
#[test]
fn helm_test_asks_the_service_whether_it_is_ready() {
    let (pod, service) = (rendered("Pod", &[REPOSITORY]), rendered("Service", &[REPOSITORY]));
    assert_eq!(pod["metadata"]["annotations"]["helm.sh/hook"], "test");
    let operator = super::template(&[REPOSITORY]);
    assert_eq!(pod["spec"]["securityContext"], operator["spec"]["securityContext"]);
    let (asks, operates) = (&pod["spec"]["containers"][0], &operator["spec"]["containers"][0]);
    for same in ["image", "imagePullPolicy", "securityContext"] {
        assert_eq!(asks[same], operates[same]);
    }
    let Cli::Probe(args) = command_line(asks) else { panic!("{asks}") };
    let host = format!("{}.operators.svc", service["metadata"]["name"].as_str().unwrap());
    assert_eq!((args.url.host_str(), args.url.path()), (Some(&*host), "/readyz"));
    assert_eq!(args.url.port().map(Value::from).as_ref(), Some(&service["spec"]["ports"][0]["port"]));
    let selector = service["spec"]["selector"].as_object().unwrap();
    let labels = &pod["metadata"]["labels"];
    assert!(selector.iter().any(|(label, value)| labels[label] != *value), "the Service must not lead to it");
}
