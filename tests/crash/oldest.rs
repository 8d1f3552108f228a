//! The oldest Kubernetes that the chart's `kubeVersion` allows: a real API server of this version accepts the CRD,
//! the chart's objects and the examples without error or warning.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::control_plane::{ApiServer, oldest_api_server, programs};
use support::eventually::{LIMIT, eventually};
use support::process::{directory, write};

const CRD: &str = "crds/imagepipelines.yaml";

/// Every object of the chart except those of the Prometheus Operator, whose CRDs are not installed.
const VALUES: [&str; 5] = [
    "image.repository=registry.example/image-pipeline",
    "replicas=2",
    "networkPolicy.enabled=true",
    "dashboard.enabled=true",
    "console.enabled=true",
];

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs `kubectl`: standard output, or standard error.
struct Kubectl<'a> {
    api_server: &'a ApiServer,
    home: PathBuf,
}

impl Kubectl<'_> {
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(programs().join("kubectl"));
        command.args(arguments).env("KUBECONFIG", &self.api_server.kubeconfig).env("HOME", &self.home);
        let output = command.stdin(Stdio::null()).output().expect("kubectl");
        match String::from_utf8_lossy(&output.stderr).trim() {
            "" if output.status.success() => Ok(String::from_utf8(output.stdout).expect("text")),
            said => Err(said.to_owned()),
        }
    }

    /// Fails on warnings too, because they are on standard error.
    fn applies(&self, file: &Path, options: &[&str]) {
        let file = file.to_str().expect("a path of text");
        let applied = self.run(&[&["apply", "--server-side", "--filename", file], options].concat());
        assert!(applied.is_ok(), "{file}: {}", applied.unwrap_err());
    }

    /// Creates a namespace and the ServiceAccount that a controller would create.
    fn makes_namespace(&self, name: &str) {
        self.run(&["create", "namespace", name]).expect("a namespace");
        self.run(&["--namespace", name, "create", "serviceaccount", "default"]).expect("a ServiceAccount");
    }
}

/// The manifests of `helm install` for this version of Kubernetes.
fn rendered(version: &str, directory: &Path) -> PathBuf {
    let mut helm = Command::new(programs().join("helm"));
    helm.args(["template", "image-pipeline", "--namespace", "operators", "--kube-version", version]);
    helm.arg(repository("charts/image-pipeline")).args(VALUES.iter().flat_map(|value| ["--set", value]));
    let output = helm.output().expect("helm");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file = directory.join("chart.yaml");
    write(&file, output.stdout);
    file
}

/// The CRD with the cost of each rule doubled.
fn doubled(directory: &Path) -> PathBuf {
    fn double(schema: &mut Value, count: &mut usize) {
        match schema {
            Value::Object(fields) => {
                for rule in
                    fields.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut).into_iter().flatten()
                {
                    let text = rule["rule"].as_str().expect("a rule").to_owned();
                    rule["rule"] = json!(format!("({text}) && ({text})"));
                    *count += 1;
                }
                fields.values_mut().for_each(|field| double(field, count));
            }
            Value::Array(items) => items.iter_mut().for_each(|item| double(item, count)),
            _ => {}
        }
    }
    let text = std::fs::read_to_string(repository(CRD)).expect("the definition");
    let (mut crd, mut count) = (serde_yaml::from_str::<Value>(&text).expect("YAML"), 0);
    double(&mut crd, &mut count);
    assert!(count > 10, "{count} rules");
    let file = directory.join("doubled.json");
    write(&file, crd.to_string());
    file
}

#[tokio::test]
async fn the_oldest_kubernetes_takes_definition_chart_and_examples_without_a_warning() {
    let (api_server, home) = (ApiServer::start(&oldest_api_server()), directory("oldest"));
    let kubectl = Kubectl { api_server: &api_server, home: home.clone() };
    eventually("the API server", LIMIT, async || {
        api_server.must_run();
        kubectl.run(&["get", "--raw=/readyz"])
    })
    .await;
    let version: Value = serde_json::from_str(&kubectl.run(&["get", "--raw=/version"]).unwrap()).unwrap();
    let version = version["gitVersion"].as_str().unwrap();
    let chart = std::fs::read_to_string(repository("charts/image-pipeline/Chart.yaml")).unwrap();
    let oldest = version.rsplit_once('.').unwrap().0.trim_start_matches('v');
    assert!(chart.contains(&format!("kubeVersion: \">={oldest}.0-0\"")), "{version} is not the chart's oldest");

    kubectl.applies(&doubled(&home), &["--dry-run=server"]);
    kubectl.applies(&repository(CRD), &[]);
    kubectl
        .run(&["wait", "--for=condition=Established", "--timeout=60s", "--filename", repository(CRD).to_str().unwrap()])
        .unwrap();
    for namespace in ["operators", "greench"] {
        kubectl.makes_namespace(namespace);
    }
    kubectl.applies(&rendered(version, &home), &[]);
    let examples = std::fs::read_dir(repository("examples")).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = examples.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        kubectl.applies(&example, &[]);
    }
}
