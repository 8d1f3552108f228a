//! A message under way, and what the log has of its end: one line, whatever that is. It must never log a
//! body, a Secret, or what others wrote as it stands.

use std::fmt::Arguments;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, field, warn};

use super::decode::ObjectKey;
use super::metrics::Outcome;
use super::origin::{Origin, TRACEPARENT};
use super::upload::Stored;
use crate::queue::Delivery;
use crate::reason::Reason;

/// One delivery and what has been done about it.
pub struct Message {
    /// As the broker gave it.
    pub delivery: Arc<Delivery>,
    /// The time of the delivery.
    pub first_seen: Timestamp,
    /// The same for what is measured.
    pub since: Instant,
    /// How often storing it was begun.
    pub attempts: u32,
    /// Its object's key, once that is known.
    pub key: Option<ObjectKey>,
    /// What storing it came to.
    pub stored: Option<Stored>,
}

impl Message {
    /// One that has just come.
    pub fn new(delivery: Delivery) -> Self {
        Self {
            delivery: Arc::new(delivery),
            first_seen: Timestamp::now(),
            since: Instant::now(),
            attempts: 1,
            key: None,
            stored: None,
        }
    }

    /// What becomes of it, for who follows one image. `refused`: why it can never succeed.
    pub fn log(&self, pipeline: Arguments<'_>, outcome: Outcome, refused: Option<(Reason, &str)>) {
        let origin = origin(&self.delivery);
        macro_rules! line {
            ($level:ident, $text:literal) => {
                $level!(
                    pipeline,
                    outcome = outcome.as_str(),
                    reason = refused.map(|(reason, _)| reason.as_str()),
                    detail = refused.map(|(_, detail)| detail),
                    key = self.key.as_ref().map(ObjectKey::as_str),
                    stored = self.stored.map(field::debug),
                    message_id = origin.message_id().map(field::display),
                    traceparent = origin.traceparent(),
                    delivery_tag = self.delivery.tag(),
                    seconds = self.since.elapsed().as_secs_f64(),
                    $text
                )
            };
        }
        match refused {
            None => line!(debug, "done with a message"),
            Some(_) => line!(warn, "refused a message that can never succeed"),
        }
    }
}

/// Where an image comes from.
pub fn origin(delivery: &Delivery) -> Origin<'_> {
    Origin::new(delivery.message_id(), delivery.text(TRACEPARENT))
}
