//! The nesting of a JSON body, found before the body is parsed. Pure.

use memchr::memchr2;

/// The deepest nesting of arrays and objects that is allowed: the recursion limit of `serde_json`. `serde_json` does
/// not apply its limit to values that it skips, and allocates memory for each of their levels.
pub(super) const MAX_DEPTH: usize = 127;

/// Whether arrays and objects nest deeper than `limit`. Does not validate the JSON; the parser does.
pub(super) fn nests_deeper(body: &[u8], limit: usize) -> bool {
    let (mut rest, mut depth) = (body, 0usize);
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'[' | b'{' if depth == limit => return true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => rest = after_text(after),
            _ => {}
        }
    }
    false
}

/// The bytes after a string whose opening quote was read.
pub(super) fn after_text(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        let is_end = rest.get(at) == Some(&b'"');
        rest = rest.get(at + if is_end { 1 } else { 2 }..).unwrap_or_default();
        if is_end {
            return rest;
        }
    }
    &[]
}
