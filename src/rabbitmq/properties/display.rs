//! Properties and headers as JSON, for display. Pure.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value, json};

/// Arrays and tables nested deeper than this are displayed as `…`.
pub(super) const DEEPEST: usize = 16;

/// All properties and headers as JSON, for display. Values that JSON cannot express are approximated.
pub(in crate::rabbitmq) fn properties_json(original: &BasicProperties) -> Value {
    let text = |value: &Option<ShortString>| value.as_ref().map(|value| json!(value.as_str()));
    let properties = [
        ("message_id", text(original.message_id())),
        ("timestamp", original.timestamp().map(|value| json!(value))),
        ("content_type", text(original.content_type())),
        ("content_encoding", text(original.content_encoding())),
        ("type", text(original.kind())),
        ("app_id", text(original.app_id())),
        ("user_id", text(original.user_id())),
        ("correlation_id", text(original.correlation_id())),
        ("reply_to", text(original.reply_to())),
        ("expiration", text(original.expiration())),
        ("priority", original.priority().map(|value| json!(value))),
        ("delivery_mode", original.delivery_mode().map(|value| json!(value))),
        ("headers", original.headers().as_ref().map(|headers| table(headers, 0))),
    ];
    properties.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

fn table(table: &FieldTable, depth: usize) -> Value {
    let members = table.inner().iter().map(|(key, value)| (key.as_str().to_owned(), tell(value, depth)));
    members.collect::<Map<_, _>>().into()
}

fn tell(value: &AMQPValue, depth: usize) -> Value {
    match value {
        AMQPValue::Boolean(value) => json!(value),
        AMQPValue::ShortShortInt(value) => json!(value),
        AMQPValue::ShortShortUInt(value) => json!(value),
        AMQPValue::ShortInt(value) => json!(value),
        AMQPValue::ShortUInt(value) => json!(value),
        AMQPValue::LongInt(value) => json!(value),
        AMQPValue::LongUInt(value) => json!(value),
        AMQPValue::LongLongInt(value) => json!(value),
        AMQPValue::Float(value) => json!(value),
        AMQPValue::Double(value) => json!(value),
        AMQPValue::Timestamp(value) => json!(value),
        AMQPValue::DecimalValue(value) => json!(format!("{}e-{}", value.value, value.scale)),
        AMQPValue::ShortString(value) => json!(value.as_str()),
        AMQPValue::LongString(value) => json!(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::ByteArray(value) => json!(value.as_slice().escape_ascii().to_string()),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) if depth == DEEPEST => json!("…"),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(|value| tell(value, depth + 1)).collect(),
        AMQPValue::FieldTable(members) => table(members, depth + 1),
        AMQPValue::Void => Value::Null,
    }
}
