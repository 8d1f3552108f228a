//! First step: a message becomes an image file and, once its pixels' digest is known, an object key.
//! Pure. It must never panic, whatever the message, nor make a key that lies outside the prefix; what
//! it does not accept it refuses, and never repairs.

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

/// What the broker delivered, as far as this step looks at it.
pub struct Incoming<'a> {
    /// The body.
    pub body: &'a Bytes,
    /// The AMQP timestamp, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The text of a header.
    pub header: &'a dyn Fn(&str) -> Option<String>,
}

/// Reads messages of one format. Made once for all of them.
#[derive(Debug)]
pub struct Decoder {
    format: Format,
    places: Places,
    template: Template,
    max_body_bytes: u64,
}

#[derive(Debug)]
enum Format {
    Json(Fields),
    Raw,
}

/// Where things are in a message, as errors say it.
#[derive(Debug)]
struct Places {
    image: String,
    name: String,
    metadata: Vec<String>,
}

/// What a message asks for.
#[derive(Debug)]
pub struct Job {
    /// The image file as the device made it.
    pub image: Bytes,
    key: Pending,
}

impl Job {
    /// Where the image is to be stored. `digest`: that of its pixels, 64 hexadecimal digits.
    ///
    /// # Errors
    /// The key breaks its rule. `decode` has seen to that: with such a digest it does not.
    pub fn key(&self, digest: &str) -> Result<ObjectKey, DecodeError> {
        self.key.key(digest)
    }
}

/// A message that is no job. The texts repeat nothing of the body: they end in logs and in `/status`.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The body is larger than `maxBodyBytes`.
    #[error(
        "the body has {bytes} bytes and source.rabbitmq.maxBodyBytes is {limit}; publish a smaller image, or raise it"
    )]
    BodyTooLarge {
        /// Bytes of the body.
        bytes: u64,
        /// Bytes that are taken.
        limit: u64,
    },
    /// The body is not JSON.
    #[error(
        "the body is not JSON (line {line}, column {column}); expected an object with the image in base64, or \
         message.encoding Raw if the body is the image"
    )]
    InvalidJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// The body is something else than JSON, by its first bytes.
    #[error("the body {found}; {advice}")]
    NotJson {
        /// What it is.
        found: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// Arrays and objects lie in each other too deep.
    #[error("the body nests arrays and objects deeper than {limit} levels; publish it flatter")]
    TooDeep {
        /// Levels that are taken.
        limit: usize,
    },
    /// A field, header or property is absent.
    #[error("{0} is missing; publish it, or say where it is")]
    MissingField(String),
    /// A field is there twice, or has another type.
    #[error("{field} {problem} (line {line}, column {column})")]
    UnusableField {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
        /// Line where it ends or breaks off, from 1.
        line: usize,
        /// Column where it ends or breaks off, from 1.
        column: usize,
    },
    /// A date is asked for, and the timestamp is none.
    #[error("the AMQP property timestamp is {0}; expected seconds since 1970, up to the year 9999")]
    UnusableTimestamp(u64),
    /// The image is not base64.
    #[error("{field} is not base64 in the standard alphabet, padded: {problem}")]
    InvalidBase64 {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The name can't be a key, or a part of it.
    #[error(
        "{field} {problem}; expected a relative path such as north/tile-7.png, at most {MAX_KEY_BYTES} bytes with the \
         prefix"
    )]
    InvalidName {
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl DecodeError {
    /// The bounded reason.
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
    /// A decoder of such messages.
    ///
    /// # Errors
    /// The key template has a field that there is not, or can make no key.
    pub fn new(message: &MessageFormat, s3: &S3Destination, max_body_bytes: u64) -> Result<Self, InvalidTemplate> {
        let template = Template::parse(&s3.prefix, &s3.key_template)?;
        let places = Places::new(message, &template.metadata)?;
        let format = match message.encoding {
            MessageEncoding::Json => {
                Format::Json(Fields::new(&message.image_path, &message.name_path, &template.metadata, &places))
            }
            MessageEncoding::Raw => Format::Raw,
        };
        Ok(Self { format, places, template, max_body_bytes })
    }

    /// Reads a message. An image in JSON is base64 of RFC 4648 section 4: standard alphabet, padded,
    /// nothing but white space between the symbols. A raw one is handed on without a copy.
    ///
    /// # Errors
    /// The body is too large or not JSON, something asked for is absent, or a value breaks its rule.
    pub fn decode(&self, incoming: &Incoming<'_>) -> Result<Job, DecodeError> {
        let Incoming { body, timestamp, header } = incoming;
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if bytes > self.max_body_bytes {
            return Err(DecodeError::BodyTooLarge { bytes, limit: self.max_body_bytes });
        }
        let header = |name: &str| header(name).map(Cow::Owned);
        let Texts { image, name, metadata } = match &self.format {
            Format::Json(fields) => fields.read(body)?,
            Format::Raw => Texts {
                image: None,
                name: header(NAME_HEADER),
                metadata: self.template.metadata.iter().map(|field| header(field)).collect(),
            },
        };
        let key = self.key(&there(name, &self.places.name)?, metadata, *timestamp)?;
        let image = match &self.format {
            Format::Json(_) => self.image(&there(image, &self.places.image)?)?,
            Format::Raw => Bytes::clone(body),
        };
        Ok(Job { image, key })
    }

    /// The headers that `decode` asks for.
    pub fn headers(&self) -> impl Iterator<Item = &str> {
        let of_raw = std::iter::once(NAME_HEADER).chain(self.template.metadata.iter().map(String::as_str));
        of_raw.filter(|_| matches!(self.format, Format::Raw))
    }

    /// A key that another process has made with the same settings, if it obeys the rule.
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
            // It could leave the place that the template gives it.
            if value.contains('/') { Err(refused(place, "has a slash")) } else { Ok(value) }
        });
        let metadata = values.collect::<Result<Vec<_>, _>>()?;
        self.template.render(&Values { name, timestamp, metadata: &metadata })
    }

    /// The key of an image that no publisher sent: its name stands for the metadata, too.
    ///
    /// # Errors
    /// The template makes no key of this name.
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
                return Err(InvalidTemplate(format!("has {{metadata.{field}}}, which is the name itself: {{name}}")));
            }
            if is_json && format!("{image_path}/").starts_with(&format!("{path}/")) {
                return Err(InvalidTemplate(format!("has {{metadata.{field}}}, which is the image or holds it")));
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
