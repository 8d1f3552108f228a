//! The results as text: a table, the measurements without a counterpart in the original, and one line for each
//! target. A target counts as met by its exact value, not by the rounded one.

use std::fmt::Write as _;

use super::limits::Limits;
use super::rows::{Ratio, Row};
use super::run::Measured;
use super::service::{Mode, Service};
use super::tiles::Input;

const MIB: f64 = (1 << 20) as f64;

/// The table of all rows.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10}{:<7}{:<22}{:<12}{:>8}{:>9}  {:<26}{:>10}  {:<20}{:>9}{:>7}\n",
        "tile",
        "input",
        "service",
        "mode",
        "msg/s",
        "CPU ms",
        "of the original's",
        "stored kB",
        "of the original's",
        "peak MiB",
        "idle"
    );
    let mut kind = None;
    for row in rows {
        if kind.replace((row.side, row.input)).is_some_and(|last| last != (row.side, row.input)) {
            text.push('\n');
        }
        let (cpu, bytes) = (row.ratio(rows, |of| of.cpu_ms), row.ratio(rows, |of| of.stored_bytes));
        writeln!(
            text,
            "{:<10}{:<7}{:<22}{:<12}{:>8.1}{:>9.2}  {:<26}{:>10.1}  {:<20}{:>9.1}{:>6.0}%",
            row.tile(),
            row.input.to_string(),
            row.service.name(),
            row.service.mode(),
            row.median(|of| of.messages_per_second),
            row.median(|of| of.cpu_ms),
            format!("1/{:.1} (1/{:.1} to 1/{:.1})", 1.0 / cpu.median, 1.0 / cpu.greatest, 1.0 / cpu.least),
            row.median(|of| of.stored_bytes) / 1000.0,
            format!("{:.2} ({:.2} to {:.2})", bytes.median, bytes.least, bytes.greatest),
            row.median(|of| of.peak_rss) / MIB,
            row.median(|of| of.idle) * 100.0,
        )
        .expect("written to a string");
    }
    text
}

/// The measurements of our consumer only.
pub fn limits(limits: &Limits) -> String {
    let mut text = String::from("image-pipeline, Fast, half PNG half JPEG\n");
    let mut line = |line: String| writeln!(text, "{line}").expect("written to a string");
    line(format!("  {:<14}{:>8}{:>9}{:>10}{:>7}", "concurrency", "msg/s", "CPU ms", "peak MiB", "idle"));
    for (concurrency, of) in &limits.scaling {
        let (peak, idle) = (of.peak_rss / MIB, of.idle * 100.0);
        line(format!("  {concurrency:<14}{:>8.1}{:>9.2}{peak:>10.1}{idle:>6.0}%", of.messages_per_second, of.cpu_ms));
    }
    line(format!("  {:<14}{:>8}{:>9}{:>10}{:>17}", "tile", "msg/s", "CPU ms", "peak MiB", "CPU ms/megapixel"));
    for (side, of) in &limits.pixels {
        let (peak, megapixels) = (of.peak_rss / MIB, f64::from(side * side) / 1e6);
        let (speed, cpu) = (of.messages_per_second, of.cpu_ms);
        line(format!("  {:<14}{speed:>8.1}{cpu:>9.2}{peak:>10.1}{:>17.2}", format!("{side}x{side}"), cpu / megapixels));
    }
    let peaks: Vec<String> = limits.memory.iter().map(|(_, bytes)| format!("{:.1}", *bytes as f64 / MIB)).collect();
    let messages = limits.memory.last().map_or(0, |(messages, _)| *messages);
    line(format!("  peak MiB at concurrency 4, after each tenth of {messages} messages: {}", peaks.join(" ")));
    line(format!("  MiB once they are done: {:.1}", limits.rss_after as f64 / MIB));
    text
}

