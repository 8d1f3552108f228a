//! What a message carries beside its body when this side publishes it again: parked, in its own place
//! anew, or redriven. Pure. It must never let a property through that would act again: one that routes
//! it elsewhere, lets it expire, or has the broker refuse it for its user.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value, json};

use super::frame_filter::{LEFT_OUT, PROPERTIES};

/// Headers that would route a message elsewhere.
const ROUTES: [&str; 2] = ["CC", "BCC"];

/// What the broker counts of a message's stay in one queue.
pub(super) const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// Begins the name of a header that tells what acted once.
const ORIGINAL: &str = "x-original-";

/// Begins the names of all headers of our own.
const OWN: &str = "x-image-pipeline-";

/// Those that are never left out: what a publisher calls so is overwritten.
const OWN_NAMES: [&str; 11] = [
    "reason",
    "detail",
    "namespace",
    "name",
    "queue",
    "attempts",
    "first-seen",
    "redriven",
    "renewals",
    "unreadable-properties",
    "unreadable-left-out",
];

/// The original properties of a message that had others that could be read. Redriven, it is judged by its body, so
/// they become headers that only tell.
const UNREADABLE: [&str; 2] = [PROPERTIES, LEFT_OUT];

/// How often a message was redriven. Parking it again leaves it, as it does every header that does not
/// act.
pub(super) const REDRIVEN: &str = "x-image-pipeline-redriven";

/// How often a message was published again to its own queue, so that the broker counts its returns from 0.
pub(super) const RENEWALS: &str = "x-image-pipeline-renewals";

/// Bytes of headers that are published again; the rest of a frame is for the other properties, seven texts of at
/// most 255 bytes among them.
const MOST_HEADERS: usize = super::FRAME_MAX as usize - (4 << 10);

/// Arrays and tables in each other beyond this are not told.
const DEEPEST: usize = 16;

/// Why a message is parked, as its headers say it.
#[derive(Debug)]
pub struct Parked<'a> {
    /// The bounded reason's name.
    pub reason: &'a str,
    /// One sentence for a person.
    pub detail: &'a str,
    /// The pipeline's namespace.
    pub namespace: &'a str,
    /// The pipeline's name.
    pub name: &'a str,
    /// The queue it was taken from.
    pub queue: &'a str,
    /// How often this consumer tried.
    pub attempts: u32,
    /// When this consumer first saw it, RFC 3339.
    pub first_seen: &'a str,
}

/// For the parking queue: with the reason in headers.
pub(super) fn parked(original: &BasicProperties, parked: &Parked<'_>) -> BasicProperties {
    let mut headers = safe_headers(original);
    let Parked { reason, detail, namespace, name, queue, attempts, first_seen } = parked;
    for (key, value) in [
        ("reason", long(reason)),
        ("detail", long(detail)),
        ("namespace", long(namespace)),
        ("name", long(name)),
        ("queue", long(queue)),
        ("attempts", AMQPValue::LongUInt(*attempts)),
        ("first-seen", long(first_seen)),
    ] {
        headers.insert(format!("{OWN}{key}").into(), value);
    }
    safe(original).with_headers(fitting(headers))
}

/// For the same queue once more: the broker counts the copy's returns from 0. `times` counts the renewals, this
/// one included.
pub(super) fn renewed(original: &BasicProperties, times: u32) -> BasicProperties {
    let mut headers = safe_headers(&uncounted(original));
    headers.insert(RENEWALS.into(), AMQPValue::LongUInt(times));
    safe(original).with_headers(fitting(headers))
}

/// For the queue it came from: without the reason, and counted. What acted once stays a header that
/// tells of it: a copy that expired before it is read would be lost, one with a CC would reach others
/// twice, and one of another user is refused.
pub(super) fn redriven(original: &BasicProperties, times: u32) -> BasicProperties {
    let of_this_stay = |key: &str| {
        key.starts_with(OWN) || key.strip_prefix(ORIGINAL).is_some_and(|original| COUNTS.contains(&original))
    };
    let safe_headers = safe_headers(&uncounted(original));
    let mut headers = without(&safe_headers, of_this_stay);
    for key in UNREADABLE {
        if let (Some(value), Some(name)) = (safe_headers.inner().get(key), key.strip_prefix(OWN)) {
            headers.insert(format!("{ORIGINAL}{name}").into(), value.clone());
        }
    }
    headers.insert(REDRIVEN.into(), AMQPValue::LongUInt(times));
    safe(original).with_headers(fitting(headers))
}

