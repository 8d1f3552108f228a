//! The partitions of a lossy WebP frame (RFC 6386, sections 7 and 9). The decoder allocates the size that a partition
//! claims, up to 16 MiB, before it finds that the data is missing.

/// Bytes before the first partition of a key frame: tag, start code, width and height (section 9.1).
const HEADER: usize = 10;

/// Whether a key frame has as much data as its partitions claim. The last partition claims none: it is the rest.
pub(super) fn are_complete(frame: &[u8]) -> bool {
    complete(frame).is_some()
}

fn complete(frame: &[u8]) -> Option<()> {
    // The upper 19 bits of the tag.
    let first = number(frame)? >> 5;
    let first_partition = frame.get(HEADER..)?.get(..first)?;
    let others = count(first_partition) - 1;
    let (sizes, mut data) = frame.get(HEADER + first..)?.split_at_checked(3 * others)?;
    for size in sizes.chunks_exact(3) {
        data = data.get(number(size)?..)?;
    }
    Some(())
}

/// The number in the first three bytes.
fn number(bytes: &[u8]) -> Option<usize> {
    let &[low, middle, high] = bytes.first_chunk()?;
    Some(u32::from_le_bytes([low, middle, high, 0]) as usize)
}

/// The number of partitions with coefficients: 1, 2, 4 or 8. The fields before it only have to be passed over
/// (sections 9.2 to 9.5 and 19.2).
fn count(first_partition: &[u8]) -> usize {
    let mut bits = Bits::new(first_partition);
    bits.skip(2); // color space, clamping
    if bits.flag() {
        let (updates_map, updates_features) = (bits.flag(), bits.flag());
        if updates_features {
            bits.skip(1); // mode
            bits.skip_optional(4, 8); // quantizers, with their signs
            bits.skip_optional(4, 7); // filter levels, with their signs
        }
        if updates_map {
            bits.skip_optional(3, 8); // probabilities
        }
    }
    bits.skip(10); // type, level and sharpness of the filter
    if bits.flag() && bits.flag() {
        bits.skip_optional(8, 7); // changes of the filter level, with their signs
    }
    1 << (usize::from(bits.flag()) << 1 | usize::from(bits.flag()))
}

/// The boolean decoder (section 7.3) for bits that are 0 or 1 with equal probability. Beyond its end, the data is 0.
struct Bits<'a> {
    data: std::slice::Iter<'a, u8>,
    value: u32,
    range: u32,
    shifted: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        let mut bits = Self { data: data.iter(), value: 0, range: 255, shifted: 0 };
        bits.value = bits.byte() << 8;
        bits.value |= bits.byte();
        bits
    }

    fn byte(&mut self) -> u32 {
        self.data.next().copied().unwrap_or(0).into()
    }

    fn flag(&mut self) -> bool {
        let split = 1 + ((self.range - 1) >> 1);
        let is_set = self.value >= split << 8;
        if is_set {
            self.range -= split;
            self.value -= split << 8;
        } else {
            self.range = split;
        }
        while self.range < 128 {
            self.value <<= 1;
            self.range <<= 1;
            self.shifted += 1;
            if self.shifted == 8 {
                self.shifted = 0;
                self.value |= self.byte();
            }
        }
        is_set
    }

    fn skip(&mut self, bits: usize) {
        for _ in 0..bits {
            self.flag();
        }
    }

    /// Fields of `bits` bits, each after a flag that says whether it is there.
    fn skip_optional(&mut self, fields: usize, bits: usize) {
        for _ in 0..fields {
            if self.flag() {
                self.skip(bits);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::consumer::encode::inspect;

    /// Bytes before the frame: RIFF, WEBP, and the chunk's head.
    const FRAME: usize = 20;

    /// Made by libvpx with 1, 2 and 4 token partitions, and by libwebp with segments.
    const SAMPLES: [(&[u8], usize); 4] = [
        (include_bytes!("samples/one-partition.webp"), 1),
        (include_bytes!("samples/two-partitions.webp"), 2),
        (include_bytes!("samples/four-partitions.webp"), 4),
        (include_bytes!("samples/segments.webp"), 1),
    ];

    fn first(file: &[u8]) -> usize {
        number(&file[FRAME..]).expect("a tag") >> 5
    }

    #[test]
    fn counts_the_partitions_of_other_encoders() {
        for (file, partitions) in SAMPLES {
            let start = FRAME + HEADER;
            assert_eq!(count(&file[start..start + first(file)]), partitions);
            assert!(are_complete(&file[FRAME..]));
            assert!(inspect(file, 10_000).is_ok());
        }
    }

    #[test]
    fn refuses_a_partition_that_claims_more_than_there_is() {
        for (file, partitions) in SAMPLES {
            let sizes = FRAME + HEADER + first(file);
            for at in (0..partitions - 1).map(|size| sizes + 3 * size + 2).chain([FRAME + 2]) {
                let mut file = file.to_vec();
                file[at] = 0xff;
                let refusal = inspect(&file, 10_000).expect_err("refused").to_string();
                assert!(refusal.contains("frame of the WebP is cut off"), "{refusal}");
            }
        }
    }
}
