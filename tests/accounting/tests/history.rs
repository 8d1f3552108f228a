//! Histories as an honest consumer would leave them, and with one thing changed: steps of each
//! message, in whatever order they come among those of the others. It must never know how the account
//! judges them.

use accounting::account::Account;
use accounting::ledger::{Digest, Entry, Expectation, Id, Key, Ledger};
use accounting::read_back::{Found, Queued, Stored};
use accounting::wire::{Event, Object, Wire};

/// What happens to a message, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// It is delivered.
    Deliver,
    /// It is uploaded, and the store's answer passed on.
    Put,
    /// It is uploaded, and nobody told.
    PutUntold,
    /// The store refuses it.
    PutRefused,
    /// The store refuses it and nothing else, with this status.
    RefusedAlone(u16),
    /// The store refuses it because its key has an object.
    PutKeyTaken,
    /// The store describes the object of its key.
    Head,
    /// The parking queue has confirmed it.
    Park,
    /// A copy of it is in its queue, confirmed.
    Renew,
    /// It is acknowledged.
    Acknowledge,
    /// It is given back.
    GiveBack,
}

/// A run.
#[derive(Default)]
pub struct History {
    /// What was published.
    pub ledger: Ledger,
    /// What was seen.
    pub wire: Wire,
    /// What is there.
    pub found: Found,
}

/// Of anything.
pub fn digest(of: &str) -> Digest {
    blake3::hash(of.as_bytes())
}

/// An image of a name, in the queue `q` and for the bucket `b`.
pub fn good(name: &str) -> Entry {
    Entry::good("q", "b", "", name, digest(name))
}

/// A message that is to be parked.
pub fn bad(name: &str) -> Entry {
    Entry::bad("q", "b", name, "InvalidImage")
}

/// An image whose name may be taken.
pub fn first(name: &str, pixels: &str) -> Entry {
    let expectation = Expectation::FirstOfItsKey { pixels: digest(pixels), reason: "ObjectExists".to_owned() };
    Entry { expectation, ..good(name) }
}

/// An image whose key has its digest in it.
pub fn addressed(name: &str, pixels: &str) -> Entry {
    let key = Key::Around(format!("{name}-"), ".png".to_owned());
    Entry { key, expectation: Expectation::Good { pixels: digest(pixels) }, ..good(name) }
}

/// A message that is to be thrown away.
pub fn discarded(name: &str) -> Entry {
    Entry { expectation: Expectation::Discarded, ..good(name) }
}

/// An object's name in the bucket `b`.
pub fn object(key: &str) -> Object {
    Object { bucket: "b".to_owned(), key: key.to_owned() }
}

impl History {
    /// Publishes, confirmed.
    pub fn publish(&mut self, entry: Entry) -> Id {
        let id = self.attempt(entry);
        self.ledger.confirm(id);
        id
    }

    /// Publishes without a confirm.
    pub fn attempt(&mut self, entry: Entry) -> Id {
        let body = entry.name.clone();
        self.ledger.attempt(entry, body.as_bytes())
    }

    /// One step of a message whose object has this key; returns the place of the last delivery.
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

    /// All steps of a message, one after the other.
    pub fn steps(&mut self, id: Id, key: &str, steps: &[Step]) {
        steps.iter().fold(usize::MAX, |delivery, step| self.step(id, key, *step, delivery));
    }

    /// Puts an object there: what a message's `Put` to this key uploads.
    pub fn store(&mut self, id: Id, key: &str) {
        let (body, pixels) = self.image(id, key);
        let pixels = pixels.ok_or_else(|| "a message that has no image".to_owned());
        self.found.stored.push(Stored { object: object(key), id: Some(id), body, pixels });
    }

    /// The digests of the file and of the pixels that a message uploads to a key.
    fn image(&self, id: Id, key: &str) -> (Digest, Option<Digest>) {
        let pixels = self.ledger.attempts()[id as usize].entry.pixels();
        (digest(&format!("{key} {pixels:?}")), pixels)
    }

    /// A message as a queue has it.
    pub fn message(&self, id: Id, reason: &str) -> Queued {
        let body = self.ledger.attempts()[id as usize].body;
        let headers = [("x-image-pipeline-reason".to_owned(), reason.to_owned())].into();
        Queued { queue: "q.parked".to_owned(), id: Some(id), body, headers }
    }

    /// Parks a message.
    pub fn park(&mut self, id: Id, reason: &str) {
        let message = self.message(id, reason);
        self.found.parked.push(message);
    }

    /// What it comes to.
    pub fn account(&self) -> Account {
        Account::of(&self.ledger.attempts(), &self.found, &self.wire.events())
    }
}
