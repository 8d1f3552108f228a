//! The entries of the first directory of a TIFF (TIFF 6.0, section 2) or BigTIFF, read in place without allocation.

use crate::consumer::encode::EncodeError;

const CLASSIC: u16 = 42;
const BIG: u16 = 43;

pub(super) struct Directory<'a> {
    file: &'a [u8],
    pub is_little: bool,
    is_big: bool,
    entries: &'a [u8],
}

/// An entry: the type and number of its values, and the values or their offset.
struct Entry<'a> {
    kind: u16,
    count: u64,
    place: &'a [u8],
}

/// The values of a tag.
#[derive(Clone, Copy)]
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    size: usize,
    is_little: bool,
}

/// Whether a file starts like a TIFF or a BigTIFF.
pub(in crate::consumer::encode) fn is_tiff(file: &[u8]) -> bool {
    matches!(file, [b'I', b'I', 42 | 43, 0, _, ..] | [b'M', b'M', 0, 42 | 43, _, ..])
}

impl<'a> Directory<'a> {
    pub fn first(file: &'a [u8]) -> Result<Self, EncodeError> {
        Self::parse(file).ok_or_else(|| "the TIFF is cut off: its directory is missing".into())
    }

    fn parse(file: &'a [u8]) -> Option<Self> {
        let is_little = file.starts_with(b"II");
        let number = |bytes: &[u8]| number(bytes, is_little);
        let (start, is_big) = match number(file.get(2..4)?) {
            version if version == u64::from(CLASSIC) => (number(file.get(4..8)?), false),
            version if version == u64::from(BIG) && number(file.get(4..8)?) == number(&big_header(is_little)) => {
                (number(file.get(8..16)?), true)
            }
            _ => return None,
        };
        let rest = file.get(usize::try_from(start).ok()?..)?;
        let (count, rest) = rest.split_at_checked(if is_big { 8 } else { 2 })?;
        let length = usize::try_from(number(count)).ok()?.checked_mul(entry_size(is_big))?;
        Some(Self { file, is_little, is_big, entries: rest.get(..length)? })
    }

    fn entry(&self, tag: u16) -> Result<Option<Entry<'a>>, EncodeError> {
        let of_tag = |entry: &&[u8]| entry.get(..2).is_some_and(|bytes| self.number_of(bytes) == u64::from(tag));
        let mut found = self.entries.chunks_exact(entry_size(self.is_big)).filter(of_tag);
        let Some(entry) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(EncodeError::InvalidImage(format!("the TIFF has its tag {tag} twice")));
        }
        let (head, place) = entry.split_at_checked(if self.is_big { 12 } else { 8 }).unwrap_or_default();
        let part = |range: std::ops::Range<usize>| self.number_of(head.get(range).unwrap_or_default());
        Ok(Some(Entry { kind: part(2..4) as u16, count: part(4..head.len()), place }))
    }

    /// The bytes of an entry's values. They lie in the entry if they fit, otherwise at the offset in the entry.
    fn content(&self, tag: u16, entry: &Entry<'a>, size: usize) -> Result<&'a [u8], EncodeError> {
        let find = || {
            let length = usize::try_from(entry.count).ok()?.checked_mul(size)?;
            if length <= entry.place.len() {
                return entry.place.get(..length);
            }
            self.file.get(usize::try_from(self.number_of(entry.place)).ok()?..)?.get(..length)
        };
        find().ok_or_else(|| EncodeError::InvalidImage(format!("the values of the TIFF's tag {tag} are cut off")))
    }

    /// The values of a tag; `None` if the tag is absent.
    pub fn values(&self, tag: u16) -> Result<Option<Values<'a>>, EncodeError> {
        let Some(entry) = self.entry(tag)? else { return Ok(None) };
        // BYTE, SHORT, LONG and LONG8. No writer uses other types for the tags that are read.
        let size = match entry.kind {
            1 => 1,
            3 => 2,
            4 => 4,
            16 => 8,
            kind => return Err(EncodeError::InvalidImage(format!("the TIFF's tag {tag} has unsupported type {kind}"))),
        };
        Ok(Some(Values { bytes: self.content(tag, &entry, size)?, size, is_little: self.is_little }))
    }

    /// The value of a tag that must have exactly one; `None` if the tag is absent.
    pub fn number(&self, tag: u16) -> Result<Option<u64>, EncodeError> {
        match self.values(tag)? {
            None => Ok(None),
            Some(values) if values.len() == 1 => Ok(values.get(0)),
            Some(_) => Err(EncodeError::InvalidImage(format!("the TIFF's tag {tag} must have exactly one value"))),
        }
    }

    /// The content of a tag of bytes: BYTE, ASCII or UNDEFINED.
    pub fn bytes(&self, tag: u16) -> Result<Option<&'a [u8]>, EncodeError> {
        match self.entry(tag)? {
            Some(entry) if matches!(entry.kind, 1 | 2 | 7) => self.content(tag, &entry, 1).map(Some),
            _ => Ok(None),
        }
    }

    fn number_of(&self, bytes: &[u8]) -> u64 {
        number(bytes, self.is_little)
    }
}

impl<'a> Values<'a> {
    pub fn len(&self) -> usize {
        self.bytes.len() / self.size
    }

    pub fn get(&self, index: usize) -> Option<u64> {
        let start = index.checked_mul(self.size)?;
        Some(number(self.bytes.get(start..start.checked_add(self.size)?)?, self.is_little))
    }

    pub fn iter(self) -> impl Iterator<Item = u64> + Clone + use<'a> {
        self.bytes.chunks_exact(self.size).map(move |bytes| number(bytes, self.is_little))
    }
}

/// BigTIFF: offsets have 8 bytes, and two bytes are zero.
fn big_header(is_little: bool) -> [u8; 4] {
    if is_little { [8, 0, 0, 0] } else { [0, 8, 0, 0] }
}

fn entry_size(is_big: bool) -> usize {
    if is_big { 20 } else { 12 }
}

fn number(bytes: &[u8], is_little: bool) -> u64 {
    let more = |number, byte: &u8| number << 8 | u64::from(*byte);
    if is_little { bytes.iter().rev().fold(0, more) } else { bytes.iter().fold(0, more) }
}
