//! Checks the chunks of a WebP file before the decoder reads them. The decoder allocates the size that a frame or a
//! profile claims before it finds that the frame does not fit the picture or that the data is missing. Pure.
//! Unknown chunks are left to the decoder.

mod partitions;

/// Bytes of an ANMF chunk's header, which precedes the chunks of the frame.
const FRAME_HEADER: usize = 16;

/// Checks that every lossy frame (VP8) fits the picture, and that neither its partitions nor the profile are cut off.
pub(super) fn check(file: &[u8], width: u32, height: u32) -> Result<(), &'static str> {
    let chunks = file.get(12..).unwrap_or_default();
    // A file without VP8X has one frame, whose size is the picture's. What follows the frame is not read.
    match chunks.split_first_chunk() {
        Some((b"VP8X", _)) => check_chunks(chunks, width, height, Level::File),
        Some((b"VP8 ", after)) => check_frame(data(after).1, width, height),
        _ => Ok(()),
    }
}

/// Where a chunk is: in the file, or in a frame of an animation.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Level {
    File,
    Frame,
}

/// Does not descend into an ANMF chunk within an ANMF chunk: the decoder ignores it, and a file could nest any
/// number.
fn check_chunks(mut rest: &[u8], width: u32, height: u32, level: Level) -> Result<(), &'static str> {
    while let Some((kind, after)) = rest.split_first_chunk::<4>() {
        let (length, data) = data(after);
        match kind {
            b"ANMF" if level == Level::File => {
                check_chunks(data.get(FRAME_HEADER..).unwrap_or_default(), width, height, Level::Frame)?;
            }
            b"VP8 " => check_frame(data, width, height)?,
            b"ICCP" if data.len() < length => return Err("the profile of the WebP is cut off"),
            _ => {}
        }
        rest = after.get(4..).and_then(|after| after.get(length.next_multiple_of(2)..)).unwrap_or_default();
    }
    Ok(())
}

/// The length that a chunk claims, and its data: as much as the file has of it.
fn data(after_kind: &[u8]) -> (usize, &[u8]) {
    let Some((length, data)) = after_kind.split_first_chunk() else { return (0, &[]) };
    let length = u32::from_le_bytes(*length) as usize;
    (length, data.get(..length).unwrap_or(data))
}

fn check_frame(frame: &[u8], width: u32, height: u32) -> Result<(), &'static str> {
    let (across, down) = size(frame).ok_or("a frame of the WebP is cut off")?;
    if across > width || down > height {
        return Err("a frame of the WebP is larger than the picture");
    }
    if frame.first().is_some_and(|tag| tag & 1 == 1) {
        return Err("a frame of the WebP is no key frame");
    }
    if partitions::are_complete(frame) { Ok(()) } else { Err("a frame of the WebP is cut off") }
}

/// Width and height of a lossy frame (RFC 6386, section 9.1).
fn size(frame: &[u8]) -> Option<(u32, u32)> {
    let &[a, b, c, d] = frame.get(6..)?.first_chunk()?;
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some((side(a, b), side(c, d)))
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use crate::consumer::encode::inspect;

    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).expect("small").to_le_bytes();
        [kind, &length[..], data, &[0][..data.len() % 2]].concat()
    }

    /// A frame's header without its data.
    fn frame(width: u16, height: u16) -> Vec<u8> {
        let start = [0x10, 0, 0, 0x9d, 0x01, 0x2a];
        chunk(b"VP8 ", &[&start[..], &width.to_le_bytes(), &height.to_le_bytes()].concat())
    }

    /// A picture of 3 × 2.
    fn file(chunks: &[Vec<u8>]) -> Vec<u8> {
        let chunks = [chunk(b"VP8X", &[0, 0, 0, 0, 2, 0, 0, 1, 0, 0]), chunks.concat()].concat();
        chunk(b"RIFF", &[b"WEBP", &chunks[..]].concat())
    }

    fn is_refused(file: &[u8], why: &str) -> bool {
        check(file, 3, 2).is_err_and(|refusal| refusal.contains(why))
    }

    #[test]
    fn refuses_a_frame_that_is_larger_than_the_picture() {
        let animated = |frame: &[u8]| chunk(b"ANMF", &[&[0; FRAME_HEADER], frame].concat());
        let alpha = chunk(b"ALPH", b"odd");
        assert!(inspect(&file(&[frame(3, 2)]), 1000).is_ok());
        let refusal = inspect(&file(&[frame(4, 2)]), 1000).expect_err("refused").to_string();
        assert!(refusal.contains("larger than the picture"), "{refusal}");
        for (width, height) in [(4, 2), (3, 3), (16_383, 16_383)] {
            let frame = frame(width, height);
            let chunks = [
                vec![frame.clone()],
                vec![alpha.clone(), frame.clone()],
                vec![animated(&frame)],
                vec![animated(&[&alpha[..], &frame].concat())],
            ];
            for chunks in chunks {
                assert!(is_refused(&file(&chunks), "larger than the picture"), "{chunks:?}");
            }
        }
        // Each side has 14 bits; the two bits above are the scale.
        assert!(inspect(&file(&[frame(0x4003, 0xc002)]), 1000).is_ok());
    }

    #[test]
    fn follows_no_depth() {
        let mut nested = Vec::new();
        for level in (0..200_000_u32).rev() {
            nested.extend(b"ANMF");
            nested.extend((FRAME_HEADER as u32 + level * 24).to_le_bytes());
            nested.extend([0; FRAME_HEADER]);
        }
        assert!(check(&file(&[frame(3, 2), nested]), 3, 2).is_ok());
    }

    #[test]
    fn refuses_what_is_longer_than_the_file() {
        let mut profile = chunk(b"ICCP", b"four");
        assert!(inspect(&file(&[frame(3, 2), profile.clone()]), 1000).is_ok());
        profile.splice(4..8, u32::MAX.to_le_bytes());
        assert!(is_refused(&file(&[frame(3, 2), profile]), "profile of the WebP is cut off"));
        assert!(is_refused(&file(&[chunk(b"VP8 ", b"short")]), "frame of the WebP is cut off"));
    }

    /// The decoder reads the partitions of such a frame, and then refuses it. They begin elsewhere (RFC 6386, 9.1).
    #[test]
    fn refuses_a_frame_that_needs_another_before_it() {
        let mut frame = frame(3, 2);
        frame[8] |= 1;
        assert!(is_refused(&file(&[frame]), "no key frame"));
    }

    #[test]
    fn a_file_that_is_cut_off_is_left_to_the_decoder() {
        let whole = file(&[chunk(b"EXIF", b"odd"), frame(3, 2)]);
        assert!((0..whole.len() - 4).all(|length| !is_refused(&whole[..length], "larger")));
        assert!(check(b"RIFF\0\0\0\0WEBPVP8X", 1, 1).is_ok());
    }
}
