//! Checks a manifest against the CRD's schema, for manifests that no API server has validated: minimum and maximum of
//! numbers, lengths of strings, lists and maps, and patterns. Pure. Accepts everything that an API server accepts.

use regex_lite::Regex;
use serde_json::Value;

/// One clause for each value in `value` that violates `schema`; `field` is the path of `value`.
pub fn broken(schema: &Value, value: &Value, field: &str) -> Vec<String> {
    let mut found: Vec<String> = itself(schema, value).map(|is| format!("{field} {is}")).into_iter().collect();
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                let schema = known.or_else(|| schema.get("additionalProperties")).unwrap_or_default();
                found.extend(broken(schema, value, &format!("{field}.{name}")));
            }
        }
        Value::Array(items) => {
            let schema = schema.get("items").unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                found.extend(broken(schema, item, &format!("{field}[{index}]")));
            }
        }
        _ => {}
    }
    found
}

fn itself(schema: &Value, value: &Value) -> Option<String> {
    let (is, size, least, most) = match value {
        Value::Number(number) => ("is", number.as_f64()?, "minimum", "maximum"),
        Value::String(text) => ("has a length of", text.chars().count() as f64, "minLength", "maxLength"),
        Value::Array(items) => ("has a length of", items.len() as f64, "minItems", "maxItems"),
        Value::Object(fields) => ("has a length of", fields.len() as f64, "minProperties", "maxProperties"),
        Value::Null | Value::Bool(_) => return None,
    };
    let bound = |name: &str| schema.get(name)?.as_f64();
    let too_small = bound(least).filter(|least| size < *least).map(|least| ("at least", least));
    let too_large = || bound(most).filter(|most| size > *most).map(|most| ("at most", most));
    match too_small.or_else(too_large) {
        Some((word, bound)) => Some(format!("{is} {size}, but must be {word} {bound}")),
        None => unmatched(schema, value),
    }
}

fn unmatched(schema: &Value, value: &Value) -> Option<String> {
    let (pattern, text) = (schema.get("pattern")?.as_str()?, value.as_str()?);
    let matches = Regex::new(pattern).map_or(true, |pattern| pattern.is_match(text));
    (!matches).then(|| format!("does not match {pattern}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_texts_lists_and_maps_keep_to_their_bounds() {
        let schema = json!({
            "properties": {
                "count": { "minimum": 1, "maximum": 9 },
                "name": { "minLength": 1, "maxLength": 3 },
                "list": { "maxItems": 2, "items": { "maximum": 5 } },
                "map": { "maxProperties": 1, "additionalProperties": { "maxLength": 1 } },
                "ascii": { "maxLength": 9, "pattern": "^[ -~]*$" },
            },
        });
        let good =
            json!({ "count": 9, "name": "äöü", "list": [5, 0], "map": { "a": "b" }, "ascii": "a b", "other": 1e9 });
        assert_eq!(broken(&schema, &good, "spec"), [""; 0]);
        let bad = json!({ "count": 0, "name": "äöüx", "list": [6, 1, 2], "map": { "a": "bc" }, "ascii": "a\n", "other": null });
        let expected = [
            "spec.ascii does not match ^[ -~]*$",
            "spec.count is 0, but must be at least 1",
            "spec.list has a length of 3, but must be at most 2",
            "spec.list[0] is 6, but must be at most 5",
            "spec.map.a has a length of 2, but must be at most 1",
            "spec.name has a length of 4, but must be at most 3",
        ];
        let mut found = broken(&schema, &bad, "spec");
        found.sort();
        assert_eq!(found, expected);
    }
}
