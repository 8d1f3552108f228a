//! Sample images as publishers send them: every supported kind, full of noise, always the same for the same number.
//! Uses none of the product's code.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{DynamicImage, ImageBuffer, ImageFormat, Rgba};
use serde_json::json;

/// An image file and its name.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The name in the message.
    pub name: String,
    pub file: Vec<u8>,
}

impl Sample {
    /// Body of the message that carries the image.
    pub fn body(&self) -> Vec<u8> {
        let image = STANDARD.encode(&self.file);
        serde_json::to_vec(&json!({ "image": image, "image_metadata": { "image_name": self.name } })).expect("JSON")
    }

    /// The pixels, as the format's decoder returns them.
    pub fn pixels(&self) -> DynamicImage {
        image::load_from_memory(&self.file).expect("an image of our own")
    }
}

/// This number of images, of all kinds in turn.
pub fn samples(count: u32) -> Vec<Sample> {
    (0..count).map(sample).collect()
}

/// The sample image with this number.
pub fn sample(number: u32) -> Sample {
    let deep = noise(number);
    let (extension, format, image): (_, _, DynamicImage) = match number % 15 {
        0 => ("png", ImageFormat::Png, deep.to_rgb8().into()),
        1 => ("jpg", ImageFormat::Jpeg, deep.to_rgb8().into()),
        2 => ("tif", ImageFormat::Tiff, deep.to_rgb8().into()),
        3 => ("webp", ImageFormat::WebP, deep.to_rgb8().into()),
        4 => ("bmp", ImageFormat::Bmp, deep.to_rgb8().into()),
        5 => ("png", ImageFormat::Png, deep.to_rgba8().into()),
        6 => ("webp", ImageFormat::WebP, deep.to_rgba8().into()),
        7 => ("tif", ImageFormat::Tiff, deep.to_rgba8().into()),
        8 => ("png", ImageFormat::Png, deep.to_luma8().into()),
        9 => ("jpg", ImageFormat::Jpeg, deep.to_luma8().into()),
        10 => ("png", ImageFormat::Png, deep.to_luma_alpha8().into()),
        11 => ("png", ImageFormat::Png, deep.to_luma16().into()),
        12 => ("tif", ImageFormat::Tiff, deep.to_luma16().into()),
        13 => ("png", ImageFormat::Png, deep.to_rgb16().into()),
        _ => ("png", ImageFormat::Png, deep),
    };
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).expect("an encoder for the format");
    Sample { name: format!("tile-{number:04}.{extension}"), file: file.into_inner() }
}

/// 16-bit RGBA noise, from which all other kinds are made.
fn noise(seed: u32) -> DynamicImage {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 48) as u16
    };
    let (width, height) = (40 + seed % 7, 30 + seed % 5);
    let pixels = ImageBuffer::from_fn(width, height, |_, _| Rgba([next(), next(), next(), next()]));
    DynamicImage::ImageRgba16(pixels)
}
