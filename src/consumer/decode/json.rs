//! Reads the image, the name and the metadata from a JSON body, and skips all other fields without building them. Skips
//! `NaN` and `Infinity` too, as Python's `json.loads` does. Pure. Errors never contain text from the body, and nesting
//! is limited.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

use super::{DecodeError, Places};

mod constants;
mod depth;
mod not_json;

use constants::without_constants;
use depth::{MAX_DEPTH, nests_deeper};
use not_json::other_than_json;

/// The texts of the requested fields; `None` for absent fields.
#[derive(Debug, Default)]
pub struct Texts<'a> {
    pub image: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    /// In the order of the fields given to `Fields::new`.
    pub metadata: Vec<Option<Cow<'a, str>>>,
}

/// The requested fields, as a tree along their JSON pointers.
#[derive(Debug)]
pub struct Fields {
    root: Vec<Member>,
    metadata: usize,
}

/// A requested field, or an object that contains one.
#[derive(Debug)]
struct Member {
    key: String,
    /// The field's name in error texts.
    place: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    Object(Vec<Member>),
    Leaf(Leaf),
}

#[derive(Clone, Copy, Debug)]
enum Leaf {
    Image,
    Name,
    Metadata(usize),
}

impl Texts<'_> {
    /// The same texts, borrowed from `to`, which has the strings of `from` at the same offsets.
    fn moved<'to>(self, from: &[u8], to: &'to [u8]) -> Texts<'to> {
        let text = |text: Cow<'_, str>| {
            let begin = (text.as_ptr() as usize).wrapping_sub(from.as_ptr() as usize);
            let same = to.get(begin..begin.wrapping_add(text.len())).filter(|same| *same == text.as_bytes());
            match (&text, same.map(str::from_utf8)) {
                (Cow::Borrowed(_), Some(Ok(same))) => Cow::Borrowed(same),
                _ => Cow::Owned(text.into_owned()),
            }
        };
        Texts {
            image: self.image.map(text),
            name: self.name.map(text),
            metadata: self.metadata.into_iter().map(|value| value.map(text)).collect(),
        }
    }
}

impl Fields {
    /// `image_path` and `name_path` are JSON pointers; the metadata fields are siblings of the name. If one pointer
    /// is a prefix of the other, one of the two fields is never found.
    pub fn new(image_path: &str, name_path: &str, metadata: &[String], places: &Places) -> Self {
        let mut root = Vec::new();
        insert(&mut root, "", &segments(image_path), Leaf::Image, &places.image);
        insert(&mut root, "", &segments(name_path), Leaf::Name, &places.name);
        for (index, (field, place)) in metadata.iter().zip(&places.metadata).enumerate() {
            insert(&mut root, "", &segments(&beside(name_path, field)), Leaf::Metadata(index), place);
        }
        Self { root, metadata: metadata.len() }
    }

    /// # Errors
    /// The body is not JSON or nests too deep, or a requested field occurs twice or has the wrong type.
    pub fn read<'de>(&self, body: &'de [u8]) -> Result<Texts<'de>, DecodeError> {
        // A byte order mark is no JSON (RFC 8259, section 8.1), but .NET and Windows write it.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        if nests_deeper(body, MAX_DEPTH) {
            return Err(DecodeError::TooDeep { limit: MAX_DEPTH });
        }
        self.parse(body).or_else(|error| match without_constants(body) {
            Some(changed) => self.parse(&changed).map(|texts| texts.moved(&changed, body)),
            None => Err(error),
        })
    }

    fn parse<'de>(&self, body: &'de [u8]) -> Result<Texts<'de>, DecodeError> {
        let texts = Texts { metadata: vec![None; self.metadata], ..Texts::default() };
        let mut found = Found { texts, fault: None };
        let mut json = serde_json::Deserializer::from_slice(body);
        let object = Object { place: "the body", members: &self.root, found: &mut found };
        match object.deserialize(&mut json).and_then(|()| json.end()) {
            Ok(()) => Ok(found.texts),
            Err(error) => Err(found.refusal(&error, body)),
        }
    }
}

