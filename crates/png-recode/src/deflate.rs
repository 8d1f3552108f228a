//! Compresses filtered pixels to a zlib stream (RFC 1950, RFC 1951), with dynamic Huffman codes for each block and
//! runs of one byte. It searches for no other repetitions: filtered photographs have almost none, and other
//! compressors spend most of their time on that search. The same data always gives the same stream.

use crate::huffman::{Code, LONGEST, codes, lengths};

mod runs;

use runs::{LONGEST_RUN, Receive, SHORTEST_RUN, walk};

/// Bytes per block; each block has its own Huffman codes. A quarter of this size makes photographs 0.1 % larger, and
/// so does four times this size.
const BLOCK: usize = 1 << 18;

/// Symbols: 256 literal bytes, the end of the block, and run lengths.
const BYTES: usize = 256;
const END: usize = 256;
const RUNS: usize = 257;
const SYMBOLS: usize = 286;

/// The longest code in the alphabet that encodes code lengths (RFC 1951, section 3.2.7).
const LONGEST_OF_LENGTHS: usize = 7;
/// The order in which the lengths of that alphabet's codes are written (RFC 1951, section 3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

pub(crate) fn compress(filtered: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(filtered.len() / 2);
    let mut before = None;
    let mut rest = filtered;
    loop {
        let (block, after) = rest.split_at_checked(BLOCK).unwrap_or((rest, &[]));
        writer.block(block, before, after.is_empty());
        if after.is_empty() {
            break;
        }
        (before, rest) = (block.last().copied(), after);
    }
    writer.finish(libdeflater::adler32(filtered))
}

/// A run's symbol, its extra bits, and the number of extra bits (RFC 1951, section 3.2.5).
fn symbol(run: usize) -> (usize, u32, u32) {
    match run {
        LONGEST_RUN => (SYMBOLS - 1, 0, 0),
        ..11 => (RUNS + run - SHORTEST_RUN, 0, 0),
        _ => {
            let offset = run - SHORTEST_RUN;
            let bits = offset.ilog2() - 2;
            (RUNS + 4 * bits as usize + (offset >> bits), (offset & ((1 << bits) - 1)) as u32, bits)
        }
    }
}

/// Counts each symbol. Bytes are counted in three tables in turn, because incrementing the same counter twice in a
/// row would wait for the first store.
struct Counts {
    bytes: [[u32; BYTES]; 3],
    others: [u32; SYMBOLS - BYTES],
}

impl Counts {
    fn of(block: &[u8], before: Option<u8>) -> Vec<u32> {
        let mut counts = Self { bytes: [[0; BYTES]; 3], others: [0; SYMBOLS - BYTES] };
        walk(block, before, &mut counts);
        let [first, second, third] = &counts.bytes;
        let bytes = first.iter().zip(second).zip(third).map(|((first, second), third)| first + second + third);
        let mut all: Vec<u32> = bytes.chain(counts.others).collect();
        if let Some(end) = all.get_mut(END) {
            *end = 1;
        }
        all
    }
}

impl Receive for Counts {
    #[inline(always)]
    fn literals(&mut self, bytes: [u8; 6]) {
        let ([first, second, third], [a, b, c, d, e, f]) = (&mut self.bytes, bytes.map(usize::from));
        for (table, byte) in [(&mut *first, a), (&mut *second, b), (&mut *third, c)] {
            table.get_mut(byte).into_iter().for_each(|count| *count += 1);
        }
        for (table, byte) in [(first, d), (second, e), (third, f)] {
            table.get_mut(byte).into_iter().for_each(|count| *count += 1);
        }
    }

    #[inline(always)]
    fn literal(&mut self, byte: u8) {
        let [first, ..] = &mut self.bytes;
        first.get_mut(usize::from(byte)).into_iter().for_each(|count| *count += 1);
    }

    fn run(&mut self, length: usize) {
        let (symbol, _, _) = symbol(length);
        self.others.get_mut(symbol - BYTES).into_iter().for_each(|count| *count += 1);
    }
}

