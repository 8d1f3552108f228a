//! The constants `NaN`, `Infinity` and `-Infinity`, which are not JSON. Python's `json.dumps` writes them, for example
//! for an unknown position. Pure.

use super::depth::after_text;

const CONSTANTS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// The body with an array in place of each constant, so that the constant can be skipped, but is no value of a
/// requested field. Offsets stay the same. `None`: the body has no constant outside strings.
pub(super) fn without_constants(body: &[u8]) -> Option<Vec<u8>> {
    let mut changed = None;
    let mut rest = body;
    while let [byte, after @ ..] = rest {
        let constant = CONSTANTS.iter().find(|constant| rest.starts_with(constant));
        rest = match (byte, constant) {
            (b'"', _) => after_text(after),
            (_, Some(constant)) => {
                let begin = body.len() - rest.len();
                let changed = changed.get_or_insert_with(|| body.to_vec());
                if let Some([first, middle @ .., last]) = changed.get_mut(begin..begin + constant.len()) {
                    (*first, *last) = (b'[', b']');
                    middle.fill(b' ');
                }
                rest.get(constant.len()..).unwrap_or_default()
            }
            _ => after,
        };
    }
    changed
}
