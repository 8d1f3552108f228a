//! Splits filtered pixels into single bytes and runs of one byte.

/// The shortest and longest match lengths of DEFLATE (RFC 1951, section 3.2.5).
pub(super) const SHORTEST_RUN: usize = 3;
pub(super) const LONGEST_RUN: usize = 258;

/// Multiplied by a byte: that byte in all eight bytes of a word.
const BYTEWISE: u64 = 0x0101_0101_0101_0101;
const HIGHEST_BITS: u64 = 0x80 * BYTEWISE;

/// Receives the literals and runs of a block.
pub(super) trait Receive {
    fn literals(&mut self, bytes: [u8; 6]);
    fn literal(&mut self, byte: u8);
    /// A run of 3 to 258 bytes that all repeat the byte before the run.
    fn run(&mut self, length: usize);
}

/// Splits a block into literals and runs. Reads eight bytes and advances by six, so that a run that starts in those
/// six bytes shows its first three bytes.
#[inline(always)]
pub(super) fn walk(block: &[u8], before: Option<u8>, receiver: &mut impl Receive) {
    let mut rest = block;
    let Some(mut last) = before.or_else(|| rest.split_off_first().copied().inspect(|byte| receiver.literal(*byte)))
    else {
        return;
    };
    while let Some(window) = rest.first_chunk::<8>() {
        let repeated = repeated(u64::from_le_bytes(*window), last);
        let runs = repeated & (repeated >> 8) & (repeated >> 16);
        if runs == 0 {
            let [a, b, c, d, e, f, _, _] = *window;
            receiver.literals([a, b, c, d, e, f]);
            last = f;
            rest = rest.get(6..).unwrap_or_default();
            continue;
        }
        for byte in window.iter().take(runs.trailing_zeros() as usize / 8) {
            receiver.literal(*byte);
            last = *byte;
            rest.split_off_first();
        }
        let length = repetitions(rest, last);
        rest = rest.get(length..).unwrap_or_default();
        put_run(length, last, receiver);
    }
    rest.iter().for_each(|byte| receiver.literal(*byte));
}

/// Sets the highest bit of each byte that equals the byte before it.
#[inline]
fn repeated(word: u64, before: u8) -> u64 {
    let difference = word ^ (word << 8 | u64::from(before));
    !(((difference & !HIGHEST_BITS) + !HIGHEST_BITS) | difference) & HIGHEST_BITS
}

/// The number of bytes at the start of `data` that equal `byte`.
#[inline]
fn repetitions(data: &[u8], byte: u8) -> usize {
    let (words, _) = data.as_chunks::<8>();
    let same = words.iter().take_while(|word| u64::from_le_bytes(**word) == u64::from(byte) * BYTEWISE).count() * 8;
    let rest = data.get(same..).unwrap_or_default();
    same + rest.iter().take_while(|other| **other == byte).count()
}

fn put_run(mut length: usize, byte: u8, receiver: &mut impl Receive) {
    while length >= SHORTEST_RUN {
        let part = length.min(LONGEST_RUN);
        receiver.run(part);
        length -= part;
    }
    (0..length).for_each(|_| receiver.literal(byte));
}
