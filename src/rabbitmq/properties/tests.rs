//! The properties and headers of parked, renewed and redriven messages.

use serde_json::json;

use super::display::DEEPEST;
use super::*;

const PARKED: Parked<'_> = Parked {
    reason: "InvalidImage",
    detail: "truncated",
    namespace: "greench",
    name: "forest-tiles",
    queue: "segmented-images",
    attempts: 1,
    first_seen: "2026-01-01T00:00:00Z",
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

const OWN_KEYS: [&str; 7] = ["reason", "detail", "namespace", "name", "queue", "attempts", "first-seen"];

fn headers(pairs: &[(&str, AMQPValue)]) -> FieldTable {
    let mut headers = FieldTable::default();
    for (key, value) in pairs {
        headers.insert((*key).into(), value.clone());
    }
    headers
}

fn header<'a>(properties: &'a BasicProperties, key: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(key)
}

/// A published message with all properties and headers that would take effect again.
fn sent() -> BasicProperties {
    let headers = headers(&[
        ("CC", long("elsewhere")),
        ("x-delivery-count", AMQPValue::LongLongInt(7)),
        ("device", long("north-4")),
        ("image_name", long("north/4.png")),
        ("traceparent", long(TRACE)),
    ]);
    BasicProperties::default()
        .with_headers(headers)
        .with_user_id("camera".into())
        .with_expiration("1000".into())
        .with_message_id("id-1".into())
        .with_content_type("application/json".into())
        .with_timestamp(1_700_000_000)
        .with_priority(3)
}

/// The same message after parking, as the broker delivers it from the parking queue.
fn taken() -> BasicProperties {
    let parked = parked(&sent(), &PARKED);
    let mut headers = parked.headers().clone().unwrap_or_default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(11));
    parked.with_headers(headers)
}

fn assert_acts_no_more(properties: &BasicProperties) {
    assert_eq!((properties.user_id(), properties.expiration()), (&None, &None));
    for acting in ["CC", "BCC", "x-delivery-count", "x-acquired-count"] {
        assert_eq!(header(properties, acting), None, "{acting}");
    }
    for (name, value) in
        [("x-original-CC", "elsewhere"), ("x-original-user-id", "camera"), ("x-original-expiration", "1000")]
    {
        assert_eq!(header(properties, name), Some(&long(value)), "{name}");
    }
}

fn assert_tells_the_same(properties: &BasicProperties) {
    let sent = sent();
    assert_eq!(properties.message_id(), sent.message_id());
    assert_eq!(properties.content_type(), sent.content_type());
    assert_eq!((properties.timestamp(), properties.priority()), (sent.timestamp(), sent.priority()));
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(header(properties, "device"), Some(&long("north-4")));
    assert_eq!(header(properties, "image_name"), Some(&long("north/4.png")));
    assert_eq!(header(properties, "traceparent").and_then(bytes), Some(TRACE.as_bytes()));
}

#[test]
fn headers_are_read_as_text() {
    let cases = [
        (AMQPValue::LongString("north/4.png".into()), Some("north/4.png")),
        (AMQPValue::LongString("Öä.png".into()), Some("Öä.png")),
        (AMQPValue::LongString(vec![0xff, 0xfe].into()), None),
        (AMQPValue::ShortString("short".into()), Some("short")),
        (AMQPValue::LongLongInt(-7), Some("-7")),
        (AMQPValue::ShortShortUInt(200), Some("200")),
        (AMQPValue::Boolean(true), Some("true")),
        (AMQPValue::Double(1.5), None),
        (AMQPValue::FieldTable(FieldTable::default()), None),
    ];
    for (value, expected) in cases {
        assert_eq!(text(&value).as_deref(), expected, "{value:?}");
        let is_text = matches!(value, AMQPValue::LongString(_) | AMQPValue::ShortString(_));
        assert_eq!(bytes(&value).is_some(), is_text, "{value:?}");
    }
}

#[test]
fn parked_it_says_why_and_acts_no_more() {
    let parked = parked(&sent(), &PARKED);
    assert_acts_no_more(&parked);
    assert_tells_the_same(&parked);
    assert_eq!(header(&parked, "x-original-x-delivery-count"), Some(&AMQPValue::LongLongInt(7)));
    for key in OWN_KEYS {
        assert!(header(&parked, &format!("x-image-pipeline-{key}")).is_some(), "{key}");
    }
    assert_eq!(header(&parked, "x-image-pipeline-reason"), Some(&long("InvalidImage")));
}

