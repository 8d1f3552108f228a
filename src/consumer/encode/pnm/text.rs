//! Numbers and comments in the text of a PNM.

pub(super) struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(file: &'a [u8], at: usize) -> Self {
        Self { file, at }
    }

    /// The offset behind what was read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next number. White space, a comment or the end of the file must follow.
    pub fn number(&mut self) -> Option<u32> {
        self.skip();
        let rest = self.rest();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(rest.get(..digits)?).ok()?.parse().ok()?;
        self.at += digits;
        let is_end = self.rest().first().is_none_or(|byte| byte.is_ascii_whitespace() || *byte == b'#');
        is_end.then_some(number)
    }

    /// The next 0 or 1. White space need not separate them.
    pub fn bit(&mut self) -> Option<bool> {
        self.skip();
        let bit = match self.rest().first()? {
            b'0' => false,
            b'1' => true,
            _ => return None,
        };
        self.at += 1;
        Some(bit)
    }

    /// The offset of the bytes after the header: one white space character, or a comment with its line break, ends it.
    pub fn end_of_header(&self) -> Option<usize> {
        match self.rest().first()? {
            b'#' => Some(self.at + self.rest().iter().position(|byte| *byte == b'\n')? + 1),
            byte if byte.is_ascii_whitespace() => Some(self.at + 1),
            _ => None,
        }
    }

    fn rest(&self) -> &'a [u8] {
        self.file.get(self.at..).unwrap_or_default()
    }

    /// Skips white space, and comments to the end of their line.
    fn skip(&mut self) {
        loop {
            let rest = self.rest();
            let spaces = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.at += spaces;
            if rest.get(spaces) != Some(&b'#') {
                return;
            }
            let comment = self.rest();
            self.at += comment.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(comment.len());
        }
    }
}
