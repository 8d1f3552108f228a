//! The account compares the published messages with the stored objects, the queues and the traffic that the taps
//! saw. A pure function. Whatever it can't explain is a fault.

use serde::Serialize;

use super::ledger::Attempt;
use super::proofs::Proofs;
use super::read_back::Found;
use super::settling::Settling;
use super::wire::Event;

/// Number of examples in a sentence about faults.
const NAMED: usize = 5;

/// Counts, and lists of faults. Each fault is named.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Account {
    /// Messages that were sent, or may have been sent.
    pub attempted: usize,
    /// Attempts that the broker confirmed.
    pub confirmed: usize,
    /// Stored objects.
    pub stored: usize,
    pub parked: usize,
    /// Messages that are still queued.
    pub queued: usize,
    /// Messages without a confirm that were stored, parked or queued all the same.
    pub recovered: usize,
    /// Deliveries of a message that was delivered before.
    pub redelivered: usize,
    /// Uploads to a key that had been uploaded before.
    pub duplicates: usize,
    /// Parked messages that were parked before.
    pub parked_again: usize,
    /// Confirmed, but neither stored, parked nor queued.
    pub lost: Vec<String>,
    /// Stored, parked or queued, but never published, or not meant to be stored.
    pub unexpected: Vec<String>,
    /// Stored with other pixels than were published.
    pub wrong_pixels: Vec<String>,
    /// Parked without need, with the wrong reason, or with changed content.
    pub wrongly_parked: Vec<String>,
    /// Objects whose uploads had different bytes, or whose stored bytes differ from every upload.
    pub differing: Vec<String>,
    /// Acknowledged before S3 or the parking queue had confirmed them.
    pub early_ack: Vec<String>,
    /// Traffic that the taps could not parse.
    pub unclear: Vec<String>,
}

impl Account {
    /// Compares the ledger with what was found and what the taps saw.
    pub fn of(attempts: &[Attempt], found: &Found, events: &[Event]) -> Self {
        let mut settling = Settling::new(attempts, found, events);
        found.stored.iter().for_each(|stored| settling.stored(stored));
        found.parked.iter().for_each(|parked| settling.parked(parked));
        found.queued.iter().for_each(|queued| settling.queued(queued));
        settling.lost();
        settling.uploads();
        Proofs::new(&mut settling).follow(events);
        settling.account
    }

    /// One sentence for each list of faults that is not empty.
    pub fn faults(&self) -> Vec<String> {
        let lists = [
            (&self.lost, "confirmed and neither stored, parked nor queued"),
            (&self.unexpected, "found and not expected"),
            (&self.wrong_pixels, "stored with other pixels than were published"),
            (&self.wrongly_parked, "wrongly parked"),
            (&self.differing, "uploaded with different bytes"),
            (&self.early_ack, "acknowledged too early"),
            (&self.unclear, "seen by a tap and not understood"),
        ];
        let sentence = |(list, what): (&Vec<String>, &str)| {
            let named = list.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
            let more = if list.len() > NAMED { "; …" } else { "" };
            format!("{} {what}: {named}{more}", list.len())
        };
        lists.into_iter().filter(|(list, _)| !list.is_empty()).map(sentence).collect()
    }
}
