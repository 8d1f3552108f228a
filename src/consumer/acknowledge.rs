//! Settles deliveries with the broker. A message is acknowledged only after it was stored, disposed of as
//! `failures.policy` says, or copied to its queue. Every message that ends here is counted and logged once.

use std::sync::Arc;

use super::live_status::LiveStatus;
use super::message::Message;
use super::metrics::{Metrics, Outcome};
use super::settle::{Refusal, Settlement};
use super::work::Work;
use crate::api::failures::FailurePolicy;
use crate::rabbitmq::QueueError;

pub struct Settler {
    /// Namespace and name of the pipeline, for logs.
    pub pipeline: String,
    pub policy: FailurePolicy,
    pub state: Arc<LiveStatus>,
    pub metrics: Metrics,
}

impl Settler {
    /// Acknowledges or rejects a message. Does nothing if `work` has no settlement: it returns to the queue when the
    /// session ends.
    ///
    /// # Errors
    /// The session ended; the broker redelivers the message.
    pub async fn acknowledge(&self, work: Work) -> Result<(), QueueError> {
        let (message, Some(settlement)) = (work.message(), work.settlement()) else { return Ok(()) };
        let outcome = settlement.outcome(self.policy);
        let settled = match outcome {
            Outcome::DeadLettered => message.delivery.reject().await,
            _ => message.delivery.acknowledge().await,
        };
        if settled.is_err() {
            self.ended(message, Outcome::AcknowledgementLost, None);
            return settled;
        }
        self.ended(message, outcome, settlement.refusal());
        match settlement {
            Settlement::Stored => self.state.processed(),
            Settlement::Renewed => self.state.renewed(),
            Settlement::Refused(Refusal { reason, detail }) => self.state.refused(outcome, *reason, detail.clone()),
        }
        Ok(())
    }

    /// Returns a message to its queue.
    ///
    /// # Errors
    /// The session ended; the broker returns the message.
    pub async fn hand_back(&self, work: Work) -> Result<(), QueueError> {
        self.leave(&work);
        work.message().delivery.requeue().await
    }

    /// Leaves a message to the end of its session, when the broker returns it to the queue.
    pub fn leave(&self, work: &Work) {
        self.ended(work.message(), Outcome::HandedBack, None);
    }

    fn ended(&self, message: &Message, outcome: Outcome, refusal: Option<&Refusal>) {
        self.metrics.message(outcome, refusal.map(|refusal| refusal.reason));
        message.log(&self.pipeline, outcome, refusal);
    }
}
