//! The report: one self-contained HTML file for light and dark mode, with the measurements and with images read
//! back from the bucket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::ImageError;
use image::codecs::jpeg::JpegEncoder;
use image_pipeline::html::{Page, escape};

use crate::recording::Recording;

mod plot;

const THUMBNAIL_PIXELS: u32 = 240;
const THUMBNAIL_QUALITY: u8 = 82;

/// A thumbnail of an image from the bucket.
pub struct Picture {
    key: String,
    width: u32,
    height: u32,
    bytes: usize,
    thumbnail: String,
}

impl Picture {
    /// Makes a thumbnail of an object.
    ///
    /// # Errors
    /// The object is no image.
    pub fn of(key: String, object: &[u8]) -> Result<Self, ImageError> {
        let image = image::load_from_memory(object)?;
        let mut jpeg = Vec::new();
        let small = image.thumbnail(THUMBNAIL_PIXELS, THUMBNAIL_PIXELS).into_rgb8();
        small.write_with_encoder(JpegEncoder::new_with_quality(&mut jpeg, THUMBNAIL_QUALITY))?;
        let thumbnail = format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg));
        Ok(Self { key, width: image.width(), height: image.height(), bytes: object.len(), thumbnail })
    }
}

pub fn page(recording: &Recording, pictures: &[Picture]) -> String {
    let name = escape(&recording.pipeline);
    let verdict = match recording.outcome.lost() {
        0 => format!("{} images confirmed, none lost", recording.outcome.published),
        lost => format!("{lost} of {} confirmed images lost", recording.outcome.published),
    };
    let (figures, plot, table) = (figures(recording), plot::svg(recording), table(recording));
    let sheet: String = pictures.iter().map(figure).collect();
    let body = format!(
        r#"<header>
<p class="over">ImagePipeline <b>{name}</b>, {started}</p>
<h1>{verdict}</h1>
<p>{outcome}.</p>
</header>
<section class="figures">
{figures}</section>
<section>
<h2>{heading}</h2>
{plot}
<details><summary>Readings, second by second</summary>
{table}</details>
</section>
<section>
<h2>Fetched back from the bucket</h2>
<p>{shown} of {stored} images, evenly spread over the bucket's listing.</p>
<div class="sheet">
{sheet}</div>
</section>
"#,
        heading = if recording.sizes.is_empty() { "Backlog and stored images" } else { "Backlog and replicas" },
        started = recording.first_confirm.strftime("%Y-%m-%d %H:%M:%S UTC"),
        outcome = recording.outcome,
        shown = pictures.len(),
        stored = recording.outcome.stored,
    );
    let title = format!("{}: {verdict}", recording.pipeline);
    Page { title: &title, ..Page::default() }.around(&body)
}

fn figures(recording: &Recording) -> String {
    let card = |(value, meaning)| format!("<div><strong>{value}</strong><span>{meaning}</span></div>\n");
    measured(recording).into_iter().map(card).collect()
}

/// The key figures with their descriptions; without those of pods, if no size of a Deployment was recorded.
pub fn measured(recording: &Recording) -> Vec<(String, String)> {
    let seconds = |at: Option<f64>| at.map_or("not seen".to_owned(), |at| format!("{at:.2} s"));
    let (largest, megabytes) = (recording.largest(), recording.bytes as f64 / 1e6);
    let steps: Vec<String> = recording.steps().iter().map(i64::to_string).collect();
    let growth = [
        (
            seconds(recording.time_to_size()),
            format!("from the first confirm to a size of {largest} pods, the largest; sizes {}", steps.join(" → ")),
        ),
        (seconds(recording.time_to_ready()), format!("to {largest} pods ready")),
    ];
    let images = [
        (
            seconds(recording.time_to_first_stored()),
            "from the first confirm to the first image in the bucket".to_owned(),
        ),
        (seconds(recording.time_to_stored()), "to the last image in the bucket".to_owned()),
        (
            recording.images_per_second().map_or("not seen".to_owned(), |rate| format!("{rate:.1} /s")),
            format!("images stored until then: {megabytes:.0} MB, published in {:.1} s", recording.publishing),
        ),
    ];
    let end = [(seconds(recording.time_to_zero()), "to a size of 0".to_owned())];
    match recording.sizes.is_empty() {
        true => images.to_vec(),
        false => [&growth[..], &images, &end].concat(),
    }
}

