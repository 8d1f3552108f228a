//! Finds the outcome of each message: stored, parked, queued or lost. Objects and uploads count only for the
//! message whose id they carry.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::account::Account;
use super::ledger::{Attempt, Digest, Expectation, Id, Key};
use super::read_back::{DETAIL, Found, Queued, Stored};
use super::wire::{Event, Object};

/// An upload that S3 accepted, or refused because the key has an object (412).
struct Upload {
    id: Option<Id>,
    body: Digest,
    pixels: Option<Digest>,
    taken: bool,
}

/// The account while it is computed.
pub struct Settling<'a> {
    pub account: Account,
    attempts: &'a [Attempt],
    /// Good messages by bucket and key; by pixels if the key is not known in advance.
    by_key: HashMap<(&'a str, &'a str), Vec<&'a Attempt>>,
    by_pixels: HashMap<(&'a str, Digest), Vec<&'a Attempt>>,
    objects: HashMap<&'a Object, &'a Stored>,
    uploads: BTreeMap<&'a Object, Vec<Upload>>,
    /// Statuses with which S3, or a proxy before it, refused only this message's upload.
    refused: HashMap<Id, BTreeSet<u16>>,
    stored: HashSet<Id>,
    /// Messages whose key has an object with the same pixels.
    alike: HashSet<Id>,
    parked: HashSet<Id>,
    queued: HashSet<Id>,
}

impl<'a> Settling<'a> {
    pub fn new(attempts: &'a [Attempt], found: &'a Found, events: &'a [Event]) -> Self {
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
        let [stored, alike, parked, queued] = std::array::from_fn(|_| HashSet::new());
        let (uploads, refused) = (uploads(events), refused(events));
        Self { account, attempts, by_key, by_pixels, objects, uploads, refused, stored, alike, parked, queued }
    }

