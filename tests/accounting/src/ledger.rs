//! What was published, and what must become of it. It must never take a message for confirmed that
//! the broker has not confirmed, nor forget one that it may have.

use std::sync::{Arc, Mutex, MutexGuard};

/// Of a body or of pixels.
pub type Digest = blake3::Hash;

/// A message's number in the ledger; it travels as the message id.
pub type Id = u64;

/// What the message ids of a ledger begin with.
const MESSAGE_ID: &str = "accounted-";

/// One message that is to be published.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The queue it goes to.
    pub queue: String,
    /// The name in the message.
    pub name: String,
    /// The bucket it belongs in.
    pub bucket: String,
    /// The key it would be stored under.
    pub key: Key,
    /// What must become of it.
    pub expectation: Expectation,
}

/// The key of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// This one.
    Exactly(String),
    /// One that begins and ends so; what is between is made of the content.
    Around(String, String),
}

/// What must become of a message.
#[derive(Clone, Debug)]
pub enum Expectation {
    /// It is stored. Where several have one key, the object is one of them.
    Good {
        /// The digest of its pixels.
        pixels: Digest,
    },
    /// It is parked.
    Bad {
        /// The reason that it must carry.
        reason: String,
    },
    /// Of all that have its key one is stored; another that has other pixels is parked.
    FirstOfItsKey {
        /// The digest of its pixels.
        pixels: Digest,
        /// The reason that it must carry if it is parked.
        reason: String,
    },
    /// It is thrown away.
    Discarded,
}

/// A message that was sent, or may have been.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its number.
    pub id: Id,
    /// What it is.
    pub entry: Entry,
    /// The digest of its body.
    pub body: Digest,
    /// Whether the broker has confirmed it.
    pub confirmed: bool,
}

/// The list of all attempts. Clones share it.
#[derive(Clone, Default)]
pub struct Ledger {
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl Entry {
    /// An image that is to be stored under prefix and name.
    pub fn good(queue: &str, bucket: &str, prefix: &str, name: &str, pixels: Digest) -> Self {
        let key = Key::Exactly(format!("{prefix}{name}"));
        let expectation = Expectation::Good { pixels };
        Self { queue: queue.to_owned(), name: name.to_owned(), bucket: bucket.to_owned(), key, expectation }
    }

    /// A message that is to be parked with this reason.
    pub fn bad(queue: &str, bucket: &str, name: &str, reason: &str) -> Self {
        let key = Key::Exactly(name.to_owned());
        let expectation = Expectation::Bad { reason: reason.to_owned() };
        Self { queue: queue.to_owned(), name: name.to_owned(), bucket: bucket.to_owned(), key, expectation }
    }

    /// The pixels that it may be stored with.
    pub fn pixels(&self) -> Option<Digest> {
        match &self.expectation {
            Expectation::Good { pixels } | Expectation::FirstOfItsKey { pixels, .. } => Some(*pixels),
            Expectation::Bad { .. } | Expectation::Discarded => None,
        }
    }
}

impl Key {
    /// Whether an object of this key may be it.
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Key::Exactly(own) => own == key,
            Key::Around(before, after) => {
                key.len() >= before.len() + after.len() && key.starts_with(before) && key.ends_with(after)
            }
        }
    }
}

impl Ledger {
    /// Notes a message before it is sent.
    pub fn attempt(&self, entry: Entry, body: &[u8]) -> Id {
        let mut attempts = self.lock();
        let id = attempts.len() as Id;
        attempts.push(Attempt { id, entry, body: blake3::hash(body), confirmed: false });
        id
    }

    /// Notes that the broker has confirmed it.
    pub fn confirm(&self, id: Id) {
        self.lock()[id as usize].confirmed = true;
    }

    /// All that was noted so far.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().expect("nobody panics with it")
    }
}

/// The message id of a number.
pub fn message_id(id: Id) -> String {
    format!("{MESSAGE_ID}{id}")
}

/// The number of a message id; another's message has none.
pub fn id_of(message_id: &str) -> Option<Id> {
    message_id.strip_prefix(MESSAGE_ID)?.parse().ok()
}