/// The pointer to a sibling of the field at `pointer`.
pub fn beside(pointer: &str, field: &str) -> String {
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    format!("{parent}/{field}")
}

/// The unescaped segments of a JSON pointer (RFC 6901).
fn segments(pointer: &str) -> Vec<String> {
    // This order matters: `~01` is the name `~1`.
    pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~")).collect()
}

fn insert(members: &mut Vec<Member>, above: &str, segments: &[String], leaf: Leaf, place: &str) {
    let [key, rest @ ..] = segments else { return };
    let path = format!("{above}/{key}");
    let index = members.iter().position(|member| member.key == *key);
    let index = index.unwrap_or_else(|| {
        let (place, value) = match rest {
            [] => (place.to_owned(), Value::Leaf(leaf)),
            _ => (format!("field {path}"), Value::Object(Vec::new())),
        };
        members.push(Member { key: key.clone(), place, value });
        members.len() - 1
    });
    if let Some(Member { value: Value::Object(below), .. }) = members.get_mut(index) {
        insert(below, &path, rest, leaf, place);
    }
}

/// The texts found so far, and the first fault: the field and its problem.
struct Found<'de> {
    texts: Texts<'de>,
    fault: Option<(String, &'static str)>,
}

impl<'de> Found<'de> {
    fn keep(&mut self, leaf: Leaf, text: Cow<'de, str>) {
        let slot = match leaf {
            Leaf::Image => Some(&mut self.texts.image),
            Leaf::Name => Some(&mut self.texts.name),
            Leaf::Metadata(index) => self.texts.metadata.get_mut(index),
        };
        if let Some(slot) = slot {
            *slot = Some(text);
        }
    }

    /// Keeps the first fault. It is the innermost field's; the objects around that field then fail, too.
    fn blame(&mut self, place: &str, problem: &'static str) {
        self.fault.get_or_insert_with(|| (place.to_owned(), problem));
    }

    /// Uses only the position from serde's error: its text may contain a value, which can be a whole image.
    fn refusal(self, error: &serde_json::Error, body: &[u8]) -> DecodeError {
        let (line, column) = (error.line(), error.column());
        match (error.classify(), self.fault) {
            (Category::Data, Some((field, problem))) => DecodeError::UnusableField { field, problem, line, column },
            _ => other_than_json(body).unwrap_or(DecodeError::InvalidJson { line, column }),
        }
    }
}

/// Reads an object that contains requested fields.
struct Object<'a, 'de> {
    place: &'a str,
    members: &'a [Member],
    found: &'a mut Found<'de>,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { place, members, found } = self;
        let read = deserializer.deserialize_map(Object { place, members, found: &mut *found });
        read.inspect_err(|_| found.blame(place, "is not an object"))
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = Vec::new();
        while let Some(member) = map.next_key_seed(Key(self.members))? {
            let Some(Member { key, place, value }) = member else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.contains(&key) {
                self.found.blame(place, "occurs twice");
                return Err(A::Error::custom("twice"));
            }
            seen.push(key);
            match value {
                Value::Object(members) => map.next_value_seed(Object { place, members, found: &mut *self.found })?,
                Value::Leaf(leaf) => {
                    let read = map.next_value_seed(Text { scalars: matches!(leaf, Leaf::Metadata(_)) });
                    let text = read.inspect_err(|_| self.found.blame(place, leaf.wrong()))?;
                    self.found.keep(*leaf, text);
                }
            }
        }
        Ok(())
    }
}

impl Leaf {
    fn wrong(self) -> &'static str {
        match self {
            Leaf::Image | Leaf::Name => "is not a string",
            Leaf::Metadata(_) => "is not a string, an integer of at most 64 bits, true or false",
        }
    }
}

/// Looks up a key among the requested members.
struct Key<'a>(&'a [Member]);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Member>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<&'a Member>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a field's name")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|member| member.key == key))
    }
}

/// Reads a string. With `scalars`, also integers, true and false, in their JSON form.
struct Text {
    scalars: bool,
}

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.scalars { deserializer.deserialize_any(self) } else { deserializer.deserialize_str(self) }
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }

    fn visit_bool<E>(self, is: bool) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(if is { "true" } else { "false" }))
    }
}
