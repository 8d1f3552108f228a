//! The tests' own connection to RabbitMQ: what publishers and operators do there. Do not take messages from a queue
//! that a pipeline consumes.

use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::rabbitmq::{self, Outgoing, QueueError};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, BasicRejectOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};

use super::plainly::plainly;
use support::eventually::{LIMIT, equal, eventually};

/// The two types of durable queues.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum QueueType {
    /// Not replicated.
    Classic,
    /// Replicated.
    Quorum,
}

/// Publishes with the product's own code. All other operations use `lapin` directly.
pub struct Client {
    connection: rabbitmq::Connection,
    channel: rabbitmq::Channel,
    plain: lapin::Channel,
    // A channel closes with its connection.
    _plain_connection: lapin::Connection,
}

impl Client {
    pub async fn connect(address: &BrokerAddress) -> Result<Self, QueueError> {
        let connection = rabbitmq::Connection::open(address, "integration tests").await?;
        let channel = connection.channel().await?;
        channel.confirm().await?;
        let plain_connection = plainly(address).await;
        let plain = plain_connection.create_channel().await.expect("a channel");
        plain.confirm_select(Default::default()).await.expect("confirms");
        Ok(Self { connection, channel, plain, _plain_connection: plain_connection })
    }

    /// Declares a durable queue.
    pub async fn declare(&self, queue: &str, queue_type: QueueType) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(<&str>::from(queue_type).into()));
        let declared = self.plain.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("a queue");
    }

    /// Declares a durable classic queue that rejects publishes beyond this number of messages.
    pub async fn declare_narrow(&self, queue: &str, messages: i32) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(messages));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let declared = self.plain.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("a queue");
    }

    /// Declares a quorum queue whose rejected messages go to another queue.
    pub async fn declare_dead_lettering(&self, queue: &str, target: &str) {
        let mut arguments = FieldTable::default();
        for (key, value) in
            [("x-queue-type", "quorum"), ("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", target)]
        {
            arguments.insert(key.into(), AMQPValue::LongString(value.into()));
        }
        let declared = self.plain.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await;
        declared.expect("a queue");
    }

    /// Binds a queue to an exchange, with an empty routing key.
    pub async fn bind(&self, queue: &str, exchange: &str) {
        let bound =
            self.plain.queue_bind(queue.into(), exchange.into(), "".into(), Default::default(), FieldTable::default());
        bound.await.expect("bound");
    }

    /// Takes the first message and requeues it. RabbitMQ counts the return.
    pub async fn take_and_return(&self, queue: &str) {
        let taken = self.plain.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer");
        let requeue = BasicRejectOptions { requeue: true };
        taken.expect("a message").delivery.acker.reject(requeue).await.expect("returned");
        self.holds(queue, 1).await;
    }

    /// Deletes a queue and its messages.
    pub async fn delete(&self, queue: &str) {
        self.plain.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("deleted");
    }

    /// Publishes a message and waits for the confirm.
    pub async fn publish(&self, queue: &str, body: &[u8]) {
        self.try_publish(queue, body).await.expect("confirmed");
    }

    /// As `publish`, but returns the error: the broker may be going away.
    pub async fn try_publish(&self, queue: &str, body: &[u8]) -> Result<(), QueueError> {
        self.channel.publish(Outgoing { queue, body, message_id: None, timestamp: None }).await
    }

    /// Publishes with properties that the product never sends.
    pub async fn publish_with(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        let options = BasicPublishOptions::default();
        let confirm = self.plain.basic_publish("".into(), queue.into(), options, body, properties).await;
        let confirmation = confirm.expect("published").await.expect("answered");
        assert!(matches!(confirmation, Confirmation::Ack(None)), "{confirmation:?}");
    }

    /// Waits until a queue has this number of ready messages. A missing queue counts as empty.
    pub async fn holds(&self, queue: &str, messages: u32) {
        eventually(&format!("{messages} messages in {queue}"), LIMIT, async || {
            equal(self.ready(queue).await?, messages)
        })
        .await;
    }

    /// Number of ready messages in a queue. A missing queue counts as empty.
    pub async fn ready(&self, queue: &str) -> Result<u32, String> {
        // A passive declare of a missing queue closes its channel.
        let look = async { self.connection.channel().await?.depth(queue).await };
        match look.await {
            Err(error) if error.is_queue_not_found() => Ok(0),
            found => Ok(found.map_err(|error| error.to_string())?.ready),
        }
    }

    /// Returns the first message of a queue, and requeues it.
    pub async fn peek(&self, queue: &str) -> Delivery {
        let got = self.plain.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer");
        let delivery = got.expect("a message").delivery;
        delivery.acker.nack(BasicNackOptions { requeue: true, multiple: false }).await.expect("given back");
        delivery
    }

    /// Takes and acknowledges all ready messages of a queue.
    pub async fn take(&self, queue: &str) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while let Some(message) =
            self.plain.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer")
        {
            message.delivery.acker.ack(BasicAckOptions::default()).await.expect("acknowledged");
            taken.push(message.delivery);
        }
        taken
    }
}
