//! The examples work when copied: the manifests in `examples/` and in the chart's notes have only existing fields,
//! and the Secrets have the keys that the product reads. (`crd` checks them against the rules.)

use std::path::Path;

use image_pipeline::api::{ImagePipeline, names};
use image_pipeline::controller::build::MEMORY;
use image_pipeline::rabbitmq::address::BrokerAddress;
use kube::CustomResourceExt;
use serde_json::Value;

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|one| serde::Deserialize::deserialize(one).unwrap()).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The manifest in the chart's notes, which is indented by two.
fn manifest_in_notes() -> String {
    let notes = read("charts/image-pipeline/templates/NOTES.txt");
    let lines = notes.lines().skip_while(|line| *line != "  apiVersion: greench.dev/v1alpha1");
    lines.take_while(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

fn pipelines() -> Vec<(&'static str, Value)> {
    ["examples/imagepipeline.yaml", "examples/imagepipeline-aws.yaml", "NOTES.txt"]
        .into_iter()
        .map(|path| {
            let text = if path == "NOTES.txt" { manifest_in_notes() } else { read(path) };
            let [pipeline] = documents(&text).try_into().unwrap_or_else(|_| panic!("{path}: not one document"));
            (path, pipeline)
        })
        .collect()
}

/// Fields of `object` that are not in `schema`. The API server would drop them.
pub fn unknown_fields(path: &str, object: &Value, schema: &Value) -> Vec<String> {
    let (Some(fields), Some(known)) = (object.as_object(), schema["properties"].as_object()) else { return vec![] };
    fields
        .iter()
        .flat_map(|(name, value)| match known.get(name) {
            Some(schema) => unknown_fields(&format!("{path}.{name}"), value, schema),
            None => vec![format!("{path}.{name}")],
        })
        .collect()
}

#[test]
fn every_manifest_is_a_pipeline_of_known_fields() {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for (path, pipeline) in pipelines() {
        assert_eq!(unknown_fields("spec", &pipeline["spec"], schema), Vec::<String>::new(), "{path}");
        serde_json::from_value::<ImagePipeline>(pipeline).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let typo = serde_json::json!({ "scaling": { "maxReplica": 3 } });
    assert_eq!(unknown_fields("spec", &typo, schema), ["spec.scaling.maxReplica"]);
}

#[test]
fn every_secret_that_an_example_refers_to_is_shown_with_its_keys() {
    let secrets = documents(&read("examples/secrets.yaml"));
    let find = |namespace: &Value, name: &str| {
        let found = secrets
            .iter()
            .find(|secret| secret["metadata"]["name"] == name && secret["metadata"]["namespace"] == *namespace);
        found.unwrap_or_else(|| panic!("Secret {name} is not in examples/secrets.yaml"))["stringData"].clone()
    };
    for (path, manifest) in pipelines().into_iter().filter(|(path, _)| path.starts_with("examples/")) {
        let namespace = manifest["metadata"]["namespace"].clone();
        let spec = serde_json::from_value::<ImagePipeline>(manifest).unwrap().spec;
        let broker = find(&namespace, &names::broker_secret(&spec.source.rabbitmq.rabbitmq_cluster_reference));
        let value = |key: &str| broker[key].as_str().map(|value| value.as_bytes().to_vec());
        BrokerAddress::from_secret("/", value).unwrap_or_else(|error| panic!("{path}: {error}"));
        if let Some(secret) = spec.destination.s3.credentials_secret {
            let s3 = find(&namespace, &secret.name);
            assert!(s3["AWS_ACCESS_KEY_ID"].is_string() && s3["AWS_SECRET_ACCESS_KEY"].is_string(), "{path}");
        }
    }
}

/// A systemd unit can't read them from the program, so it repeats them.
#[test]
fn the_systemd_unit_tells_its_consumer_what_pods_are_told() {
    let unit = read("examples/image-pipeline.service");
    let told = unit.lines().find_map(|line| line.strip_prefix("Environment=")).expect("variables");
    assert_eq!(told, MEMORY.map(|(name, value)| format!("{name}={value}")).join(" "));
}
