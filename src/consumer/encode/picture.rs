//! A decoded picture, in the form that PNG gives to pixels: rows of packed samples, big-endian,
//! without padding but for the last byte of a row. It must never hold more than one copy of them.

/// How PNG counts samples in a pixel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Color {
    Grey = 0,
    Rgb = 2,
    Indexed = 3,
    GreyAlpha = 4,
    Rgba = 6,
}

impl Color {
    fn samples(self) -> u8 {
        match self {
            Color::Grey | Color::Indexed => 1,
            Color::GreyAlpha => 2,
            Color::Rgb => 3,
            Color::Rgba => 4,
        }
    }
}

/// Size and kind of the pixels: what IHDR says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    pub width: u32,
    pub height: u32,
    pub color: Color,
    pub depth: u8,
}

impl Layout {
    pub fn bits_per_pixel(self) -> u8 {
        self.color.samples() * self.depth
    }

    /// Whether a filter makes such pixels smaller: neighbours in a palette, or within a byte, say
    /// little of each other.
    pub fn is_filtered(self) -> bool {
        self.color != Color::Indexed && self.depth >= 8
    }

    /// Bytes from a sample to the same one of the next pixel, at least one.
    pub fn step(self) -> usize {
        usize::from(self.bits_per_pixel().div_ceil(8))
    }

    /// Bytes of `pixels` next to each other.
    pub fn row_bytes(self, pixels: u32) -> usize {
        (pixels as usize * usize::from(self.bits_per_pixel())).div_ceil(8)
    }

    /// Bytes of all rows.
    pub fn bytes(self) -> usize {
        self.row_bytes(self.width) * self.height as usize
    }

    /// The first ten bytes of IHDR.
    pub fn to_bytes(self) -> [u8; 10] {
        let ([a, b, c, d], [e, f, g, h]) = (self.width.to_be_bytes(), self.height.to_be_bytes());
        [a, b, c, d, e, f, g, h, self.depth, self.color as u8]
    }
}

/// One picture.
#[derive(Debug)]
pub(super) struct Picture {
    pub layout: Layout,
    /// PLTE as it is in a file.
    pub palette: Option<Vec<u8>>,
    /// tRNS as it is in a file.
    pub transparency: Option<Vec<u8>>,
    /// An ICC profile, not compressed.
    pub profile: Option<Vec<u8>>,
    /// With room for a filter byte a row.
    pub pixels: Vec<u8>,
}

/// The most that an ICC profile may take.
pub(super) const MAX_PROFILE: usize = 1 << 20;

/// Whether an ICC profile says what it must, and is for colours of this kind: one that isn't would
/// make viewers show other colours than without it.
pub(super) fn fits(profile: &[u8], color: Color) -> bool {
    let space: &[u8] = if matches!(color, Color::Grey | Color::GreyAlpha) { b"GRAY" } else { b"RGB " };
    (128..=MAX_PROFILE).contains(&profile.len())
        && profile.first_chunk() == u32::try_from(profile.len()).ok().map(u32::to_be_bytes).as_ref()
        && profile.get(16..20) == Some(space)
        && profile.get(36..40) == Some(b"acsp")
}
