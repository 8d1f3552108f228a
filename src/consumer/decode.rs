//! Decodes a message to an image file and an object key, which may need the digest of the pixels. Pure. Never panics,
//! and never makes a key outside the prefix (property tests and fuzzing check both). Invalid values are refused, not
//! repaired.

use std::borrow::Cow;

use bytes::Bytes;

use crate::api::destination::S3Destination;
use crate::api::message::{MessageEncoding, MessageFormat};
use crate::message::NAME_HEADER;
use crate::reason::Reason;

mod json;
mod key;
#[cfg(test)]
mod tests;
mod text;

pub use key::{InvalidTemplate, ObjectKey};

use json::{Fields, Texts, beside};
use key::{MAX_KEY_BYTES, Pending, Template, Values, obeys};

/// The parts of a delivery that decoding needs.
pub struct Incoming<'a> {
    pub body: &'a Bytes,
    /// The AMQP property `timestamp`, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// Returns a header's value as text; `None` if the message has no such header.
    pub header: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

/// Decodes messages of one format. Made once per pipeline, and used for every message.
#[derive(Debug)]
pub struct Decoder {
    format: BodyFormat,
    places: Places,
    template: Template,
    max_body_bytes: u64,
}

#[derive(Debug)]
enum BodyFormat {
    Json(Fields),
    Raw,
}

/// The places of the image, the name and the metadata in a message, as error texts name them.
#[derive(Debug)]
struct Places {
    image: String,
    name: String,
    metadata: Vec<String>,
}

/// A decoded message.
#[derive(Debug)]
pub struct Job {
    /// The image file, unchanged.
    pub image: Bytes,
    key: Pending,
}

impl Job {
    /// The object key. `digest`: the digest of the pixels, 64 hexadecimal digits.
    ///
    /// # Errors
    /// The key is invalid. With a digest of 64 hexadecimal digits this can't happen: `decode` has checked the key.
    pub fn key(&self, digest: &str) -> Result<ObjectKey, DecodeError> {
        self.key.key(digest)
    }
}

/// Why a message can't be decoded. The texts appear in logs and in `/status`, so they contain nothing of the body.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    #[error(
        "the body has {bytes} bytes, but source.rabbitmq.maxBodyBytes is {limit}; raise it, or publish a smaller image"
    )]
    BodyTooLarge {
        bytes: u64,
        /// `maxBodyBytes`.
        limit: u64,
    },
    #[error(
        "the body is not JSON (line {line}, column {column}); publish an object with the image in base64, or set \
         message.encoding to Raw if the body is the image"
    )]
    InvalidJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// The body is not JSON. Its first bytes show what it is.
    #[error("the body {found}; {advice}")]
    NotJson {
        /// What the body is: completes "the body …".
        found: &'static str,
        /// What the publisher can do.
        advice: &'static str,
    },
    #[error("the body nests arrays and objects deeper than {limit} levels; publish it with less nesting")]
    TooDeep {
        /// Levels that are allowed.
        limit: usize,
    },
    /// A field, header or property that is required.
    #[error("{0} is missing; add it to the message, or correct the pipeline's spec")]
    MissingField(String),
    /// A field that occurs twice, or has the wrong type.
    #[error("{field} {problem} (line {line}, column {column})")]
    UnusableField {
        field: String,
        /// Completes "{field} …".
        problem: &'static str,
        /// Line where the field ends or breaks off, from 1.
        line: usize,
        /// Column where the field ends or breaks off, from 1.
        column: usize,
    },
    /// The key template has a date field, and the timestamp is out of range.
    #[error("the AMQP property timestamp is {0}; expected seconds since 1970, up to the year 9999")]
    UnusableTimestamp(u64),
    #[error("{field} is not base64 (RFC 4648): {problem}")]
    InvalidBase64 { field: String, problem: String },
    /// The name, a metadata value or the whole key breaks the rule for keys.
    #[error(
        "{field} {problem}; expected a relative path such as north/tile-7.png, at most {MAX_KEY_BYTES} bytes with the \
         prefix"
    )]
    InvalidName {
        field: String,
        /// Completes "{field} …".
        problem: &'static str,
    },
}

impl DecodeError {
    pub fn reason(&self) -> Reason {
        match self {
            DecodeError::BodyTooLarge { .. } => Reason::BodyTooLarge,
            DecodeError::InvalidJson { .. } | DecodeError::NotJson { .. } | DecodeError::TooDeep { .. } => {
                Reason::InvalidJson
            }
            DecodeError::MissingField(_) | DecodeError::UnusableField { .. } | DecodeError::UnusableTimestamp(_) => {
                Reason::MissingField
            }
            DecodeError::InvalidBase64 { .. } => Reason::InvalidBase64,
            DecodeError::InvalidName { .. } => Reason::InvalidName,
        }
    }
}

