//! What happened when, printed as it happens and kept for the report. It must never lose a fault
//! that was begun.

use std::sync::Mutex;
use std::time::Instant;

use super::kind::Kind;

/// A fault that was there, in seconds since the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Happened {
    /// What kind.
    pub kind: Kind,
    /// The pipeline that was hit; `None`: all.
    pub pipeline: Option<usize>,
    /// The episode it belongs to, from 0.
    pub episode: usize,
    /// Its injection began.
    pub began: f64,
    /// It was healed.
    pub healed: f64,
}

/// Everything that happened.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Faults, by the time of their heal.
    pub faults: Vec<Happened>,
    /// The lines that were printed: when, and what.
    pub lines: Vec<(f64, String)>,
    /// What went wrong with the soak itself.
    pub troubles: Vec<String>,
}

/// The record while it is made.
pub struct Timeline {
    start: Instant,
    record: Mutex<Record>,
}

impl Timeline {
    /// From now on.
    pub fn start() -> Self {
        Self { start: Instant::now(), record: Mutex::default() }
    }

    /// The moment that times are counted from.
    pub fn began(&self) -> Instant {
        self.start
    }

    /// Seconds since the start.
    pub fn seconds(&self, at: Instant) -> f64 {
        at.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Prints and keeps a line.
    pub fn say(&self, what: &str) {
        let at = self.seconds(Instant::now());
        println!("{at:>7.1} s  {what}");
        self.note(|record| record.lines.push((at, what.to_owned())));
    }

    /// Prints and keeps what went wrong with the soak itself.
    pub fn trouble(&self, what: String) {
        self.say(&format!("TROUBLE: {what}"));
        self.note(|record| record.troubles.push(what));
    }

    /// Keeps something.
    pub fn note(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.record.lock().unwrap());
    }

    /// What was kept so far.
    pub fn record(&self) -> Record {
        self.record.lock().unwrap().clone()
    }
}
