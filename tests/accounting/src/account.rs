//! The account: what was published against what is there and what the wire saw. Pure. It must never
//! forgive: what is not explained is a fault.

use serde::Serialize;

use super::ledger::Attempt;
use super::proofs::Proofs;
use super::read_back::Found;
use super::settling::Settling;
use super::wire::Event;

/// So many are named in a sentence.
const NAMED: usize = 5;

/// What it comes to. Lists are of faults, each named.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Account {
    /// Messages that were sent, or may have been.
    pub attempted: usize,
    /// Of them, those that the broker confirmed.
    pub confirmed: usize,
    /// Objects.
    pub stored: usize,
    /// Parked messages.
    pub parked: usize,
    /// Messages that are still queued.
    pub queued: usize,
    /// Messages without a confirm that are there all the same.
    pub recovered: usize,
    /// Deliveries of a message that was delivered before.
    pub redelivered: usize,
    /// Uploads to a key that had been uploaded before.
    pub duplicates: usize,
    /// Parked messages that were parked before.
    pub parked_again: usize,
    /// Confirmed, and neither stored nor parked nor queued.
    pub lost: Vec<String>,
    /// Stored, parked or queued, and never published, or not to be stored.
    pub unexpected: Vec<String>,
    /// Stored with other pixels than were published.
    pub wrong_pixels: Vec<String>,
    /// Parked without need, for another reason than their own, or changed.
    pub wrongly_parked: Vec<String>,
    /// Objects for which different bytes were uploaded, or others than are there.
    pub differing: Vec<String>,
    /// Acknowledged before the store or the parking queue had them.
    pub early_ack: Vec<String>,
    /// What the taps could not make out.
    pub unclear: Vec<String>,
}

impl Account {
    /// Compares.
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

    /// What is wrong, in sentences.
    pub fn faults(&self) -> Vec<String> {
        let lists = [
            (&self.lost, "confirmed and neither stored, parked nor queued"),
            (&self.unexpected, "there and not expected"),
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
