use std::collections::VecDeque;

use futures::io::AsyncReadExt;
use lapin::types::AMQPValue;
use proptest::prelude::*;

use super::frames::tests::{TUNE, body, content_header, deliver, heartbeat, nested, properties, raw};
use std::sync::Arc;

use super::*;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Returns a peer's bytes in pieces (an empty piece is a pause), and counts the bytes that were read.
struct Peer {
    pieces: VecDeque<Vec<u8>>,
    taken: usize,
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Ready(Ok(0)) };
        if piece.is_empty() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let length = piece.len().min(to.len());
        to[..length].copy_from_slice(&piece[..length]);
        self.taken += length;
        let rest = piece.split_off(length);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(length))
    }
}

fn filter(pieces: impl IntoIterator<Item = Vec<u8>>) -> FrameFilter<Peer> {
    let frames = Frames::new(128 << 10, Arc::default());
    FrameFilter::new(Peer { pieces: pieces.into_iter().collect(), taken: 0 }, frames)
}

/// Everything that a reader receives who reads with buffers of these lengths, in turn.
fn read(mut filter: FrameFilter<Peer>, asked: &[usize]) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for asked in asked.iter().cycle() {
        let mut piece = vec![0; *asked];
        match block_on(filter.read(&mut piece))? {
            0 => break,
            length => all.extend_from_slice(&piece[..length]),
        }
    }
    Ok(all)
}

/// Cuts the stream at these positions, each a fraction of its length. A pause follows every piece of even length.
fn split(stream: &[u8], cuts: &[u16]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| stream.len() * usize::from(*cut) / usize::from(u16::MAX)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).filter(|ends| ends[0] < ends[1]).map(|ends| stream[ends[0]..ends[1]].to_vec());
    pieces.flat_map(|piece| if piece.len() % 2 == 0 { vec![piece, Vec::new()] } else { vec![piece] }).collect()
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(deliver(b"tiles")),
        (properties(), any::<u64>()).prop_map(|(properties, size)| content_header(properties, size)),
        (0..70_000_usize).prop_map(|length| body(&vec![0xCE; length])),
        Just(heartbeat()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_a_broker_sends_passes_however_it_is_cut(
        frames in prop::collection::vec(frame(), 1..8),
        cuts in prop::collection::vec(any::<u16>(), 0..40),
        asked in prop::collection::vec(prop_oneof![1..40_usize, 1000..300_000_usize], 1..5),
    ) {
        let stream = [&raw(1, &TUNE)[..], &frames.concat()].concat();
        let passed = read(filter(split(&stream, &cuts)), &asked).unwrap();
        prop_assert!(passed == stream, "{} of {} bytes", passed.len(), stream.len());
    }

    #[test]
    fn a_replaced_header_leaves_what_surrounds_it(
        before in prop::collection::vec(frame(), 0..4),
        after in prop::collection::vec(frame(), 0..4),
        cuts in prop::collection::vec(any::<u16>(), 0..40),
        asked in prop::collection::vec(prop_oneof![1..40_usize, 1000..300_000_usize], 1..5),
    ) {
        let header = raw(2, &[&[0, 60, 0, 0][..], &7_u64.to_be_bytes(), b"\x80\0\x02\xff\xff"].concat());
        let (before, after) = ([raw(1, &TUNE), before.concat()].concat(), after.concat());
        let passed = read(filter(split(&[&before[..], &header, &after].concat(), &cuts)), &asked).unwrap();
        prop_assert!(passed.starts_with(&before) && passed.ends_with(&after));
        let replaced = &passed[before.len()..passed.len() - after.len()];
        let (rest, frame) = amq_protocol::frame::parsing::parse_frame(replaced).unwrap();
        prop_assert!(rest.is_empty());
        let amq_protocol::frame::AMQPFrame::Header(1, header) = frame else { panic!("no header") };
        prop_assert_eq!(header.body_size, 7);
        let headers = header.properties.headers().clone().unwrap();
        prop_assert_eq!(headers.inner().get(PROPERTIES), Some(&AMQPValue::LongString("gAAC//8=".into())));
    }
}

/// A peer that endlessly sends a frame over the limit.
#[test]
fn a_frame_that_may_not_be_is_refused_before_it_is_held() {
    let start = |payload: usize| [&[1, 0, 0][..], &u32::try_from(payload).unwrap().to_be_bytes()].concat();
    for (sent, most) in [
        // Before Tune: complete head, head in pieces, and everything in one piece.
        (vec![start(520_000), vec![0; 1 << 20]], 16 << 10),
        (vec![start(520_000)[..3].to_vec(), start(520_000)[3..].to_vec(), vec![0; 1 << 20]], 16 << 10),
        (vec![[start(520_000), vec![0; 1 << 20]].concat()], 16 << 10),
        // After Tune, for different frame types.
        (vec![raw(1, &TUNE), start(200_000), vec![0; 1 << 20]], 128 << 10),
        (vec![raw(1, &TUNE), vec![3, 0, 1, 0, 3, 0, 0], vec![0; 1 << 20]], 128 << 10),
    ] {
        let mut filter = filter(sent);
        let (mut piece, mut results) = (vec![0; 64 << 10], Vec::new());
        let refused = loop {
            match block_on(filter.read(&mut piece)) {
                Ok(length) => results.push(length),
                Err(error) => break error,
            }
        };
        let refused = *refused.get_ref().unwrap().downcast_ref::<Refused>().unwrap();
        assert!(matches!(refused, Refused::TooLarge { most: found, .. } if found == most), "{refused:?}");
        assert!(filter.held.capacity() <= 64, "{} bytes are held", filter.held.capacity());
        assert!(results.iter().sum::<usize>() <= raw(1, &TUNE).len());
        assert!(filter.inner.taken <= raw(1, &TUNE).len() + (64 << 10), "no more than one buffer is read");
    }
}

#[test]
fn a_content_header_that_outgrows_a_frame_takes_no_more_than_one() {
    let mut many = nested(1);
    many.resize(300_000, b'x');
    let header = raw(2, &[&[0, 60, 0, 0][..], &9_u64.to_be_bytes(), &many].concat());
    let stream = [&raw(1, &TUNE)[..], &header, &body(b"unchanged")].concat();
    let mut filter = filter(stream.chunks(1000).map(<[u8]>::to_vec));
    let (mut passed, mut piece) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let length = block_on(filter.read(&mut piece)).unwrap();
        assert!(filter.held.capacity() <= 256 << 10, "{} bytes are held", filter.held.capacity());
        if length == 0 {
            break;
        }
        passed.extend_from_slice(&piece[..length]);
    }
    assert!(passed.ends_with(&body(b"unchanged")));
    assert!(passed.len() < 128 << 10);
}
