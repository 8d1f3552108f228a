//! Image files: whatever the bytes, they are refused, or give the same PNG each time.
#![no_main]

use bytes::Bytes;
use image_pipeline::api::image::ImageSettings;
use image_pipeline::consumer::encode::{encode, inspect};
use libfuzzer_sys::fuzz_target;

/// Larger images are slow and teach nothing more.
const MAX_BYTES_NEEDED: u64 = 4 << 20;

fuzz_target!(|file: &[u8]| {
    let settings = ImageSettings::default();
    let Ok(header) = inspect(file, settings.max_pixels) else { return };
    if header.bytes_needed() > MAX_BYTES_NEEDED {
        return;
    }
    let png = || encode(Bytes::copy_from_slice(file), &header, &settings).map(|png| png.bytes().clone()).ok();
    assert_eq!(png(), png());
});
