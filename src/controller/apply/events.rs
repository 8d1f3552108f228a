//! Events of pipelines. Each text is one Event object, whose count rises when the text is repeated, and a pipeline may
//! create a limited number of objects per hour.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _};

use super::super::transitions::Transition;
use crate::api::ImagePipeline;

/// How long a repeated text raises the count of its event: as long as the recorder keeps the event.
const SAME_FOR: SignedDuration = SignedDuration::from_mins(6);

/// How many Event objects a pipeline may create per hour, counted separately for warnings and for normal events. The
/// API server keeps events for an hour. Further events are in the log only.
const MOST: usize = 60;
const WITHIN: SignedDuration = SignedDuration::from_hours(1);

pub(super) struct Events {
    client: Client,
    reporter: Reporter,
}

/// The events of one pipeline that were published lately.
#[derive(Default)]
pub struct PublishedEvents {
    warnings: Published,
    normal: Published,
}

/// A recorder counts all events of one reason as the same event and keeps the first text, so each text has its own
/// recorder.
#[derive(Default)]
struct Published {
    texts: HashMap<String, (Recorder, Timestamp)>,
    budget: Budget,
}

/// When Event objects were created.
#[derive(Default)]
struct Budget(VecDeque<Timestamp>);

impl Events {
    pub(super) fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter }
    }

    pub(super) async fn publish(
        &self,
        pipeline: &ImagePipeline,
        transition: &Transition,
        published: &mut PublishedEvents,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let Transition { warning, reason, note } = transition;
        let published = if *warning { &mut published.warnings } else { &mut published.normal };
        let note: String = note.chars().take(1000).collect();
        let event = Event {
            type_: if *warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_string(),
            note: Some(note.clone()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let Some(recorder) = self.recorder(published, &note, now) else { return Ok(()) };
        match recorder.publish(&event, &pipeline.object_ref(&())).await {
            // The Event object has been deleted meanwhile: create it again.
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                published.texts.remove(&note);
                let Some(recorder) = self.recorder(published, &note, now) else { return Ok(()) };
                recorder.publish(&event, &pipeline.object_ref(&())).await
            }
            result => result,
        }
    }

    /// The recorder of this text; `None`: the limit of Event objects is reached.
    fn recorder(&self, published: &mut Published, note: &str, now: Timestamp) -> Option<Recorder> {
        let Published { texts, budget } = published;
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
}

impl Budget {
    /// Takes one object of the budget, if one is left.
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
