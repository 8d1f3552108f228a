//! Counts the outcomes of a pass, and prints them at the end.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::json;

use super::message::ParkedMessage;
use super::outcome::Disposal;
use super::{Error, Operation, Output, table};

/// The outcomes of a pass.
#[derive(Debug, Default)]
pub struct Report {
    /// Processed messages by reason.
    counts: BTreeMap<String, u64>,
    unknown: u64,
    too_often: u64,
    entries: Vec<ParkedMessage>,
    shown: Option<String>,
}

impl Report {
    /// Number of selected messages so far.
    pub fn meant(&self) -> u64 {
        self.done() + self.unknown + self.too_often
    }

    /// Adds an outcome. The entry is kept only if it will be listed.
    pub fn add(&mut self, mut entry: ParkedMessage, outcome: Disposal, operation: &Operation) {
        match outcome {
            Disposal::Unknown => return self.unknown += 1,
            Disposal::TooOften => return self.too_often += 1,
            Disposal::Shown(text) => self.shown = Some(text),
            Disposal::Done(Some(queue)) => entry.queue = Some(queue),
            Disposal::Seen | Disposal::Done(None) => {}
        }
        *self.counts.entry(entry.reason.clone().unwrap_or_else(|| "no reason".to_owned())).or_default() += 1;
        if operation.lists() {
            self.entries.push(entry);
        }
    }

    pub fn print(&self, operation: &Operation) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        match operation {
            Operation::Show => match &self.shown {
                Some(text) => write!(out, "{text}")?,
                None => writeln!(out, "no message found")?,
            },
            Operation::List(Output::Json) => {
                let all = json!({ "messages": self.entries, "reasons": self.counts });
                writeln!(out, "{}", table::plain_json(&serde_json::to_string_pretty(&all)?))?;
            }
            _ => write!(out, "{}{}", table::lines(&self.entries), self.summary(operation))?,
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

    fn summary(&self, operation: &Operation) -> String {
        let what = match operation {
            Operation::List(_) | Operation::Show => "parked",
            Operation::Save(_) => "saved",
            Operation::Redrive { dry_run: false, .. } => "redriven",
            Operation::Redrive { dry_run: true, .. } => "would be redriven (dry run)",
            Operation::Drop { dry_run: false } => "dropped",
            Operation::Drop { dry_run: true } => "would be dropped (dry run)",
        };
        let counts: String =
            self.counts.iter().map(|(reason, count)| format!("{count:8} {}\n", table::plain(reason))).collect();
        format!("{counts}{:8} {what}\n", self.done())
    }
}

impl Operation {
    fn lists(&self) -> bool {
        matches!(
            self,
            Operation::List(_) | Operation::Redrive { dry_run: true, .. } | Operation::Drop { dry_run: true }
        )
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

    fn entry(reason: Option<&str>) -> ParkedMessage {
        ParkedMessage { reason: reason.map(str::to_owned), ..ParkedMessage::default() }
    }

    #[test]
    fn what_was_left_is_not_counted_as_done() {
        let operation = Operation::Redrive { to: None, again: false, dry_run: false };
        let mut report = Report::default();
        let to = || Disposal::Done(Some("tiles".to_owned()));
        for (reason, outcome) in [
            (Some("InvalidImage"), to()),
            (Some("InvalidImage"), to()),
            (None, to()),
            (Some("InvalidImage"), Disposal::TooOften),
            (None, Disposal::Unknown),
        ] {
            report.add(entry(reason), outcome, &operation);
        }
        assert_eq!(report.meant(), 5);
        assert_eq!(report.summary(&operation), "       2 InvalidImage\n       1 no reason\n       3 redriven\n");
        let left = report.complete().expect_err("two were left").to_string();
        assert!(left.contains("1 whose queue") && left.contains("--again"), "{left}");
        assert!(Report::default().complete().is_ok());
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_done() {
        for operation in
            [Operation::Drop { dry_run: true }, Operation::Redrive { to: None, again: false, dry_run: true }]
        {
            let mut report = Report::default();
            report.add(entry(None), Disposal::Done(None), &operation);
            assert!(report.summary(&operation).ends_with("(dry run)\n"));
            assert_eq!(report.entries.len(), 1);
        }
    }
}
