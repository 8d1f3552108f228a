//! Follows the recorded traffic and names the messages that a consumer acknowledged before it had proof that they
//! are safe. The proof must come after the delivery and before the acknowledgement. Proofs are:
//!
//! - S3 accepted an upload with the message's id and its pixels, to its key, and the consumer received the answer;
//! - S3 refused such an upload because the key has an object (412), the object has the same bytes, and the consumer
//!   received the answer to a HEAD for the object;
//! - S3 accepted such an upload, its answer was lost, and the consumer received the answer to a HEAD for the object;
//! - the broker confirmed a copy of the message in another queue, or a renewed copy in its own queue.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::{Attempt, Digest, Expectation, Id};
use super::settling::{Settling, belongs, title};
use super::wire::{Event, Object};

/// What a consumer has learned about an object that already has its message's key.
#[derive(Default)]
struct Comparison {
    /// An upload was refused because the object has its bytes.
    refused: bool,
    /// The consumer received the answer to a HEAD.
    seen: bool,
}

/// The proofs found so far.
pub struct Proofs<'s, 'a> {
    settling: &'s mut Settling<'a>,
    /// Deliveries without a proof, by message and event index.
    open: HashMap<Id, BTreeMap<usize, Comparison>>,
    delivered: HashMap<usize, Option<Id>>,
    /// Digests of all uploads that S3 accepted. A 412 is never earlier than the upload that it refers to, but its
    /// answer may be recorded before that upload's answer.
    taken: HashMap<&'a Object, HashSet<Digest>>,
    /// Messages of which S3 has accepted an upload, whether the consumer received the answer or not.
    stored: HashSet<Id>,
}

impl<'s, 'a> Proofs<'s, 'a> {
    pub fn new(settling: &'s mut Settling<'a>) -> Self {
        Self {
            settling,
            open: HashMap::new(),
            delivered: HashMap::new(),
            taken: HashMap::new(),
            stored: HashSet::new(),
        }
    }

    /// Follows all recorded events.
    pub fn follow(mut self, events: &'a [Event]) {
        for event in events {
            if let Event::Put { object, body, status: 200..300, .. } = event {
                self.taken.entry(object).or_default().insert(*body);
            }
        }
        for (place, event) in events.iter().enumerate() {
            match event {
                Event::Delivered { id, redelivered, .. } => {
                    self.settling.account.redelivered += usize::from(*redelivered);
                    self.delivered.insert(place, *id);
                    if let Some(id) = id {
                        self.open.entry(*id).or_default().insert(place, Comparison::default());
                    }
                }
                Event::Put { object, id, pixels, status: 200..300, told, .. } => {
                    let own =
                        self.own(*id, object).filter(|own| own.entry.pixels().is_some_and(|own| Some(own) == *pixels));
                    if let Some(attempt) = own {
                        self.stored.insert(attempt.id);
                        if *told {
                            self.open.remove(&attempt.id);
                        }
                    }
                }
                Event::Put { object, id, body, status: 412, told: true, .. } => {
                    let own = self
                        .own(*id, object)
                        .filter(|_| self.taken.get(object).is_some_and(|taken| taken.contains(body)));
                    self.compare(own, |comparison| comparison.refused = true);
                }
                Event::Head { object, status: 200 } if self.taken.contains_key(object) => {
                    let owners: Vec<_> = self.settling.owners(object).into_iter().collect();
                    for owner in &owners {
                        if self.stored.contains(&owner.id) {
                            self.open.remove(&owner.id);
                        }
                    }
                    self.compare(owners, |comparison| comparison.seen = true);
                }
                Event::Confirmed { id: Some(id), queue, renewed } if *renewed || self.is_moved(*id, queue) => {
                    self.open.remove(id);
                }
                Event::Acknowledged { delivery } => self.acknowledged(*delivery),
                Event::Unclear(what) => self.settling.account.unclear.push(what.clone()),
                _ => {}
            }
        }
    }

    /// The message with this id, if the object belongs to it.
    fn own(&self, id: Option<Id>, object: &Object) -> Option<&'a Attempt> {
        self.settling.attempt(id).filter(|attempt| belongs(attempt, object))
    }

    /// Records a part of the comparison for every open delivery of these messages.
    fn compare(&mut self, attempts: impl IntoIterator<Item = &'a Attempt>, note: impl Fn(&mut Comparison)) {
        for attempt in attempts {
            if let Some(deliveries) = self.open.get_mut(&attempt.id) {
                deliveries.values_mut().for_each(&note);
                deliveries.retain(|_, comparison| !(comparison.refused && comparison.seen));
            }
        }
    }

    /// The confirm of the original publisher is no proof.
    fn is_moved(&self, id: Id, queue: &str) -> bool {
        self.settling.attempt(Some(id)).is_some_and(|attempt| attempt.entry.queue != queue)
    }

    fn acknowledged(&mut self, delivery: usize) {
        let Some(attempt) = self.delivered.get(&delivery).and_then(|id| self.settling.attempt(*id)) else {
            let what = "an acknowledgement of a message that nobody published";
            self.settling.account.unclear.push(what.to_owned());
            return;
        };
        let unproven = self.open.get(&attempt.id).is_some_and(|deliveries| deliveries.contains_key(&delivery));
        if unproven && !matches!(attempt.entry.expectation, Expectation::Discarded) {
            self.settling.account.early_ack.push(title(attempt));
        }
    }
}
