//! Which message an image came by, as log lines and an object's metadata tell it: its id, and the trace
//! that it is part of. Pure. It must never let through what can't stand in a header or on a terminal,
//! nor say another thing of a message that comes again.

use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};

/// The header that names the trace, with AMQP as with HTTP.
pub const TRACEPARENT: &str = "traceparent";

/// What can't stand in a header as it is: everything but printable ASCII; the space, of which S3
/// makes one out of many; and `%`, so that it can be decoded.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What the W3C's version 00 is long, and later ones at least.
const TRACE_LENGTH: usize = 55;

/// Where an image comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    message_id: Option<&'a str>,
    traceparent: Option<&'a str>,
}

impl<'a> Origin<'a> {
    /// Of a message's AMQP id and its header `traceparent`, which is passed over if it has not the form.
    pub fn new(message_id: Option<&'a str>, traceparent: Option<&'a [u8]>) -> Self {
        Self { message_id, traceparent: traceparent.and_then(trace) }
    }

    /// The message id, any text of up to 255 bytes, in printable ASCII: percent-encoded, so at most three
    /// times as long.
    pub fn message_id(&self) -> Option<PercentEncode<'a>> {
        self.message_id.map(|id| utf8_percent_encode(id, HEADER))
    }

    /// The W3C's trace context: version, trace, parent and flags, 55 characters.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.traceparent
    }
}

/// By <https://www.w3.org/TR/trace-context/#traceparent-header>: of a later version the four fields that
/// are known are taken, whatever follows them.
fn trace(value: &[u8]) -> Option<&str> {
    let (known, more) = value.split_at_checked(TRACE_LENGTH)?;
    let known = std::str::from_utf8(known).ok()?;
    let (version, rest) = known.split_once('-')?;
    let (trace, rest) = rest.split_once('-')?;
    let (parent, flags) = rest.split_once('-')?;
    let has_form = is_hexadecimal(version, 2)
        && is_hexadecimal(trace, 32)
        && is_hexadecimal(parent, 16)
        && is_hexadecimal(flags, 2);
    let is_valid = version != "ff" && !is_zero(trace) && !is_zero(parent);
    let ends = more.is_empty() || version != "00" && more.starts_with(b"-");
    (has_form && is_valid && ends).then_some(known)
}

fn is_hexadecimal(field: &str, length: usize) -> bool {
    field.len() == length && field.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_zero(field: &str) -> bool {
    field.bytes().all(|digit| digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_message_id_of_any_text_is_printable_ascii() {
        for (id, expected) in [
            ("flight-7/0001", "flight-7/0001"),
            ("", ""),
            ("ä 100%\r\nx-evil: 1", "%C3%A4%20100%25%0D%0Ax-evil:%201"),
            ("\u{1b}[2J\u{9b}2J\u{202e}\u{7f}", "%1B[2J%C2%9B2J%E2%80%AE%7F"),
        ] {
            let told = Origin::new(Some(id), None).message_id().map(|id| id.to_string());
            assert_eq!(told.as_deref(), Some(expected));
        }
        let longest = Origin::new(Some(&"ä".repeat(127)), None).message_id().map(|id| id.to_string().len());
        assert_eq!(longest, Some(762));
        assert!(Origin::default().message_id().is_none());
    }

    #[test]
    fn a_trace_is_taken_in_its_form_alone() {
        let later = TRACE.replacen("00", "cc", 1);
        let with = |at: usize, text: &str| format!("{}{text}{}", &TRACE[..at], &TRACE[at + text.len()..]);
        for (value, taken) in [
            (TRACE.to_owned(), Some(TRACE)),
            (later.clone(), Some(later.as_str())),
            (format!("{later}-what-will-be\r\n"), Some(later.as_str())),
            (format!("{later}x"), None),
            (format!("{TRACE}-more"), None),
            (format!("{TRACE}\n"), None),
            (format!(" {TRACE}"), None),
            (TRACE[..54].to_owned(), None),
            (String::new(), None),
            (TRACE.to_uppercase(), None),
            (with(0, "ff"), None),
            (with(0, "0x"), None),
            (with(3, &"0".repeat(32)), None),
            (with(36, &"0".repeat(16)), None),
            (with(2, "_"), None),
            (with(20, "-"), None),
            (with(40, "g"), None),
            (with(53, "\r\n"), None),
            // As many bytes and fewer characters; and one that ends within a character.
            (with(3, "ää"), None),
            (format!("{}ä", &TRACE[..54]), None),
        ] {
            assert_eq!(Origin::new(None, Some(value.as_bytes())).traceparent(), taken, "{value:?}");
        }
        assert_eq!(Origin::new(None, Some(&[0xff; 55])).traceparent(), None);
        assert_eq!(Origin::new(None, None).traceparent(), None);
    }
}
