//! Recognizes unsupported formats by their first bytes, to name them in the refusal.

use super::EncodeError;

/// The error for a file of another format.
pub(super) fn refusal(file: &[u8]) -> EncodeError {
    let found = match file {
        [] => return EncodeError::Empty,
        [0x00, 0x53, 0x75..=0x77, ..] => {
            let found = "a section of an AMQP 1.0 message (such as amqp-value): publish the same bytes as one \
                         amqp-data section, or with AMQP 0-9-1";
            return EncodeError::UnknownFormat(found.to_owned());
        }
        [b'{', ..] => {
            return EncodeError::UnknownFormat("JSON: check message.encoding and message.imagePath".to_owned());
        }
        _ if is_base64(file) => {
            return EncodeError::UnknownFormat("still base64 after decoding: publish it encoded once".to_owned());
        }
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f' | b's', ..] => "an AVIF",
        [_, _, _, _, b'f', b't', b'y', b'p', b'h', b'e', ..] => "a HEIC",
        [_, _, _, _, b'f', b't', b'y', b'p', b'm', b'i' | b's', b'f', b'1', ..] => "a HEIF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "a video (MP4)",
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL",
        [0xff, 0x4f, 0xff, 0x51, ..] | [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] => "a JPEG 2000",
        [0, 0, 1, 0, ..] => "an ICO",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'P', b'F' | b'f', b'\n' | b'\r' | b' ', ..] => "a PFM",
        [0x1f, 0x8b, ..] => "compressed with gzip",
        _ => return EncodeError::UnknownFormat("of an unknown format".to_owned()),
    };
    EncodeError::UnsupportedImage(format!("it is {found}; publish it as a PNG, JPEG, TIFF, WebP, BMP, GIF or PNM"))
}

/// Whether a file is the base64 of an image of a known format.
fn is_base64(file: &[u8]) -> bool {
    // The first bytes of PNG, JPEG, TIFF, WebP, BMP and GIF.
    let starts: [&[u8]; 7] = [b"iVBORw0KGgo", b"/9j/", b"SUkqA", b"TU0AK", b"UklGR", b"Qk0", b"R0lGOD"];
    starts.iter().any(|start| file.starts_with(start))
}
