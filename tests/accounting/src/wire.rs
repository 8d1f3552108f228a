//! What both taps saw, in one order: an event that could have caused another stands before it. It
//! must never hold a body, of which there may be many gigabytes.

use std::sync::{Arc, Mutex};

use super::ledger::{Digest, Id};

/// Something that was seen on its way.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message went to a consumer. The event's place is the delivery's number.
    Delivered {
        /// Its number in the ledger, if it carries one.
        id: Option<Id>,
        /// The queue that the consumer reads.
        queue: Arc<str>,
        /// Whether the broker says that it has delivered it before.
        redelivered: bool,
    },
    /// A consumer acknowledged a delivery.
    Acknowledged {
        /// Where it was delivered.
        delivery: usize,
    },
    /// A consumer gave a delivery back, or up.
    GivenUp {
        /// Where it was delivered.
        delivery: usize,
        /// Whether it is to be delivered again.
        requeue: bool,
    },
    /// A publisher was told that the broker has taken a message, and it was not returned.
    Confirmed {
        /// Its number in the ledger, if it carries one.
        id: Option<Id>,
        /// The routing key: through the default exchange, the queue.
        queue: Arc<str>,
        /// A consumer published it again to the queue that it reads.
        renewed: bool,
    },
    /// The store has answered an upload, or a fault has in its place.
    Put {
        /// Where to.
        object: Object,
        /// The number in the ledger of the message whose id the object's metadata has.
        id: Option<Id>,
        /// The digest of the body.
        body: Digest,
        /// The digest of the pixels, if the store took a PNG.
        pixels: Option<Digest>,
        /// The status.
        status: u16,
        /// Whether the answer was passed on.
        told: bool,
    },
    /// An upload was refused for what it is itself: other uploads were let through at that time.
    Refused {
        /// The message that it is made of.
        id: Id,
        /// The status.
        status: u16,
    },
    /// The store has told what it has under a key.
    Head {
        /// Which.
        object: Object,
        /// The status.
        status: u16,
    },
    /// Something that a tap could not make out: from here on it may have missed things.
    Unclear(String),
}

/// Bucket and key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Object {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
}

/// The record of both taps. Clones share it.
#[derive(Clone, Default)]
pub struct Wire {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Wire {
    /// Notes an event and returns its place.
    pub fn note(&self, event: Event) -> usize {
        let mut events = self.events.lock().expect("nobody panics with it");
        events.push(event);
        events.len() - 1
    }

    /// The place that the next event will have.
    pub fn next_place(&self) -> usize {
        self.events.lock().expect("nobody panics with it").len()
    }

    /// All that was seen so far.
    pub fn events(&self) -> Vec<Event> {
        self.since(0)
    }

    /// What was seen from this place on.
    pub fn since(&self, place: usize) -> Vec<Event> {
        self.events.lock().expect("nobody panics with it").get(place..).unwrap_or_default().to_vec()
    }
}
