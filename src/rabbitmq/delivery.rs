//! A delivered message, and the stream of deliveries of a consumer. Bodies are never changed. A dropped `Delivery` is
//! not settled: only the methods of `Delivery` do that.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions};
use lapin::types::ShortString;

use super::{QueueError, frame_filter, properties};

/// The deliveries of one consumer, until it is canceled. If the stream ends without a cancel by this side, the queue
/// was deleted or the channel closed.
pub struct Deliveries {
    inner: lapin::Consumer,
}

/// A delivered message, unacknowledged until it is settled or its channel closes.
#[derive(Debug)]
pub struct Delivery {
    inner: lapin::message::Delivery,
    body: Bytes,
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
        Self { inner, body }
    }

    /// The body as the publisher sent it. Clones of the `Bytes` share the memory.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The value of a header as text, if it is a string, an integer or a boolean.
    pub fn header(&self, name: &str) -> Option<String> {
        properties::text(self.inner.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// The bytes of a header that is a string.
    pub fn text(&self, name: &str) -> Option<&[u8]> {
        properties::bytes(self.inner.properties.headers().as_ref()?.inner().get(name)?)
    }

    /// Why the properties could not be parsed, as a sentence; `None`: they were parsed.
    pub fn unreadable(&self) -> Option<String> {
        let original = self.text(frame_filter::PROPERTIES)?;
        let left_out = self.header(frame_filter::LEFT_OUT).and_then(|bytes| bytes.parse().ok());
        Some(frame_filter::explain(original, left_out.unwrap_or_default()))
    }

    /// Whether the broker has delivered the message before, to any consumer.
    pub fn redelivered(&self) -> bool {
        self.inner.redelivered
    }

    /// The delivery tag: unique within the channel.
    pub fn tag(&self) -> u64 {
        self.inner.delivery_tag
    }

    /// The publisher's message id.
    pub fn message_id(&self) -> Option<&str> {
        self.inner.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// The publisher's timestamp, in seconds since 1970.
    pub fn timestamp(&self) -> Option<u64> {
        *self.inner.properties.timestamp()
    }

    /// How often this message was returned to its quorum queue, at least: the larger of RabbitMQ's two counts.
    /// `x-delivery-count` counts returns toward the queue's delivery limit: in 4.0 all, in 4.3 all except `basic.nack`.
    /// `x-acquired-count` (4.3) counts all. 0 for a classic queue, which has no count. `None`: the message was
    /// redelivered, and the count is among properties that can't be parsed.
    pub fn returns(&self) -> Option<u64> {
        let counts = properties::COUNTS.map(|name| self.header(name).and_then(|count| count.parse().ok()));
        let is_hidden = self.redelivered() && self.text(frame_filter::PROPERTIES).is_some();
        counts.into_iter().flatten().max().or((!is_hidden).then_some(0))
    }

    /// How often this message was renewed: published to its queue again instead of being returned.
    pub fn renewals(&self) -> u32 {
        self.header(properties::RENEWALS).and_then(|count| count.parse().ok()).unwrap_or(0)
    }

    /// Acknowledges this message only (`multiple: false`).
    ///
    /// # Errors
    /// The channel is closed: the broker will redeliver the message.
    pub async fn acknowledge(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.ack(BasicAckOptions::default()).await)
    }

    /// Rejects this message without requeue: the broker dead-letters it, or drops it if the queue has no dead-letter
    /// exchange.
    ///
    /// # Errors
    /// The channel is closed: the broker will redeliver the message.
    pub async fn reject(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.reject(BasicRejectOptions { requeue: false }).await)
    }

    /// Returns this message to its queue with `basic.nack`: RabbitMQ 4.3 does not count that toward the delivery limit
    /// of a quorum queue, unlike `basic.reject` and a closed channel. While this consumer is subscribed, the broker may
    /// redeliver the message immediately.
    ///
    /// # Errors
    /// The channel is closed: the broker has already returned the message.
    pub async fn requeue(&self) -> Result<(), QueueError> {
        settled(self.inner.acker.nack(BasicNackOptions { multiple: false, requeue: true }).await)
    }

    /// The properties and headers as JSON, for display.
    pub fn properties_json(&self) -> serde_json::Value {
        properties::properties_json(&self.inner.properties)
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