/// All of them, for a person. What is no text is told as nearly as JSON can.
pub(super) fn told(original: &BasicProperties) -> Value {
    let text = |value: &Option<ShortString>| value.as_ref().map(|value| json!(value.as_str()));
    let told = [
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
    told.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect::<Map<_, _>>().into()
}

/// A header's value that is text, as it came.
pub(super) fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        _ => None,
    }
}

/// A header's value that is text, a whole number or a boolean, as text.
pub(super) fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortShortUInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortUInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongUInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        _ => std::str::from_utf8(bytes(value)?).ok().map(str::to_owned),
    }
}

fn long(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Those that tell and do not act, persistent, and without any headers.
fn safe(original: &BasicProperties) -> BasicProperties {
    let mut properties = BasicProperties::default().with_delivery_mode(super::publish::PERSISTENT);
    for (value, set) in [
        (
            original.content_type(),
            BasicProperties::with_content_type as fn(BasicProperties, ShortString) -> BasicProperties,
        ),
        (original.content_encoding(), BasicProperties::with_content_encoding),
        (original.correlation_id(), BasicProperties::with_correlation_id),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ] {
        if let Some(value) = value {
            properties = set(properties, value.clone());
        }
    }
    if let Some(timestamp) = original.timestamp() {
        properties = properties.with_timestamp(*timestamp);
    }
    if let Some(priority) = original.priority() {
        properties = properties.with_priority(*priority);
    }
    properties
}

/// All headers, those that would act under a name that does not.
fn safe_headers(original: &BasicProperties) -> FieldTable {
    let mut headers = FieldTable::default();
    for (key, value) in original.headers().iter().flat_map(FieldTable::inner) {
        let acts = ROUTES.iter().chain(&COUNTS).any(|acting| *acting == key.as_str());
        let key = if acts { format!("{ORIGINAL}{key}").into() } else { key.clone() };
        headers.insert(key, value.clone());
    }
    for (key, value) in [("user-id", original.user_id()), ("expiration", original.expiration())] {
        if let Some(value) = value {
            headers.insert(format!("{ORIGINAL}{key}").into(), long(value.as_str()));
        }
    }
    headers
}

/// Without the largest of the publisher's headers where all would not fit: properties go in one frame (AMQP
/// 0-9-1, 2.3.5.2), and a message that fills it can't be given another header.
fn fitting(headers: FieldTable) -> FieldTable {
    let mut lengths: Vec<(usize, ShortString)> =
        headers.inner().iter().map(|(key, value)| (1 + key.as_str().len() + length(value), key.clone())).collect();
    let mut all: usize = lengths.iter().map(|(length, _)| length).sum();
    lengths.retain(|(_, key)| !key.as_str().strip_prefix(OWN).is_some_and(|name| OWN_NAMES.contains(&name)));
    lengths.sort_unstable();
    let mut left_out = BTreeSet::new();
    while all > MOST_HEADERS
        && let Some((length, key)) = lengths.pop()
    {
        all -= length;
        left_out.insert(key);
    }
    if left_out.is_empty() {
        return headers;
    }
    let mut kept = without(&headers, |key| left_out.iter().any(|left| left.as_str() == key));
    let count = u32::try_from(left_out.len()).unwrap_or(u32::MAX);
    kept.insert(format!("{OWN}headers-left-out").into(), AMQPValue::LongUInt(count));
    kept
}

/// Bytes that a value takes in a frame, type included; without a call for each level of arrays in each other.
fn length(value: &AMQPValue) -> usize {
    let (mut bytes, mut left) = (0, vec![value]);
    while let Some(value) = left.pop() {
        bytes += 1 + match value {
            AMQPValue::ShortString(text) => 1 + text.as_str().len(),
            AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
            AMQPValue::ByteArray(array) => 4 + array.as_slice().len(),
            AMQPValue::FieldArray(values) => {
                left.extend(values.as_slice());
                4
            }
            AMQPValue::FieldTable(members) => {
                left.extend(members.inner().values());
                4 + members.inner().keys().map(|key| 1 + key.as_str().len()).sum::<usize>()
            }
            // Numbers, of at most 64 bits.
            _ => 8,
        };
    }
    bytes
}

fn uncounted(original: &BasicProperties) -> BasicProperties {
    match original.headers() {
        Some(headers) => original.clone().with_headers(without(headers, |key| COUNTS.contains(&key))),
        None => original.clone(),
    }
}

fn without(headers: &FieldTable, leaves: impl Fn(&str) -> bool) -> FieldTable {
    let mut kept = FieldTable::default();
    for (key, value) in headers.inner().iter().filter(|(key, _)| !leaves(key.as_str())) {
        kept.insert(key.clone(), value.clone());
    }
    kept
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

#[cfg(test)]
mod tests;