/// Writes bits, the lowest first.
struct Writer {
    file: Vec<u8>,
    /// The position of the next byte in `file`, which is longer than that while a block is written.
    at: usize,
    pending: u64,
    /// The number of bits in `pending`.
    length: u32,
    bytes: [Code; BYTES],
    others: [Code; SYMBOLS - BYTES],
}

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut file = Vec::with_capacity(capacity);
        // The zlib header: a window of 32 KiB, no dictionary, fastest level.
        file.extend_from_slice(&[0x78, 0x01]);
        let (bytes, others) = ([Code::default(); BYTES], [Code::default(); SYMBOLS - BYTES]);
        Self { at: file.len(), file, pending: 0, length: 0, bytes, others }
    }

    fn block(&mut self, block: &[u8], before: Option<u8>, is_last: bool) {
        // Each symbol and each code length takes at most two bytes.
        self.file.resize(self.at + 2 * (block.len() + SYMBOLS + ORDER.len()) + 16, 0);
        let lengths = lengths(&Counts::of(block, before), LONGEST);
        self.header(&lengths, is_last);
        let codes = codes(&lengths);
        if let Some((bytes, others)) = codes.split_first_chunk() {
            self.bytes = *bytes;
            self.others.copy_from_slice(others);
        }
        walk(block, before, self);
        self.put(self.other(END));
        self.flush();
    }

    /// Writes the block header with the code lengths (RFC 1951, section 3.2.7).
    fn header(&mut self, lengths: &[u8], is_last: bool) {
        let used = lengths.iter().rposition(|length| *length > 0).map_or(0, |last| last + 1);
        // The only distance code follows the lengths: distance 1.
        let lengths: Vec<u8> = lengths.iter().take(used).copied().chain([1]).collect();
        let items = shortened(&lengths);
        let mut counts = [0; ORDER.len()];
        for item in &items {
            counts.get_mut(item.symbol).into_iter().for_each(|count| *count += 1);
        }
        let lengths = self::lengths(&counts, LONGEST_OF_LENGTHS);
        let codes = codes(&lengths);
        let ordered = ORDER.map(|symbol| lengths.get(symbol).copied().unwrap_or_default());
        let written = ordered.iter().rposition(|length| *length > 0).map_or(4, |last| (last + 1).max(4));
        let dynamic = 2;
        let numbers =
            [(u32::from(is_last), 1), (dynamic, 2), ((used - RUNS) as u32, 5), (0, 5), ((written - 4) as u32, 4)];
        numbers.into_iter().for_each(|(bits, length)| self.put(Code { bits, length }));
        self.flush();
        for length in ordered.into_iter().take(written) {
            self.put(Code { bits: length.into(), length: 3 });
            self.flush();
        }
        for item in items {
            self.put(codes.get(item.symbol).copied().unwrap_or_default());
            self.put(item.extra);
            self.flush();
        }
    }

    fn other(&self, symbol: usize) -> Code {
        self.others.get(symbol - BYTES).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn put(&mut self, code: Code) {
        self.pending |= u64::from(code.bits) << self.length;
        self.length += code.length;
    }

    /// Writes the whole bytes of `pending`. Fewer than 8 bits remain, so up to 56 more can be put.
    #[inline(always)]
    fn flush(&mut self) {
        if let Some(place) = self.file.get_mut(self.at..).and_then(|room| room.first_chunk_mut()) {
            *place = self.pending.to_le_bytes();
        }
        let whole = self.length / 8;
        self.at += whole as usize;
        self.pending >>= whole * 8;
        self.length %= 8;
    }

    fn finish(mut self, checksum: u32) -> Vec<u8> {
        self.length = self.length.next_multiple_of(8);
        self.flush();
        self.file.truncate(self.at);
        self.file.extend_from_slice(&checksum.to_be_bytes());
        self.file
    }
}

impl Receive for Writer {
    #[inline(always)]
    fn literals(&mut self, bytes: [u8; 6]) {
        let code = |byte: u8| self.bytes.get(usize::from(byte)).copied().unwrap_or_default();
        let [first @ .., a, b, c] = bytes.map(code);
        for [a, b, c] in [first, [a, b, c]] {
            let two = u64::from(a.bits) | u64::from(b.bits) << a.length;
            let three = two | u64::from(c.bits) << (a.length + b.length);
            self.pending |= three << self.length;
            self.length += a.length + b.length + c.length;
            self.flush();
        }
    }

