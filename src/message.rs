//! The format that devices publish by default: one JSON object with the image in base64 and its name.
//! `publish` writes it; `consumer/decode` finds the same fields by the paths of `spec.message`, which
//! lead to them by default. It must know nothing of images or brokers.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The header that names the image where the body is the image itself.
pub const NAME_HEADER: &str = "image_name";

/// A message body: `{"image": "<base64>", "image_metadata": {"image_name": "<key>"}}`. Devices may
/// add further fields, which are ignored.
#[derive(Debug, Deserialize, Serialize)]
pub struct Message<'a> {
    /// The image file in base64 (RFC 4648, standard alphabet, padded).
    #[serde(borrow)]
    pub image: Cow<'a, str>,
    /// What the device knows about the image.
    #[serde(borrow)]
    pub image_metadata: ImageMetadata<'a>,
}

/// The part of a message that names the image.
#[derive(Debug, Deserialize, Serialize)]
pub struct ImageMetadata<'a> {
    /// The object's key in the bucket, after the prefix.
    #[serde(borrow)]
    pub image_name: Cow<'a, str>,
}
