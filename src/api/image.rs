//! `spec.image`: how an image is converted to PNG.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an image is converted to the PNG that is stored. Input formats are PNG, JPEG, TIFF, WebP, BMP, GIF and PNM. The
/// decoded pixels are stored unchanged. An unsupported variant of a format, such as a TIFF with a near
/// infrared band, is handled according to `failures.policy`, with the reason `UnsupportedImage`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ImageSettings {
    /// Trade-off between CPU time and file size. `Fast` uses the least CPU time. `Balanced` uses more and
    /// writes files about as small as common PNG libraries do by default. `Smallest` uses the most CPU time
    /// and writes the smallest files.
    pub encoding: PngEncoding,
    /// Which images are encoded again. `Always` encodes every image. `WhenNotPng` stores an image that is
    /// already a PNG unchanged, after decoding it completely and verifying all of its checksums. A PNG with
    /// a wrong checksum that no pixel depends on, or with data behind its end, is encoded again.
    pub reencode: Reencode,
    /// Maximum number of pixels (width × height) of an image, checked against the image's header before
    /// decoding. An image with more pixels is handled according to `failures.policy`.
    #[schemars(range(min = 1, max = 1000000000))]
    pub max_pixels: u32,
}

/// Trade-off between CPU time and file size of a PNG.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PngEncoding {
    /// The least CPU time.
    #[default]
    Fast,
    /// Smaller files, more CPU time.
    Balanced,
    /// The smallest files, the most CPU time.
    Smallest,
}

/// Which images are encoded again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Reencode {
    /// All images.
    #[default]
    Always,
    /// Images other than PNG. A PNG is verified and stored unchanged.
    WhenNotPng,
}

impl Default for ImageSettings {
    fn default() -> Self {
        Self { encoding: PngEncoding::default(), reencode: Reencode::default(), max_pixels: 50_000_000 }
    }
}
