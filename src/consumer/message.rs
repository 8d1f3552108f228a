//! A message in progress, and its one log line when it is settled or returned. Message ids are percent-encoded and
//! trace contexts validated before they are logged; bodies are not logged.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, field, warn};

use super::decode::ObjectKey;
use super::metrics::Outcome;
use super::origin::{Origin, TRACEPARENT};
use super::settle::Refusal;
use super::upload::Stored;
use crate::rabbitmq::Delivery;

/// One delivery and its processing so far.
pub struct Message {
    pub delivery: Arc<Delivery>,
    /// Time of the delivery.
    pub first_seen: Timestamp,
    /// The same time on the monotonic clock, for durations.
    pub since: Instant,
    /// Number of attempts to store the object, the current one included.
    pub attempts: u32,
    /// The object key, once the image is converted.
    pub key: Option<ObjectKey>,
    pub stored: Option<Stored>,
}

impl Message {
    /// A message that has just been delivered.
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

    /// Logs the outcome, so that a user can trace one image. `refused`: why the message can never succeed.
    pub fn log(&self, pipeline: &str, outcome: Outcome, refused: Option<&Refusal>) {
        let origin = origin(&self.delivery);
        macro_rules! line {
            ($level:ident, $text:literal) => {
                $level!(
                    pipeline,
                    outcome = outcome.as_str(),
                    reason = refused.map(|refusal| refusal.reason.as_str()),
                    detail = refused.map(|refusal| refusal.detail.as_str()),
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

/// The AMQP message id and trace context of a delivery.
pub fn origin(delivery: &Delivery) -> Origin<'_> {
    Origin::new(delivery.message_id(), delivery.text(TRACEPARENT))
}
