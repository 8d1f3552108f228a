//! `image-pipeline publish`: publishes image files or synthetic tiles to a queue. An image counts as published only
//! after the broker has confirmed its message.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::rabbitmq::QueueError;
use crate::rabbitmq::args::{self, BrokerArgs, BrokerArgsError, queue_name};

mod files;
mod sample;
mod send;

pub use sample::{SampleArgs, Size, TileFormat};
pub use send::{Body, SendResult, Summary, send};

const EXAMPLES: &str = "\
Examples:
  Publish a directory; its file north/4.png is stored as north/4.png:
    image-pipeline publish flights/2026-05-04 --queue segmented-images \\
      --host rabbit.example.org --username device --password-file password

  Publish 20 synthetic tiles through a port-forward, with username and password from the files of a
  mounted or copied Secret in DIR:
    kubectl port-forward service/rabbit 5672 &
    image-pipeline publish --sample 20 --queue segmented-images --broker-secret DIR --host 127.0.0.1

  Write 5 tiles to a directory, without publishing:
    image-pipeline publish --sample 5 --save /tmp/tiles

Exit code 0: the broker has confirmed every image. Standard error names the images that were not confirmed. \
Publishing an image again is safe: the same name stores the same object again.";

/// Publish image files or synthetic tiles to a queue
///
/// Each image is published as one persistent message with publisher confirms. The image's name, which becomes
/// the object key, is the file name or, for a directory, the path relative to that directory.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
#[group(id = "images", required = true, multiple = false, args = ["paths", "sample"])]
pub struct Args {
    /// Image files, or directories with image files (bmp, jpeg, png, tiff, webp)
    #[arg(value_name = "FILE|DIR")]
    pub paths: Vec<PathBuf>,
    /// Queue to publish to; it must exist
    #[arg(long, env = "QUEUE", required_unless_present = "save", value_parser = queue_name)]
    pub queue: Option<String>,
    /// Maximum number of unconfirmed messages. Use fewer on a slow network: each message must be confirmed
    /// within 60 seconds
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub in_flight: u16,
    #[command(flatten)]
    pub tiles: SampleArgs,
    /// Write the tiles to a directory instead of publishing them; RabbitMQ options are ignored. Existing
    /// files are not replaced
    #[arg(long, value_name = "DIR", conflicts_with = "paths", help_heading = "Sample tiles")]
    pub save: Option<PathBuf>,
    #[command(flatten)]
    pub broker: BrokerArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Broker(#[from] BrokerArgsError),
    /// RabbitMQ is unavailable, or the queue does not exist.
    #[error("{}", args::explained(.0))]
    Queue(QueueError),
    /// Some images were not published; standard error names each.
    #[error("{failed} of {total} images failed, and {left} were not tried; publish them again")]
    Incomplete {
        /// Images that could not be read, or that the broker did not confirm.
        failed: usize,
        left: usize,
        total: usize,
    },
    #[error("no images found in {0:?}; expected files that end in .bmp, .jpeg, .jpg, .png, .tif, .tiff or .webp")]
    Nothing(Vec<PathBuf>),
    #[error("can't create tile {name:?}: {why}")]
    Tile { name: String, why: String },
    #[error("{0:?} already exists; save to another directory, or remove the file")]
    Exists(PathBuf),
    #[error("can't write {path:?}: {source}")]
    Save { path: PathBuf, source: std::io::Error },
}

/// Not `#[from]`: a `source` would print the error's own advice, which names ImagePipeline fields.
impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        Error::Queue(error)
    }
}

/// Publishes or, with `--save`, writes the images, and prints a summary.
pub async fn run(args: Args, stop: CancellationToken) -> Result<Summary, Error> {
    let Args { paths, queue, in_flight, tiles, save, broker } = args;
    if let Some(directory) = save {
        return save_tiles(&tiles, &directory, &stop);
    }
    let (address, queue, in_flight) = (broker.address()?, queue.unwrap_or_default(), usize::from(in_flight));
    if let Some(count) = tiles.sample {
        let sources = (0..count).map(|index| {
            let tiles = tiles.clone();
            move || tile(&tiles, index).map_err(|error| error.to_string())
        });
        let bar = progress_bar(u64::from(count));
        let summary =
            send(&address, &queue, sources.collect(), in_flight, &stop, |outcome| show(outcome, &bar)).await?;
        return finish(summary, 0);
    }
    let files::Found { images, refused, skipped } = files::find(&paths);
    for sentence in &refused {
        eprintln!("not published: {sentence}");
    }
    if skipped > 0 {
        eprintln!("skipped {skipped} files without the file extension of an image");
    }
    if images.is_empty() && refused.is_empty() {
        return Err(Error::Nothing(paths));
    }
    let bar = progress_bar(images.len() as u64);
    let sources = images.into_iter().map(|(name, path)| move || read(name, &path));
    let summary = send(&address, &queue, sources.collect(), in_flight, &stop, |outcome| show(outcome, &bar)).await?;
    finish(summary, refused.len())
}

fn finish(mut summary: Summary, refused: usize) -> Result<Summary, Error> {
    println!("{summary}");
    summary.failed += refused;
    let Summary { failed, left, confirmed, .. } = summary;
    if failed + left > 0 {
        Err(Error::Incomplete { failed, left, total: confirmed + failed + left })
    } else {
        Ok(summary)
    }
}

fn read(name: String, path: &Path) -> Result<Body, String> {
    let image = std::fs::read(path).map_err(|error| format!("{path:?} can't be read: {error}"))?;
    Body::new(name, &image).map_err(|error| format!("{path:?}: {error}"))
}

fn tile(tiles: &SampleArgs, index: u32) -> Result<Body, Error> {
    let name = tiles.name(index);
    let failed = |why: String| Error::Tile { name: name.clone(), why };
    let file = tiles.file(index).map_err(|error| failed(error.to_string()))?;
    Body::new(name.clone(), &file).map_err(|error| failed(error.to_string()))
}

fn save_tiles(tiles: &SampleArgs, directory: &Path, stop: &CancellationToken) -> Result<Summary, Error> {
    let count = tiles.sample.unwrap_or_default();
    let bar = progress_bar(u64::from(count));
    for index in (0..count).take_while(|_| !stop.is_cancelled()) {
        let name = tiles.name(index);
        let path = directory.join(&name);
        let file = tiles.file(index).map_err(|error| Error::Tile { name, why: error.to_string() })?;
        save_new(&path, &file).map_err(|source| match source.kind() {
            ErrorKind::AlreadyExists => Error::Exists(path),
            _ => Error::Save { path, source },
        })?;
        bar.inc(1);
    }
    println!("saved {} tiles in {}", bar.position(), directory.display());
    Ok(Summary::default())
}

fn save_new(path: &Path, file: &[u8]) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::File::create_new(path)?.write_all(file)
}

/// Indicatif draws on standard error, and only if that is a terminal.
fn progress_bar(length: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {per_sec}  {eta} left");
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(outcome: &SendResult, bar: &ProgressBar) {
    bar.inc(1);
    match outcome {
        SendResult::Confirmed { .. } => {}
        SendResult::Unreadable(sentence) => bar.suspend(|| eprintln!("not published: {sentence}")),
        SendResult::Refused { name, why } => bar.suspend(|| eprintln!("not confirmed: {name:?}: {why}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_there_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("north/tile.png");
        save_new(&path, b"first").unwrap();
        assert_eq!(save_new(&path, b"second").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(path).unwrap(), b"first");
    }
}
