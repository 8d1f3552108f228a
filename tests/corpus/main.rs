//! Converts every file of a folder as the consumer does. Writes FILE.out.png or FILE.refused, with the reason and the
//! text; and FILE.kept.png, if the file is a PNG, with `image.reencode: WhenNotPng`. `judge.py` judges the results.

use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use image_pipeline::api::image::{ImageSettings, Reencode};
use image_pipeline::consumer::capacity::Panicked;
use image_pipeline::consumer::encode::{Png, encode, inspect};
use image_pipeline::consumer::settle::Refusal;

/// Endings of results.
const RESULTS: [&str; 3] = [".out.png", ".kept.png", ".refused"];

/// The ending of the right pixels.
const RIGHT: &str = ".npy";

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The most memory for one image, as in a small pod.
const MAX_BYTES_NEEDED: u64 = 1 << 30;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: corpus FOLDER")?;
    // The text of a panic is not part of the result.
    set_hook(Box::new(|_| {}));
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    let is_input = |path: &PathBuf| {
        let name = path.to_string_lossy();
        path.is_file() && !name.ends_with(RIGHT) && !RESULTS.iter().any(|end| name.ends_with(end))
    };
    for path in entries.iter().filter(|path| is_input(path)) {
        convert(path)?;
    }
    Ok(())
}

fn convert(path: &Path) -> Result<(), std::io::Error> {
    let beside = |end: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    for end in RESULTS {
        match fs::remove_file(beside(end)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    let file = Bytes::from(fs::read(path)?);
    let kept = file.starts_with(PNG).then_some((".kept.png", Reencode::WhenNotPng));
    for (end, reencode) in [(".out.png", Reencode::Always)].into_iter().chain(kept) {
        match converted(&file, reencode) {
            Ok(png) => fs::write(beside(end), png.bytes())?,
            Err(Refusal { reason, detail }) => fs::write(beside(".refused"), format!("{reason} {detail}\n"))?,
        }
    }
    Ok(())
}

fn converted(file: &Bytes, reencode: Reencode) -> Result<Png, Refusal> {
    let settings = ImageSettings { reencode, ..ImageSettings::default() };
    let work = || {
        let header = inspect(file, settings.max_pixels)?;
        if header.bytes_needed() > MAX_BYTES_NEEDED {
            let detail = format!("the image needs {} bytes", header.bytes_needed());
            return Err(Refusal { reason: image_pipeline::reason::Reason::ImageTooLarge, detail });
        }
        Ok(encode(file.clone(), &header, &settings)?)
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Panicked.into()))
}
