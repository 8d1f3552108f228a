//! First step: a message's body becomes an object key and the bytes of an image file. Pure. It
//! must never panic, whatever the body, nor make a key that lies outside the prefix; what it does
//! not accept it refuses, and never repairs.

use base64::Engine;
use base64::engine::{GeneralPurposeConfig, Simd};
use serde_json::error::Category;

use crate::message::Message;
use crate::reason::Reason;

/// The largest body that is taken, in bytes: RabbitMQ's own default limit since 4.0.
pub const MAX_BODY_BYTES: usize = 16 << 20;

/// S3's limit on a key, in bytes of UTF-8.
const MAX_KEY_BYTES: usize = 1024;

/// What a message asks for.
#[derive(Debug)]
pub struct Job {
    /// Where the image is to be stored.
    pub key: ObjectKey,
    /// The image file as the device made it.
    pub image: Vec<u8>,
}

/// A key in the bucket: prefix and image name. Only `decode` makes one, so it obeys the rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// The key as S3 takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A body that is no job. The texts repeat nothing of the body: they end in logs and in `/status`.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The body is larger than `MAX_BODY_BYTES`.
    #[error("the body has {0} bytes and at most {MAX_BODY_BYTES} are taken; publish a smaller image")]
    BodyTooLarge(usize),
    /// The body is not JSON.
    #[error(
        "the body is not JSON (line {line}, column {column}); expected \
         {{\"image\": \"<base64>\", \"image_metadata\": {{\"image_name\": \"<name>\"}}}}"
    )]
    InvalidJson {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// A field is absent.
    #[error("field {0} is missing; a message needs image and image_metadata.image_name")]
    MissingField(&'static str),
    /// A field is there twice, or has another type.
    #[error(
        "a field has the wrong type or is there twice (line {line}, column {column}); image and \
         image_metadata.image_name are text, image_metadata is an object"
    )]
    UnusableField {
        /// Line of the first error, from 1.
        line: usize,
        /// Column of the first error, from 1.
        column: usize,
    },
    /// The image is not base64.
    #[error("field image is not base64 in the standard alphabet, padded, without line breaks: {0}")]
    InvalidBase64(#[source] base64::DecodeError),
    /// The name can't be a key.
    #[error(
        "field image_metadata.image_name {0}; expected a relative path such as north/tile-7.png, at most \
         {MAX_KEY_BYTES} bytes with the prefix"
    )]
    InvalidName(&'static str),
}

impl DecodeError {
    /// The bounded reason.
    pub fn reason(&self) -> Reason {
        match self {
            DecodeError::BodyTooLarge(_) => Reason::BodyTooLarge,
            DecodeError::InvalidJson { .. } => Reason::InvalidJson,
            DecodeError::MissingField(_) | DecodeError::UnusableField { .. } => Reason::MissingField,
            DecodeError::InvalidBase64(_) => Reason::InvalidBase64,
            DecodeError::InvalidName(_) => Reason::InvalidName,
        }
    }
}

/// Reads a message. The image is base64 of RFC 4648 section 4: standard alphabet, padded, nothing
/// between the symbols.
///
/// # Errors
/// The body is too large, not JSON, lacks a field, or a field's value breaks its rule.
pub fn decode(body: &[u8], prefix: &str) -> Result<Job, DecodeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::BodyTooLarge(body.len()));
    }
    let message: Message<'_> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let key = object_key(prefix, &message.image_metadata.image_name)?;
    let image = Simd::standard(GeneralPurposeConfig::new())
        .decode(message.image.as_bytes())
        .map_err(DecodeError::InvalidBase64)?;
    Ok(Job { key, image })
}

/// serde's own text may repeat a value, which can be a whole image: only its position and the
/// names of our own fields are taken from it.
fn malformed(error: &serde_json::Error) -> DecodeError {
    let (line, column) = (error.line(), error.column());
    match error.classify() {
        Category::Syntax | Category::Eof | Category::Io => DecodeError::InvalidJson { line, column },
        Category::Data => {
            let text = error.to_string();
            let is_missing = |field: &&str| text.starts_with(&format!("missing field `{field}`"));
            match ["image", "image_metadata", "image_name"].into_iter().find(is_missing) {
                Some(field) => DecodeError::MissingField(field),
                None => DecodeError::UnusableField { line, column },
            }
        }
    }
}

