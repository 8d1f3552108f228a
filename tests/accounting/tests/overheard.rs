//! An AMQP conversation is parsed correctly however its bytes are cut, and whatever its bodies contain.

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, channel, confirm};
use base64::Engine as _;
use proptest::prelude::*;

use accounting::conversation::Conversation;
use accounting::ledger::message_id;
use accounting::wire::{Event, Wire};
use support::proxy::Ear;

/// Class id of Basic in a content header.
const CLASS: u16 = 60;

/// Bytes, by sender.
#[derive(Clone, Debug)]
enum Said {
    ByClient(Vec<u8>),
    ByBroker(Vec<u8>),
}
use Said::{ByBroker, ByClient};

fn bytes(frame: &AMQPFrame) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    let written = gen_frame(frame)(buffer.as_mut_slice().into()).expect("a frame").position;
    buffer.truncate(usize::try_from(written).unwrap());
    buffer
}

fn method(number: u16, method: basic::AMQPMethod) -> Vec<u8> {
    bytes(&AMQPFrame::Method(number, AMQPClass::Basic(method)))
}

/// Content header and body of a message.
fn content(number: u16, id: &str, body: &[u8]) -> Vec<u8> {
    let properties = BasicProperties::default().with_message_id(id.into());
    let head = AMQPContentHeader { class_id: CLASS, body_size: body.len() as u64, properties };
    let frames = body.chunks(100).map(|part| AMQPFrame::Body(number, part.to_vec()));
    [AMQPFrame::Header(number, head)].into_iter().chain(frames).flat_map(|frame| bytes(&frame)).collect()
}

fn deliver(number: u16, tag: u64, id: &str, body: &[u8]) -> Said {
    let (consumer_tag, exchange, routing_key) = ("t".into(), "".into(), "q".into());
    let redelivered = tag == 2;
    let deliver = basic::Deliver { consumer_tag, delivery_tag: tag, redelivered, exchange, routing_key };
    ByBroker([method(number, basic::AMQPMethod::Deliver(deliver)), content(number, id, body)].concat())
}

fn publish(number: u16, id: &str, body: &[u8]) -> Said {
    let (exchange, routing_key) = ("".into(), "q.parked".into());
    let publish = basic::Publish { exchange, routing_key, mandatory: true, immediate: false };
    ByClient([method(number, basic::AMQPMethod::Publish(publish)), content(number, id, body)].concat())
}

fn returned(number: u16, id: &str, body: &[u8]) -> Said {
    let (exchange, routing_key) = ("".into(), "q.parked".into());
    let back = basic::Return { reply_code: 312, reply_text: "NO_ROUTE".into(), exchange, routing_key };
    ByBroker([method(number, basic::AMQPMethod::Return(back)), content(number, id, body)].concat())
}

fn ack(number: u16, delivery_tag: u64, multiple: bool) -> Vec<u8> {
    method(number, basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }))
}

fn nack(number: u16, delivery_tag: u64) -> Vec<u8> {
    method(number, basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple: false, requeue: true }))
}

fn consume(number: u16, no_ack: bool) -> Said {
    let (queue, consumer_tag, arguments) = ("q".into(), "t".into(), Default::default());
    let (no_local, exclusive, nowait) = (false, false, false);
    let consume = basic::Consume { queue, consumer_tag, no_local, no_ack, exclusive, nowait, arguments };
    ByClient([opened(number), method(number, basic::AMQPMethod::Consume(consume))].concat())
}

fn opened(number: u16) -> Vec<u8> {
    bytes(&AMQPFrame::Method(number, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))))
}

fn confirming(number: u16) -> Said {
    let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
    ByClient([opened(number), bytes(&AMQPFrame::Method(number, select))].concat())
}

/// The events recorded from these pieces, each cut into parts of `cut` bytes.
fn noted(said: &[Said], cut: usize) -> Vec<String> {
    let wire = Wire::default();
    let mut conversation = Conversation::new(&wire);
    for piece in said {
        match piece {
            ByClient(bytes) => bytes.chunks(cut).for_each(|part| conversation.request(part)),
            ByBroker(bytes) => bytes.chunks(cut).for_each(|part| conversation.answer(part)),
        }
    }
    wire.events().iter().map(short).collect()
}

fn short(event: &Event) -> String {
    match event {
        Event::Delivered { id, queue, redelivered } => format!("delivered {id:?} {queue} {redelivered}"),
        Event::Acknowledged { delivery } => format!("acknowledged {delivery}"),
        Event::GivenUp { delivery, requeue } => format!("given up {delivery} {requeue}"),
        Event::Confirmed { id, queue, .. } => format!("confirmed {id:?} {queue}"),
        other => format!("{other:?}"),
    }
}

