//! Builds histories of an honest consumer, and histories with one change: the steps of each message, interleaved
//! with the steps of other messages. Knows nothing of the account's rules.

use accounting::account::Account;
use accounting::ledger::{Digest, Entry, Expectation, Id, Key, Ledger};
use accounting::read_back::{Found, Queued, Stored};
use accounting::wire::{Event, Object, Wire};

/// One step in the life of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Deliver,
    /// It is uploaded, and the client receives S3's answer.
    Put,
    /// It is uploaded, and the client receives no answer.
    PutUntold,
    /// S3 refuses the upload (503).
    PutRefused,
    /// S3 refuses this upload only, with this status.
    RefusedAlone(u16),
    /// S3 refuses the upload because its key has an object (412).
    PutKeyTaken,
    /// S3 answers a HEAD for the object of its key.
    Head,
    /// The broker confirms a copy in the parking queue.
    Park,
    /// The broker confirms a renewed copy in its own queue.
    Renew,
    Acknowledge,
    /// It is returned to its queue.
    GiveBack,
}

#[derive(Default)]
pub struct History {
    /// The published messages.
    pub ledger: Ledger,
    /// The events that the taps saw.
    pub wire: Wire,
    /// The objects and messages at the end.
    pub found: Found,
}

/// A digest made of a text.
pub fn digest(of: &str) -> Digest {
    blake3::hash(of.as_bytes())
}

/// An image with this name, for queue `q` and bucket `b`.
pub fn good(name: &str) -> Entry {
    Entry::good("q", "b", "", name, digest(name))
}

/// A message that must be parked.
pub fn bad(name: &str) -> Entry {
    Entry::bad("q", "b", name, "InvalidImage")
}

/// An image that is stored only if no object has its key.
pub fn first(name: &str, pixels: &str) -> Entry {
    let expectation = Expectation::FirstOfItsKey { pixels: digest(pixels), reason: "ObjectExists".to_owned() };
    Entry { expectation, ..good(name) }
}

/// An image whose key contains its digest.
pub fn addressed(name: &str, pixels: &str) -> Entry {
    let key = Key::Around(format!("{name}-"), ".png".to_owned());
    Entry { key, expectation: Expectation::Good { pixels: digest(pixels) }, ..good(name) }
}

/// A message that must be discarded.
pub fn discarded(name: &str) -> Entry {
    Entry { expectation: Expectation::Discarded, ..good(name) }
}

/// An object in bucket `b`.
pub fn object(key: &str) -> Object {
    Object { bucket: "b".to_owned(), key: key.to_owned() }
}

impl History {
    /// Publishes a message, with a confirm.
    pub fn publish(&mut self, entry: Entry) -> Id {
        let id = self.attempt(entry);
        self.ledger.confirm(id);
        id
    }

    /// Publishes a message, without a confirm.
    pub fn attempt(&mut self, entry: Entry) -> Id {
        let body = entry.name.clone();
        self.ledger.attempt(entry, body.as_bytes())
    }

    /// Adds one step of a message whose object has this key. Returns the index of the last delivery.
    pub fn step(&mut self, id: Id, key: &str, step: Step, delivery: usize) -> usize {
        let (object, queue) = (object(key), "q.parked".into());
        let (body, pixels) = self.image(id, key);
        let put = |status, told| {
            let pixels = pixels.filter(|_| status == 200);
            Event::Put { object: object.clone(), id: Some(id), body, pixels, status, told }
        };
        let event = match step {
            Step::Deliver => {
                let (id, queue) = (Some(id), "q".into());
                return self.wire.note(Event::Delivered { id, queue, redelivered: false });
            }
            Step::Put => put(200, true),
            Step::PutUntold => put(200, false),
            Step::PutRefused => put(503, true),
            Step::RefusedAlone(status) => Event::Refused { id, status },
            Step::PutKeyTaken => put(412, true),
            Step::Head => Event::Head { object, status: 200 },
            Step::Park => Event::Confirmed { id: Some(id), queue, renewed: false },
            Step::Renew => Event::Confirmed { id: Some(id), queue: "q".into(), renewed: true },
            Step::Acknowledge => Event::Acknowledged { delivery },
            Step::GiveBack => Event::GivenUp { delivery, requeue: true },
        };
        self.wire.note(event);
        delivery
    }

    /// Adds all steps of a message in order.
    pub fn steps(&mut self, id: Id, key: &str, steps: &[Step]) {
        steps.iter().fold(usize::MAX, |delivery, step| self.step(id, key, *step, delivery));
    }

    /// Adds the object that a message's `Put` to this key uploads.
    pub fn store(&mut self, id: Id, key: &str) {
        let (body, pixels) = self.image(id, key);
        let pixels = pixels.ok_or_else(|| "a message that has no image".to_owned());
        self.found.stored.push(Stored { object: object(key), id: Some(id), body, pixels });
    }

    /// Digests of the file and of the pixels that a message uploads to a key.
    fn image(&self, id: Id, key: &str) -> (Digest, Option<Digest>) {
        let pixels = self.ledger.attempts()[id as usize].entry.pixels();
        (digest(&format!("{key} {pixels:?}")), pixels)
    }

    /// A message as read back from the parking queue.
    pub fn message(&self, id: Id, reason: &str) -> Queued {
        let body = self.ledger.attempts()[id as usize].body;
        let headers = [("x-image-pipeline-reason".to_owned(), reason.to_owned())].into();
        Queued { queue: "q.parked".to_owned(), id: Some(id), body, headers }
    }

    /// Adds a message to the parking queue.
    pub fn park(&mut self, id: Id, reason: &str) {
        let message = self.message(id, reason);
        self.found.parked.push(message);
    }

    /// The account of this history.
    pub fn account(&self) -> Account {
        Account::of(&self.ledger.attempts(), &self.found, &self.wire.events())
    }
}
