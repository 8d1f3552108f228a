//! The messages: tiles of one size as PNG, as JPEG, or alternating, the same for every service; and the
//! verification of the stored objects against the published images.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat};
use image_pipeline::publish::{Body, SampleArgs, Size, TileFormat};

/// JPEG decoders may differ in the last bits (ISO/IEC 10918-2 allows it), as Pillow's and ours do. A different
/// image differs by far more.
const JPEG_LARGEST_DIFFERENCE: u8 = 12;
const JPEG_MEAN_DIFFERENCE: f64 = 1.0;

/// Formats of the messages.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize, strum::Display)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Input {
    /// PNG and JPEG in turn.
    Mixed,
    /// Only PNG.
    Png,
    /// Only JPEG.
    Jpeg,
}

/// An image file, and its pixels.
struct Tile {
    format: TileFormat,
    file: Vec<u8>,
    pixels: DynamicImage,
}

/// Different tiles of one size and input. The messages repeat them with new names.
#[derive(Clone)]
pub struct Tiles {
    /// Width and height of the tiles.
    pub size: Size,
    tiles: Arc<Vec<Tile>>,
}

impl Tiles {
    /// Draws this many tiles.
    pub async fn draw(side: u32, input: Input, count: u32) -> Self {
        let size = Size { width: side, height: side };
        let drawing =
            (0..count).map(|index| tokio::task::spawn_blocking(move || Tile::draw(size, input.format(index), index)));
        let mut tiles = Vec::new();
        for drawn in drawing.collect::<Vec<_>>() {
            tiles.push(drawn.await.expect("a tile"));
        }
        Self { size, tiles: Arc::new(tiles) }
    }

    /// Creates the message with this number, for `publish::send`.
    pub fn source(&self, number: u32) -> impl FnOnce() -> Result<Body, String> + Send + 'static {
        let (tiles, name, index) = (Arc::clone(&self.tiles), self.name(number), self.index(number));
        move || Body::new(name, &tiles[index].file).map_err(|error| error.to_string())
    }

    /// Mean size of the image files, in bytes per message.
    pub fn mean_bytes(&self) -> f64 {
        self.tiles.iter().map(|tile| tile.file.len() as f64).sum::<f64>() / self.tiles.len() as f64
    }

    /// Verifies a bucket that must have exactly the messages with these numbers. For every tile, the first object
    /// is compared pixel by pixel. Returns whether these objects equal their PNG files byte for byte.
    ///
    /// # Errors
    /// A sentence about the first difference.
    pub fn verify(&self, bucket: &Path, messages: u32) -> Result<bool, String> {
        let expected: BTreeSet<String> = (0..messages).map(|number| self.name(number)).collect();
        let found: BTreeSet<String> = super::run::stored(bucket).map(|(name, _)| name).collect();
        if let Some(name) = expected.symmetric_difference(&found).next() {
            let (all, there) = (expected.len(), expected.intersection(&found).count());
            return Err(format!("of {all} objects {there} are stored; {name} is missing or unexpected"));
        }
        let mut as_it_came = true;
        for (tile, number) in self.tiles.iter().zip(0..messages) {
            let name = self.name(number);
            let object = std::fs::read(bucket.join(&name)).map_err(|error| format!("{name}: {error}"))?;
            tile.verify(&object).map_err(|error| format!("{name}: {error}"))?;
            as_it_came &= tile.format == TileFormat::Jpeg || object == tile.file;
        }
        Ok(as_it_came)
    }

    fn index(&self, number: u32) -> usize {
        number as usize % self.tiles.len()
    }

    fn name(&self, number: u32) -> String {
        let ending = match self.tiles[self.index(number)].format {
            TileFormat::Png => "png",
            TileFormat::Jpeg => "jpg",
        };
        format!("tile-{number:05}.{ending}")
    }
}

impl Input {
    fn format(self, index: u32) -> TileFormat {
        match self {
            Input::Png => TileFormat::Png,
            Input::Jpeg => TileFormat::Jpeg,
            Input::Mixed if index.is_multiple_of(2) => TileFormat::Png,
            Input::Mixed => TileFormat::Jpeg,
        }
    }
}

impl Tile {
    fn draw(size: Size, format: TileFormat, index: u32) -> Self {
        let options = SampleArgs { sample: None, size, format, seed: 1, prefix: String::new() };
        let file = options.file(index).expect("a tile");
        let pixels = image::load_from_memory(&file).expect("an image of our own");
        Self { format, file, pixels }
    }

    fn verify(&self, object: &[u8]) -> Result<(), String> {
        let stored =
            image::load_from_memory_with_format(object, ImageFormat::Png).map_err(|error| error.to_string())?;
        let (expected, stored) = (&self.pixels, &stored);
        if (expected.width(), expected.height(), expected.color()) != (stored.width(), stored.height(), stored.color())
        {
            return Err("size or color type differs from the published image".to_owned());
        }
        let differences = || expected.as_bytes().iter().zip(stored.as_bytes()).map(|(a, b)| a.abs_diff(*b));
        let largest = differences().max().unwrap_or_default();
        let mean = differences().map(f64::from).sum::<f64>() / expected.as_bytes().len() as f64;
        let allowed = match self.format {
            TileFormat::Png => largest == 0,
            TileFormat::Jpeg => largest <= JPEG_LARGEST_DIFFERENCE && mean <= JPEG_MEAN_DIFFERENCE,
        };
        if allowed { Ok(()) } else { Err(format!("pixels differ by up to {largest}, {mean:.3} on average")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn stored(input: Input) -> (tempfile::TempDir, Tiles) {
        let (bucket, tiles) = (tempfile::tempdir().unwrap(), Tiles::draw(64, input, 2).await);
        for (number, tile) in (0..4).zip(tiles.tiles.iter().cycle()) {
            tile.pixels.save_with_format(bucket.path().join(tiles.name(number)), ImageFormat::Png).unwrap();
        }
        (bucket, tiles)
    }

    #[tokio::test]
    async fn what_is_as_published_passes() {
        let (bucket, tiles) = stored(Input::Mixed).await;
        assert_eq!(tiles.verify(bucket.path(), 4), Ok(false));
        std::fs::write(bucket.path().join("tile-00000.png"), &tiles.tiles[0].file).unwrap();
        assert_eq!(tiles.verify(bucket.path(), 4), Ok(true));
    }

    #[tokio::test]
    async fn what_is_missing_too_many_or_another_image_does_not() {
        let (bucket, tiles) = stored(Input::Png).await;
        assert!(tiles.verify(bucket.path(), 3).unwrap_err().contains("of 3 objects 3 are stored"));
        assert!(tiles.verify(bucket.path(), 5).unwrap_err().contains("tile-00004.png is missing"));
        let first = bucket.path().join("tile-00000.png");
        std::fs::copy(bucket.path().join("tile-00001.png"), &first).unwrap();
        assert!(tiles.verify(bucket.path(), 4).unwrap_err().contains("pixels differ"));
        std::fs::write(&first, &tiles.tiles[0].file[..1000]).unwrap();
        assert!(tiles.verify(bucket.path(), 4).is_err());
    }
}
