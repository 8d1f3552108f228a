//! Channels: a queue's depth, and subscriptions.

use std::time::Duration;

use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::sync::watch;

use super::delivery::Deliveries;
use super::error::QueueError;
use super::{short, within};

/// How often a wait checks that its channel is open. Two checks in a row must agree.
const LOOK: Duration = Duration::from_millis(500);

/// An AMQP channel. A channel error closes it, and leaves the other channels of the connection open.
#[derive(Debug)]
pub struct Channel {
    pub(super) inner: lapin::Channel,
    pub(super) blocked: watch::Receiver<bool>,
}

/// What a passive declare returns about a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueDepth {
    /// Messages that are ready for delivery; unacknowledged messages are not included.
    pub ready: u32,
    /// Consumers registered on the queue. Before RabbitMQ 4.3, a quorum queue may return the number of
    /// unacknowledged messages instead.
    pub consumers: u32,
}

impl Channel {
    /// Whether the channel is open, as far as the client knows.
    pub fn is_open(&self) -> bool {
        self.inner.status().connected()
    }

    /// Waits for `work`, which uses this channel, for as long as the channel is open. lapin 4.12 never answers an
    /// acknowledgement or a nack that it was given while its connection ended: its I/O loop is gone, and nobody
    /// resolves the promise.
    ///
    /// # Errors
    /// The error of `work`; or the channel was closed, and `work` has not ended a moment later.
    pub async fn while_open<T, E: From<QueueError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let (mut work, mut was_open) = (std::pin::pin!(work), true);
        loop {
            match tokio::time::timeout(LOOK, &mut work).await {
                Ok(done) => return done,
                Err(_) if self.is_open() => {}
                Err(_) if was_open => was_open = false,
                Err(_) => return Err(QueueError::connection_lost("the broker closed the connection").into()),
            }
        }
    }

    /// Reads a queue's depth with a passive declare, which creates nothing.
    ///
    /// # Errors
    /// The queue does not exist, or the user may not access it (both close the channel); or a timeout.
    pub async fn depth(&self, queue: &str) -> Result<QueueDepth, QueueError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = within("reading the queue's depth", async {
            self.inner
                .queue_declare(short(queue)?, options, FieldTable::default())
                .await
                .map_err(|error| QueueError::on_queue(queue, &error))
        })
        .await?;
        Ok(QueueDepth { ready: declared.message_count(), consumers: declared.consumer_count() })
    }

    /// Subscribes to the queue with at most `prefetch` unacknowledged messages.
    ///
    /// `x-priority: 0` is the default priority. It is sent because a stream rejects it: a stream would deliver only
    /// messages that arrive from now on, and keep acknowledged messages.
    ///
    /// # Errors
    /// The queue does not exist, is a stream or exclusive to another connection, or the user may not read it; or a
    /// timeout.
    pub async fn consume(&self, queue: &str, tag: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        within("registering as a consumer", async {
            let refused = |error: lapin::Error| QueueError::on_queue(queue, &error);
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongInt(0));
            self.inner.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(refused)?;
            let consumer = self
                .inner
                .basic_consume(short(queue)?, short(tag)?, BasicConsumeOptions::default(), arguments)
                .await
                .map_err(refused)?;
            Ok(Deliveries::new(consumer))
        })
        .await
    }

    /// Cancels a consumer. Messages that were already delivered can still be acknowledged; then the stream ends.
    pub async fn cancel(&self, tag: &str) -> Result<(), QueueError> {
        within("canceling the consumer", async {
            let cancelled = self.inner.basic_cancel(short(tag)?, BasicCancelOptions::default()).await;
            cancelled.map_err(|error| QueueError::from_lapin(&error))
        })
        .await
    }
}
