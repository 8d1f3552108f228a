//! Removes number formats from the schema that OpenAPI and Kubernetes do not define: an API server warns about each.

use schemars::Schema;
use schemars::transform::transform_subschemas;
use serde_json::Value;

/// Number formats that schemars derives from Rust's types and Kubernetes does not recognize. `minimum` and
/// `maximum` of the same schema hold the limits.
const UNRECOGNIZED: [&str; 8] = ["int8", "int16", "uint8", "uint16", "uint32", "uint64", "int", "uint"];

pub(super) fn drop_unrecognized(schema: &mut Schema) {
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| UNRECOGNIZED.contains(&format)) {
        schema.remove("format");
    }
    transform_subschemas(&mut drop_unrecognized, schema);
}
