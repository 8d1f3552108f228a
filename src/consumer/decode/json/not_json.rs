//! Recognizes, by their first bytes, bodies that are not JSON. Pure.

use super::DecodeError;

/// Recognizes bodies that publishers send by mistake.
pub(super) fn other_than_json(body: &[u8]) -> Option<DecodeError> {
    let (found, advice) = match body {
        [] => ("is empty", "publish an object with the image in base64"),
        [0x1f, 0x8b, ..] => ("is compressed with gzip", "publish it uncompressed"),
        [0x00, 0x53, 0x75..=0x77, ..] => (
            "is a section of an AMQP 1.0 message (such as amqp-value)",
            "publish the same bytes as one amqp-data section, or with AMQP 0-9-1",
        ),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'{', ..] | [b'{', 0, ..] | [0, 0, 0, b'{', ..] => {
            ("is UTF-16 or UTF-32", "publish JSON in UTF-8")
        }
        [0x89, b'P', b'N', b'G', ..]
        | [0xff, 0xd8, 0xff, ..]
        | [b'I', b'I', b'*', 0, ..]
        | [b'M', b'M', 0, b'*', ..] => {
            ("is an image", "publish an object with the image in base64, or set message.encoding to Raw")
        }
        _ => return None,
    };
    Some(DecodeError::NotJson { found, advice })
}
