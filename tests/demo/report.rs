//! What the demo came to: the account, the figures, and a page that shows them. It must never load
//! anything from elsewhere: the page is one file.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::burst::Burst;
use super::watch::History;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 260.0;
const THUMBNAIL: u32 = 180;

/// Everything there is to tell.
pub struct Report {
    /// Messages confirmed by the broker.
    pub published: usize,
    /// Keys in the bucket.
    pub stored: usize,
    /// Messages in the parking queue.
    pub parked: usize,
    /// The size that the burst should lead to.
    pub pods: i64,
    /// The publishing.
    pub burst: Burst,
    /// What was seen.
    pub history: History,
    /// Some images, fetched back: key and file.
    pub images: Vec<(String, Vec<u8>)>,
}

impl Report {
    /// Messages that are neither in the bucket nor parked.
    pub fn lost(&self) -> usize {
        self.published.saturating_sub(self.stored + self.parked)
    }

    /// The account in one line.
    pub fn account(&self) -> String {
        let Self { published, stored, parked, .. } = self;
        format!("published {published}, stored {stored}, parked {parked}, lost {}", self.lost())
    }

    /// The figures, a line each.
    pub fn figures(&self) -> String {
        let lines: Vec<_> = self.measured().into_iter().map(|(what, value)| format!("{value:>10}  {what}")).collect();
        lines.join("\n")
    }

    /// Writes the page and says where.
    pub fn write(&self) -> PathBuf {
        let directory = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/demo"));
        std::fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("report.html");
        std::fs::write(&path, self.page()).expect("written");
        path
    }

    fn measured(&self) -> Vec<(String, String)> {
        let first = self.burst.first_confirm;
        let seconds = |moment: Option<Instant>| match moment {
            Some(moment) => format!("{:.2} s", moment.saturating_duration_since(first).as_secs_f64()),
            None => "never".to_owned(),
        };
        let all = self.history.stored(self.published);
        let rate = all.map(|all| self.published as f64 / all.saturating_duration_since(first).as_secs_f64());
        let sizes = self.history.sizes.iter().map(|size| size.asked).max().unwrap_or_default();
        vec![
            (
                format!("from the first confirm to spec.replicas = {}", self.pods),
                seconds(self.history.asked_for(self.pods)),
            ),
            ("from the first confirm to the first image stored".to_owned(), seconds(self.history.stored(1))),
            ("from the first confirm to all images stored".to_owned(), seconds(all)),
            ("images stored a second".to_owned(), rate.map_or("none".to_owned(), |rate| format!("{rate:.1}"))),
            ("pods at most".to_owned(), sizes.to_string()),
        ]
    }

