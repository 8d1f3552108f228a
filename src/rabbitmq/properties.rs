//! The properties and headers of a message that this side publishes again: parked, renewed or redriven. Pure.
//! Properties that would take effect again are removed or renamed (tests hold this): those that route the message
//! elsewhere (CC, BCC), let it expire, or make the broker reject it because of its user id.

use std::collections::BTreeSet;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::FRAME_MAX;
use super::frame_filter::{LEFT_OUT, PROPERTIES};

mod display;

pub(super) use display::properties_json;

/// `delivery_mode` of a message that a broker writes to disk.
pub(super) const PERSISTENT: u8 = 2;

/// Headers that route a message to further queues.
const ROUTES: [&str; 2] = ["CC", "BCC"];

/// Headers with which the broker counts the returns of a message to its queue.
pub(super) const COUNTS: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// Prefix of headers that keep the value of a removed property or header.
const ORIGINAL: &str = "x-original-";

/// Prefix of the headers that this side adds.
const OWN: &str = "x-image-pipeline-";

/// Headers with the prefix `OWN` that are never left out. A publisher's header of the same name is overwritten.
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

/// The headers with the original properties of a message whose properties could not be parsed. A redriven message is
/// processed by its body, so these headers are renamed with the prefix `ORIGINAL`.
const UNREADABLE: [&str; 2] = [PROPERTIES, LEFT_OUT];

/// How often a message was redriven. Parking the message again keeps this header.
pub(super) const REDRIVEN: &str = "x-image-pipeline-redriven";

/// How often a message was renewed: published to its own queue again, so that the broker counts its returns from 0.
pub(super) const RENEWALS: &str = "x-image-pipeline-renewals";

/// Maximum bytes of headers in a published message. The rest of the frame is for the other properties, among them seven
/// strings of at most 255 bytes.
const MOST_HEADERS: usize = FRAME_MAX as usize - (4 << 10);

/// The headers that parking adds to a message.
#[derive(Debug)]
pub struct Parked<'a> {
    /// Name of the `Reason`.
    pub reason: &'a str,
    /// The error as a sentence.
    pub detail: &'a str,
    pub namespace: &'a str,
    /// Name of the pipeline.
    pub name: &'a str,
    /// The source queue.
    pub queue: &'a str,
    /// Number of attempts of this consumer.
    pub attempts: u32,
    /// When this consumer first received the message, in RFC 3339.
    pub first_seen: &'a str,
}

/// The properties for the parking queue: the original ones, plus the reason.
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

/// The properties of a copy for the same queue. `times` is the number of renewals, including this one.
pub(super) fn renewed(original: &BasicProperties, times: u32) -> BasicProperties {
    let mut headers = safe_headers(&uncounted(original));
    headers.insert(RENEWALS.into(), AMQPValue::LongUInt(times));
    safe(original).with_headers(fitting(headers))
}

/// The properties for the source queue: without the headers of parking, and with the redrive count. Expiration, CC, BCC
/// and user id remain `x-original-` headers: an expired copy would be lost, a copy with CC would reach other queues
/// twice, and RabbitMQ rejects a copy with another user's id.
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

/// The bytes of a string value.
pub(super) fn bytes(value: &AMQPValue) -> Option<&[u8]> {
    match value {
        AMQPValue::LongString(text) => Some(text.as_bytes()),
        AMQPValue::ShortString(text) => Some(text.as_str().as_bytes()),
        _ => None,
    }
}

/// A string, integer or boolean value as text.
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

/// The properties that have no effect in the broker, plus `delivery_mode` persistent; without headers.
fn safe(original: &BasicProperties) -> BasicProperties {
    let mut properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
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

/// All headers. Those that would take effect in the broker are renamed with the prefix `ORIGINAL`.
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

/// Drops the largest headers of the publisher if the headers do not fit: properties must fit in one frame (AMQP 0-9-1,
/// 2.3.5.2), so a message whose headers fill the frame leaves no room for the added headers.
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

/// Bytes of a value in a frame, including its type. Iterative, since arrays and tables nest.
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
            // Numbers: at most 64 bits.
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

#[cfg(test)]
mod tests;
