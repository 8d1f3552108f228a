//! The report of a demonstration: measurements, a plot, and images read back from the bucket.
#![allow(clippy::expect_used)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing))]

pub mod recording;
pub mod report;

use std::path::PathBuf;

use recording::Recording;
use report::Picture;

/// Writes the report to `target/NAME/report.html`, and returns its path.
pub fn write_report(name: &str, recording: &Recording, objects: Vec<(String, Vec<u8>)>) -> PathBuf {
    // An object that is no image has no picture.
    let pictures: Vec<Picture> =
        objects.into_iter().filter_map(|(key, object)| Picture::of(key, &object).ok()).collect();
    let directory = support::repository().join("target").join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join("report.html");
    std::fs::write(&path, report::page(recording, &pictures)).expect("written");
    path
}
