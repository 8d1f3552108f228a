//! `spec.message`: how a message carries an image and its name. Its doc comments are what `kubectl
//! explain` shows. It must hold no behaviour beyond defaults.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a message carries its image and the image's name. By default as
/// `{"image": "<base64>", "image_metadata": {"image_name": "<name>"}}`; further fields are allowed.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.namePath + '/').startsWith(self.imagePath + '/') && !(self.imagePath + '/').startsWith(self.namePath + '/')")
    .message("message.imagePath and message.namePath must be two different fields, neither within the other"))]
pub struct MessageFormat {
    /// `Json`: the body is a JSON object with the image in base64. `Raw`: the body is the image
    /// file, and its name is in the header `image_name`; a quarter less to send.
    #[serde(default)]
    pub encoding: MessageEncoding,
    /// Where in the JSON object the image is, as a JSON pointer (RFC 6901) through objects. Not
    /// used with `Raw`.
    #[serde(default = "default_image_path")]
    #[schemars(length(min = 2, max = 256), regex(pattern = "^(/([^/~]|~[01])+)+$"))]
    pub image_path: String,
    /// Where in the JSON object the image's name is, as a JSON pointer through objects. Not used
    /// with `Raw`.
    #[serde(default = "default_name_path")]
    #[schemars(length(min = 2, max = 256), regex(pattern = "^(/([^/~]|~[01])+)+$"))]
    pub name_path: String,
}

/// What a message's body is.
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