fn table(recording: &Recording) -> String {
    let has_pods = !recording.sizes.is_empty();
    let pods = if has_pods { "<th>pods wanted</th><th>ready</th>" } else { "" };
    let mut html = format!("<table>\n<tr><th>seconds</th><th>backlog</th><th>stored</th>{pods}</tr>\n");
    // The first reading of every second, and the last reading.
    let mut rows: Vec<_> = recording.samples.iter().collect();
    rows.dedup_by_key(|sample| sample.at.floor() as i64);
    rows.extend(recording.samples.last().filter(|last| rows.last().is_some_and(|row| row != last)));
    for sample in rows {
        let size = recording.sizes.iter().rev().find(|size| size.at <= sample.at);
        let (desired, ready) = size.map_or((0, 0), |size| (size.desired, size.ready));
        let (queued, stored) = (sample.queued, sample.stored);
        // Adding 0.0 turns -0.0 into 0.0.
        let at = (sample.at * 10.0).round() / 10.0 + 0.0;
        let pods = if has_pods { format!("<td>{desired}</td><td>{ready}</td>") } else { String::new() };
        html += &format!("<tr><td>{at:.1}</td><td>{queued}</td><td>{stored}</td>{pods}</tr>\n");
    }
    html + "</table>\n"
}

fn figure(picture: &Picture) -> String {
    let Picture { key, width, height, bytes, thumbnail } = picture;
    let (key, name) = (escape(key), escape(key.rsplit('/').next().unwrap_or(key)));
    let kilobytes = bytes / 1000;
    format!(
        "<figure title=\"{key}\"><img src=\"{thumbnail}\" alt=\"{name}\" loading=\"lazy\">\
         <figcaption>{name}<br>{width}×{height}, {kilobytes} kB</figcaption></figure>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::recorded;
    use crate::recording::{Sample, Size};

    fn picture(key: &str) -> Picture {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(640, 320).write_to(&mut png, image::ImageFormat::Png).unwrap();
        Picture::of(key.to_owned(), png.get_ref()).unwrap()
    }

    #[test]
    fn the_page_has_everything_in_itself() {
        let page = page(&recorded(), &[picture("demo/<1>.png")]);
        for expected in ["300 images confirmed, none lost", "1.50 s", "33.3 /s", "0 → 6 → 0", "&lt;1&gt;.png"] {
            assert!(page.contains(expected), "{expected}");
        }
        assert!(page.contains("src=\"data:image/jpeg;base64,"));
        for outside in ["http://", "https://", "src=\"/", "@import", "<script"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn one_process_has_no_pods() {
        let page = page(&Recording { sizes: Vec::new(), ..recorded() }, &[]);
        assert!(page.contains("300 images confirmed, none lost") && page.contains("33.3 /s"));
        assert!(!page.to_lowercase().contains("pods"), "{page}");
    }

    #[test]
    fn a_loss_is_the_headline() {
        let mut recording = recorded();
        recording.outcome.stored = 298;
        assert!(page(&recording, &[]).contains("<h1>2 of 300 confirmed images lost</h1>"));
    }

    #[test]
    fn the_table_has_a_row_a_second() {
        let table = table(&recorded());
        assert!(table.contains("<tr><td>3.0</td><td>262</td><td>21</td><td>6</td><td>4</td></tr>"), "{table}");
        assert!(table.contains("<tr><td>32.0</td><td>0</td><td>300</td><td>0</td><td>0</td></tr>"), "{table}");
    }

    #[test]
    fn the_table_ends_with_what_was_seen_last_and_has_no_second_below_nothing() {
        let mut recording = recorded();
        recording.samples = [(-0.04, 16, 0), (30.6, 0, 300), (30.9, 0, 300)]
            .map(|(at, queued, stored)| Sample { at, queued, stored })
            .to_vec();
        recording.sizes.push(Size { at: 30.8, desired: 0, ready: 0 });
        let table = table(&recording);
        assert!(table.contains("<td>0.0</td>") && !table.contains("-0.0"), "{table}");
        assert!(table.contains("<td>30.6</td>"), "{table}");
        assert!(table.contains("<tr><td>30.9</td><td>0</td><td>300</td><td>0</td><td>0</td></tr>"), "{table}");
    }
}
