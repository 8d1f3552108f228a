//! The oldest Kubernetes that the chart's `kubeVersion` allows: a real API server of this version accepts the CRD,
//! the chart's objects and the examples without error or warning.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::chart::{rendered, repository};
use crate::kubectl::Kubectl;
use servers::control_plane::{ApiServer, oldest_api_server};
use support::process::{directory, write};

const CRD: &str = "crds/imagepipelines.yaml";

/// Every object of the chart except those of the Prometheus Operator, whose CRDs are not installed.
const VALUES: [&str; 4] =
    ["replicas=2", "networkPolicy.enabled=true", "dashboard.enabled=true", "console.enabled=true"];

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
    let (api_server, home) = (ApiServer::start(&oldest_api_server(), &[]), directory("oldest"));
    let kubectl = Kubectl { api_server: &api_server, home: home.clone() };
    kubectl.is_ready().await;
    let version = kubectl.version();
    let chart = std::fs::read_to_string(repository("charts/image-pipeline/Chart.yaml")).unwrap();
    let oldest = version.rsplit_once('.').unwrap().0.trim_start_matches('v');
    assert!(chart.contains(&format!("kubeVersion: \">={oldest}.0-0\"")), "{version} is not the chart's oldest");

    kubectl.applies(&doubled(&home), &["--dry-run=server"]);
    kubectl.establishes(&repository(CRD));
    for namespace in ["operators", "greench"] {
        kubectl.makes_namespace(namespace);
    }
    kubectl.applies(&rendered(&version, &VALUES), &[]);
    let examples = std::fs::read_dir(repository("examples")).unwrap().map(|entry| entry.unwrap().path());
    let examples: Vec<_> = examples.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    assert!(examples.len() >= 4, "{examples:?}");
    for example in examples {
        kubectl.applies(&example, &[]);
    }
}