    #[inline(always)]
    fn literal(&mut self, byte: u8) {
        self.put(self.bytes.get(usize::from(byte)).copied().unwrap_or_default());
        self.flush();
    }

    fn run(&mut self, length: usize) {
        let (symbol, bits, length) = symbol(length);
        self.put(self.other(symbol));
        // One bit more than the extra bits: the distance code. Distance 1, the only distance, has the code 0.
        self.put(Code { bits, length: length + 1 });
        self.flush();
    }
}

/// A code length, or a repetition of the one before, with its extra bits.
struct Item {
    symbol: usize,
    extra: Code,
}

/// Run-length encodes code lengths (RFC 1951, section 3.2.7).
fn shortened(lengths: &[u8]) -> Vec<Item> {
    let mut items = Vec::new();
    for same in lengths.chunk_by(|one, other| one == other) {
        let (length, mut left) = (same.first().copied().unwrap_or_default(), same.len());
        if length > 0 {
            items.push(Item { symbol: length.into(), extra: Code::default() });
            left -= 1;
        }
        while left > 0 {
            let (symbol, shortest, longest, length_of_extra) = match (length, left) {
                (0, 11..) => (18, 11, 138, 7),
                (0, 3..) => (17, 3, 10, 3),
                (1.., 3..) => (16, 3, 6, 2),
                _ => (length.into(), 1, 1, 0),
            };
            let part = left.min(longest);
            items.push(Item { symbol, extra: Code { bits: (part - shortest) as u32, length: length_of_extra } });
            left -= part;
        }
    }
    items
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Inflates with two independent decoders.
    fn inflated(stream: &[u8], length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        let found = libdeflater::Decompressor::new().zlib_decompress(stream, &mut data).unwrap();
        assert_eq!(found, length);
        assert_eq!(fdeflate::decompress_to_vec(stream).unwrap(), data);
        data
    }

    fn returns(data: &[u8]) {
        assert!(inflated(&compress(data), data.len()) == data, "{} bytes", data.len());
    }

    #[test]
    fn returns_runs_of_every_length_at_every_place() {
        for length in (0..300).chain([515, 516, 517, 518, 519, 776, 1032]) {
            for before in 1..9 {
                let data: Vec<u8> =
                    (1..=before).chain(std::iter::repeat_n(0, length)).chain((1..=7).rev().take(length % 8)).collect();
                returns(&data);
            }
        }
    }

    #[test]
    fn returns_data_around_the_length_of_a_block() {
        for length in [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 2, 2 * BLOCK, 2 * BLOCK + 9] {
            returns(&vec![7; length]);
            returns(&(0..length).map(|at| (at / 3 * at) as u8).collect::<Vec<_>>());
        }
    }

    /// Fibonacci frequencies give codes of every length up to the longest.
    #[test]
    fn returns_data_of_the_most_uneven_kind() {
        let (mut data, mut one, mut two) = (Vec::new(), 1, 1);
        for symbol in 0..22u8 {
            data.extend((0..one).flat_map(|at| [symbol, 100 + (at % 2) as u8]));
            (one, two) = (two, one + two);
        }
        returns(&data);
    }

    #[test]
    fn makes_a_run_of_a_plain_picture() {
        assert!(compress(&vec![0; 1 << 20]).len() < 1 << 11);
    }

    #[test]
    fn hardly_enlarges_noise() {
        let mut state = 1u32;
        let noise: Vec<u8> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        returns(&noise);
        assert!(compress(&noise).len() < noise.len() / 1000 * 1002);
    }

    proptest! {
        #[test]
        fn returns_whatever_it_was_given(
            parts in prop::collection::vec((any::<u8>(), 1..40usize, any::<bool>()), 1..400)
        ) {
            let data: Vec<u8> = parts
                .into_iter()
                .flat_map(|(byte, length, is_run)| {
                    (0..length).map(move |at| if is_run { byte } else { byte.wrapping_mul(at as u8) % 9 })
                })
                .collect();
            returns(&data);
        }
    }
}
