//! Amounts as users write them: durations, numbers of bytes, Kubernetes quantities, and their schemas.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A number of bytes, written `500`, `64Ki` or `16Mi`; from 1 to 999Mi.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bytes(u64);

/// The text is not a number of bytes.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a number of bytes from 1 to 999Mi, such as 64Ki or 16Mi")]
pub struct NotBytes(String);

/// A Kubernetes quantity: an integer, or text with a unit. Kubernetes' own type, `IntOrString`, holds 32 bits: too few
/// for bytes of memory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, strum::Display)]
#[serde(untagged)]
pub enum Quantity {
    #[strum(to_string = "{0}")]
    Number(i64),
    #[strum(to_string = "{0}")]
    Text(String),
}

const KIBI: u64 = 1 << 10;
const MEBI: u64 = 1 << 20;

impl Bytes {
    pub const fn mebi(count: u16) -> Self {
        Self(count as u64 * MEBI)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Bytes {
    type Error = NotBytes;

    fn try_from(text: String) -> Result<Self, NotBytes> {
        let (digits, unit, longest) = match text.as_bytes() {
            [digits @ .., b'M', b'i'] => (digits, MEBI, 3),
            [digits @ .., b'K', b'i'] => (digits, KIBI, 6),
            digits => (digits, 1, 9),
        };
        let number = std::str::from_utf8(digits).ok().filter(|digits| {
            digits.len() <= longest && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
        });
        let number: Option<u64> = number.and_then(|digits| digits.parse().ok());
        number.map(|number| Self(number * unit)).ok_or(NotBytes(text))
    }
}

impl From<Bytes> for String {
    fn from(Bytes(bytes): Bytes) -> Self {
        match bytes {
            _ if bytes % MEBI == 0 => format!("{}Mi", bytes / MEBI),
            _ if bytes % KIBI == 0 => format!("{}Ki", bytes / KIBI),
            _ => bytes.to_string(),
        }
    }
}

/// The schema of a number of bytes in `field`. A CEL rule instead of a pattern, so that the API server's message is
/// ours and not the regular expression.
pub fn bytes_schema(field: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": "self.matches('^([1-9][0-9]{0,8}|[1-9][0-9]{0,5}Ki|[1-9][0-9]{0,2}Mi)$')",
            "message": format!("{field} must be a number of bytes from 1 to 999Mi, such as 512Ki or 16Mi")
        }]
    })
}

/// The schema of a duration in `field`, in the form that Go prints and CEL's `duration()` parses: `500ms`, `2s`,
/// `1m30s`. A single rule checks form and limits: `duration()` on other text would fail with a message of its own.
pub fn duration_schema(field: &str, least: &str, most: &str) -> Schema {
    let is_one = "self.matches('^([0-9]{1,6}([.][0-9]{1,9})?(ms|s|m|h))+$')";
    json_schema!({
        "type": "string",
        "maxLength": 32,
        "x-kubernetes-validations": [{
            "rule": format!("{is_one} && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"),
            "message": format!("{field} must be a duration from {least} to {most}, such as 2s, 90s or 1m30s")
        }]
    })
}

/// The schema of an optional number of pods. Not nullable: the scale subresource requires an integer.
pub fn replicas_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": 1000 })
}

/// The schema of an optional number of messages. Not nullable.
pub fn messages_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": 1_000_000 })
}

/// The schema of Kubernetes quantities by resource name; plain numbers are allowed.
pub fn quantities_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": r"^([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?[0-9]+))?$"
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_written_as_users_write_them() {
        for (text, bytes) in [("1", 1), ("999999999", 999_999_999), ("64Ki", 65_536), ("16Mi", 16_777_216)] {
            let read = Bytes::try_from(text.to_owned()).unwrap();
            assert_eq!((read.get(), String::from(read).as_str()), (bytes, text));
        }
        assert_eq!(String::from(Bytes::try_from("2048Ki".to_owned()).unwrap()), "2Mi");
        for text in ["", "0", "01", "-1", "1.5Mi", "1000Mi", "1Gi", "Mi", "1 Mi", "16mi", "1000000000", "१"] {
            assert!(Bytes::try_from(text.to_owned()).is_err(), "{text:?}");
        }
    }
}