impl Decoder {
    /// # Errors
    /// The key template has an unknown field, or makes no valid key.
    pub fn new(message: &MessageFormat, s3: &S3Destination, max_body_bytes: u64) -> Result<Self, InvalidTemplate> {
        let template = Template::parse(&s3.prefix, &s3.key_template)?;
        let places = Places::new(message, &template.metadata)?;
        let format = match message.encoding {
            MessageEncoding::Json => {
                BodyFormat::Json(Fields::new(&message.image_path, &message.name_path, &template.metadata, &places))
            }
            MessageEncoding::Raw => BodyFormat::Raw,
        };
        Ok(Self { format, places, template, max_body_bytes })
    }

    /// Decodes a message. In JSON, the image is base64 (RFC 4648) in any of the usual forms. A raw body is the image
    /// itself, and is not copied.
    ///
    /// # Errors
    /// The body is too large or not JSON, a required field or header is missing, or a value breaks its rule.
    pub fn decode(&self, incoming: &Incoming<'_>) -> Result<Job, DecodeError> {
        let Incoming { body, timestamp, header } = incoming;
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if bytes > self.max_body_bytes {
            return Err(DecodeError::BodyTooLarge { bytes, limit: self.max_body_bytes });
        }
        let header = |name: &str| header(name).map(Cow::Owned);
        let Texts { image, name, metadata } = match &self.format {
            BodyFormat::Json(fields) => fields.read(body)?,
            BodyFormat::Raw => Texts {
                image: None,
                name: header(NAME_HEADER),
                metadata: self.template.metadata.iter().map(|field| header(field)).collect(),
            },
        };
        let key = self.key(&there(name, &self.places.name)?, metadata, *timestamp)?;
        let image = match &self.format {
            BodyFormat::Json(_) => self.image(&there(image, &self.places.image)?)?,
            BodyFormat::Raw => Bytes::clone(body),
        };
        Ok(Job { image, key })
    }

    /// The names of the headers that `decode` reads.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let of_raw = std::iter::once(NAME_HEADER).chain(self.template.metadata.iter().map(String::as_str));
        of_raw.filter(|_| matches!(self.format, BodyFormat::Raw))
    }

    /// Checks a key that a decoder process made with the same settings.
    pub fn accept(&self, key: &str) -> Option<ObjectKey> {
        self.template.accept(key)
    }

    fn key(
        &self,
        name: &str,
        metadata: Vec<Option<Cow<'_, str>>>,
        timestamp: Option<u64>,
    ) -> Result<Pending, DecodeError> {
        let refused = |place: &str, problem| DecodeError::InvalidName { field: place.to_owned(), problem };
        obeys(&self.template.prefix, name).map_err(|problem| refused(&self.places.name, problem))?;
        let values = metadata.into_iter().zip(&self.places.metadata).map(|(value, place)| {
            let value = there(value, place)?;
            // With a slash, the value would add segments to the key that the template does not have.
            if value.contains('/') { Err(refused(place, "has a slash")) } else { Ok(value) }
        });
        let metadata = values.collect::<Result<Vec<_>, _>>()?;
        self.template.render(&Values { name, timestamp, metadata: &metadata })
    }

    /// The key for a test image, which no publisher sent. The name is also the value of all metadata.
    ///
    /// # Errors
    /// The template makes no valid key with this name.
    pub fn sample_key(&self, name: &str, timestamp: u64, digest: &str) -> Result<ObjectKey, DecodeError> {
        let metadata = vec![Cow::Borrowed(name); self.template.metadata.len()];
        self.template.render(&Values { name, timestamp: Some(timestamp), metadata: &metadata })?.key(digest)
    }

    fn image(&self, text: &str) -> Result<Bytes, DecodeError> {
        let refused = |problem| DecodeError::InvalidBase64 { field: self.places.image.clone(), problem };
        text::decode(text.as_bytes()).map(Bytes::from).map_err(refused)
    }
}

impl Places {
    fn new(message: &MessageFormat, metadata: &[String]) -> Result<Self, InvalidTemplate> {
        let is_json = message.encoding == MessageEncoding::Json;
        let (image_path, name_path) = (&message.image_path, &message.name_path);
        let of_metadata = |field: &String| {
            let path = beside(name_path, field);
            let is_name = if is_json { path == *name_path } else { field == NAME_HEADER };
            if is_name {
                return Err(InvalidTemplate(format!("has {{metadata.{field}}}, which is the name: use {{name}}")));
            }
            if is_json && format!("{image_path}/").starts_with(&format!("{path}/")) {
                return Err(InvalidTemplate(format!("has {{metadata.{field}}}, which is the image or contains it")));
            }
            let place = if is_json { format!("field {path}") } else { format!("header {field}") };
            Ok(format!("{place} ({{metadata.{field}}} in destination.s3.keyTemplate)"))
        };
        Ok(Self {
            image: format!("field {image_path} (message.imagePath)"),
            name: match message.encoding {
                MessageEncoding::Json => format!("field {name_path} (message.namePath)"),
                MessageEncoding::Raw => format!("header {NAME_HEADER}"),
            },
            metadata: metadata.iter().map(of_metadata).collect::<Result<_, _>>()?,
        })
    }
}

fn there<'a>(value: Option<Cow<'a, str>>, place: &str) -> Result<Cow<'a, str>, DecodeError> {
    value.ok_or_else(|| DecodeError::MissingField(place.to_owned()))
}
