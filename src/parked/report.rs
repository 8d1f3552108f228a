//! Counts the outcomes of a pass, and prints them at the end.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::json;

use super::entry::Entry;
use super::outcome::Outcome;
use super::{Deed, Error, Output, table};

/// The outcomes of a pass.
#[derive(Debug, Default)]
pub struct Report {
    /// Processed messages by reason.
    counts: BTreeMap<String, u64>,
    unknown: u64,
    too_often: u64,
    entries: Vec<Entry>,
    shown: Option<String>,
}

impl Report {
    /// Number of selected messages so far.
    pub fn meant(&self) -> u64 {
        self.done() + self.unknown + self.too_often
    }

    /// Adds an outcome. The entry is kept only if it will be listed.
    pub fn add(&mut self, mut entry: Entry, outcome: Outcome, deed: &Deed) {
        match outcome {
            Outcome::Unknown => return self.unknown += 1,
            Outcome::TooOften => return self.too_often += 1,
            Outcome::Shown(text) => self.shown = Some(text),
            Outcome::Done(Some(queue)) => entry.queue = Some(queue),
            Outcome::Seen | Outcome::Done(None) => {}
        }
        *self.counts.entry(entry.reason.clone().unwrap_or_else(|| "no reason".to_owned())).or_default() += 1;
        if deed.lists() {
            self.entries.push(entry);
        }
    }

    pub fn print(&self, deed: &Deed) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match deed {
            Deed::Show => match &self.shown {
                Some(text) => write!(out, "{text}")?,
                None => writeln!(out, "no message found")?,
            },
            Deed::List(Output::Json) => {
                let all = json!({ "messages": self.entries, "reasons": self.counts });
                writeln!(out, "{}", table::plain_json(&serde_json::to_string_pretty(&all)?))?;
            }
            _ => write!(out, "{}{}", table::lines(&self.entries), self.summary(deed))?,
        }
        out.flush()
    }

    /// Fails if selected messages remain in the parking queue that should have been redriven.
    pub fn complete(&self) -> Result<(), Error> {
        match (self.unknown, self.too_often) {
            (0, 0) => Ok(()),
            (unknown, too_often) => Err(Error::Left { unknown, too_often }),
        }
    }

    fn done(&self) -> u64 {
        self.counts.values().sum()
    }

    fn summary(&self, deed: &Deed) -> String {
        let what = match deed {
            Deed::List(_) | Deed::Show => "parked",
            Deed::Save(_) => "saved",
            Deed::Redrive { dry_run: false, .. } => "redriven",
            Deed::Redrive { dry_run: true, .. } => "would be redriven (dry run)",
            Deed::Drop { dry_run: false } => "dropped",
            Deed::Drop { dry_run: true } => "would be dropped (dry run)",
        };
        let counts: String =
            self.counts.iter().map(|(reason, count)| format!("{count:8} {}\n", table::plain(reason))).collect();
        format!("{counts}{:8} {what}\n", self.done())
    }
}

impl Deed {
    fn lists(&self) -> bool {
        matches!(self, Deed::List(_) | Deed::Redrive { dry_run: true, .. } | Deed::Drop { dry_run: true })
    }
}

/// Why selected messages remain in the parking queue, and what to do.
pub fn left(unknown: u64, too_often: u64) -> String {
    let sentences = [
        (
            unknown,
            "whose queue is unknown: not implied by the parking queue's name, or a header names another (set --to)",
        ),
        (too_often, "already redriven three times (redrive them again with --again)"),
    ];
    let sentences = sentences.iter().filter(|(count, _)| *count > 0);
    let sentences: Vec<String> = sentences.map(|(count, sentence)| format!("{count} {sentence}")).collect();
    format!("left in the parking queue: {}", sentences.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(reason: Option<&str>) -> Entry {
        Entry { reason: reason.map(str::to_owned), ..Entry::default() }
    }

    #[test]
    fn what_was_left_is_not_counted_as_done() {
        let deed = Deed::Redrive { to: None, again: false, dry_run: false };
        let mut report = Report::default();
        let to = || Outcome::Done(Some("tiles".to_owned()));
        for (reason, outcome) in [
            (Some("InvalidImage"), to()),
            (Some("InvalidImage"), to()),
            (None, to()),
            (Some("InvalidImage"), Outcome::TooOften),
            (None, Outcome::Unknown),
        ] {
            report.add(entry(reason), outcome, &deed);
        }
        assert_eq!(report.meant(), 5);
        assert_eq!(report.summary(&deed), "       2 InvalidImage\n       1 no reason\n       3 redriven\n");
        let left = report.complete().expect_err("two were left").to_string();
        assert!(left.contains("1 whose queue") && left.contains("--again"), "{left}");
        assert!(Report::default().complete().is_ok());
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        for deed in [Deed::Drop { dry_run: true }, Deed::Redrive { to: None, again: false, dry_run: true }] {
            let mut report = Report::default();
            report.add(entry(None), Outcome::Done(None), &deed);
            assert!(report.summary(&deed).ends_with("(dry run)\n"));
            assert_eq!(report.entries.len(), 1);
        }
    }
}
