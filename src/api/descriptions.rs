//! Turns doc comments into the descriptions of the CRD's schema: joins the lines of each paragraph and appends the
//! field's default.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::Value;

/// Joins the lines of each paragraph: the line breaks of a doc comment are those of the source file.
pub(super) fn flow(schema: &mut Schema) {
    if let Some(description) = schema.get("description").and_then(Value::as_str).map(flowing) {
        schema.insert("description".to_owned(), description.into());
    }
    transform_subschemas(&mut flow, schema);
}

/// Appends each field's default to its description.
pub(super) fn tell_defaults(schema: &mut Schema) {
    let described = schema.get("description").and_then(Value::as_str);
    if let (Some(description), Some(default)) = (described, schema.get("default").and_then(shown)) {
        let text = format!("{description} Default: {default}.");
        schema.insert("description".to_owned(), text.into());
    }
    transform_subschemas(&mut tell_defaults, schema);
}

fn flowing(description: &str) -> String {
    let paragraphs =
        description.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// `None` for a default that is an object: each of its fields shows its own default.
fn shown(default: &Value) -> Option<String> {
    match default {
        Value::Bool(_) | Value::Number(_) => Some(default.to_string()),
        Value::String(text) if !text.is_empty() => Some(format!("`{text}`")),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use schemars::json_schema;

    use super::*;

    #[test]
    fn paragraphs_flow_and_tell_the_default() {
        let field =
            |default: Value| json_schema!({ "description": "The most\npods.\n\nNever null.", "default": default });
        let described = |default| {
            let mut schema = json_schema!({ "type": "object", "properties": { "inner": { "properties": { "field": field(default) } } } });
            flow(&mut schema);
            tell_defaults(&mut schema);
            schema.pointer("/properties/inner/properties/field/description").unwrap().clone()
        };
        assert_eq!(described(20.into()), "The most pods.\n\nNever null. Default: 20.");
        assert_eq!(described("2s".into()), "The most pods.\n\nNever null. Default: `2s`.");
        assert_eq!(described("".into()), "The most pods.\n\nNever null.");
        assert_eq!(described(serde_json::json!({ "a": 1 })), "The most pods.\n\nNever null.");
    }
}