    fn page(&self) -> String {
        let figures: String =
            self.measured().iter().map(|(what, value)| format!("<div><dt>{what}</dt><dd>{value}</dd></div>")).collect();
        let sheet: String = self.images.iter().filter_map(|(key, file)| thumbnail(key, file)).collect();
        let account = self.account();
        let plot = self.plot();
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>ImagePipeline demo</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style><main>\
             <h1>ImagePipeline demo</h1><p class=\"account\">{account}</p>{plot}<dl>{figures}</dl>\
             <h2>Fetched back from the bucket</h2><div class=\"sheet\">{sheet}</div></main></html>\n"
        )
    }

    /// Queue and pods over time, on two scales.
    fn plot(&self) -> String {
        let History { began, sizes, progress } = &self.history;
        let seconds = |at: Instant| at.saturating_duration_since(*began).as_secs_f64();
        let end = progress.last().map_or(1.0, |last| seconds(last.at)).max(1.0);
        let most_waiting = progress.iter().map(|look| look.waiting).max().unwrap_or(0).max(1);
        let most_pods = sizes.iter().map(|size| size.asked.max(size.ready)).max().unwrap_or(0).max(1);
        let x = |at: f64| at / end * WIDTH;
        let y = |part: f64| HEIGHT - part * HEIGHT;
        let mut waiting = String::new();
        for look in progress {
            write!(waiting, "{:.1},{:.1} ", x(seconds(look.at)), y(f64::from(look.waiting) / f64::from(most_waiting)))
                .unwrap();
        }
        let steps = |of: fn(&super::watch::Size) -> i64| {
            let mut line = format!("0,{HEIGHT:.1} ");
            let mut level = y(0.0);
            for size in sizes {
                let (at, next) = (x(seconds(size.at)), y(of(size) as f64 / most_pods as f64));
                write!(line, "{at:.1},{level:.1} {at:.1},{next:.1} ").unwrap();
                level = next;
            }
            format!("{line}{WIDTH:.1},{level:.1}")
        };
        let (asked, ready) = (steps(|size| size.asked), steps(|size| size.ready));
        let mut axes = String::new();
        for part in 0..=4 {
            let part = f64::from(part) / 4.0;
            let (at, level) = (x(part * end), y(part));
            let (second, messages, pods) = (part * end, part * f64::from(most_waiting), part * most_pods as f64);
            write!(
                axes,
                "<line class=\"grid\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{level:.1}\" y2=\"{level:.1}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second:.0} s</text>\
                 <text class=\"queue\" x=\"-8\" y=\"{:.1}\" text-anchor=\"end\">{messages:.0}</text>\
                 <text class=\"pods\" x=\"{:.1}\" y=\"{:.1}\">{pods:.1}</text>",
                HEIGHT + 20.0,
                level + 4.0,
                WIDTH + 8.0,
                level + 4.0,
            )
            .unwrap();
        }
        format!(
            "<figure><svg role=\"img\" aria-label=\"Messages in the queue and pods over time\" \
             viewBox=\"-60 -12 980 310\">{axes}<polyline class=\"queue\" points=\"{waiting}\"/>\
             <polyline class=\"pods\" points=\"{asked}\"/><polyline class=\"ready\" points=\"{ready}\"/></svg>\
             <figcaption><span class=\"queue\">messages in the queue (left)</span> \
             <span class=\"pods\">pods asked for (right)</span> <span class=\"ready\">pods ready (right)</span>\
             </figcaption></figure>"
        )
    }
}

/// One image of the sheet, made small; `None` for a file that is no image, which the account shows.
fn thumbnail(key: &str, file: &[u8]) -> Option<String> {
    let small = image::load_from_memory(file).ok()?.thumbnail(THUMBNAIL, THUMBNAIL).into_rgb8();
    let mut jpeg = std::io::Cursor::new(Vec::new());
    small.write_to(&mut jpeg, image::ImageFormat::Jpeg).ok()?;
    let data = STANDARD.encode(jpeg.into_inner());
    Some(format!(
        "<figure><img alt=\"{key}\" src=\"data:image/jpeg;base64,{data}\"><figcaption>{key}</figcaption></figure>"
    ))
}

const STYLE: &str = "\
:root{color-scheme:light dark;--queue:#b4540a;--pods:#1c6b3f;--ready:#3a8fd0;--line:#8886}\
@media(prefers-color-scheme:dark){:root{--queue:#f0a05a;--pods:#6fcf97;--ready:#7dbdf0}}\
body{font:16px/1.5 system-ui,sans-serif;margin:0}main{max-width:980px;margin:auto;padding:2rem 1rem}\
h1{margin:0}.account{font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}\
svg{width:100%;height:auto}svg text{font-size:13px;fill:currentColor}svg .grid{stroke:var(--line)}\
svg text.queue,span.queue{fill:var(--queue);color:var(--queue)}svg text.pods,span.pods{fill:var(--pods);color:var(--pods)}\
span.ready{color:var(--ready)}polyline{fill:none;stroke-width:2.5}polyline.queue{stroke:var(--queue)}\
polyline.pods{stroke:var(--pods)}polyline.ready{stroke:var(--ready);stroke-dasharray:5 4}\
figure{margin:1rem 0}figcaption span{margin-right:1.5rem}\
dl div{display:flex;gap:1rem;border-bottom:1px solid var(--line);padding:.3rem 0}dt{flex:1}\
dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums}\
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(140px,1fr));gap:.8rem}\
.sheet figure{margin:0}.sheet img{width:100%;display:block;border-radius:4px}.sheet figcaption{font-size:.8rem}";
