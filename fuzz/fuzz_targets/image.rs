//! Image files: whatever the bytes, they are refused, or give the same PNG each time.
#![no_main]

use image_pipeline::consumer::encode::{encode, inspect};
use libfuzzer_sys::fuzz_target;

/// Larger images are slow and teach nothing more.
const MAX_BYTES_NEEDED: u64 = 4 << 20;

fuzz_target!(|file: &[u8]| {
    let Ok(header) = inspect(file) else { return };
    if header.bytes_needed() > MAX_BYTES_NEEDED {
        return;
    }
    let first = encode(file, &header).map(|png| png.bytes().clone()).ok();
    let second = encode(file, &header).map(|png| png.bytes().clone()).ok();
    assert_eq!(first, second);
});