#[test]
fn renewed_it_is_the_same_but_for_the_brokers_count() {
    let renewed = super::renewed(&taken(), 1);
    assert_acts_no_more(&renewed);
    let mut headers = parked(&sent(), &PARKED).headers().clone().unwrap_or_default();
    headers.insert(RENEWALS.into(), AMQPValue::LongUInt(1));
    let expected = parked(&sent(), &PARKED).with_headers(headers);
    assert_eq!(renewed, expected, "unchanged, including the count of its first queue");
    // A message that was never parked may have properties that take effect.
    let foreign = super::renewed(&sent(), 3);
    assert_acts_no_more(&foreign);
    assert_tells_the_same(&foreign);
    assert_eq!(header(&foreign, RENEWALS).and_then(text).as_deref(), Some("3"));
    let bare = super::renewed(&BasicProperties::default(), 1);
    assert_eq!(bare.headers().as_ref().map(|headers| headers.inner().len()), Some(1));
}

#[test]
fn redriven_it_is_as_the_device_sent_it_and_counted() {
    let redriven = redriven(&taken(), 2);
    assert_acts_no_more(&redriven);
    assert_tells_the_same(&redriven);
    assert_eq!(header(&redriven, "x-original-x-delivery-count"), None);
    for key in OWN_KEYS {
        assert_eq!(header(&redriven, &format!("x-image-pipeline-{key}")), None, "{key}");
    }
    assert_eq!(header(&redriven, REDRIVEN), Some(&AMQPValue::LongUInt(2)));
}

#[test]
fn parked_again_it_is_still_counted_and_its_first_properties_are_shown() {
    let again = parked(&redriven(&taken(), 2), &PARKED);
    assert_eq!(header(&again, REDRIVEN).and_then(text).as_deref(), Some("2"));
    assert_acts_no_more(&again);
    assert_tells_the_same(&again);
    let third = redriven(&again, 3);
    assert_eq!(header(&third, REDRIVEN).and_then(text).as_deref(), Some("3"));
}

/// Properties that could not be parsed are kept, and a redriven message is not parked for them again.
#[test]
fn redriven_it_has_its_unreadable_properties_as_text_alone() {
    let kept = headers(&[(PROPERTIES, long("gAAC//8=")), (LEFT_OUT, AMQPValue::LongUInt(7))]);
    let parked = parked(&BasicProperties::default().with_headers(kept), &PARKED);
    assert_eq!(header(&parked, PROPERTIES), Some(&long("gAAC//8=")));
    let redriven = redriven(&parked, 1);
    assert_eq!((header(&redriven, PROPERTIES), header(&redriven, LEFT_OUT)), (None, None));
    assert_eq!(header(&redriven, "x-original-unreadable-properties"), Some(&long("gAAC//8=")));
    assert_eq!(header(&redriven, "x-original-unreadable-left-out"), Some(&AMQPValue::LongUInt(7)));
}

#[test]
fn the_largest_header_that_is_kept_is_the_filters() {
    let kept = long(&"A".repeat(96 << 10));
    let many = headers(&[(PROPERTIES, kept.clone()), ("device", long(&"x".repeat(40 << 10)))]);
    let parked = parked(&BasicProperties::default().with_headers(many), &PARKED);
    assert_eq!((header(&parked, PROPERTIES), header(&parked, "device")), (Some(&kept), None));
}

#[test]
fn everything_is_shown_however_deep() {
    let mut deep = AMQPValue::Boolean(true);
    for _ in 0..1_000 {
        deep = AMQPValue::FieldArray(vec![deep].into());
    }
    let headers = headers(&[
        ("deep", deep),
        ("bytes", AMQPValue::ByteArray(vec![0, b'a'].into())),
        ("odd", AMQPValue::LongString(vec![b'a', 0xff].into())),
        ("table", AMQPValue::FieldTable(headers(&[("n", AMQPValue::LongInt(-4))]))),
        ("nothing", AMQPValue::Void),
    ]);
    let json = properties_json(&sent().with_headers(headers));
    assert_eq!((&json["message_id"], &json["timestamp"]), (&json!("id-1"), &json!(1_700_000_000)));
    assert_eq!(json["headers"]["bytes"], json!("\\x00a"));
    assert_eq!(json["headers"]["odd"], json!("a\u{fffd}"));
    assert_eq!(json["headers"]["table"], json!({ "n": -4 }));
    assert_eq!(json["headers"]["deep"].to_string(), format!("{}\"…\"{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST)));
    assert!(json["headers"]["nothing"].is_null() && json.get("reply_to").is_none());
}
