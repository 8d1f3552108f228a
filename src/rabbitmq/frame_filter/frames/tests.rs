use amq_protocol::frame::parsing::parse_frame;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};
use amq_protocol::protocol::{AMQPClass, basic, connection, exchange, queue};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use proptest::prelude::*;

use super::super::table::{MOST_LEVELS, TableFault};
use super::super::unreadable::{LEFT_OUT, PROPERTIES, explain};
use super::*;

/// Connection.Tune: 2047 channels, frames of 128 KiB, a heartbeat of 60 s.
pub const TUNE: [u8; 12] = [0, 10, 0, 30, 7, 255, 0, 2, 0, 0, 0, 60];

pub fn raw(kind: u8, payload: &[u8]) -> Vec<u8> {
    let channel = u8::from(kind != METHOD);
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 0, channel][..], &length, payload, &[FRAME_END]].concat()
}

pub fn body(payload: &[u8]) -> Vec<u8> {
    raw(BODY, payload)
}

pub fn heartbeat() -> Vec<u8> {
    vec![HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]
}

fn generated(frame: &AMQPFrame) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let length = gen_frame(frame)(bytes.as_mut_slice().into()).unwrap().into_inner().1;
    bytes.truncate(usize::try_from(length).unwrap());
    bytes
}

pub fn deliver(routing_key: &[u8]) -> Vec<u8> {
    let key = [&[u8::try_from(routing_key.len()).unwrap()], routing_key].concat();
    raw(METHOD, &[b"\0\x3c\0\x3c\x03tag\0\0\0\0\0\0\0\x07\x01\0", &key[..]].concat())
}

pub fn content_header(properties: BasicProperties, body_size: u64) -> Vec<u8> {
    generated(&AMQPFrame::Header(1, AMQPContentHeader { class_id: 60, body_size, properties }))
}

fn value() -> impl Strategy<Value = AMQPValue> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(AMQPValue::Boolean),
        any::<i8>().prop_map(AMQPValue::ShortShortInt),
        any::<u16>().prop_map(AMQPValue::ShortUInt),
        any::<i32>().prop_map(AMQPValue::LongInt),
        any::<i64>().prop_map(AMQPValue::LongLongInt),
        any::<u64>().prop_map(AMQPValue::Timestamp),
        any::<f64>().prop_map(AMQPValue::Double),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::LongString(bytes.into())),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| AMQPValue::ByteArray(bytes.into())),
        Just(AMQPValue::Void),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| AMQPValue::FieldArray(values.into())),
            prop::collection::vec(("[a-zä]{0,8}", inner), 0..4)
                .prop_map(|members| AMQPValue::FieldTable(table(members))),
        ]
    })
}

