//! The entries of a TIFF's first directory (TIFF 6.0, section 2), read in place without allocation.

use super::tag;
use crate::consumer::encode::EncodeError;

pub(super) struct Directory<'a> {
    file: &'a [u8],
    is_little: bool,
    entries: &'a [[u8; 12]],
}

impl<'a> Directory<'a> {
    pub fn first(file: &'a [u8]) -> Option<Self> {
        let mut directory = Self { file, is_little: file.starts_with(b"II"), entries: &[] };
        let start = directory.long(*file.get(4..)?.first_chunk()?) as usize;
        let (count, rest) = file.get(start..)?.split_first_chunk()?;
        let entries = rest.get(..usize::from(directory.short(*count)) * 12)?;
        directory.entries = entries.as_chunks().0;
        Some(directory)
    }

    /// The tags in `tag::ALL` that the directory has, with their number of values.
    pub fn read(&self) -> impl Iterator<Item = (u16, u32)> {
        let tags =
            self.entries.iter().map(|&[a, b, _, _, c, d, e, f, ..]| (self.short([a, b]), self.long([c, d, e, f])));
        tags.filter(|(tag, _)| tag::ALL.contains(tag))
    }

    /// The value of a tag that must have exactly one; `None` if the tag is absent.
    pub fn number(&self, tag: u16) -> Result<Option<u32>, EncodeError> {
        match self.values(tag)? {
            None => Ok(None),
            Some(mut values) => match (values.next(), values.next()) {
                (Some(value), None) => Ok(Some(value)),
                _ => Err(EncodeError::InvalidImage(format!("the TIFF's tag {tag} must have exactly one value"))),
            },
        }
    }

    /// The values of a tag. Up to 4 bytes lie in the entry itself, more at the offset in the entry.
    pub fn values(&self, tag: u16) -> Result<Option<impl Iterator<Item = u32> + Clone>, EncodeError> {
        let Some([_, _, a, b, c, d, e, f, place @ ..]) =
            self.entries.iter().find(|[a, b, ..]| self.short([*a, *b]) == tag)
        else {
            return Ok(None);
        };
        // BYTE, SHORT and LONG. The decoder accepts more types, but no writer uses them for these tags.
        let size = match self.short([*a, *b]) {
            1 => 1,
            3 => 2,
            4 => 4,
            kind => return Err(EncodeError::InvalidImage(format!("the TIFF's tag {tag} has unsupported type {kind}"))),
        };
        let length = self.long([*c, *d, *e, *f]) as usize * size;
        let there = if length <= 4 {
            place.get(..length)
        } else {
            self.file.get(self.long(*place) as usize..).and_then(|rest| rest.get(..length))
        };
        let values = there
            .ok_or_else(|| EncodeError::InvalidImage(format!("the values of the TIFF's tag {tag} are cut off")))?;
        let is_little = self.is_little;
        Ok(Some(values.chunks_exact(size).map(move |value| number(value, is_little))))
    }

    /// The bytes of a data tag (BYTE or UNDEFINED) of more than 4 bytes.
    pub fn bytes(&self, tag: u16) -> Option<&'a [u8]> {
        let [_, _, a, b, c, d, e, f, place @ ..] =
            self.entries.iter().find(|[a, b, ..]| self.short([*a, *b]) == tag)?;
        let length = self.long([*c, *d, *e, *f]) as usize;
        let is_data = matches!(self.short([*a, *b]), 1 | 7) && length > 4;
        self.file.get(self.long(*place) as usize..)?.get(..length).filter(|_| is_data)
    }

    fn short(&self, bytes: [u8; 2]) -> u16 {
        if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    }

    fn long(&self, bytes: [u8; 4]) -> u32 {
        number(&bytes, self.is_little)
    }
}

fn number(bytes: &[u8], is_little: bool) -> u32 {
    let more = |number, byte: &u8| number << 8 | u32::from(*byte);
    if is_little { bytes.iter().rev().fold(0, more) } else { bytes.iter().fold(0, more) }
}
