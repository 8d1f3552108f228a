//! Events of pipelines: one object for one text, counted up when it is said again, and only so many
//! texts an hour. It must never show one text under another's event: the API server keeps the first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource as _};

use super::super::status::Transition;
use crate::api::ImagePipeline;

/// How long an event is counted up after it was said last: as long as the recorder knows it.
const SAME_FOR: SignedDuration = SignedDuration::from_mins(6);

/// How many objects a pipeline may make within how long, of warnings and of the rest: the API server
/// keeps events for an hour. What is beyond it is in the log, and what it led to in the status.
const MOST: usize = 60;
const WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// A pipeline, and whether it is its warnings.
type Key = (ObjectRef<ImagePipeline>, bool);

/// The publisher.
pub(super) struct Events {
    client: Client,
    reporter: Reporter,
    said: Mutex<HashMap<Key, Said>>,
}

/// What was said lately. A recorder takes all events of one reason for the same, whatever their
/// texts, so each text has one of its own.
#[derive(Default)]
struct Said {
    texts: HashMap<String, (Recorder, Timestamp)>,
    budget: Budget,
}

/// When objects were made.
#[derive(Default)]
struct Budget(VecDeque<Timestamp>);

impl Events {
    pub(super) fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter, said: Mutex::default() }
    }

    /// Publishes one change.
    ///
    /// # Errors
    /// The API server refused.
    pub(super) async fn publish(
        &self,
        pipeline: &ImagePipeline,
        transition: &Transition,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let Transition { warning, reason, note } = transition;
        let key = (ObjectRef::from_obj(pipeline), *warning);
        let note: String = note.chars().take(1000).collect();
        let event = Event {
            type_: if *warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_string(),
            note: Some(note.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let Some(recorder) = self.recorder(&key, &note, now) else { return Ok(()) };
        match recorder.publish(&event, &pipeline.object_ref(&())).await {
            // Somebody has deleted the event that was to be counted up.
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                self.locked().entry(key.clone()).or_default().texts.remove(&note);
                let Some(recorder) = self.recorder(&key, &note, now) else { return Ok(()) };
                recorder.publish(&event, &pipeline.object_ref(&())).await
            }
            result => result,
        }
    }

    /// Forgets pipelines other than those that `lives` names.
    pub(super) fn retain(&self, lives: impl Fn(&ObjectRef<ImagePipeline>) -> bool) {
        self.locked().retain(|(pipeline, _), _| lives(pipeline));
    }

    /// Who says this text; `None`: too much has been said.
    fn recorder(&self, key: &Key, note: &str, now: Timestamp) -> Option<Recorder> {
        let mut said = self.locked();
        let Said { texts, budget } = said.entry(key.clone()).or_default();
        texts.retain(|_, (_, last)| now.duration_since(*last) < SAME_FOR);
        if !texts.contains_key(note) {
            if !budget.takes(now) {
                return None;
            }
            texts.insert(note.to_owned(), (Recorder::new(self.client.clone(), self.reporter.clone()), now));
        }
        let (recorder, last) = texts.get_mut(note)?;
        *last = now;
        Some(recorder.clone())
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Key, Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget {
    /// Takes one object, if there is one left.
    fn takes(&mut self, now: Timestamp) -> bool {
        while self.0.pop_front_if(|made| now.duration_since(*made) >= WITHIN).is_some() {}
        let left = self.0.len() < MOST;
        if left {
            self.0.push_back(now);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_objects_an_hour_and_no_more() {
        let mut budget = Budget::default();
        let at = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let taken = (0..3599).filter(|second| budget.takes(at(*second))).count();
        assert_eq!(taken, MOST);
        assert!(budget.takes(at(3600)) && !budget.takes(at(3600)), "one is an hour old");
        assert!(budget.takes(at(3601)), "and another");
    }
}
