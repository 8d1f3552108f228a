//! Publishing with confirms. A publish to the parking queue continues when its caller stops waiting, so that a slow
//! confirm does not lead to a second copy.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Channel, Connection, Delivery, Parked, QueueError, properties, short, within};

/// Timeout of a confirm, for publishes that are abandoned after it. A quorum queue confirms when a majority of its
/// nodes has written the message to disk, which can take many seconds on a slow disk.
const CONFIRM: Duration = Duration::from_secs(60);

/// A confirm that takes longer is reported, so that the status shows the fault within 10 s; waiting continues.
const SLOW: Duration = Duration::from_secs(7);

/// A message to publish to a queue through the default exchange, persistent and mandatory.
pub struct Outgoing<'a> {
    pub queue: &'a str,
    pub body: &'a [u8],
    /// Message id, for the consumer's logs.
    pub message_id: Option<String>,
    /// Timestamp in seconds since 1970.
    pub timestamp: Option<u64>,
}

/// A publish without a confirm yet. It continues when no caller waits for it.
#[derive(Debug)]
pub struct Publishing {
    task: JoinHandle<Result<Channel, QueueError>>,
    blocked: watch::Receiver<bool>,
    queue: String,
}

/// The state of a publish after a wait.
pub enum Published {
    /// The broker confirmed the message. The channel can publish again.
    Confirmed(Channel),
    /// The broker rejected the message, or the connection was lost: the message may or may not be in the queue.
    Failed(QueueError),
    /// The broker may still confirm the message. The error says what delays the confirm.
    UnderWay(QueueError),
}

impl Connection {
    /// Opens a channel in confirm mode. Fails immediately if the broker blocks this connection.
    pub async fn publishing_channel(&self) -> Result<Channel, QueueError> {
        if self.is_blocked() {
            return Err(QueueError::blocked());
        }
        let channel = self.channel().await?;
        channel.confirm().await?;
        Ok(channel)
    }
}

impl Channel {
    /// Puts the channel in confirm mode.
    pub async fn confirm(&self) -> Result<(), QueueError> {
        within("enabling publisher confirms", async {
            let selected = self.inner.confirm_select(ConfirmSelectOptions::default()).await;
            selected.map_err(|error| QueueError::from_lapin(&error))
        })
        .await
    }

    /// Publishes and waits for the confirm. The channel must be in confirm mode.
    ///
    /// # Errors
    /// The broker rejected the message, returned it (the queue does not exist), or did not confirm in time. The message
    /// may or may not be in the queue.
    pub async fn publish(&self, outgoing: Outgoing<'_>) -> Result<(), QueueError> {
        let Outgoing { queue, body, message_id, timestamp } = outgoing;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(properties::PERSISTENT)
            .with_content_type("application/json".into());
        if let Some(message_id) = message_id {
            properties = properties.with_message_id(short(&message_id)?);
        }
        if let Some(timestamp) = timestamp {
            properties = properties.with_timestamp(timestamp);
        }
        self.publish_within(queue, body, properties).await
    }

    /// Starts to publish a delivery to a parking queue, with an unchanged body and additional headers. The channel must
    /// be in confirm mode. The method consumes the channel, since a channel may have only one publish in flight: lapin
    /// 4.12 assigns a returned message to any of the publishes that the broker confirms together.
    pub fn start_parking(self, queue: &str, delivery: &Delivery, parked: &Parked<'_>) -> Publishing {
        self.begin(queue, delivery, properties::parked(delivery.properties(), parked))
    }

    /// Starts to publish a copy to the delivery's own queue: the broker counts the copy's returns from 0. Otherwise
    /// like `start_parking`.
    pub fn start_renewing(self, queue: &str, delivery: &Delivery) -> Publishing {
        self.begin(queue, delivery, renewed(delivery))
    }

    /// Publishes a copy to the delivery's own queue, and waits for the confirm. The broker counts the copy's returns
    /// from 0. The channel must be in confirm mode.
    ///
    /// # Errors
    /// As `publish`; immediately if the broker blocks publishers.
    pub async fn renew(&self, queue: &str, delivery: &Delivery) -> Result<(), QueueError> {
        self.publish_unless_blocked(queue, delivery.body(), renewed(delivery)).await
    }

    fn begin(self, queue: &str, delivery: &Delivery, properties: BasicProperties) -> Publishing {
        let (body, blocked) = (delivery.body().clone(), self.blocked.clone());
        let to = queue.to_owned();
        let task = tokio::spawn(async move {
            self.publish_confirmed(&to, &body, properties).await?;
            Ok(self)
        });
        Publishing { task, blocked, queue: queue.to_owned() }
    }

    pub(super) async fn publish_unless_blocked(
        &self,
        queue: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> Result<(), QueueError> {
        let mut blocked = self.blocked.clone();
        tokio::select! {
            biased;
            true = became_blocked(&mut blocked) => Err(QueueError::blocked()),
            done = self.publish_within(queue, body, properties) => done,
        }
    }

    async fn publish_within(&self, queue: &str, body: &[u8], properties: BasicProperties) -> Result<(), QueueError> {
        let published = tokio::time::timeout(CONFIRM, self.publish_confirmed(queue, body, properties)).await;
        published.unwrap_or_else(|_| Err(QueueError::timed_out("confirming a message")))
    }

    async fn publish_confirmed(&self, queue: &str, body: &[u8], properties: BasicProperties) -> Result<(), QueueError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let failed = |error: lapin::Error| match *self.blocked.borrow() {
            true => QueueError::blocked(),
            false => QueueError::on_queue(queue, &error),
        };
        let confirm = self.inner.basic_publish(ShortString::default(), short(queue)?, options, body, properties).await;
        match confirm.map_err(failed)?.await.map_err(failed)? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) | Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err(QueueError::not_confirmed(queue))
            }
        }
    }
}

impl Publishing {
    /// Waits up to 7 s for the outcome. Cancel-safe: may be called again until it has returned `Confirmed` or `Failed`.
    pub async fn outcome(&mut self) -> Published {
        tokio::select! {
            biased;
            done = &mut self.task => match done {
                Ok(Ok(channel)) => Published::Confirmed(channel),
                Ok(Err(error)) => Published::Failed(error),
                Err(_) => Published::Failed(QueueError::connection_lost("a publish ended unexpectedly")),
            },
            true = became_blocked(&mut self.blocked) => Published::UnderWay(QueueError::blocked()),
            () = tokio::time::sleep(SLOW) => Published::UnderWay(QueueError::slow_confirm(&self.queue, SLOW)),
        }
    }
}

fn renewed(delivery: &Delivery) -> BasicProperties {
    properties::renewed(delivery.properties(), delivery.renewals().saturating_add(1))
}

async fn became_blocked(blocked: &mut watch::Receiver<bool>) -> bool {
    blocked.wait_for(|blocked| *blocked).await.is_ok()
}
