//! The times at which each pipeline stored images, as the tap before S3 saw them, and the number of acknowledged
//! messages. An upload whose answer did not reach the consumer does not count.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use accounting::ledger::Id;
use accounting::wire::{Event, Wire};

/// Interval between checks, short compared with every measured time.
const LOOK: Duration = Duration::from_millis(50);

/// Times of stored images, by pipeline.
pub struct Seen {
    names: Vec<&'static str>,
    stored: Mutex<Vec<Vec<Instant>>>,
    settled: Mutex<Settled>,
}

#[derive(Default)]
struct Settled {
    /// Pipeline and message of each delivery, by event index.
    delivered: HashMap<usize, (usize, Id)>,
    /// Messages acknowledged at least once, by pipeline.
    acknowledged: Vec<HashSet<Id>>,
}

impl Seen {
    /// For pipelines with these names, which are also the names of their buckets.
    pub fn of(names: Vec<&'static str>) -> Self {
        let stored = Mutex::new(vec![Vec::new(); names.len()]);
        let settled = Settled { acknowledged: vec![HashSet::new(); names.len()], ..Settled::default() };
        Self { names, stored, settled: Mutex::new(settled) }
    }

    /// Follows the events until it is canceled.
    pub async fn look(&self, wire: &Wire) {
        let (mut looks, mut place) = (tokio::time::interval(LOOK), 0);
        loop {
            looks.tick().await;
            let events = wire.since(place);
            for event in &events {
                self.note(event, Instant::now());
                self.settle(event, place);
                place += 1;
            }
        }
    }

    /// Time of the first image that a pipeline stored since `moment`.
    pub fn first_since(&self, pipeline: usize, moment: Instant) -> Option<Instant> {
        let stored = self.stored.lock().unwrap();
        let of_it = &stored[pipeline];
        of_it.get(of_it.partition_point(|at| *at < moment)).copied()
    }

    /// Times of all images of a pipeline.
    pub fn all(&self, pipeline: usize) -> Vec<Instant> {
        self.stored.lock().unwrap()[pipeline].clone()
    }

    /// Number of a pipeline's acknowledged messages.
    pub fn acknowledged(&self, pipeline: usize) -> usize {
        self.settled.lock().unwrap().acknowledged[pipeline].len()
    }

    fn settle(&self, event: &Event, place: usize) {
        let mut settled = self.settled.lock().unwrap();
        match event {
            Event::Delivered { id: Some(id), queue, .. } => {
                if let Some(pipeline) = self.names.iter().position(|name| **name == **queue) {
                    settled.delivered.insert(place, (pipeline, *id));
                }
            }
            Event::Acknowledged { delivery } => {
                if let Some((pipeline, id)) = settled.delivered.remove(delivery) {
                    settled.acknowledged[pipeline].insert(id);
                }
            }
            Event::GivenUp { delivery, .. } => drop(settled.delivered.remove(delivery)),
            _ => {}
        }
    }

    fn note(&self, event: &Event, now: Instant) {
        let Event::Put { object, status: 200..300, told: true, .. } = event else { return };
        if let Some(pipeline) = self.names.iter().position(|name| *name == object.bucket) {
            self.stored.lock().unwrap()[pipeline].push(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use accounting::wire::Object;

    fn put(bucket: &str, key: &str, status: u16, told: bool) -> Event {
        let object = Object { bucket: bucket.to_owned(), key: key.to_owned() };
        Event::Put { object, id: None, body: blake3::hash(b""), pixels: None, status, told }
    }

    #[test]
    fn only_an_image_that_was_stored_and_answered_counts() {
        let (seen, start) = (Seen::of(vec!["one", "two"]), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (event, seconds) in [
            (put("two", "a.png", 200, true), 1),
            (put("one", "a.png", 500, true), 2),
            (put("one", "a.png", 200, false), 3),
            (put("other", "a.png", 200, true), 5),
            (put("one", "a.png", 200, true), 6),
            (put("one", "b.png", 200, true), 8),
        ] {
            seen.note(&event, at(seconds));
        }
        assert_eq!(seen.first_since(0, start), Some(at(6)));
        assert_eq!((seen.first_since(0, at(7)), seen.first_since(0, at(9))), (Some(at(8)), None));
        assert_eq!(seen.all(1), [at(1)]);
    }

    #[test]
    fn a_message_that_is_acknowledged_again_counts_once() {
        let seen = Seen::of(vec!["one"]);
        let delivered = |id| Event::Delivered { id: Some(id), queue: "one".into(), redelivered: false };
        let events = [
            delivered(7),
            delivered(8),
            Event::GivenUp { delivery: 1, requeue: true },
            delivered(7),
            Event::Acknowledged { delivery: 0 },
            Event::Acknowledged { delivery: 3 },
        ];
        events.iter().enumerate().for_each(|(place, event)| seen.settle(event, place));
        assert_eq!(seen.acknowledged(0), 1);
    }
}
