//! The log of the soak: printed immediately and kept for the report.

use std::sync::Mutex;
use std::time::Instant;

use super::kind::Kind;

/// A fault that occurred. Times are in seconds since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    pub kind: Kind,
    /// The affected pipeline; `None` means all.
    pub pipeline: Option<usize>,
    /// Number of its episode, from 0.
    pub episode: usize,
    /// Start of the injection.
    pub began: f64,
    /// End of the heal.
    pub healed: f64,
}

/// Faults and log lines of the soak.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Faults, in the order of their heals.
    pub faults: Vec<Happened>,
    /// Printed lines, with their times.
    pub lines: Vec<(f64, String)>,
    /// Failures of the soak itself.
    pub troubles: Vec<String>,
}

/// The record while the soak runs.
pub struct Timeline {
    start: Instant,
    record: Mutex<Record>,
}

impl Timeline {
    /// Starts the clock.
    pub fn start() -> Self {
        Self { start: Instant::now(), record: Mutex::default() }
    }

    /// The start time.
    pub fn began(&self) -> Instant {
        self.start
    }

    /// Seconds since the start.
    pub fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Prints and records a line.
    pub fn say(&self, what: &str) {
        let at = self.seconds(Instant::now());
        println!("{at:>7.1} s  {what}");
        self.note(|record| record.lines.push((at, what.to_owned())));
    }

    /// Prints and records a failure of the soak itself.
    pub fn trouble(&self, what: String) {
        self.say(&format!("TROUBLE: {what}"));
        self.note(|record| record.troubles.push(what));
    }

    /// Changes the record.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.lock().unwrap());
    }

    /// A copy of the record so far.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap().clone()
    }
}