    /// The message with this id.
    pub fn attempt(&self, id: Option<Id>) -> Option<&'a Attempt> {
        self.attempts.get(usize::try_from(id?).ok()?)
    }

    /// The messages whose key is this object's key.
    pub fn owners(&self, object: &Object) -> Vec<&'a Attempt> {
        if let Some(owners) = self.by_key.get(&(object.bucket.as_str(), object.key.as_str())) {
            return owners.clone();
        }
        let pixels = self.objects.get(object).and_then(|stored| stored.pixels.clone().ok());
        let alike = pixels.and_then(|pixels| self.by_pixels.get(&(object.bucket.as_str(), pixels)));
        alike.into_iter().flatten().filter(|attempt| belongs(attempt, object)).copied().collect()
    }

    /// Judges a stored object.
    pub fn stored(&mut self, stored: &Stored) {
        let (owners, name) = (self.owners(&stored.object), named(&stored.object));
        let pixels = stored.pixels.as_ref().ok().copied();
        match owners.iter().find(|owner| Some(owner.id) == stored.id) {
            None if owners.is_empty() => self.account.unexpected.push(name),
            None => self.account.unexpected.push(format!("{name}, which carries {}", self.sender(stored.id))),
            Some(owner) => match &stored.pixels {
                Err(why) => self.account.wrong_pixels.push(format!("{name} ({why})")),
                Ok(_) if owner.entry.pixels() != pixels => self.account.wrong_pixels.push(name),
                Ok(_) => {}
            },
        }
        for owner in owners {
            if self.is_stored(owner, stored) {
                self.stored.insert(owner.id);
            }
            if owner.entry.pixels() == pixels {
                self.alike.insert(owner.id);
            }
        }
    }

    /// Whether the object of a message's key proves that the message was stored: the object carries the message's
    /// id, has the bytes of the message's own upload, or replaced the message's own image.
    fn is_stored(&self, owner: &Attempt, stored: &Stored) -> bool {
        let replaced = |upload: &Upload| {
            let is_good = matches!(owner.entry.expectation, Expectation::Good { .. });
            is_good && upload.taken && upload.pixels == owner.entry.pixels()
        };
        let uploads = self.uploads.get(&stored.object).into_iter().flatten();
        let mut own = uploads.filter(|upload| upload.id == Some(owner.id));
        stored.id == Some(owner.id) || own.any(|upload| upload.body == stored.body || replaced(upload))
    }

    /// Judges a parked message.
    pub fn parked(&mut self, parked: &Queued) {
        let Some(attempt) = self.attempt(parked.id) else {
            self.account.unexpected.push(format!("a message in {} that nobody published", parked.queue));
            return;
        };
        let reason = parked.reason().unwrap_or("no reason");
        let is_there = self.stored.contains(&attempt.id) || self.alike.contains(&attempt.id);
        let mut right: Vec<&str> = match &attempt.entry.expectation {
            Expectation::Bad { reason } => vec![reason],
            Expectation::FirstOfItsKey { reason, .. } if !is_there => vec![reason],
            _ => Vec::new(),
        };
        // Even if the object exists: a stored message may be delivered again, and then be refused.
        right.extend(self.refused.get(&attempt.id).into_iter().flatten().filter_map(|status| reason_of(*status)));
        let name = title(attempt);
        if !right.contains(&reason) {
            let right = if right.is_empty() { "parked".to_owned() } else { right.join(" or ") };
            let detail = parked.headers.get(DETAIL).map_or("", String::as_str);
            self.account.wrongly_parked.push(format!("{name}: {reason}, not {right}: {detail}"));
        } else if parked.body != attempt.body {
            self.account.wrongly_parked.push(format!("{name}: with another body"));
        }
        if !self.parked.insert(attempt.id) {
            self.account.parked_again += 1;
        }
    }

    /// Records a message that waits in its queue.
    pub fn queued(&mut self, queued: &Queued) {
        match self.attempt(queued.id) {
            Some(attempt) => drop(self.queued.insert(attempt.id)),
            None => self.account.unexpected.push(format!("a message in {} that nobody published", queued.queue)),
        }
    }

    /// Names the confirmed messages that were found nowhere.
    pub fn lost(&mut self) {
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

    /// Judges the uploads that S3 accepted: a message uploads the same bytes each time, to its own key, and the
    /// object has the bytes of one of the uploads.
    pub fn uploads(&mut self) {
        for (object, uploads) in &self.uploads {
            let taken: Vec<_> = uploads.iter().filter(|upload| upload.taken).collect();
            self.account.duplicates += taken.len().saturating_sub(1);
            let mut bodies = BTreeMap::<Option<Id>, HashSet<Digest>>::new();
            for upload in &taken {
                bodies.entry(upload.id).or_default().insert(upload.body);
            }
            for (id, bodies) in &bodies {
                if bodies.len() > 1 {
                    self.account.differing.push(format!("{} ({} times)", named(object), bodies.len()));
                }
                let is_own = self
                    .attempt(*id)
                    .is_some_and(|attempt| attempt.entry.pixels().is_some() && belongs(attempt, object));
                let is_named = self.objects.get(object).is_some_and(|stored| stored.id == *id);
                if !is_own && !is_named {
                    let what = format!("an upload to {} by {}", named(object), self.sender(*id));
                    self.account.unexpected.push(what);
                }
            }
            let is_seen = |stored: &&Stored| taken.iter().any(|upload| upload.body == stored.body);
            if !taken.is_empty() && self.objects.get(object).is_some_and(|stored| !is_seen(stored)) {
                self.account.differing.push(format!("{} (the stored bytes differ)", named(object)));
            }
        }
    }

    /// Describes the message that an object or an upload names as its origin.
    fn sender(&self, id: Option<Id>) -> String {
        let unknown = if id.is_some() { "an id that nobody published" } else { "no message id" };
        self.attempt(id).map_or(unknown.to_owned(), |attempt| format!("the id of {}", title(attempt)))
    }
}

/// All uploads that S3 accepted, or refused because the key has an object.
fn uploads(events: &[Event]) -> BTreeMap<&Object, Vec<Upload>> {
    let mut uploads = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        if let Event::Put { object, id, body, pixels, status: status @ (200..300 | 412), .. } = event {
            let upload = Upload { id: *id, body: *body, pixels: *pixels, taken: *status != 412 };
            uploads.entry(object).or_default().push(upload);
        }
    }
    uploads
}

/// Statuses of uploads that were refused while other uploads were accepted.
fn refused(events: &[Event]) -> HashMap<Id, BTreeSet<u16>> {
    let mut refused = HashMap::<_, BTreeSet<_>>::new();
    for event in events {
        if let Event::Refused { id, status } = event {
            refused.entry(*id).or_default().insert(*status);
        }
    }
    refused
}

/// The reason for parking a message whose upload alone was refused with this status.
fn reason_of(status: u16) -> Option<&'static str> {
    match status {
        403 => Some("AccessDenied"),
        413 => Some("ImageTooLarge"),
        _ => None,
    }
}

/// Whether the message may be stored as this object.
pub fn belongs(attempt: &Attempt, object: &Object) -> bool {
    attempt.entry.bucket == object.bucket && attempt.entry.key.matches(&object.key)
}

fn named(object: &Object) -> String {
    format!("{}/{}", object.bucket, object.key)
}

/// The name of a message in a fault's sentence.
pub fn title(attempt: &Attempt) -> String {
    format!("{:?} of {}", attempt.entry.name, attempt.entry.queue)
}
