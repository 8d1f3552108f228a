//! The results as a table with the targets, and as JSON. A target counts as met by its exact value, not by the
//! rounded one.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::figures::{Figure, MIB};

/// The table of all figures.
pub fn table(figures: &[Figure]) -> String {
    let mut text = format!("{:<60}{:>12}  {:<18}\n", "figure", "measured", "target");
    for figure in figures {
        let Figure { key, meaning, value, at_most } = figure;
        let target = at_most.map_or_else(String::new, |most| format!("at most {}", shown(key, most)));
        let met = match (at_most, figure.is_met()) {
            (None, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        let line = format!("{meaning:<60}{:>12}  {target:<18}{met}", shown(key, *value));
        writeln!(text, "{}", line.trim_end()).expect("written to a string");
    }
    text
}

/// The figures by key, and the circumstances of the measurement.
pub fn record(figures: &[Figure], circumstances: &[(&str, Value)]) -> Value {
    // JSON has no NaN, which becomes null.
    let figures = figures.iter().map(|figure| (figure.key.to_owned(), Value::from(figure.value)));
    let circumstances = circumstances.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
    Value::Object(circumstances.chain(figures).collect::<Map<_, _>>())
}

/// Writes the record to target/bench/NAME.json and returns the path of the file.
pub fn write(name: &str, record: &Value) -> PathBuf {
    let file = support::repository().join(format!("target/bench/{name}.json"));
    std::fs::create_dir_all(file.parent().expect("a directory")).expect("target/bench");
    let text = serde_json::to_string_pretty(record).expect("JSON");
    std::fs::write(&file, text + "\n").expect("the results");
    file
}

/// The value with the unit that the key implies.
fn shown(key: &str, value: f64) -> String {
    match key {
        _ if key.ends_with("_bytes") => format!("{:.1} MiB", value / MIB),
        _ if key.ends_with("_percent") => format!("{value:.2} %"),
        _ if key.ends_with("_ms") => format!("{value:.1} ms"),
        _ if key.ends_with("_s") => format!("{value:.2} s"),
        _ if value.fract() == 0.0 => format!("{value}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> [Figure; 3] {
        [
            Figure::within("decision_p50_s", "median", 1.5, 1.5),
            Figure::within("operator_rss_bytes", "memory", 32.0 * MIB, 30.0 * MIB),
            Figure::without_target("peak_backlog", "most", 400.0),
        ]
    }

    #[test]
    fn a_line_says_what_was_measured_what_was_asked_and_whether_it_was_met() {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            table(&figures()).lines().skip(1).map(words).collect::<Vec<_>>(),
            ["median 1.50 s at most 1.50 s met", "memory 32.0 MiB at most 30.0 MiB MISSED", "most 400",]
        );
    }

    #[test]
    fn a_record_has_figures_and_circumstances_side_by_side() {
        let expected = serde_json::json!({
            "quick": true, "decision_p50_s": 1.5, "operator_rss_bytes": 32.0 * MIB, "peak_backlog": 400.0,
        });
        assert_eq!(record(&figures(), &[("quick", true.into())]), expected);
        let missing = [Figure::without_target("peak_backlog", "most", f64::NAN)];
        assert_eq!(record(&missing, &[]), serde_json::json!({ "peak_backlog": null }));
    }
}
