//! `spec.image`: how an image becomes a PNG. Its doc comments are what `kubectl explain` shows. It
//! must hold no behaviour beyond defaults.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an image becomes the PNG that is stored. PNG, JPEG, TIFF, WebP and BMP are read; the pixels stored are those
/// decoded. An image of a kind that is not read, such as a TIFF with a near infrared band, is parked as
/// `UnsupportedImage`, with what was found.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSettings {
    /// What the PNG is made for: `Fast`, the least CPU; `Balanced`, a file as small as common
    /// libraries write by default, for more CPU; `Smallest`, the smallest file, for much more.
    pub encoding: PngEncoding,
    /// `Always`: every image is encoded anew. `WhenNotPng`: an image that is a PNG already is
    /// decoded to the last pixel, all checksums included, and then stored as it came.
    pub reencode: Reencode,
    /// The most pixels (width × height) an image may have, judged from its header before any pixel
    /// is decoded; one with more can never succeed.
    #[schemars(range(min = 1, max = 1000000000))]
    pub max_pixels: u32,
}

/// What a PNG is made for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PngEncoding {
    /// The least CPU.
    #[default]
    Fast,
    /// A smaller file for more CPU.
    Balanced,
    /// The smallest file for much more CPU.
    Smallest,
}

/// Which images are encoded anew.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Reencode {
    /// All.
    #[default]
    Always,
    /// Those that are no PNG; a PNG is verified and stored as it came.
    WhenNotPng,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { encoding: PngEncoding::default(), reencode: Reencode::default(), max_pixels: 50_000_000 }
    }
}
