//! The account: what was published against what is there and what the wire saw. Pure. It must never
//! forgive: what is not explained is a fault.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::ledger::{Attempt, Digest, Expectation, Id, Key};
use super::read_back::{Found, Queued, Stored};
use super::wire::{Event, Object};

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
        let mut settling = Settling::new(attempts, found);
        settling.refusals(events);
        found.stored.iter().for_each(|stored| settling.stored(stored));
        found.parked.iter().for_each(|parked| settling.parked(parked));
        found.queued.iter().for_each(|queued| settling.queued(queued));
        settling.lost();
        settling.uploads(events);
        settling.acknowledgements(events);
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

/// The account while it is made.
struct Settling<'a> {
    account: Account,
    attempts: &'a [Attempt],
    /// By exact key, and by pixels where the key is not known beforehand.
    by_key: HashMap<(&'a str, &'a str), Vec<&'a Attempt>>,
    by_pixels: HashMap<(&'a str, Digest), Vec<&'a Attempt>>,
    objects: HashMap<&'a Object, &'a Stored>,
    /// What the store, or a proxy before it, refused for the object's own sake: the statuses, by message.
    refused: HashMap<Id, BTreeSet<u16>>,
    stored: HashSet<Id>,
    parked: HashSet<Id>,
    queued: HashSet<Id>,
}

/// The reason that a message carries whose upload was refused with this status, and no other's was.
fn reason_of(status: u16) -> Option<&'static str> {
    match status {
        403 => Some("AccessDenied"),
        413 => Some("ImageTooLarge"),
        _ => None,
    }
}

impl<'a> Settling<'a> {
    fn new(attempts: &'a [Attempt], found: &'a Found) -> Self {
        let (mut by_key, mut by_pixels) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for attempt in attempts {
            let bucket = attempt.entry.bucket.as_str();
            match (&attempt.entry.key, attempt.entry.pixels()) {
                (_, None) => {}
                (Key::Exactly(key), Some(_)) => by_key.entry((bucket, key.as_str())).or_default().push(attempt),
                (Key::Around(..), Some(pixels)) => by_pixels.entry((bucket, pixels)).or_default().push(attempt),
            }
        }
        let account = Account {
            attempted: attempts.len(),
            confirmed: attempts.iter().filter(|attempt| attempt.confirmed).count(),
            stored: found.stored.len(),
            parked: found.parked.len(),
            queued: found.queued.len(),
            ..Account::default()
        };
        let objects = found.stored.iter().map(|stored| (&stored.object, stored)).collect();
        let [stored, parked, queued] = std::array::from_fn(|_| HashSet::new());
        Self { account, attempts, by_key, by_pixels, objects, refused: HashMap::new(), stored, parked, queued }
    }

