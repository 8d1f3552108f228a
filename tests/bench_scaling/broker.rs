//! RabbitMQ of the benchmark: declares, fills and empties queues, and reads RabbitMQ's own counters. No figure
//! comes from the product.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use image_pipeline::message::{ImageMetadata, Message};
use image_pipeline::publish::SampleArgs;
use image_pipeline::rabbitmq::address::BrokerAddress;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use servers::cluster::{Namespace, Way};
use servers::messages;
use servers::plainly::plainly;

/// Number of redelivered messages of all protocols and queue types since the start of RabbitMQ.
const REDELIVERED: &str = "lists:sum([maps:get(messages_redelivered_total, Counters, 0) \
                           || {_, Counters} <- maps:to_list(rabbit_global_counters:overview())]).";

const PERSISTENT: u8 = 2;

pub struct Broker {
    /// Address of RabbitMQ from here.
    pub address: BrokerAddress,
    namespace: String,
    channel: Channel,
    _connection: (lapin::Connection, Way),
}

/// Times of a burst's confirms.
#[derive(Clone, Copy, Debug)]
pub struct Confirms {
    /// Time of the first confirm.
    pub first: Instant,
    /// Time of the last confirm.
    pub last: Instant,
}

/// Type of a queue.
#[derive(Clone, Copy, Debug)]
pub enum QueueType {
    /// Replicated, as in production.
    Quorum,
    /// Light: a thousand classic queues cost this machine little.
    Classic,
}

impl Broker {
    /// Connects to the RabbitMQ of a namespace.
    pub async fn of(namespace: &Namespace) -> Self {
        let way = namespace.way_to("rabbit", 5672);
        let address = namespace.broker(&way);
        let connection = plainly(&address).await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirm mode");
        Self { address, namespace: namespace.name.clone(), channel, _connection: (connection, way) }
    }

    /// Declares a durable queue.
    pub async fn declare(&self, queue: &str, kind: QueueType) {
        let mut arguments = FieldTable::default();
        let kind = match kind {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        self.channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.expect("a queue");
    }

    /// Number of ready messages in a queue.
    pub async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        declared.expect("a depth").message_count()
    }

    /// Empties a queue.
    pub async fn purge(&self, queue: &str) {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("an empty queue");
    }

    /// Publishes the same body this many times concurrently.
    pub async fn burst(&self, queue: &str, body: &[u8], messages: usize) -> Confirms {
        let sent = (0..messages).map(|_| async {
            self.publish(queue, body).await;
            Instant::now()
        });
        let times: Vec<Instant> = stream::iter(sent).buffer_unordered(messages).collect().await;
        let (first, last) = (times.iter().min(), times.iter().max());
        Confirms { first: *first.expect("a message"), last: *last.expect("a message") }
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&self, queue: &str, body: &[u8]) {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self.channel.basic_publish("".into(), queue.into(), options, body, properties).await;
        let confirmed = confirm.expect("a message sent").await.expect("an answer");
        assert_eq!(confirmed, lapin::Confirmation::Ack(None), "{queue}");
    }

    /// Number of messages that RabbitMQ has redelivered to any consumer.
    pub fn redelivered(&self) -> u64 {
        self.number(REDELIVERED)
    }

    /// Bytes that RabbitMQ holds after a garbage collection.
    pub fn memory(&self) -> f64 {
        self.number("lists:foreach(fun erlang:garbage_collect/1, processes()), erlang:memory(total).") as f64
    }

    /// CPU time that RabbitMQ has used since its start.
    pub fn busy(&self) -> Duration {
        Duration::from_millis(self.number("element(1, erlang:statistics(runtime))."))
    }

    fn number(&self, expression: &str) -> u64 {
        let said = self.ctl(&["eval", expression]);
        said.trim().parse().unwrap_or_else(|_| panic!("rabbitmqctl printed {said:?}"))
    }

    /// Checks that `redelivered` counts: returns one message, and takes it again.
    pub async fn must_count_redeliveries(&self) {
        const QUEUE: &str = "bench-scaling-redelivery";
        let before = self.redelivered();
        self.declare(QUEUE, QueueType::Quorum).await;
        self.publish(QUEUE, b"again").await;
        for _ in 0..2 {
            let taken = self.channel.basic_get(QUEUE.into(), BasicGetOptions::default()).await.expect("an answer");
            let handed_back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            taken.expect("the message").acker.nack(handed_back).await.expect("handed back");
        }
        self.channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await.expect("deleted");
        assert_eq!(self.redelivered() - before, 1, "the broker does not count redeliveries");
    }

    /// Number of connections that carry the operator's name.
    pub fn operators_connections(&self) -> usize {
        let said = self.ctl(&["--quiet", "list_connections", "client_properties"]);
        said.lines().filter(|line| line.contains("image-pipeline controller")).count()
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = servers::cluster::kubectl();
        command.args(["--namespace", &self.namespace, "exec", "rabbit-0", "--", "rabbitmqctl"]);
        servers::cluster::run(command.args(arguments))
    }

    /// Publishes at a constant rate whatever RabbitMQ does meanwhile. Waits for all confirms.
    pub async fn stream(&self, queue: &str, per_second: f64, time: Duration, body: impl Fn(usize) -> Vec<u8>) -> usize {
        let count = (per_second * time.as_secs_f64()) as usize;
        let due = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        let ticks = stream::unfold(due, |mut due| async {
            due.tick().await;
            Some(((), due))
        });
        let sent = ticks.take(count).enumerate().map(|(number, ())| {
            let body = body(number);
            async move { self.publish(queue, &body).await }
        });
        sent.buffer_unordered(1000).count().await
    }
}

/// A message with a tiny tile of 16 × 16 pixels.
pub fn tiny() -> Vec<u8> {
    Tiles::draw(16, 1).message("tiny.png", 0)
}

/// Tiles that are drawn once and published under many names.
pub struct Tiles {
    files: Vec<String>,
}

impl Tiles {
    /// Draws this many different tiles.
    pub fn draw(side: u32, count: u32) -> Self {
        let tiles = SampleArgs { ..messages::tiles(side) };
        let file = |index| {
            let file = tiles.file(index).expect("a PNG");
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, file)
        };
        Self { files: (0..count).map(file).collect() }
    }

    /// A message as a publisher sends it.
    pub fn message(&self, name: &str, number: usize) -> Vec<u8> {
        let image = self.files[number % self.files.len()].as_str().into();
        let image_metadata = ImageMetadata { image_name: name.into() };
        serde_json::to_vec(&Message { image, image_metadata }).expect("JSON")
    }
}
