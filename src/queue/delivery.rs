//! A delivered message, and the stream of them. It must never change a body, nor settle a message that
//! nobody asked it to.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::types::ShortString;

use super::{Publishing, QueueError, frame_filter, properties};

/// Messages of one consumer, until the broker or this side cancels it. The end of the stream while
/// nobody cancelled is a failure: the queue was deleted, or the channel died.
pub struct Deliveries {
    inner: lapin::Consumer,
}

/// One message, held until it is acknowledged or rejected, or its channel closes.
#[derive(Debug)]
pub struct Delivery {
    inner: lapin::message::Delivery,
    body: Bytes,
    copy: tokio::sync::Mutex<Copy>,
}

/// The copy of a delivery that is being, or has been, published: one at a time, whoever asks for it.
#[derive(Debug, Default)]
pub enum Copy {
    /// There is no copy, as far as this consumer knows.
    #[default]
    Missing,
    /// The broker has not reported an outcome.
    UnderWay(Publishing),
    /// The broker confirmed the copy.
    Confirmed,
}

impl Deliveries {
    pub(super) fn new(inner: lapin::Consumer) -> Self {
        Self { inner }
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, QueueError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(context).map(|next| {
            next.map(|delivery| delivery.map(Delivery::new).map_err(|error| QueueError::from_lapin(&error)))
        })
    }
}

impl Delivery {
    pub(super) fn new(mut inner: lapin::message::Delivery) -> Self {
        let body = std::mem::take(&mut inner.data).into();
        Self { inner, body, copy: tokio::sync::Mutex::default() }
    }

    /// The body as the publisher sent it. Clones share it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// A header that is text, a whole number or a boolean, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        properties::text(self.inner.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// A header that is text, as it came.
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        properties::bytes(self.inner.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// What was wrong with properties that can't be read, for a person; `None`: they were read.
    pub fn unreadable(&self) -> Option<String> {
        let original = self.text(frame_filter::PROPERTIES)?;
        let left_out = self.header(frame_filter::LEFT_OUT).and_then(|bytes| bytes.parse().ok());
        Some(frame_filter::explain(original, left_out.unwrap_or_default()))
    }

    /// Whether the broker has delivered it before, to whomever.
    pub fn redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// The channel's number for this delivery.
    pub fn tag(&self) -> u64 {
        self.inner.delivery_tag
    }

    /// The publisher's message id, if it gave one.
    pub fn message_id(&self) -> Option<&str> {
        self.inner.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// When the publisher made the message, in seconds since 1970, if it said so.
    pub fn timestamp(&self) -> Option<u64> {
        *self.inner.properties.timestamp()
    }

    /// How often this message came back to its quorum queue, at least: the larger of the counts that RabbitMQ
    /// sends. `x-delivery-count` counts returns toward the queue's delivery limit: in 4.0 all, in 4.3 all but
    /// `basic.nack`. `x-acquired-count` (4.3) counts all. A classic queue counts nothing: 0.
    pub fn returns(&self) -> u64 {
        let counts = properties::COUNTS.map(|name| self.header(name).and_then(|count| count.parse().ok()));
        counts.into_iter().flatten().max().unwrap_or(0)
    }

    /// How often this message was published again to its queue instead of being returned.
    pub fn renewals(&self) -> u32 {
        self.header(properties::RENEWALS).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// The copy that is published of this message.
    pub async fn copy(&self) -> tokio::sync::MutexGuard<'_, Copy> {
        self.copy.lock().await
    }

    /// Acknowledges this message alone.
    ///
    /// # Errors
    /// The channel it came by is gone: the broker will deliver the message again.
    pub async fn acknowledge(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.ack(BasicAckOptions::default()).await)
    }

    /// Gives this message up: it goes wherever its queue's dead letters go, or nowhere.
    ///
    /// # Errors
    /// The channel it came by is gone: the broker will deliver the message again.
    pub async fn reject(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.reject(BasicRejectOptions { requeue: false }).await)
    }

    /// Returns this message alone to its queue with `basic.nack`: RabbitMQ 4.3 counts that not toward the
    /// delivery limit of a quorum queue, unlike `basic.reject` and a closed channel. While this consumer is
    /// subscribed, the broker may send the message again at once.
    ///
    /// # Errors
    /// The channel it came by is gone: the broker has returned the message already.
    pub async fn requeue(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.nack(BasicNackOptions { multiple: false, requeue: true }).await)
    }

    /// All that it carries beside its body, for a person.
    pub fn told(&self) -> serde_json::Value {
        properties::told(&self.inner.properties)
    }

    pub(super) fn properties(&self) -> &BasicProperties {
        &self.inner.properties
    }
}

fn settled(sent: lapin::Result<bool>) -> Result<(), QueueError> {
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(QueueError::connection_lost("the channel closed before the message was settled")),
        Err(error) => Err(QueueError::from_lapin(&error)),
    }
}
