//! Fuzzes the frame filter with arbitrary bytes from a broker, in pieces of arbitrary size. The filter must refuse
//! the bytes, or pass only frames whose content headers the client library's parser can read. It must not buffer more
//! than one frame.
#![no_main]

use std::sync::Arc;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::frame::parsing::parse_frame;
use image_pipeline::rabbitmq::frame_filter::{Frames, Next};
use libfuzzer_sys::fuzz_target;

mod memory;

/// Connection.Tune with frame-max 4096, the minimum of AMQP 0-9-1.
const TUNE: [u8; 20] = [1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 30, 7, 255, 0, 0, 16, 0, 0, 60, 0xCE];

const FRAME: usize = 4096;

/// Drives the filter as the stream does: an incomplete frame waits for more bytes.
fn passed(stream: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut frames = Frames::new(128 << 10, Arc::default());
    let (mut passed, mut held) = (Vec::new(), Vec::new());
    for piece in [&TUNE[..]].into_iter().chain(stream.chunks(step)) {
        held.extend_from_slice(piece);
        loop {
            let (at, next) = frames.judge(&mut held).ok()?;
            passed.extend(held.drain(..at));
            match next {
                Next::Replaced { length, by } => {
                    held.drain(..length);
                    passed.extend(by);
                }
                Next::Done => break,
                Next::Needs(needed) => {
                    assert!(needed > held.len() && needed <= FRAME);
                    break;
                }
            }
        }
        assert!(held.len() < FRAME);
    }
    Some(passed)
}

fuzz_target!(|input: &[u8]| {
    let Some((&step, stream)) = input.split_first() else { return };
    let (step, bound) = (usize::from(step) + 1, 16 * input.len() as u64 + (64 << 10));
    let whole = memory::within(bound, || passed(stream, stream.len().max(1)));
    assert!(whole == passed(stream, step), "the result depends on the size of the pieces");
    let Some(whole) = whole else { return };
    let mut rest = &whole[..];
    while !rest.is_empty() {
        match parse_frame(rest) {
            Ok((left, frame)) => {
                let length = rest.len() - left.len();
                assert!(length <= FRAME || !matches!(frame, AMQPFrame::Header(..)), "{length} bytes");
                rest = left;
            }
            // The filter passes only complete frames, so a content header that the parser refuses is a fault.
            Err(error) => {
                assert!(rest[0] != 2, "a content header that can't be read: {error}");
                return;
            }
        }
    }
});
