//! Any bytes as a PNG file: refused, or written and read again with the same pixels, in every encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use png_recode::{Encoding, Picture, header, read, write};

/// Larger pictures would only take longer.
const MOST: usize = 1 << 20;

fuzz_target!(|file: &[u8]| {
    let Ok(header) = header(file) else { return };
    if header.layout.row_bytes(header.layout.width).saturating_mul(header.layout.height as usize) > MOST {
        return;
    }
    for encoding in [Encoding::Fast, Encoding::Balanced, Encoding::Smallest] {
        let Ok(first) = read(file, header) else { return };
        let Picture { layout, palette, transparency, profile, pixels } = &first.picture;
        let expected = (*layout, palette.clone(), transparency.clone(), profile.clone(), pixels.clone());
        let written = write(first.picture, encoding).expect("every picture can be written");
        let again = read(&written, png_recode::header(&written).expect("a header")).expect("our own file").picture;
        let found = (again.layout, again.palette, again.transparency, again.profile, again.pixels);
        assert!(found == expected, "{encoding:?} changes the picture");
    }
});
