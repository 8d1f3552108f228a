//! The ledger: published messages and the expected outcome of each. A message counts as confirmed only after the
//! broker's confirm, and unconfirmed attempts are kept.

use std::sync::{Arc, Mutex, MutexGuard};

/// Digest of a body or of pixels.
pub type Digest = blake3::Hash;

/// A message's number in the ledger. It is sent as the message id.
pub type Id = u64;

/// Prefix of a ledger's message ids.
const MESSAGE_ID: &str = "accounted-";

/// A message to publish.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The queue that it is published to.
    pub queue: String,
    /// The image name in the message.
    pub name: String,
    /// The bucket of its object.
    pub bucket: String,
    /// The key of its object.
    pub key: Key,
    pub expectation: Expectation,
}

/// The key of an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Key {
    /// Exactly this key.
    Exactly(String),
    /// A key with this prefix and suffix. The part between depends on the content.
    Around(String, String),
}

/// The expected outcome of a message.
#[derive(Clone, Debug)]
pub enum Expectation {
    /// It is stored. If several messages have the same key, the object is one of their images.
    Good {
        /// Digest of its pixels.
        pixels: Digest,
    },
    /// It is parked.
    Bad {
        /// The reason that the parked message must have.
        reason: String,
    },
    /// One of the messages with this key is stored; a message with other pixels is parked.
    FirstOfItsKey {
        /// Digest of its pixels.
        pixels: Digest,
        /// The reason that it must have if it is parked.
        reason: String,
    },
    /// It is discarded.
    Discarded,
}

/// A message that was sent, or may have been sent.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub id: Id,
    pub entry: Entry,
    /// Digest of its body.
    pub body: Digest,
    /// Whether the broker confirmed it.
    pub confirmed: bool,
}

/// All attempts. Clones share the list.
#[derive(Clone, Default)]
pub struct Ledger {
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl Entry {
    /// An image to store under prefix and name.
    pub fn good(queue: &str, bucket: &str, prefix: &str, name: &str, pixels: Digest) -> Self {
        let key = Key::Exactly(format!("{prefix}{name}"));
        let expectation = Expectation::Good { pixels };
        Self { queue: queue.to_owned(), name: name.to_owned(), bucket: bucket.to_owned(), key, expectation }
    }

    /// A message to park with this reason.
    pub fn bad(queue: &str, bucket: &str, name: &str, reason: &str) -> Self {
        let key = Key::Exactly(name.to_owned());
        let expectation = Expectation::Bad { reason: reason.to_owned() };
        Self { queue: queue.to_owned(), name: name.to_owned(), bucket: bucket.to_owned(), key, expectation }
    }

    /// Pixels of the object, if the message may be stored.
    pub fn pixels(&self) -> Option<Digest> {
        match &self.expectation {
            Expectation::Good { pixels } | Expectation::FirstOfItsKey { pixels, .. } => Some(*pixels),
            Expectation::Bad { .. } | Expectation::Discarded => None,
        }
    }
}

impl Key {
    /// Whether an object with this key may belong to the message.
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
    /// Records a message before it is sent.
    pub fn attempt(&self, entry: Entry, body: &[u8]) -> Id {
        let mut attempts = self.lock();
        let id = attempts.len() as Id;
        attempts.push(Attempt { id, entry, body: blake3::hash(body), confirmed: false });
        id
    }

    /// Records the broker's confirm.
    pub fn confirm(&self, id: Id) {
        self.lock()[id as usize].confirmed = true;
    }

    /// All attempts so far.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.attempts.lock().expect("no holder of the lock panics")
    }
}

/// Message id of a ledger number.
pub fn message_id(id: Id) -> String {
    format!("{MESSAGE_ID}{id}")
}

/// Ledger number of a message id; `None` for messages that are not from a ledger.
pub fn id_of(message_id: &str) -> Option<Id> {
    message_id.strip_prefix(MESSAGE_ID)?.parse().ok()
}
