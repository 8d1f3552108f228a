//! Decodes an image's base64 (RFC 4648, section 4). Line breaks and tabs are allowed anywhere, and spaces next to
//! them: Python's `base64.encodebytes`, Android's `Base64.DEFAULT` and MIME encoders write them. Pure. Errors do not
//! contain the text.

use base64::DecodeError;
use base64::Engine;
use base64::engine::{GeneralPurposeConfig, Simd};

/// Characters per step when the text has white space. Must be a multiple of four.
const PART: usize = 4096;

/// Decodes, or describes the fault. First tries without looking for white space, which is the fast and usual case.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let engine = Simd::standard(GeneralPurposeConfig::new());
    let error = match engine.decode(text) {
        Ok(image) => return Ok(image),
        Err(_) if has_spaces_alone(text) => return Err(SPACES.to_owned()),
        Err(_) if text.iter().any(u8::is_ascii_whitespace) => match without_space(&engine, text) {
            Ok(image) => return Ok(image),
            Err(error) => error,
        },
        Err(error) => error,
    };
    Err(mistake(text).map_or_else(|| error.to_string(), str::to_owned))
}

const SPACES: &str = "it has spaces between its characters: URL decoding turns + into a space; publish the text \
                      without URL decoding";

/// Whether there are spaces between characters without a line break or tab. Such a space may have been a `+`:
/// skipping it would change the image.
fn has_spaces_alone(text: &[u8]) -> bool {
    let runs = text.trim_ascii().chunk_by(|one, other| one.is_ascii_whitespace() == other.is_ascii_whitespace());
    runs.into_iter().any(|run| run.iter().all(|byte| *byte == b' '))
}

/// Decodes in steps, to avoid a second copy of the text.
fn without_space(engine: &Simd, text: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut symbols = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).peekable();
    let (mut image, mut part, mut before) = (Vec::with_capacity(text.len() / 4 * 3 + 3), Vec::with_capacity(PART), 0);
    while symbols.peek().is_some() {
        part.clear();
        part.extend(symbols.by_ref().take(PART));
        // Padding is allowed only at the end of the text.
        if symbols.peek().is_some() && part.ends_with(b"=") {
            return Err(DecodeError::InvalidPadding);
        }
        engine.decode_vec(&part, &mut image).map_err(|error| match error {
            DecodeError::InvalidByte(offset, byte) => DecodeError::InvalidByte(before + offset, byte),
            error => error,
        })?;
        before += part.len();
    }
    Ok(image)
}

/// Recognizes common mistakes.
fn mistake(text: &[u8]) -> Option<&'static str> {
    let text = text.trim_ascii_start();
    if text.starts_with(b"b'") || text.starts_with(b"b\"") {
        return Some("the text is a Python bytes literal, b'…'; publish base64.b64encode(image).decode()");
    }
    if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:")) {
        return Some("the text is a data URI; publish only the part after the comma");
    }
    let is_url_safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_=".contains(byte) || byte.is_ascii_whitespace();
    if text.iter().all(is_url_safe) && text.iter().any(|byte| b"-_".contains(byte)) {
        return Some("the text uses the URL-safe alphabet (- and _); publish it in the standard alphabet (+ and /)");
    }
    None
}
