//! A decoded picture with pixels in PNG's layout: rows of packed, big-endian samples, each row padded to whole bytes.

/// PNG's color types, with their numbers in IHDR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Color {
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

/// Size and pixel format, as in IHDR.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    pub width: u32,
    pub height: u32,
    pub color: Color,
    /// Bits per sample: 1, 2, 4, 8 or 16, as far as the color type allows.
    pub depth: u8,
}

impl Layout {
    pub fn bits_per_pixel(self) -> u8 {
        self.color.samples() * self.depth
    }

    /// Whether filters are worth their time for these pixels. Palette indices and pixels within one byte predict
    /// their neighbors poorly.
    pub fn is_filtered(self) -> bool {
        self.color != Color::Indexed && self.depth >= 8
    }

    /// Bytes from a sample to the same sample of the next pixel; at least 1.
    pub fn step(self) -> usize {
        usize::from(self.bits_per_pixel().div_ceil(8))
    }

    /// Bytes of a row of so many pixels.
    pub fn row_bytes(self, pixels: u32) -> usize {
        (pixels as usize * usize::from(self.bits_per_pixel())).div_ceil(8)
    }

    /// Bytes of all rows.
    pub fn bytes(self) -> usize {
        self.row_bytes(self.width).saturating_mul(self.height as usize)
    }

    /// The first ten bytes of IHDR.
    pub fn to_bytes(self) -> [u8; 10] {
        let ([a, b, c, d], [e, f, g, h]) = (self.width.to_be_bytes(), self.height.to_be_bytes());
        [a, b, c, d, e, f, g, h, self.depth, self.color as u8]
    }
}

#[derive(Debug)]
pub struct Picture {
    pub layout: Layout,
    /// The content of PLTE.
    pub palette: Option<Vec<u8>>,
    /// The content of tRNS.
    pub transparency: Option<Vec<u8>>,
    /// The ICC profile, uncompressed.
    pub profile: Option<Vec<u8>>,
    /// The rows. The capacity has room for one filter byte per row.
    pub pixels: Vec<u8>,
}

/// The largest ICC profile that is kept, in bytes.
pub const MAX_PROFILE: usize = 1 << 20;

/// Whether an ICC profile has a valid header and matches the color type. With a mismatched profile, viewers would
/// show wrong colors.
pub fn fits(profile: &[u8], color: Color) -> bool {
    let space: &[u8] = if matches!(color, Color::Grey | Color::GreyAlpha) { b"GRAY" } else { b"RGB " };
    (128..=MAX_PROFILE).contains(&profile.len())
        && profile.first_chunk() == u32::try_from(profile.len()).ok().map(u32::to_be_bytes).as_ref()
        && profile.get(16..20) == Some(space)
        && profile.get(36..40) == Some(b"acsp")
}