/// One rule for every store, so that a pipeline can move from one to another: some of them keep
/// objects as files.
fn object_key(prefix: &str, name: &str) -> Result<ObjectKey, DecodeError> {
    let refused = |what| Err(DecodeError::InvalidName(what));
    if name.is_empty() {
        return refused("is empty");
    }
    if name.starts_with('/') {
        return refused("starts with a slash");
    }
    if name.chars().any(char::is_control) {
        return refused("has a control character");
    }
    for segment in name.split('/') {
        match segment {
            "" => return refused("has an empty segment"),
            "." | ".." => return refused("has a segment that is . or .."),
            _ => {}
        }
    }
    if prefix.len() + name.len() > MAX_KEY_BYTES {
        return refused("is too long");
    }
    Ok(ObjectKey(format!("{prefix}{name}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(body: &[u8]) -> Reason {
        decode(body, "").expect_err("refused").reason()
    }

    fn named(name: &str) -> Vec<u8> {
        serde_json::json!({"image": "AAAA", "image_metadata": {"image_name": name}}).to_string().into_bytes()
    }

    #[test]
    fn reads_what_devices_send_and_ignores_what_they_add() {
        let body =
            br#"{"device": 4, "image": "iVBORw==", "image_metadata": {"image_name": "north/7.png", "crowns": []}}"#;
        let job = decode(body, "tiles/").expect("valid");
        assert_eq!(job.key.as_str(), "tiles/north/7.png");
        assert_eq!(job.image, b"\x89PNG");
    }

    #[test]
    fn reads_escapes_that_some_encoders_write() {
        let body = br#"{"image": "\/\/\u002b\/", "image_metadata": {"image_name": "a\/\u00e9.png"}}"#;
        let job = decode(body, "").expect("valid");
        assert_eq!((job.key.as_str(), job.image.as_slice()), ("a/é.png", [0xff, 0xff, 0xbf].as_slice()));
    }

    #[test]
    fn names_the_reason_and_the_field() {
        for (body, expected, text) in [
            (&b"\xff"[..], Reason::InvalidJson, "not JSON (line 1, column 1)"),
            (b"", Reason::InvalidJson, "not JSON"),
            (br#"{"image": "AAAA""#, Reason::InvalidJson, "not JSON"),
            (br#"{"image": "AAAA", "image_metadata": {"image_name": "a"}} x"#, Reason::InvalidJson, "not JSON"),
            (br#"{"image": "AAAA"}"#, Reason::MissingField, "field image_metadata is missing"),
            (br#"{"image": "AAAA", "image_metadata": {}}"#, Reason::MissingField, "field image_name is missing"),
            (br#"{"image_metadata": {"image_name": "a"}}"#, Reason::MissingField, "field image is missing"),
            (br#"{"image": null, "image_metadata": {"image_name": "a"}}"#, Reason::MissingField, "wrong type"),
            (br#"{"image": "A*AA", "image_metadata": {"image_name": "a"}}"#, Reason::InvalidBase64, "offset 1"),
            (br#"{"image": "AAA", "image_metadata": {"image_name": "a"}}"#, Reason::InvalidBase64, "field image"),
            (br#"{"image": "AA\nAA", "image_metadata": {"image_name": "a"}}"#, Reason::InvalidBase64, "line breaks"),
        ] {
            let error = decode(body, "").expect_err("refused");
            assert_eq!(error.reason(), expected, "{error}");
            assert!(error.to_string().contains(text), "{error} has {text:?}");
        }
    }

    #[test]
    fn never_repeats_the_body() {
        let error = decode(br#""secret pixels""#, "").expect_err("refused");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn refuses_a_body_over_the_limit_before_it_is_parsed() {
        assert_eq!(reason(&vec![b' '; MAX_BODY_BYTES + 1]), Reason::BodyTooLarge);
        assert_eq!(reason(&vec![b' '; MAX_BODY_BYTES]), Reason::InvalidJson);
    }

    #[test]
    fn refuses_names_that_some_store_could_not_hold() {
        let long = "a".repeat(MAX_KEY_BYTES + 1);
        for name in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/..", "a\0b", "a\nb", "a\u{85}b", &long] {
            assert_eq!(reason(&named(name)), Reason::InvalidName, "{name:?}");
        }
        for name in ["a", "a b.png", "..a", "a..", "...", "a\\b", "é/ü.png", "a:b?c=d&e#f%2F..%2F"] {
            assert_eq!(decode(&named(name), "").expect("valid").key.as_str(), name);
        }
        let fits = "a".repeat(MAX_KEY_BYTES - 2);
        assert!(decode(&named(&fits), "p/").is_ok());
        assert!(decode(&named(&fits), "pp/").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..512)) {
            if let Err(error) = decode(&body, "p/") {
                prop_assert!(!error.to_string().is_empty());
            }
        }

        #[test]
        fn never_panics_on_nearly_messages(image in "\\PC*", name in "\\PC*", cut in 0usize..256) {
            let body = serde_json::json!({"image": image, "image_metadata": {"image_name": name}}).to_string();
            let whole = cut >= body.len();
            if let Err(error) = decode(&body.as_bytes()[..cut.min(body.len())], "p/") {
                prop_assert!(whole || error.reason() == Reason::InvalidJson, "{}", error);
            }
        }

        #[test]
        fn a_key_never_escapes_its_prefix(prefix in "([a-z.]{1,4}/)?", name in "[a-c./\\\\]{0,12}") {
            if let Ok(job) = decode(&named(&name), &prefix) {
                let key = job.key.as_str();
                prop_assert!(key.starts_with(&prefix) && key.len() <= MAX_KEY_BYTES);
                prop_assert_eq!(&key[prefix.len()..], name.as_str(), "nothing is rewritten");
                prop_assert!(key[prefix.len()..].split('/').all(|segment| !["", ".", ".."].contains(&segment)));
            }
        }

        #[test]
        fn gives_the_image_back(image in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = base64::engine::general_purpose::STANDARD.encode(&image);
            let body = serde_json::json!({"image": text, "image_metadata": {"image_name": "n"}}).to_string();
            prop_assert_eq!(decode(body.as_bytes(), "").expect("valid").image, image);
        }
    }
}
