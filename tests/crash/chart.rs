//! The chart, rendered with helm, and the limits that it puts on the operator of these tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize as _;
use serde_json::{Value, json};

use servers::control_plane::programs;
use support::process::{directory, write};

/// The user of the operator, for a release image-pipeline in namespace operators.
pub const OPERATOR: &str = "system:serviceaccount:operators:image-pipeline";

/// The image of the consumers.
pub const IMAGE: &str = "image:1";

/// The kinds of the chart that limit what the operator may do in all namespaces.
const LIMITS: [&str; 4] =
    ["ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];

pub fn repository(path: &str) -> PathBuf {
    support::repository().join(path)
}

/// The manifests of `helm install` for this version of Kubernetes, with `IMAGE`.
pub fn rendered(version: &str, values: &[&str]) -> PathBuf {
    let mut helm = Command::new(programs().join("helm"));
    helm.args(["template", "image-pipeline", "--namespace", "operators", "--kube-version", version]);
    helm.arg(repository("charts/image-pipeline"));
    let (name, tag) = IMAGE.split_once(':').expect("a tag");
    helm.args(["--set", &format!("image.repository={name}"), "--set-string", &format!("image.tag={tag}")]);
    let output = helm.args(values.iter().flat_map(|value| ["--set", value])).output().expect("helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = directory("chart").join("chart.yaml");
    write(&file, output.stdout);
    file
}

/// The roles and the admission policies in a file of `rendered`, as a file of their own.
pub fn limits(chart: &Path) -> PathBuf {
    let limits: Vec<_> = objects(chart).filter(|object| LIMITS.iter().any(|kind| object["kind"] == *kind)).collect();
    assert!(LIMITS.iter().all(|kind| limits.iter().any(|object| object["kind"] == *kind)), "{limits:?}");
    list(&limits)
}

/// The admission policies in a file of `rendered`.
pub fn policies(chart: &Path) -> impl Iterator<Item = Value> {
    objects(chart).filter(|object| object["kind"] == "ValidatingAdmissionPolicy")
}

fn objects(chart: &Path) -> impl Iterator<Item = Value> {
    let text = std::fs::read_to_string(chart).expect("the chart");
    let objects = serde_yaml::Deserializer::from_str(&text).map(|object| Value::deserialize(object).expect("YAML"));
    objects.collect::<Vec<_>>().into_iter()
}

/// Writes objects to a file for `kubectl apply`.
pub fn list(objects: &[Value]) -> PathBuf {
    let file = directory("list").join("list.json");
    write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string());
    file
}
