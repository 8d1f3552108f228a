//! The message that an image came from, for log lines and object metadata: its AMQP message id and its trace context.
//! Pure: a redelivered message has the same values. Both values are printable ASCII, safe in an HTTP header and on a
//! terminal.

use percent_encoding::{AsciiSet, CONTROLS, PercentEncode, utf8_percent_encode};

/// The AMQP header of the trace context, named as in HTTP.
pub const TRACEPARENT: &str = "traceparent";

/// Characters to percent-encode in a header: everything but printable ASCII; the space, because S3 collapses
/// consecutive spaces; and `%`, so that the value can be decoded.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Length of a `traceparent` of version 00, and minimum length of later versions.
const TRACE_LENGTH: usize = 55;

#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    message_id: Option<&'a str>,
    traceparent: Option<&'a str>,
}

impl<'a> Origin<'a> {
    /// `traceparent` is ignored if it is malformed.
    pub fn new(message_id: Option<&'a str>, traceparent: Option<&'a [u8]>) -> Self {
        Self { message_id, traceparent: traceparent.and_then(trace) }
    }

    /// The message id, percent-encoded to printable ASCII: up to three times as long as the AMQP short string of up to
    /// 255 bytes.
    pub fn message_id(&self) -> Option<PercentEncode<'a>> {
        self.message_id.map(|id| utf8_percent_encode(id, HEADER))
    }

    /// W3C trace context: version, trace id, parent id and flags, 55 characters.
    pub fn traceparent(&self) -> Option<&'a str> {
        self.traceparent
    }
}

/// Parses <https://www.w3.org/TR/trace-context/#traceparent-header>. Of a later version, keeps the four fields of
/// version 00 and ignores the rest.
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
            let encoded = Origin::new(Some(id), None).message_id().map(|id| id.to_string());
            assert_eq!(encoded.as_deref(), Some(expected));
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
            // The same number of bytes with fewer characters, and a cut within a character.
            (with(3, "ää"), None),
            (format!("{}ä", &TRACE[..54]), None),
        ] {
            assert_eq!(Origin::new(None, Some(value.as_bytes())).traceparent(), taken, "{value:?}");
        }
        assert_eq!(Origin::new(None, Some(&[0xff; 55])).traceparent(), None);
        assert_eq!(Origin::new(None, None).traceparent(), None);
    }
}
