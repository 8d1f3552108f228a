//! What an API server counts before it takes the definition: the cost of its rules, which is small where all that
//! they read is bounded, and formats it knows. tests/crash/oldest.rs has a real one count.

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// Formats of Kubernetes' API conventions and of OpenAPI; a warning for every other.
const FORMATS: [&str; 7] = ["int32", "int64", "float", "double", "byte", "date", "date-time"];

fn schema() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` for a schema and all below it.
fn each(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        each(&format!("{path}.{name}"), field, visit);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            each(&format!("{path}[]"), &schema[below], visit);
        }
    }
}

/// The paths that a rule reads, such as `self.limits`.
fn reads(rule: &str) -> impl Iterator<Item = &str> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
    rule.split(move |letter| !part(letter)).filter(|path| *path == "self" || path.starts_with("self."))
}

/// What a path leads to, and whether the rule walks through all of it there. The functions at its end lead nowhere.
fn found<'a>(path: &str, schema: &'a Value) -> (&'a Value, bool) {
    let mut at = schema;
    for name in path.split('.').skip(1) {
        match at["properties"].get(name) {
            Some(field) => at = field,
            None => return (at, ["all", "exists", "exists_one", "filter", "map"].contains(&name)),
        }
    }
    (at, false)
}

/// An API server of 1.30 counts 3 MB for an integer or string, whatever its `maxLength`: one may be read, not a
/// map of them walked.
fn is_bounded(schema: &Value, walked: bool) -> bool {
    let value = &schema["additionalProperties"];
    match schema["type"].as_str() {
        Some("string") => schema["maxLength"].is_u64() || schema["enum"].is_array(),
        Some("array") => schema["maxItems"].is_u64(),
        Some("object") if value.is_object() => {
            let mixed = value["x-kubernetes-int-or-string"] == true;
            schema["maxProperties"].is_u64() && if mixed { !walked } else { is_bounded(value, walked) }
        }
        _ => true,
    }
}

/// The rules of a schema that read what is not bounded.
fn unbounded(schema: &Value) -> Vec<String> {
    let mut unbounded = Vec::new();
    each("", schema, &mut |at, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = rule["rule"].as_str().unwrap();
            let reads = reads(rule).map(|path| (path, found(path, schema)));
            unbounded.extend(
                reads
                    .filter(|(_, (schema, walked))| !is_bounded(schema, *walked))
                    .map(|(path, _)| format!("{at}: {path} in {rule}")),
            );
        }
    });
    unbounded
}

#[test]
fn what_rules_read_is_bounded() {
    assert_eq!(unbounded(&schema()), Vec::<String>::new());
}

#[test]
fn a_rule_that_reads_what_is_not_bounded_is_seen() {
    let of = |field: Value, rule: &str| {
        let schema = json!({ "properties": { "of": field }, "x-kubernetes-validations": [{ "rule": rule }] });
        unbounded(&schema).len()
    };
    let quantities = json!({
        "type": "object", "maxProperties": 8, "additionalProperties": { "x-kubernetes-int-or-string": true },
    });
    assert_eq!(of(quantities.clone(), "!('cpu' in self.of) || self.of['cpu'] > 0"), 0);
    assert_eq!(of(quantities, "self.of.all(name, self.of[name] > 0)"), 1);
    assert_eq!(of(json!({ "type": "string" }), "self.of.matches('a')"), 1);
    assert_eq!(of(json!({ "type": "string", "maxLength": 8 }), "self.of.matches('a')"), 0);
    assert_eq!(of(json!({ "type": "array", "items": { "type": "integer" } }), "self.of.exists(one, one > 1)"), 1);
}

#[test]
fn every_format_is_one_that_kubernetes_recognizes() {
    let mut unrecognized = Vec::new();
    each("", &schema(), &mut |path, schema| {
        if schema["format"].as_str().is_some_and(|format| !FORMATS.contains(&format)) {
            unrecognized.push(format!("{path}: {}", schema["format"]));
        }
    });
    assert_eq!(unrecognized, Vec::<String>::new());
}