    fn attempt(&self, id: Option<Id>) -> Option<&'a Attempt> {
        self.attempts.get(usize::try_from(id?).ok()?)
    }

    /// The messages that an object may come from.
    fn owners(&self, object: &Object) -> Vec<&'a Attempt> {
        if let Some(owners) = self.by_key.get(&(object.bucket.as_str(), object.key.as_str())) {
            return owners.clone();
        }
        let pixels = self.objects.get(object).and_then(|stored| stored.pixels.clone().ok());
        let alike = pixels.and_then(|pixels| self.by_pixels.get(&(object.bucket.as_str(), pixels)));
        alike.into_iter().flatten().filter(|attempt| attempt.entry.key.matches(&object.key)).copied().collect()
    }

    fn refusals(&mut self, events: &[Event]) {
        for event in events {
            if let Event::Refused { id, status } = event {
                self.refused.entry(*id).or_default().insert(*status);
            }
        }
    }

    fn stored(&mut self, stored: &Stored) {
        let owners = self.owners(&stored.object);
        let name = named(&stored.object);
        if owners.is_empty() {
            self.account.unexpected.push(name);
            return;
        }
        match &stored.pixels {
            Err(why) => self.account.wrong_pixels.push(format!("{name} ({why})")),
            Ok(pixels) if owners.iter().all(|owner| owner.entry.pixels() != Some(*pixels)) => {
                self.account.wrong_pixels.push(name);
            }
            Ok(_) => {}
        }
        for owner in owners {
            let its_own = owner.entry.pixels() == stored.pixels.clone().ok();
            if its_own || matches!(owner.entry.expectation, Expectation::Good { .. }) {
                self.stored.insert(owner.id);
            }
        }
    }

    fn parked(&mut self, parked: &Queued) {
        let Some(attempt) = self.attempt(parked.id) else {
            self.account.unexpected.push(format!("a message in {} that nobody published", parked.queue));
            return;
        };
        let reason = parked.reason().unwrap_or("no reason");
        let mut right: Vec<&str> = match &attempt.entry.expectation {
            Expectation::Bad { reason } => vec![reason],
            Expectation::FirstOfItsKey { reason, .. } if !self.stored.contains(&attempt.id) => vec![reason],
            _ => Vec::new(),
        };
        if !self.stored.contains(&attempt.id) {
            right.extend(self.refused.get(&attempt.id).into_iter().flatten().filter_map(|status| reason_of(*status)));
        }
        let name = title(attempt);
        if !right.contains(&reason) {
            let right = if right.is_empty() { "parked".to_owned() } else { right.join(" or ") };
            self.account.wrongly_parked.push(format!("{name}: {reason}, not {right}"));
        } else if parked.body != attempt.body {
            self.account.wrongly_parked.push(format!("{name}: with another body"));
        }
        if !self.parked.insert(attempt.id) {
            self.account.parked_again += 1;
        }
    }

    fn queued(&mut self, queued: &Queued) {
        match self.attempt(queued.id) {
            Some(attempt) => drop(self.queued.insert(attempt.id)),
            None => self.account.unexpected.push(format!("a message in {} that nobody published", queued.queue)),
        }
    }

    fn lost(&mut self) {
        for attempt in self.attempts {
            let is_there = [&self.stored, &self.parked, &self.queued].iter().any(|ids| ids.contains(&attempt.id));
            match (attempt.confirmed, is_there) {
                (true, false) if !matches!(attempt.entry.expectation, Expectation::Discarded) => {
                    self.account.lost.push(title(attempt));
                }
                (false, true) => self.account.recovered += 1,
                _ => {}
            }
        }
    }

    /// A repeat writes the same bytes, and they are what is there.
    fn uploads(&mut self, events: &[Event]) {
        let mut uploads = BTreeMap::<&Object, Vec<Digest>>::new();
        for event in events {
            if let Event::Put { object, body, status: 200..300, .. } = event {
                uploads.entry(object).or_default().push(*body);
            }
        }
        for (object, bodies) in uploads {
            self.account.duplicates += bodies.len() - 1;
            let images: HashSet<_> = self.owners(object).iter().map(|owner| owner.entry.pixels()).collect();
            let different: HashSet<_> = bodies.iter().collect();
            if different.len() > images.len().max(1) {
                self.account.differing.push(format!("{} ({} times)", named(object), different.len()));
            }
            if self.objects.get(object).is_some_and(|stored| !different.contains(&stored.body)) {
                self.account.differing.push(format!("{} (not what is there)", named(object)));
            }
        }
    }

    /// An acknowledgement comes after the proof that the message is safe, and the proof after its delivery.
    fn acknowledgements(&mut self, events: &[Event]) {
        // Deliveries that have no proof yet, by message.
        let mut open = HashMap::<Id, BTreeSet<usize>>::new();
        let mut delivered = HashMap::<usize, Option<Id>>::new();
        let mut committed = HashSet::<&Object>::new();
        for (place, event) in events.iter().enumerate() {
            match event {
                Event::Delivered { id, redelivered, .. } => {
                    self.account.redelivered += usize::from(*redelivered);
                    delivered.insert(place, *id);
                    if let Some(id) = id {
                        open.entry(*id).or_default().insert(place);
                    }
                }
                Event::Put { object, status: 200..300, told, .. } => {
                    committed.insert(object);
                    if *told {
                        self.owners(object).iter().for_each(|owner| drop(open.remove(&owner.id)));
                    }
                }
                Event::Head { object, status: 200 } if committed.contains(object) => {
                    self.owners(object).iter().for_each(|owner| drop(open.remove(&owner.id)));
                }
                // The confirm of its publisher is no proof.
                Event::Confirmed { id: Some(id), queue, renewed } if *renewed || self.is_moved(*id, queue) => {
                    drop(open.remove(id));
                }
                Event::Acknowledged { delivery } => self.acknowledged(*delivery, &delivered, &open),
                Event::Unclear(what) => self.account.unclear.push(what.clone()),
                _ => {}
            }
        }
    }

    fn is_moved(&self, id: Id, queue: &str) -> bool {
        self.attempt(Some(id)).is_some_and(|attempt| attempt.entry.queue != queue)
    }

    fn acknowledged(
        &mut self,
        delivery: usize,
        delivered: &HashMap<usize, Option<Id>>,
        open: &HashMap<Id, BTreeSet<usize>>,
    ) {
        let Some(attempt) = delivered.get(&delivery).and_then(|id| self.attempt(*id)) else {
            self.account.unclear.push("an acknowledgement of a message that nobody published".to_owned());
            return;
        };
        let unproven = open.get(&attempt.id).is_some_and(|deliveries| deliveries.contains(&delivery));
        if unproven && !matches!(attempt.entry.expectation, Expectation::Discarded) {
            self.account.early_ack.push(title(attempt));
        }
    }
}

fn named(object: &Object) -> String {
    format!("{}/{}", object.bucket, object.key)
}

fn title(attempt: &Attempt) -> String {
    format!("{:?} of {}", attempt.entry.name, attempt.entry.queue)
}
