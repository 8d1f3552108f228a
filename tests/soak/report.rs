//! The report of a soak: one self-contained HTML file, and the figures as JSON.

use std::path::PathBuf;

use image_pipeline::html::{Page, escape};

use super::outcome::{Outcome, Slowest};
use super::timeline::Happened;

/// Styles in addition to those of all pages.
const STYLE: &str = "
svg rect.fault { fill: var(--backlog); }
pre { overflow-x: auto; font-size: 0.8rem; line-height: 1.35; }
td:first-child, th:first-child { text-align: left; }
";

const WIDTH: f64 = 960.0;
const TOP: f64 = 20.0;
const ROW: f64 = 13.0;
const LEFT: f64 = 170.0;
/// Height of the curve below the faults.
const CURVE: f64 = 120.0;
/// Number of points of the curve.
const PARTS: usize = 120;

/// Writes both files and returns the path of the page.
pub fn write(outcome: &Outcome, stored: &[Vec<f64>]) -> PathBuf {
    let directory = support::repository().join("target/soak");
    std::fs::create_dir_all(&directory).expect("a directory");
    let text = serde_json::to_string_pretty(&outcome.json()).expect("JSON");
    std::fs::write(directory.join("report.json"), text + "\n").expect("the figures");
    let page_file = directory.join("report.html");
    std::fs::write(&page_file, page(outcome, stored)).expect("the page");
    page_file
}

pub fn page(outcome: &Outcome, stored: &[Vec<f64>]) -> String {
    let (confirmed, lost) = (outcome.account.confirmed, outcome.account.lost.len());
    let wrong = outcome.faults();
    let verdict = match (lost, wrong.len()) {
        (0, 0) => format!("{confirmed} messages, {} faults, nothing lost", outcome.record.faults.len()),
        (0, wrong) => format!("{confirmed} messages, nothing lost, {wrong} other findings"),
        (lost, _) => format!("{lost} of {confirmed} messages lost"),
    };
    let sentences: String = wrong.iter().map(|sentence| format!("<li>{}</li>\n", escape(sentence))).collect();
    let lines = outcome.record.lines.iter();
    let lines: String = lines.map(|(at, line)| format!("{at:>7.1}  {}\n", escape(line))).collect();
    let body = format!(
        r#"<header>
<p>A soak of {hours} hours, seed {seed}</p>
<h1>{verdict}</h1>
</header>
<ul>
{sentences}</ul>
<section class="figures">
{figures}</section>
<section>
<h2>Faults, and images stored</h2>
{plot}</section>
<section>
<h2>Recovery: from the heal to the first stored image, the slowest of each kind</h2>
{table}</section>
<section>
<h2>What happened</h2>
<details><summary>{count} lines</summary>
<pre>{lines}</pre></details>
</section>
"#,
        hours = outcome.hours,
        seed = outcome.seed,
        figures = figures(outcome),
        plot = plot(outcome, stored),
        table = table(outcome),
        count = outcome.record.lines.len(),
    );
    Page { title: &format!("Soak: {verdict}"), style: STYLE, ..Page::default() }.around(&body)
}

fn figures(outcome: &Outcome) -> String {
    let (account, memory) = (&outcome.account, &outcome.memory);
    let grows = |role| format!("{:+.1} MiB/h", memory.slope_per_hour(role));
    let cards = [
        (account.stored.to_string(), "images stored".to_owned()),
        (account.parked.to_string(), "bad messages parked".to_owned()),
        (account.early_ack.len().to_string(), "acknowledged before S3 had the image".to_owned()),
        (account.wrong_pixels.len().to_string(), "stored with wrong pixels".to_owned()),
        (account.wrongly_parked.len().to_string(), "wrongly parked".to_owned()),
        (account.unexpected.len().to_string(), "unexpected".to_owned()),
        (account.duplicates.to_string(), "repeated uploads with the same bytes".to_owned()),
        (account.redelivered.to_string(), "redeliveries".to_owned()),
        (outcome.faults_by_kind().len().to_string(), "kinds of fault".to_owned()),
        (grows("operator"), format!("operator's memory, {:.0} MiB at most", memory.most("operator"))),
        (grows("consumers"), format!("a consumer's memory, {:.0} MiB at most", memory.most("consumers"))),
        (outcome.restarts.to_string(), format!("restarts, {} not caused by a fault", outcome.unexplained.len())),
    ];
    cards.map(|(value, meaning)| format!("<div><strong>{value}</strong><span>{meaning}</span></div>\n")).concat()
}

