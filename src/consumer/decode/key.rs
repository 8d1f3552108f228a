//! Object keys: the template `destination.s3.keyTemplate`, and the rule for names and keys. Pure. A key never leaves
//! the prefix, and a name is never rewritten (property tests check both). Dates come from the message, not from the
//! clock, so a redelivered message gets the same key.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::DecodeError;

/// S3's limit for a key, in bytes of UTF-8.
pub const MAX_KEY_BYTES: usize = 1024;

/// A placeholder for the digest, to check a key before the digest is known.
const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

const FIELDS: &str = "{name}, {stem}, {digest}, {year}, {month}, {day}, {hour} and {metadata.FIELD}";

/// A key in the bucket, with its prefix. Only this module constructs it, so it always satisfies `obeys`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectKey(String);

impl ObjectKey {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A template that can't make a valid key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("destination.s3.keyTemplate {0}; it takes {FIELDS}")]
pub struct InvalidTemplate(pub(super) String);

#[derive(Debug)]
pub struct Template {
    /// `destination.s3.prefix`, which every key starts with.
    pub prefix: Arc<str>,
    /// The names of the `{metadata.FIELD}` fields, each once.
    pub metadata: Vec<String>,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Name,
    Stem,
    Digest,
    Year,
    Month,
    Day,
    Hour,
    Metadata(usize),
}

/// The values that a message supplies for its key.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The name of the image.
    pub name: &'a str,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// In the order of `Template::metadata`.
    pub metadata: &'a [Cow<'a, str>],
}

/// A key without the digest of the pixels.
#[derive(Debug)]
pub struct Pending {
    prefix: Arc<str>,
    /// The parts of the key before, between and after the digests.
    around: Vec<String>,
}

impl Template {
    /// # Errors
    /// A field is unknown, a brace is unmatched, or the template makes an invalid key whatever the values.
    pub fn parse(prefix: &str, template: &str) -> Result<Self, InvalidTemplate> {
        let mut parsed = Self { prefix: prefix.into(), pieces: Vec::new(), metadata: Vec::new() };
        let mut rest = template;
        while let Some(at) = rest.find(['{', '}']) {
            let (text, after) = rest.split_at(at);
            parsed.pieces.push(Piece::Text(text.to_owned()));
            let Some((field, after)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) else {
                return Err(InvalidTemplate("has an unmatched brace".to_owned()));
            };
            let piece = parsed.piece(field)?;
            parsed.pieces.push(piece);
            rest = after;
        }
        parsed.pieces.push(Piece::Text(rest.to_owned()));
        parsed.try_out()?;
        Ok(parsed)
    }

    /// Checks a key that a decoder process made: `None` if it breaks the rule.
    pub fn accept(&self, key: &str) -> Option<ObjectKey> {
        below(&self.prefix, key.strip_prefix(&*self.prefix)?).ok()
    }

    fn piece(&mut self, field: &str) -> Result<Piece, InvalidTemplate> {
        Ok(match field {
            "name" => Piece::Name,
            "stem" => Piece::Stem,
            "digest" => Piece::Digest,
            "year" => Piece::Year,
            "month" => Piece::Month,
            "day" => Piece::Day,
            "hour" => Piece::Hour,
            _ => match field.strip_prefix("metadata.").filter(|name| is_plain(name)) {
                Some(name) => Piece::Metadata(self.metadata_index(name)),
                None => return Err(InvalidTemplate(format!("has the unknown field {{{field}}}"))),
            },
        })
    }

    fn metadata_index(&mut self, name: &str) -> usize {
        self.metadata.iter().position(|known| known == name).unwrap_or_else(|| {
            self.metadata.push(name.to_owned());
            self.metadata.len() - 1
        })
    }

    /// Finds faults of the template itself, such as a slash at the end, which would make every message fail.
    fn try_out(&self) -> Result<(), InvalidTemplate> {
        let metadata = vec![Cow::Borrowed("m"); self.metadata.len()];
        let values = Values { name: "n", timestamp: Some(0), metadata: &metadata };
        match self.render(&values) {
            Err(DecodeError::InvalidName { problem, .. }) => {
                Err(InvalidTemplate(format!("makes a key that {problem}")))
            }
            _ => Ok(()),
        }
    }

    /// Fills in everything except the digest.
    ///
    /// # Errors
    /// The template has a date field and the timestamp is absent or beyond the year 9999; or the key breaks the rule
    /// with any digest.
    pub fn render(&self, values: &Values<'_>) -> Result<Pending, DecodeError> {
        let mut around = Vec::new();
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Name => text.push_str(values.name),
                Piece::Stem => text.push_str(stem(values.name)),
                Piece::Digest => around.push(std::mem::take(&mut text)),
                Piece::Year => text.push_str(&format!("{:04}", date(values.timestamp)?.year())),
                Piece::Month => text.push_str(&format!("{:02}", date(values.timestamp)?.month())),
                Piece::Day => text.push_str(&format!("{:02}", date(values.timestamp)?.day())),
                Piece::Hour => text.push_str(&format!("{:02}", date(values.timestamp)?.hour())),
                Piece::Metadata(index) => text.push_str(values.metadata.get(*index).map_or("", Cow::as_ref)),
            }
        }
        around.push(text);
        let pending = Pending { prefix: Arc::clone(&self.prefix), around };
        pending.key(NO_DIGEST)?;
        Ok(pending)
    }
}

impl Pending {
    /// # Errors
    /// The key breaks the rule. With a digest of 64 hexadecimal digits this can't happen.
    pub fn key(&self, digest: &str) -> Result<ObjectKey, DecodeError> {
        below(&self.prefix, &self.around.join(digest))
    }
}

/// Checks the part of a key after the prefix, and prepends the prefix.
fn below(prefix: &str, key: &str) -> Result<ObjectKey, DecodeError> {
    let refused = |problem| DecodeError::InvalidName { field: "the object key".to_owned(), problem };
    obeys(prefix, key).map_err(refused)?;
    Ok(ObjectKey(format!("{prefix}{key}")))
}

/// The rule for names, and for keys after their prefix. `Err` is the violation. The rule is the same for every object
/// store, so that a pipeline can move to another; some object stores keep objects as files.
pub fn obeys(prefix: &str, key: &str) -> Result<(), &'static str> {
    if key.is_empty() {
        return Err("is empty");
    }
    if key.starts_with('/') {
        return Err("starts with a slash");
    }
    if key.chars().any(char::is_control) {
        return Err("has a control character");
    }
    for segment in key.split('/') {
        match segment {
            "" => return Err("has an empty segment"),
            "." | ".." => return Err("has a segment that is . or .."),
            _ => {}
        }
    }
    if prefix.len() + key.len() > MAX_KEY_BYTES {
        return Err("is too long");
    }
    Ok(())
}

/// The name without its extension: without the last dot of the last segment and the text after it. A dot at the start
/// of the segment begins no extension.
fn stem(name: &str) -> &str {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    match file.rfind('.') {
        None | Some(0) => name,
        Some(dot) => name.get(..name.len() - file.len() + dot).unwrap_or(name),
    }
}

fn date(timestamp: Option<u64>) -> Result<DateTime, DecodeError> {
    let seconds = timestamp.ok_or_else(|| {
        DecodeError::MissingField("the AMQP property timestamp (dates in destination.s3.keyTemplate)".to_owned())
    })?;
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map(|timestamp| TimeZone::UTC.to_datetime(timestamp)).ok_or(DecodeError::UnusableTimestamp(seconds))
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