fn conversation(body: &[u8]) -> Vec<Said> {
    let id = message_id;
    vec![
        ByClient(b"AMQP\0\0\x09\x01".to_vec()),
        consume(1, false),
        deliver(1, 1, &id(10), body),
        deliver(1, 2, &id(11), body),
        deliver(1, 3, "somebody else's", body),
        deliver(1, 4, &id(12), &[]),
        ByBroker(bytes(&AMQPFrame::Heartbeat)),
        ByClient(ack(1, 2, false)),
        ByClient(nack(1, 1)),
        ByClient(ack(1, 4, true)),
        confirming(2),
        publish(2, &id(13), body),
        publish(2, &id(14), body),
        returned(2, &id(13), body),
        publish(2, &id(15), body),
        publish(2, &id(16), body),
        ByBroker(nack(2, 3)),
        ByBroker(ack(2, 4, true)),
    ]
}

const NOTED: &[&str] = &[
    "delivered Some(10) q false",
    "delivered Some(11) q true",
    "delivered None q false",
    "delivered Some(12) q false",
    "acknowledged 1",
    "given up 0 true",
    "acknowledged 2",
    "acknowledged 3",
    "confirmed Some(14) q.parked",
    "confirmed Some(16) q.parked",
];

proptest! {
    #[test]
    fn a_conversation_is_understood_however_it_is_cut(
        body in prop::collection::vec(any::<u8>(), 0..400),
        cut in 1..500usize,
    ) {
        prop_assert_eq!(noted(&conversation(&body), cut), NOTED);
    }
}

#[test]
fn tags_are_counted_anew_on_another_channel() {
    let said = [consume(1, false), consume(2, false), deliver(1, 1, "", b""), deliver(2, 1, "", b"")];
    let said = [&said[..], &[ByClient(ack(2, 1, false)), ByClient(ack(1, 0, true))]].concat();
    assert_eq!(noted(&said, 9)[2..], ["acknowledged 1", "acknowledged 0"]);
}

#[test]
fn a_channel_that_is_opened_again_holds_nothing() {
    let said = [consume(1, false), deliver(1, 1, "", b""), deliver(1, 2, "", b"")];
    let said = [&said[..], &[consume(1, false), deliver(1, 1, "", b""), ByClient(ack(1, 0, true))]].concat();
    assert_eq!(noted(&said, 9)[3..], ["acknowledged 2"]);
}

#[test]
fn who_need_not_acknowledge_has_done_so() {
    let said = [consume(1, true), deliver(1, 1, &message_id(3), b"body")];
    assert_eq!(noted(&said, 9), ["delivered Some(3) q false", "acknowledged 0"]);
}

#[test]
fn what_is_not_understood_is_said_once() {
    let stray = [consume(1, false), ByClient(ack(1, 5, false))];
    assert_eq!(noted(&stray, 9), ["Unclear(\"a client settled delivery 5, which was not seen\")"]);
    let unknown = [deliver(1, 1, "", b"")];
    assert_eq!(noted(&unknown, 9), ["Unclear(\"a delivery to t, who was not seen\")"]);
    let noise = [ByClient(vec![1; 2000]), ByBroker(vec![2; 2000])];
    let noted = noted(&noise, 9);
    assert_eq!(noted.len(), 2, "{noted:?}");
}

/// A content header frame with these properties and an empty body.
fn head(number: u16, properties: &[u8]) -> Vec<u8> {
    let mut frame = vec![2];
    frame.extend(number.to_be_bytes());
    frame.extend((12 + properties.len() as u32).to_be_bytes());
    frame.extend(CLASS.to_be_bytes());
    frame.extend([0; 10]);
    frame.extend(properties);
    frame.push(0xCE);
    frame
}

/// A message with a header name that is not UTF-8 is delivered, then published again by a consumer that could not
/// read it.
#[test]
fn a_message_is_known_whose_headers_the_library_can_not_read() {
    let flags = |bits: u16| bits.to_be_bytes().to_vec();
    let headers = b"\0\0\0\x0b\x04H\xf6heS\0\0\0\x01x";
    let id = message_id(21);
    let original = [&flags(1 << 13 | 1 << 7)[..], headers, &[id.len() as u8], id.as_bytes()].concat();
    let text = base64::prelude::BASE64_STANDARD.encode(&original);
    let name = "x-image-pipeline-unreadable-properties";
    let length = |of: usize| (of as u32).to_be_bytes();
    // The text of another header may contain the name.
    let detail = format!("the original is in the header {name}, in base64");
    let other = [b"\x01aS", &length(detail.len())[..], detail.as_bytes()].concat();
    let entry = [&other[..], &[name.len() as u8], name.as_bytes(), b"S", &length(text.len()), text.as_bytes()].concat();
    let copy = [&flags(1 << 13)[..], &length(entry.len()), &entry].concat();

    let ByBroker(delivered) = deliver(1, 1, "", b"") else { unreachable!() };
    let method = delivered[..delivered.len() - content(1, "", b"").len()].to_vec();
    let ByClient(published) = publish(2, "", b"") else { unreachable!() };
    let published = published[..published.len() - content(2, "", b"").len()].to_vec();
    let said = [
        consume(1, false),
        ByBroker([method, head(1, &original)].concat()),
        confirming(2),
        ByClient([published, head(2, &copy)].concat()),
        ByBroker(ack(2, 1, false)),
    ];
    assert_eq!(noted(&said, 9), ["delivered Some(21) q false", "confirmed Some(21) q.parked"]);
}