/// One line for each target. A ratio is judged at its worst tile and input.
pub fn targets(rows: &[Row], limits: &Limits) -> String {
    let cpu = |of: &Measured| of.cpu_ms;
    let bytes = |of: &Measured| of.stored_bytes;
    let all = [Input::Mixed, Input::Png, Input::Jpeg];
    let worst = |mode, inputs: &[Input], of: fn(&Measured) -> f64| -> (String, f64) {
        let asked =
            rows.iter().filter(|row| row.service == Service::ImagePipeline(mode) && inputs.contains(&row.input));
        let ratios = asked.map(|row| (format!("{} {}", row.tile(), row.input), row.ratio(rows, of)));
        let worst = ratios.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median)).expect("a row of every mode");
        let (place, Ratio { median, .. }) = worst;
        (place, median)
    };
    let mut text = String::new();
    let mut line = |target: &str, measured: String, met: bool| {
        let met = if met { "met" } else { "MISSED" };
        writeln!(text, "{target:<68}{measured:<30}{met}").expect("written to a string");
    };
    for (mode, inputs, within, aim) in [
        (Mode::Fast, &all[..], 12.0, 18.0),
        (Mode::Balanced, &all[..], 6.0, 8.0),
        (Mode::WhenNotPng, &[Input::Png][..], 18.0, 25.0),
    ] {
        let (place, ratio) = worst(mode, inputs, cpu);
        let input = if mode == Mode::WhenNotPng { ", PNG in" } else { "" };
        let target = format!("{}{input}: CPU at most 1/{within} of the original's (aim 1/{aim})", <&str>::from(mode));
        line(&target, format!("1/{:.1} ({place})", 1.0 / ratio), ratio <= 1.0 / within);
    }
    for (mode, most) in [(Mode::Fast, 1.18), (Mode::Balanced, 1.0)] {
        let (place, ratio) = worst(mode, &all, bytes);
        let target = format!("{}: stored bytes at most {most:.2} of the original's", <&str>::from(mode));
        line(&target, format!("{ratio:.3} ({place})"), ratio <= most);
    }
    let when_not_png = |row: &&Row| row.service == Service::ImagePipeline(Mode::WhenNotPng) && row.input == Input::Png;
    let as_it_came = rows.iter().filter(when_not_png).all(|row| row.rounds.iter().all(|of| of.as_it_came));
    line(
        "WhenNotPng, PNG in: stored unchanged",
        (if as_it_came { "every byte" } else { "bytes differ" }).to_owned(),
        as_it_came,
    );
    let fast = |row: &&Row| row.service == Service::ImagePipeline(Mode::Fast);
    let idle = rows.iter().filter(fast).map(|row| row.median(|of| of.idle) * 100.0).fold(0.0, f64::max);
    line("machine idle at most 10 % while there is a backlog", format!("{idle:.1} %"), idle <= 10.0);
    let idle_rss = limits.idle_rss as f64 / MIB;
    line("resident memory when idle at most 20 MiB", format!("{idle_rss:.1} MiB"), idle_rss <= 20.0);
    let peaks: Vec<f64> = limits.memory.iter().map(|(_, bytes)| *bytes as f64 / MIB).collect();
    let (half, peak) = (peaks[peaks.len() / 2 - 1], peaks[peaks.len() - 1]);
    line("peak resident memory at most 80 MiB at concurrency 4, 640x640", format!("{peak:.1} MiB"), peak <= 80.0);
    let grown = (peak / half - 1.0) * 100.0;
    line("  growth of at most 5 % in the second half", format!("{grown:.1} %"), grown <= 5.0);
    let (first, longest) = limits.first_stored;
    let measured = format!("{first:.3} s (at most {longest:.3})");
    line("from process start to first stored image at most 0.5 s", measured, first <= 0.5);
    let binary = limits.binary as f64 / 1e6;
    line("release binary at most 30 MB", format!("{binary:.1} MB"), binary <= 30.0);
    text
}
