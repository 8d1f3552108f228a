//! What an API server checks before it accepts the CRD: the cost of its rules, which is small if everything they
//! read is bounded, and known formats. tests/crash/oldest.rs lets a real API server check it.

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// Formats of Kubernetes' API conventions and of OpenAPI. Any other format causes a warning.
const FORMATS: [&str; 7] = ["int32", "int64", "float", "double", "byte", "date", "date-time"];

fn schema() -> Value {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Calls `visit` for a schema and all its subschemas.
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

/// The paths that a rule reads, for example `self.limits`.
fn reads(rule: &str) -> impl Iterator<Item = &str> {
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '.' || letter == '_';
    rule.split(move |letter| !part(letter)).filter(|path| *path == "self" || path.starts_with("self."))
}

/// The schema that a path leads to, and whether the rule iterates over it. A function name at the path's end is no
/// field.
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

/// An API server of 1.30 assumes 3 MB for an integer-or-string, whatever its `maxLength` is. A rule may read one
/// such value, but not iterate over a map of them.
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

/// The rules of a schema that read unbounded values.
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
