//! The events that both taps recorded, in one order: a cause comes before its effect. Holds no bodies, because a
//! run may have many gigabytes of them.

use std::sync::{Arc, Mutex};

use super::ledger::{Digest, Id};

/// An event on the wire.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message was sent to a consumer. The index of this event identifies the delivery.
    Delivered {
        /// Ledger number, if the message has one.
        id: Option<Id>,
        /// The queue that the consumer reads.
        queue: Arc<str>,
        /// The delivery's `redelivered` flag.
        redelivered: bool,
    },
    /// A consumer acknowledged a delivery.
    Acknowledged {
        /// Index of the delivery event.
        delivery: usize,
    },
    /// A consumer returned or rejected a delivery.
    GivenUp {
        /// Index of the delivery event.
        delivery: usize,
        /// Whether the message is requeued.
        requeue: bool,
    },
    /// The broker confirmed a message to its publisher, and did not return it.
    Confirmed {
        /// Ledger number, if the message has one.
        id: Option<Id>,
        /// The routing key, which is the queue for the default exchange.
        queue: Arc<str>,
        /// Whether a consumer published the message again to the queue it reads.
        renewed: bool,
    },
    /// An upload was answered by S3, or by a fault in its place.
    Put {
        object: Object,
        /// Ledger number of the message whose id is in the object's metadata.
        id: Option<Id>,
        /// Digest of the body.
        body: Digest,
        /// Digest of the pixels, if S3 accepted a PNG.
        pixels: Option<Digest>,
        status: u16,
        /// Whether the answer was passed on.
        told: bool,
    },
    /// An upload was refused for its own content or key: other uploads were accepted at that time.
    Refused {
        /// The message of the upload.
        id: Id,
        status: u16,
    },
    /// S3 answered a HEAD for an object.
    Head { object: Object, status: u16 },
    /// A tap could not parse its traffic. It may have missed events from here on.
    Unclear(String),
}

/// Bucket and key.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Object {
    pub bucket: String,
    pub key: String,
}

/// The recorded events of both taps. Clones share them.
#[derive(Clone, Default)]
pub struct Wire {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Wire {
    /// Records an event and returns its index.
    pub fn note(&self, event: Event) -> usize {
        let mut events = self.events.lock().expect("no holder of the lock panics");
        events.push(event);
        events.len() - 1
    }

    /// Place of the next event: the number of events so far.
    pub fn next_place(&self) -> usize {
        self.events.lock().expect("no holder of the lock panics").len()
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.since(0)
    }

    /// The events from this index on.
    pub fn since(&self, place: usize) -> Vec<Event> {
        self.events.lock().expect("no holder of the lock panics").get(place..).unwrap_or_default().to_vec()
    }
}
