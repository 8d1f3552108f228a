//! The default message format: one JSON object with the image in base64 and the image's name. `publish` writes it;
//! `consumer/decode` reads the same fields through the default paths of `spec.message`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// Header with the image's name if the body is the image file (`spec.message.encoding: Raw`).
pub const NAME_HEADER: &str = "image_name";

/// A message body: `{"image": "<base64>", "image_metadata": {"image_name": "<name>"}}`. Additional fields are ignored.
#[derive(Debug, Deserialize, Serialize)]
pub struct Message<'a> {
    /// The image file in base64 (RFC 4648, standard alphabet, padded).
    #[serde(borrow)]
    pub image: Cow<'a, str>,
    #[serde(borrow)]
    pub image_metadata: ImageMetadata<'a>,
}

/// The part of a message that names the image.
#[derive(Debug, Deserialize, Serialize)]
pub struct ImageMetadata<'a> {
    /// The image's name. With the default key template it is the object key, after the prefix.
    #[serde(borrow)]
    pub image_name: Cow<'a, str>,
}