fn table(members: Vec<(String, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in members {
        table.insert(key.into(), value);
    }
    table
}

pub fn properties() -> impl Strategy<Value = BasicProperties> {
    let text = || prop::option::of("\\PC{0,20}");
    let headers = prop::option::of(prop::collection::vec(("[a-zä-]{0,12}", value()), 0..6));
    (text(), headers, prop::option::of(any::<u8>()), text(), prop::option::of(any::<u64>()), text()).prop_map(
        |(content_type, headers, mode, message_id, timestamp, app_id)| {
            let mut properties = BasicProperties::default();
            if let Some(text) = content_type {
                properties = properties.with_content_type(text.into());
            }
            if let Some(headers) = headers {
                properties = properties.with_headers(table(headers));
            }
            if let Some(mode) = mode {
                properties = properties.with_delivery_mode(mode);
            }
            if let Some(text) = message_id {
                properties = properties.with_message_id(text.into());
            }
            if let Some(timestamp) = timestamp {
                properties = properties.with_timestamp(timestamp);
            }
            if let Some(text) = app_id {
                properties = properties.with_app_id(text.into());
            }
            properties
        },
    )
}

/// Properties with a header that has `levels` nested arrays, within the table of all headers.
pub fn nested(levels: usize) -> Vec<u8> {
    let arrays = (0..levels).rev().flat_map(|level| {
        let length = u32::try_from(level * 5).unwrap().to_be_bytes();
        [&b"A"[..], &length].concat()
    });
    let table = [&b"\x04deep"[..], &arrays.collect::<Vec<_>>()].concat();
    [&[0x20, 0][..], &u32::try_from(table.len()).unwrap().to_be_bytes(), &table].concat()
}

fn header_of(properties: &[u8]) -> Vec<u8> {
    raw(HEADER, &[&[0, 60, 0, 0][..], &4711_u64.to_be_bytes(), properties].concat())
}

fn tuned() -> Frames {
    let mut frames = Frames::new(128 << 10, Arc::default());
    assert_eq!(frames.judge(&mut raw(METHOD, &TUNE)), Ok((20, Next::Done)));
    frames
}

/// The bytes that lapin receives for one frame.
fn passed(frame: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut bytes = frame.to_vec();
    match tuned().judge(&mut bytes)? {
        (at, Next::Done) => {
            assert_eq!(at, bytes.len());
            Ok(bytes)
        }
        (0, Next::Replaced { length, by }) => {
            assert!(length <= frame.len());
            Ok(by)
        }
        other => panic!("{other:?}"),
    }
}

fn headers(frame: &[u8]) -> FieldTable {
    match parse_frame(frame) {
        Ok((&[], AMQPFrame::Header(1, header))) => {
            assert_eq!((header.class_id, header.body_size), (60, 4711));
            header.properties.headers().clone().unwrap_or_default()
        }
        other => panic!("{other:?}"),
    }
}

fn original(frame: &[u8]) -> Vec<u8> {
    match headers(frame).inner().get(PROPERTIES) {
        Some(AMQPValue::LongString(text)) => BASE64_STANDARD.decode(text.as_bytes()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn explained(frame: &[u8]) -> String {
    let left_out = match headers(frame).inner().get(LEFT_OUT) {
        Some(AMQPValue::LongUInt(bytes)) => usize::try_from(*bytes).unwrap(),
        _ => 0,
    };
    explain(BASE64_STANDARD.encode(original(frame)).as_bytes(), left_out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// lapin's parser is the reference: what it parses passes unchanged, and what it does not parse is replaced by a
    /// frame that it parses. Nesting depth is the only exception, and random tables do not nest deeply.
    #[test]
    fn a_content_header_passes_unchanged_or_becomes_one_that_can_be_read(
        properties in properties(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let frame = content_header(properties, 4711);
        let mut properties = frame[HEAD + 12..frame.len() - END].to_vec();
        for (at, byte) in changes {
            let at = at.index(properties.len());
            properties[at] = byte;
        }
        if let Some(cut) = cut {
            properties.truncate(cut.index(properties.len()));
        }
        let frame = header_of(&properties);
        let passed = passed(&frame).unwrap();
        if parse_frame(&frame[..]).is_ok() {
            prop_assert_eq!(passed, frame);
        } else {
            prop_assert_eq!(original(&passed), properties);
            prop_assert!(explained(&passed).starts_with("the message's properties can't be parsed: "));
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic_and_nothing_is_lost(mut bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut frames = tuned();
        let length = bytes.len();
        if let Ok((at, next)) = frames.judge(&mut bytes) {
            match next {
                Next::Done => prop_assert_eq!(at, length),
                Next::Needs(needed) => prop_assert!(at < length && needed > length - at),
                Next::Replaced { length: replaced, .. } => prop_assert!(at + replaced <= length),
            }
        }
    }
}

#[test]
fn tables_and_arrays_nest_no_deeper_than_the_client_library_is_given() {
    let deepest = header_of(&nested(MOST_LEVELS - 1));
    assert_eq!(passed(&deepest), Ok(deepest));
    for levels in [MOST_LEVELS, 100, 20_000] {
        let properties = nested(levels);
        let replaced = passed(&header_of(&properties)).unwrap();
        assert!(properties.starts_with(&original(&replaced)));
        assert!(explained(&replaced).contains("nest more than 32 deep"), "{}", explained(&replaced));
    }
}

#[test]
fn what_is_wrong_with_properties_is_said_with_its_place() {
    for (properties, expected) in [
        (&b"\x20\0\0\0\0\x0a\x04H\xf6heS\0\0\0\0"[..], "the name of a header is not UTF-8 (byte 7)"),
        (b"\x00\x80\x02\xff\xff", "message_id is not UTF-8 (byte 3)"),
        (b"\x20\0\0\0\0\x03\x01az", "the value of a header has the unknown type 0x7a (byte 8)"),
        (b"\x20\0\0\0\0\x09\x01a", "a length exceeds the end (byte 2)"),
        (b"\x00\0rest", "bytes follow the last property (byte 2)"),
        (b"\x80", "a length exceeds the end (byte 0)"),
    ] {
        let replaced = passed(&header_of(properties)).unwrap();
        assert_eq!(original(&replaced), properties);
        let explained = explained(&replaced);
        assert!(explained.contains(expected), "{explained}");
    }
    assert!(explain(b"?", 0).contains("not base64"));
}

/// RabbitMQ adds `x-delivery-count` to headers that already fill the frame.
#[test]
fn properties_that_outgrow_a_frame_keep_what_fits() {
    let many = header_of(&[&[0x20, 0][..], &131_100_u32.to_be_bytes(), &vec![b'x'; 131_100]].concat());
    let mut frames = tuned();
    let mut stream = [many.clone(), body(b"unchanged")].concat();
    let (0, Next::Replaced { length, by }) = frames.judge(&mut stream).unwrap() else { panic!("passed") };
    assert!(by.len() <= 128 << 10 && by.len() > 90 << 10, "{}", by.len());
    assert!(many[HEAD + 12..].starts_with(&original(&by)));
    let left_out = u32::try_from(many.len() - HEAD - 12 - END - original(&by).len()).unwrap();
    assert_eq!(headers(&by).inner().get(LEFT_OUT), Some(&AMQPValue::LongUInt(left_out)));
    let dropped = frames.judge(&mut stream[length..]).unwrap();
    assert_eq!(dropped, (0, Next::Replaced { length: many.len() - length, by: Vec::new() }));
    assert_eq!(frames.judge(&mut stream[many.len()..]), Ok((17, Next::Done)));
    let refused = Frames::new(128 << 10, Arc::default()).judge(&mut many.clone());
    assert_eq!(refused, Err(Refused::TooLarge { bytes: 131_126, most: UNTUNED }), "no deliveries before Tune");
}

#[test]
fn texts_that_others_wrote_are_made_readable_where_they_stand() {
    for (sent, expected) in [
        (deliver(b"k\xf6nig"), deliver(b"k?nig")),
        (deliver("könig".as_bytes()), deliver("könig".as_bytes())),
        (
            raw(METHOD, b"\0\x3c\0\x47\0\0\0\0\0\0\0\x07\x01\x01\xff\x01\xfe\0\0\0\x09"),
            raw(METHOD, b"\0\x3c\0\x47\0\0\0\0\0\0\0\x07\x01\x01?\x01?\0\0\0\x09"),
        ),
        // Channel.Close with a text that RabbitMQ cut within a character.
        (
            raw(METHOD, b"\0\x14\0\x28\x01\x94\x03no\xc3\0\x32\0\x0a"),
            raw(METHOD, b"\0\x14\0\x28\x01\x94\x03no?\0\x32\0\x0a"),
        ),
    ] {
        let found = passed(&sent).unwrap();
        assert_eq!(found, expected);
        assert!(parse_frame(&found[..]).is_ok());
    }
}

#[test]
fn what_no_broker_sends_is_refused() {
    for (sent, expected) in [
        (b"HTTP/1.1 400 Bad Request".to_vec(), Refused::NotAFrame(b'H')),
        (b"\x15\x03\x01\0\x02\x02\x16".to_vec(), Refused::NotAFrame(0x15)),
        (vec![METHOD, 0, 0, 0, 0, 0, 4, 0, 10, 0, 31, 0], Refused::NoEnd),
        (raw(METHOD, &[0, 10]), Refused::TooShort),
        (raw(HEADER, &[0, 60, 0, 0, 0]), Refused::TooShort),
        (raw(METHOD, &[0, 10, 0, 10, 0, 9, 0, 0, 0, 4, 1, b'a', b'z', 0]), {
            Refused::Start(TableFault::UnknownType { byte: b'z', at: 6 })
        }),
        (raw(METHOD, &[&[0, 10, 0, 10, 0, 9][..], &nested(40)[2..]].concat()), {
            Refused::Start(TableFault::TooDeep { at: 4 + 5 + 31 * 5 + 1 })
        }),
    ] {
        assert_eq!(passed(&sent), Err(expected), "{sent:?}");
    }
}

/// By amq-protocol's types, only these methods and Connection.Start have a table, so no other method can nest.
#[test]
fn methods_with_tables_come_from_clients_alone() {
    let arguments = FieldTable::default;
    let (exchange, queue, basic) = (AMQPClass::Exchange, AMQPClass::Queue, AMQPClass::Basic);
    for method in [
        AMQPClass::Connection(connection::AMQPMethod::StartOk(connection::StartOk::default())),
        exchange(exchange::AMQPMethod::Declare(exchange::Declare { arguments: arguments(), ..Default::default() })),
        exchange(exchange::AMQPMethod::Bind(exchange::Bind { arguments: arguments(), ..Default::default() })),
        exchange(exchange::AMQPMethod::Unbind(exchange::Unbind { arguments: arguments(), ..Default::default() })),
        queue(queue::AMQPMethod::Declare(queue::Declare { arguments: arguments(), ..Default::default() })),
        queue(queue::AMQPMethod::Bind(queue::Bind { arguments: arguments(), ..Default::default() })),
        queue(queue::AMQPMethod::Unbind(queue::Unbind { arguments: arguments(), ..Default::default() })),
        basic(basic::AMQPMethod::Consume(basic::Consume { arguments: arguments(), ..Default::default() })),
    ] {
        let refused = passed(&generated(&AMQPFrame::Method(1, method.clone())));
        assert!(matches!(refused, Err(Refused::OfClients { .. })), "{method:?}: {refused:?}");
    }
}

#[test]
fn the_longest_frame_is_what_both_sides_take() {
    for (offered, said, expected) in [
        (128 << 10, 128 << 10, 128 << 10),
        (128 << 10, 64 << 10, 64 << 10),
        (16 << 10, 128 << 10, 16 << 10),
        (128 << 10, 0, 128 << 10),
        (128 << 10, 1, 4096),
    ] {
        let mut frames = Frames::new(offered, Arc::default());
        assert_eq!(frames.most(), 16 << 10);
        let tune = [&TUNE[..6], &u32::to_be_bytes(said), &TUNE[10..]].concat();
        assert_eq!(frames.judge(&mut raw(METHOD, &tune)), Ok((20, Next::Done)));
        assert_eq!(frames.most(), expected);
        let unlimited = [&TUNE[..6], &[0; 4], &TUNE[10..]].concat();
        assert_eq!(frames.judge(&mut raw(METHOD, &unlimited)), Ok((20, Next::Done)));
        assert_eq!(frames.most(), expected, "a second Tune changes nothing");
    }
}

#[test]
fn a_rabbitmq_says_its_version() {
    for (product, version, expected) in [
        ("RabbitMQ", "4.0.5", Some((4, 0, 5))),
        ("RabbitMQ", "3.10.25+2.gabcdef", Some((3, 10, 25))),
        ("RabbitMQ", "4.1.0-rc.1", Some((4, 1, 0))),
        ("RabbitMQ", "4.2", Some((4, 2, 0))),
        ("RabbitMQ", "next", None),
        ("LavinMQ", "4.0.5", None),
    ] {
        let long = |text: &str| AMQPValue::LongString(text.into());
        let server_properties = table(vec![
            ("product".to_owned(), long(product)),
            ("version".to_owned(), long(version)),
            ("list".to_owned(), AMQPValue::FieldArray(FieldArray::default())),
        ]);
        let start = connection::Start { version_minor: 9, server_properties, ..connection::Start::default() };
        let method = AMQPClass::Connection(connection::AMQPMethod::Start(start));
        let mut start = generated(&AMQPFrame::Method(0, method));
        let found = Arc::default();
        let length = start.len();
        assert_eq!(Frames::new(1 << 14, Arc::clone(&found)).judge(&mut start), Ok((length, Next::Done)));
        assert_eq!(found.get().copied(), expected, "{product} {version}");
    }
}
