//! Renders docs/reference.md from the CRD, and compares the file with the result.

use image_pipeline::api::ImagePipeline;
use kube::CustomResourceExt;
use serde_json::Value;

use super::docs::is_current;

const INTRODUCTION: &str = "\
Written from the definition (`crds/imagepipelines.yaml`) by `RENEW=1 cargo test --test contract reference`: change \
`src/api/`, not this page. `kubectl explain imgp.spec --recursive` tells the same of the version that a cluster has.

A field without a default is absent unless given. Names of Secrets are those of the ImagePipeline's own namespace. \
What breaks a rule of the definition is refused with the words under \"Refused\".
";

fn number(value: &Value) -> Option<String> {
    value.as_f64().map(|number| format!("{number}"))
}

/// A range with its unit, as far as both ends are set.
fn range(from: &Value, to: &Value, unit: &str) -> Option<String> {
    Some(match (number(from), number(to)) {
        (Some(from), Some(to)) => format!("{from} to {to}{unit}"),
        (Some(from), None) => format!("at least {from}{unit}"),
        (None, Some(to)) => format!("at most {to}{unit}"),
        (None, None) => return None,
    })
}

/// Escapes text for a table cell.
fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

fn anchor(path: &str) -> String {
    path.replace('.', "").to_lowercase()
}

/// Whether a field has its own section: an object with more fields than `name`.
fn has_section(field: &Value) -> bool {
    field["properties"].as_object().is_some_and(|fields| fields.keys().ne(["name"].iter()))
}

fn kind(path: &str, field: &Value) -> String {
    let what = match field["type"].as_str() {
        Some("object") if has_section(field) => format!("[object](#{})", anchor(path)),
        Some("object") if field["properties"].is_object() => "object with `name`".to_owned(),
        Some("object") => "map".to_owned(),
        Some("array") => "list".to_owned(),
        Some(other) => other.to_owned(),
        None => "any".to_owned(),
    };
    let one_of = field["enum"].as_array().map(|values| {
        let values: Vec<_> = values.iter().filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        values.join(", ")
    });
    let limits = [
        one_of,
        range(&field["minimum"], &field["maximum"], ""),
        range(&field["minLength"], &field["maxLength"], " characters"),
        range(&Value::Null, &field["maxItems"], " items"),
        range(&Value::Null, &field["maxProperties"], " entries"),
        field["pattern"].as_str().map(|pattern| format!("`{pattern}`")),
    ];
    [Some(what)].into_iter().chain(limits).flatten().collect::<Vec<_>>().join("; ")
}

/// The default of an object with a section is shown at its fields.
fn default(field: &Value) -> Option<String> {
    match &field["default"] {
        Value::Null => None,
        Value::Object(_) | Value::Array(_) if has_section(field) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(format!("`{text}`")),
        Value::Array(items) if items.is_empty() => None,
        other => Some(format!("`{other}`")),
    }
}

/// The description ends with the default, which has its own column here.
fn meaning(field: &Value) -> String {
    let description = field["description"].as_str().unwrap_or_default();
    let of_default = default(field).map(|default| default.trim_matches('`').to_owned()).unwrap_or_default();
    let endings = [format!(" Default: `{of_default}`."), format!(" Default: {of_default}.")];
    cell(endings.iter().find_map(|ending| description.strip_suffix(ending)).unwrap_or(description))
}

fn refused(field: &Value) -> impl Iterator<Item = &str> {
    field["x-kubernetes-validations"].as_array().into_iter().flatten().filter_map(|rule| rule["message"].as_str())
}

/// Writes a section for an object, and one for each object in it.
fn section(path: &str, object: &Value, level: usize, page: &mut String) {
    let fields: Vec<_> = object["properties"].as_object().into_iter().flatten().collect();
    let required = |name: &str| object["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    *page += &format!("\n{} {path}\n\n{}\n\n", "#".repeat(level), meaning(object));
    *page += "| field | type | default | |\n|---|---|---|---|\n";
    for (name, field) in &fields {
        let default = if required(name) { Some("required".to_owned()) } else { default(field) };
        let kind = cell(&kind(&format!("{path}.{name}"), field));
        *page += &format!("| `{name}` | {kind} | {} | {} |\n", default.unwrap_or_default(), meaning(field));
    }
    let of_fields = fields.iter().filter(|(_, field)| !has_section(field)).flat_map(|(_, field)| refused(field));
    let refused: Vec<_> = refused(object).chain(of_fields).map(|message| format!("- {message}\n")).collect();
    if !refused.is_empty() {
        *page += &format!("\nRefused:\n\n{}", refused.concat());
    }
    for (name, field) in fields.iter().filter(|(_, field)| has_section(field)) {
        section(&format!("{path}.{name}"), field, level.max(2) + 1 - usize::from(level > 2), page);
    }
}

fn columns(version: &Value) -> String {
    let columns = version["additionalPrinterColumns"].as_array().into_iter().flatten();
    let row = |column: &Value| {
        let text = |key: &str| column[key].as_str().unwrap_or_default().to_owned();
        let wide = if column["priority"] == 1 { "with `-o wide`" } else { "" };
        format!(
            "| {} | `{}` | {wide} | {} |\n",
            text("name").to_uppercase(),
            text("jsonPath"),
            cell(&text("description"))
        )
    };
    let rows: String = columns.map(row).collect();
    format!("\n## Columns of kubectl get\n\n| column | is | | |\n|---|---|---|---|\n{rows}")
}

fn page() -> String {
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let (group, name) = (crd["spec"]["group"].as_str().unwrap(), version["name"].as_str().unwrap());
    let mut page = format!("# Reference: ImagePipeline, {group}/{name}\n\n{INTRODUCTION}");
    let of_the_whole: String = refused(schema).map(|message| format!("- {message}\n")).collect();
    page += &format!("\nRefused:\n\n{of_the_whole}");
    section("spec", &schema["properties"]["spec"], 2, &mut page);
    section("status", &schema["properties"]["status"], 2, &mut page);
    page + &columns(version)
}

#[test]
fn the_file_is_what_the_definition_says() {
    is_current("docs/reference.md", &page());
}

#[test]
fn every_field_and_every_refusal_is_in_it() {
    fn missing(path: &str, schema: &Value, page: &str, found: &mut Vec<String>) {
        found.extend(refused(schema).filter(|message| !page.contains(&format!("- {message}\n"))).map(str::to_owned));
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if has_section(schema) && !page.contains(&format!("| `{name}` |")) {
                found.push(format!("{path}.{name}"));
            }
            missing(&format!("{path}.{name}"), field, page, found);
        }
    }
    let crd = serde_json::to_value(ImagePipeline::crd()).unwrap();
    let mut found = Vec::new();
    missing("", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &page(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}
