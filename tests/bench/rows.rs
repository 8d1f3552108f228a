//! A row for each service, mode, tile and input, with the median of its rounds and its ratio to the original
//! service. The spread of a ratio compares each round with the original's same round.

use super::run::Measured;
use super::service::Service;
use super::tiles::Input;

/// All rounds of one service with one kind of message.
pub struct Row {
    /// Side length of the tiles, in pixels.
    pub side: u32,
    pub input: Input,
    pub service: Service,
    /// Figures of each round.
    pub rounds: Vec<Measured>,
}

/// The ratio of the medians, and the lowest and highest ratio of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// Ratio of the medians.
    pub median: f64,
    /// Lowest ratio of a round.
    pub least: f64,
    /// Highest ratio of a round.
    pub greatest: f64,
}

/// A row of target/bench/data-plane.json.
#[derive(serde::Serialize)]
pub struct Record {
    service: &'static str,
    mode: &'static str,
    tile: String,
    input: Input,
    messages_per_second: f64,
    cpu_ms_per_message: f64,
    stored_bytes_per_message: f64,
    peak_rss_bytes: f64,
    cpu_ratio: f64,
    bytes_ratio: f64,
}

impl Row {
    /// Median of a figure over the rounds.
    pub fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        median(&self.rounds.iter().map(of).collect::<Vec<_>>())
    }

    /// Size of the tile as text, for example 640x640.
    pub fn tile(&self) -> String {
        format!("{0}x{0}", self.side)
    }

    /// Ratio of this service's figure to the original's.
    pub fn ratio(&self, rows: &[Row], of: impl Fn(&Measured) -> f64) -> Ratio {
        let is_its = |row: &&Row| (row.side, row.input, row.service) == (self.side, self.input, Service::Original);
        let original = rows.iter().find(is_its).expect("the original is in every run");
        let rounds = self.rounds.iter().zip(&original.rounds).map(|(this, original)| of(this) / of(original));
        let (least, greatest) =
            rounds.fold((f64::MAX, f64::MIN), |(least, greatest), ratio| (least.min(ratio), greatest.max(ratio)));
        Ratio { median: self.median(&of) / original.median(&of), least, greatest }
    }

    /// The row for the JSON file.
    pub fn record(&self, rows: &[Row]) -> Record {
        Record {
            service: self.service.name(),
            mode: self.service.mode(),
            tile: self.tile(),
            input: self.input,
            messages_per_second: self.median(|of| of.messages_per_second),
            cpu_ms_per_message: self.median(|of| of.cpu_ms),
            stored_bytes_per_message: self.median(|of| of.stored_bytes),
            peak_rss_bytes: self.median(|of| of.peak_rss),
            cpu_ratio: self.ratio(rows, |of| of.cpu_ms).median,
            bytes_ratio: self.ratio(rows, |of| of.stored_bytes).median,
        }
    }
}

/// The middle value, or the mean of the two middle values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

#[cfg(test)]
pub mod tests {
    use super::super::service::Mode;
    use super::*;

    fn measured(cpu_ms: f64) -> Measured {
        let (messages_per_second, stored_bytes, peak_rss) = (1000.0 / cpu_ms, 500e3, 40e6);
        Measured { messages_per_second, cpu_ms, stored_bytes, peak_rss, idle: 0.05, as_it_came: false }
    }

    /// The original, and our consumer at about a tenth of its figures.
    pub fn rows() -> Vec<Row> {
        let row = |service, rounds: [f64; 3]| Row {
            side: 640,
            input: Input::Mixed,
            service,
            rounds: rounds.map(measured).into(),
        };
        vec![row(Service::Original, [80.0, 100.0, 90.0]), row(Service::ImagePipeline(Mode::Fast), [9.0, 9.0, 10.0])]
    }

    #[test]
    fn ratios_are_of_medians_and_their_spread_of_rounds() {
        let rows = rows();
        let ratio = rows[1].ratio(&rows, |of| of.cpu_ms);
        assert_eq!(ratio, Ratio { median: 0.1, least: 0.09, greatest: 0.1125 });
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0])), (2.0, 2.5));
    }

    #[test]
    fn a_record_has_the_keys_that_readers_of_the_file_expect() {
        let rows = rows();
        let record = serde_json::to_value(rows[1].record(&rows)).unwrap();
        let expected = serde_json::json!({
            "service": "image-pipeline", "mode": "Fast", "tile": "640x640", "input": "mixed",
            "messages_per_second": 1000.0 / 9.0, "cpu_ms_per_message": 9.0, "stored_bytes_per_message": 500e3,
            "peak_rss_bytes": 40e6, "cpu_ratio": 0.1, "bytes_ratio": 1.0,
        });
        assert_eq!(record, expected);
    }
}
