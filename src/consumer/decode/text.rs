//! Decodes an image's base64 (RFC 4648) in the forms that publishers write: the standard or the URL-safe alphabet, with
//! or without padding, with line breaks, and after the prefix of a data URI. Refuses a text whose bytes are not certain.
//! Pure. Errors do not contain the text.

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig, Simd};

/// Symbols per step of a text that is not in the usual form. Must be a multiple of four.
const PART: usize = 4096;

/// Decodes, or describes the fault. First tries the usual form, which is the fastest: the standard alphabet, padded,
/// without white space.
pub(super) fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let usual = Simd::standard(GeneralPurposeConfig::new());
    usual.decode(text).or_else(|_| other_form(text))
}

const BYTES_LITERAL: &str = "the text is a Python bytes literal, b'…'; publish base64.b64encode(image).decode()";

const DATA_URI: &str = "the text is a data URI without base64; publish the image as base64";

const SPACES: &str = "it has spaces between its characters: URL decoding turns + into a space; publish the text \
                      without URL decoding";

const TWO_ALPHABETS: &str = "it mixes the standard alphabet (+ and /) and the URL-safe alphabet (- and _); publish it \
                             in one of them";

const CUT: &str = "its last group has only one symbol: the text is cut off, or has a symbol too many";

fn other_form(text: &[u8]) -> Result<Vec<u8>, String> {
    let start = text.trim_ascii_start();
    if start.starts_with(b"b'") || start.starts_with(b"b\"") {
        return Err(BYTES_LITERAL.to_owned());
    }
    let data = without_prefix(start)?.trim_ascii_start();
    if has_spaces_alone(data) {
        return Err(SPACES.to_owned());
    }
    let is_symbol = |byte: &u8| *byte != b'=' && !byte.is_ascii_whitespace();
    let length = data.iter().rposition(is_symbol).map_or(0, |last| last + 1);
    let symbols = data.get(..length).unwrap_or_default();
    check(symbols, text.len() - data.len())?;
    decode_parts(symbols)
}

/// The text after the prefix of a data URI (RFC 2397), such as `data:image/png;base64,`.
fn without_prefix(text: &[u8]) -> Result<&[u8], String> {
    if !text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"data:")) {
        return Ok(text);
    }
    let Some((prefix, data)) =
        text.iter().position(|byte| *byte == b',').and_then(|comma| text.split_at_checked(comma))
    else {
        return Err(DATA_URI.to_owned());
    };
    let mark = prefix.len().checked_sub(7).and_then(|start| prefix.get(start..));
    if !mark.is_some_and(|mark| mark.eq_ignore_ascii_case(b";base64")) {
        return Err(DATA_URI.to_owned());
    }
    Ok(data.get(1..).unwrap_or_default())
}

/// Whether there are spaces between characters without a line break or tab. Such a space may have been a `+`:
/// skipping it would change the image.
fn has_spaces_alone(text: &[u8]) -> bool {
    let runs = text.trim_ascii().chunk_by(|one, other| one.is_ascii_whitespace() == other.is_ascii_whitespace());
    runs.into_iter().any(|run| run.iter().all(|byte| *byte == b' '))
}

/// Checks every character. `before`: offset of the symbols in the text.
fn check(symbols: &[u8], before: usize) -> Result<(), String> {
    let (mut count, mut is_standard, mut is_url_safe) = (0usize, false, false);
    for (offset, byte) in symbols.iter().enumerate() {
        let offset = before + offset;
        match byte {
            b'+' | b'/' => is_standard = true,
            b'-' | b'_' => is_url_safe = true,
            b'=' => {
                return Err(format!("it continues after its padding (offset {offset}); publish one image per field"));
            }
            byte if byte.is_ascii_whitespace() => continue,
            byte if byte.is_ascii_alphanumeric() => {}
            byte => {
                return Err(format!(
                    "it has a byte outside the alphabet (0x{byte:02x}, offset {offset}); publish the text unchanged"
                ));
            }
        }
        count += 1;
    }
    match (is_standard && is_url_safe, count % 4) {
        (true, _) => Err(TWO_ALPHABETS.to_owned()),
        (false, 1) => Err(CUT.to_owned()),
        (false, _) => Ok(()),
    }
}

/// Decodes in steps, to avoid a second copy of the text.
fn decode_parts(symbols: &[u8]) -> Result<Vec<u8>, String> {
    // Like Python, ignores bits of the last symbol that belong to no byte.
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    let engine = Simd::standard(config);
    let standard = |byte: u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => byte,
    };
    let mut symbols = symbols.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).map(standard).peekable();
    let (mut image, mut part) = (Vec::with_capacity(symbols.size_hint().1.unwrap_or(0) / 4 * 3 + 3), Vec::new());
    while symbols.peek().is_some() {
        part.clear();
        part.extend(symbols.by_ref().take(PART));
        engine.decode_vec(&part, &mut image).map_err(|error| error.to_string())?;
    }
    Ok(image)
}
