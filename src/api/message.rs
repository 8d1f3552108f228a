//! `spec.message`: the format of a message.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The format of a message: where it holds the image and the image's name. The default format is
/// `{"image": "<base64>", "image_metadata": {"image_name": "<name>"}}`; additional fields are ignored.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.namePath + '/').startsWith(self.imagePath + '/') && !(self.imagePath + '/').startsWith(self.namePath + '/')")
    .message("message.imagePath and message.namePath must be different fields, and neither may contain the other"))]
pub struct MessageFormat {
    /// Encoding of the message body. `Json`: the body is a JSON object that holds the image in base64.
    /// `Raw`: the body is the image file, and the header `image_name` holds the image's name. `Raw` bodies
    /// are a quarter smaller.
    #[serde(default)]
    pub encoding: MessageEncoding,
    /// JSON pointer (RFC 6901) to the image in the body, through objects only. Ignored if `encoding` is
    /// `Raw`.
    #[serde(default = "default_image_path")]
    #[schemars(length(min = 2, max = 256), regex(pattern = "^(/([^/~]|~[01])+)+$"))]
    pub image_path: String,
    /// JSON pointer (RFC 6901) to the image's name in the body, through objects only. Ignored if
    /// `encoding` is `Raw`.
    #[serde(default = "default_name_path")]
    #[schemars(length(min = 2, max = 256), regex(pattern = "^(/([^/~]|~[01])+)+$"))]
    pub name_path: String,
}

/// Encoding of the message body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum MessageEncoding {
    /// A JSON object with the image in base64.
    #[default]
    Json,
    /// The image file itself.
    Raw,
}

impl Default for MessageFormat {
    fn default() -> Self {
        Self { encoding: MessageEncoding::default(), image_path: default_image_path(), name_path: default_name_path() }
    }
}

fn default_image_path() -> String {
    "/image".to_owned()
}

fn default_name_path() -> String {
    "/image_metadata/image_name".to_owned()
}
