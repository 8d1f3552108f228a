//! How doc comments read as descriptions of the schema, which `kubectl explain` shows: as paragraphs that
//! flow, each field with its default. It must never say what the schema does not.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::Value;

/// Completes the descriptions of a schema and of everything in it.
pub(super) fn complete(schema: &mut Schema) {
    if let Some(description) = schema.get("description").and_then(Value::as_str) {
        let default = schema.get("default").and_then(shown).map(|default| format!(" Default: {default}."));
        let complete = flowing(description) + &default.unwrap_or_default();
        schema.insert("description".to_owned(), complete.into());
    }
    transform_subschemas(&mut complete, schema);
}

/// The lines of a doc comment end where the source is full.
fn flowing(description: &str) -> String {
    let paragraphs =
        description.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// A default of several fields stands at each of them.
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
            complete(&mut schema);
            schema.pointer("/properties/inner/properties/field/description").unwrap().clone()
        };
        assert_eq!(described(20.into()), "The most pods.\n\nNever null. Default: 20.");
        assert_eq!(described("2s".into()), "The most pods.\n\nNever null. Default: `2s`.");
        assert_eq!(described("".into()), "The most pods.\n\nNever null.");
        assert_eq!(described(serde_json::json!({ "a": 1 })), "The most pods.\n\nNever null.");
    }
}