fn table(outcome: &Outcome) -> String {
    let shown = |seconds: Option<f64>| seconds.map_or_else(String::new, |seconds| format!("{seconds:.1} s"));
    let (counts, slowest) = (outcome.faults_by_kind(), outcome.slowest());
    let row = |(kind, count): (&super::kind::Kind, &usize)| {
        let Slowest { alone, together } = slowest.get(kind).copied().unwrap_or_default();
        let (name, alone, together) = (kind.name().replace('_', " "), shown(alone), shown(together));
        format!("<tr><td>{name}</td><td>{count}</td><td>{alone}</td><td>{together}</td></tr>\n")
    };
    let head = "<tr><th>kind</th><th>faults</th><th>alone</th><th>with others</th></tr>\n";
    format!("<table>\n{head}{}</table>\n", counts.iter().map(row).collect::<String>())
}

/// One row of faults for each kind, and the curve of stored images below.
fn plot(outcome: &Outcome, stored: &[Vec<f64>]) -> String {
    let kinds: Vec<_> = outcome.faults_by_kind().into_keys().collect();
    let end = stored.iter().flatten().copied().fold(1.0, f64::max);
    let x = |at: f64| LEFT + at.clamp(0.0, end) / end * (WIDTH - LEFT);
    let rows = TOP + ROW * kinds.len() as f64;
    let (top, bottom) = (rows + 30.0, rows + 30.0 + CURVE);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"Faults over time\">\n", bottom + 24.0);
    for (row, kind) in kinds.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let name = kind.name().replace('_', " ");
        svg += &format!(
            "<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{name}</text>\n",
            LEFT - 8.0,
            y + 9.0
        );
        for Happened { began, healed, .. } in outcome.record.faults.iter().filter(|fault| fault.kind == *kind) {
            let (from, to) = (x(*began), x(*healed));
            let width = (to - from).max(1.5);
            svg += &format!("<rect class=\"fault\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"9\"/>\n");
        }
    }
    let (part, mut counts) = (end / PARTS as f64, [0_usize; PARTS]);
    for at in stored.iter().flatten() {
        counts[((at / part) as usize).min(PARTS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let point = |(index, count): (usize, &usize)| {
        let (at, height) = ((index as f64 + 0.5) * part, *count as f64 / most * CURVE);
        format!("{:.1},{:.1} ", x(at), bottom - height)
    };
    let points: String = counts.iter().enumerate().map(point).collect();
    svg += &format!("<polyline class=\"line stored\" points=\"{}\"/>\n", points.trim_end());
    let per_second = most / part;
    svg += &format!(
        "<text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{top:.1}\">{per_second:.0} a second</text>\n",
        LEFT - 8.0
    );
    for part in 0..=6 {
        let at = end * f64::from(part) / 6.0;
        let anchor = if part == 6 { "end" } else { "middle" };
        svg += &format!(
            "<text class=\"tick\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{at:.0} s</text>\n",
            x(at),
            bottom + 18.0
        );
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::super::kind::Kind;
    use super::super::outcome::tests::outcome;
    use super::*;

    #[test]
    fn the_page_has_everything_in_itself() {
        let mut outcome = outcome();
        outcome.record.lines.push((1.0, "<b>".to_owned()));
        let page = page(&outcome, &[vec![1.0, 2.0, 70.0], vec![3.0]]);
        for expected in ["0 messages, 3 faults, nothing lost", "seed 7", "store hangs", "9.0 s", "&lt;b&gt;"] {
            assert!(page.contains(expected), "{expected}");
        }
        for outside in ["http://", "https://", "src=", "@import", "<script", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn a_loss_is_the_headline_and_what_is_wrong_is_said() {
        let mut outcome = outcome();
        outcome.account.lost.push("one.png".to_owned());
        outcome.account.confirmed = 9;
        let page = page(&outcome, &[]);
        assert!(page.contains("<h1>1 of 9 messages lost</h1>") && page.contains("one.png"));
        assert_eq!(outcome.faults_by_kind()[&Kind::Paused], 2);
    }
}
