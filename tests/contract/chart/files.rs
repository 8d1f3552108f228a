//! The chart's source files: the CRD equals the code's, every value has a description and a schema, and the
//! operator accepts every flag.

use clap::CommandFactory;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

use super::{Cli, REPOSITORY, chart, rendered, root, yaml};

#[test]
fn the_versions_are_the_package_s() {
    let about = yaml(&chart("Chart.yaml"));
    assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    let label = concat!("org.opencontainers.image.version=\"", env!("CARGO_PKG_VERSION"), "\"");
    assert!(std::fs::read_to_string(root("Dockerfile")).unwrap().contains(label), "Dockerfile: {label}");
}

/// The schema of a part, with its `$ref` resolved.
fn resolved<'a>(schema: &'a Value, part: &'a Value) -> &'a Value {
    let reference = part["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    reference.map_or(part, |pointer| schema.pointer(pointer).unwrap())
}

#[test]
fn every_value_is_described_and_in_the_schema() {
    let keys = |object: &Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
    let values = yaml(&chart("values.yaml"));
    let schema: Value = serde_json::from_str(&chart("values.schema.json")).unwrap();
    let mut known = schema["properties"].as_object().unwrap().clone();
    known.remove("global");
    assert_eq!(keys(values.as_object().unwrap()), keys(&known));
    assert_eq!(schema["additionalProperties"], false);

    let text = chart("values.yaml");
    let lines: Vec<_> = text.lines().collect();
    let described = |name: &str, within: usize, indent: &str| {
        let is = |line: &&str| line.strip_prefix(indent).is_some_and(|line| line.starts_with(&format!("{name}:")));
        let at = within + lines[within..].iter().position(is).unwrap();
        (at, at > 0 && lines[at - 1].trim_start().starts_with('#'))
    };
    for (name, value) in values.as_object().unwrap() {
        let (at, is_described) = described(name, 0, "");
        let part = resolved(&schema, &known[name]);
        let parts =
            value.as_object().filter(|_| part["properties"].is_object() && name != "affinity" && name != "resources");
        assert!(is_described || parts.is_some(), "{name} is not described in values.yaml");
        let Some(parts) = parts else { continue };
        assert_eq!(part["additionalProperties"], false, "{name}");
        assert_eq!(keys(parts), keys(part["properties"].as_object().unwrap()), "{name}");
        for part in parts.keys() {
            assert!(described(part, at, "  ").1, "{name}.{part} is not described in values.yaml");
        }
    }
}

#[test]
fn every_flag_is_one_that_the_operator_takes() {
    let template = chart("templates/deployment.yaml");
    let given = template.lines().filter_map(|line| line.trim().strip_prefix("- --")?.split('=').next());
    let command = Cli::command();
    let controller = command.find_subcommand("controller").unwrap();
    let taken: Vec<_> = controller.get_arguments().filter_map(|argument| argument.get_long()).collect();
    let mut seen = 0;
    for flag in given {
        assert!(taken.contains(&flag), "templates/deployment.yaml gives --{flag}; the operator takes {taken:?}");
        seen += 1;
    }
    assert_eq!(seen, taken.len(), "the chart must set every flag: {taken:?}");
}

#[test]
fn the_resource_definition_is_installed_whole_and_outlives_the_release() {
    let mut crd = rendered("CustomResourceDefinition", &[REPOSITORY]);
    assert_eq!(crd["metadata"]["annotations"], json!({ "helm.sh/resource-policy": "keep" }));
    let metadata = crd["metadata"].as_object_mut().unwrap();
    metadata.remove("annotations");
    metadata.remove("labels");
    // Compared as types, in which 1000 and 1000.0 are the same number.
    let typed = |value: Value| serde_json::from_value::<CustomResourceDefinition>(value).unwrap();
    let file = std::fs::read_to_string(root("crds/imagepipelines.yaml")).unwrap();
    assert!(typed(crd) == typed(yaml(&file)), "the CRD that helm renders differs from crds/imagepipelines.yaml");
}
