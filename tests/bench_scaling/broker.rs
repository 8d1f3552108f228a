//! The broker of the benchmark: queues made, filled and emptied, and the broker's own word on what
//! it did. It must never read a figure from the product.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use image_pipeline::broker_address::BrokerAddress;
use image_pipeline::message::{ImageMetadata, Message};
use image_pipeline::publish::SampleArgs;
use lapin::options::{
    BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use servers::cluster::{Namespace, Way};
use servers::messages;
use servers::plainly::plainly;

/// Messages that are redelivered, of all protocols and queue types, since the broker's start.
const REDELIVERED: &str = "lists:sum([maps:get(messages_redelivered_total, Counters, 0) \
                           || {_, Counters} <- maps:to_list(rabbit_global_counters:overview())]).";

const PERSISTENT: u8 = 2;

/// The broker.
pub struct Broker {
    /// Where it is, from here.
    pub address: BrokerAddress,
    namespace: String,
    channel: Channel,
    _connection: (lapin::Connection, Way),
}

/// When a burst's confirms came.
#[derive(Clone, Copy, Debug)]
pub struct Confirms {
    /// The first.
    pub first: Instant,
    /// The last.
    pub last: Instant,
}

/// How a queue keeps its messages.
#[derive(Clone, Copy, Debug)]
pub enum QueueType {
    /// Replicated, as one would have it.
    Quorum,
    /// Light: a thousand of them cost this machine little.
    Classic,
}

impl Broker {
    /// The one of a namespace.
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

    /// Messages ready in a queue.
    pub async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
        declared.expect("a depth").message_count()
    }

    /// Empties a queue.
    pub async fn purge(&self, queue: &str) {
        self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("an empty queue");
    }

    /// Publishes the same body so many times at once.
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

    /// Messages that the broker has delivered again, to anybody, by its own count.
    pub fn redelivered(&self) -> u64 {
        self.number(REDELIVERED)
    }

    /// Bytes that the broker holds, garbage collected.
    pub fn memory(&self) -> f64 {
        self.number("lists:foreach(fun erlang:garbage_collect/1, processes()), erlang:memory(total).") as f64
    }

    /// Time of processors that the broker has used since its start.
    pub fn busy(&self) -> Duration {
        Duration::from_millis(self.number("element(1, erlang:statistics(runtime))."))
    }

    fn number(&self, expression: &str) -> u64 {
        let said = self.ctl(&["eval", expression]);
        said.trim().parse().unwrap_or_else(|_| panic!("the broker said {said:?}"))
    }

    /// Shows that `redelivered` counts: hands one message back, and takes it again.
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
        assert_eq!(self.redelivered() - before, 1, "the broker does not count what it delivers again");
    }

    /// Connections of the operator's, as it calls them itself.
    pub fn operators_connections(&self) -> usize {
        let said = self.ctl(&["--quiet", "list_connections", "client_properties"]);
        said.lines().filter(|line| line.contains("image-pipeline controller")).count()
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = servers::cluster::kubectl();
        command.args(["--namespace", &self.namespace, "exec", "rabbit-0", "--", "rabbitmqctl"]);
        servers::cluster::run(command.args(arguments))
    }

    /// Publishes evenly in time, whatever the broker does meanwhile; waits for all the confirms.
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

/// A message with the smallest tile there is.
pub fn tiny() -> Vec<u8> {
    Tiles::draw(16, 1).message("tiny.png", 0)
}

/// Tiles that are drawn once and published under many names.
pub struct Tiles {
    files: Vec<String>,
}

impl Tiles {
    /// So many different ones.
    pub fn draw(side: u32, count: u32) -> Self {
        let tiles = SampleArgs { ..messages::tiles(side) };
        let file = |index| {
            let file = tiles.file(index).expect("a PNG");
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, file)
        };
        Self { files: (0..count).map(file).collect() }
    }

    /// A message, as a device publishes it.
    pub fn message(&self, name: &str, number: usize) -> Vec<u8> {
        let image = self.files[number % self.files.len()].as_str().into();
        let image_metadata = ImageMetadata { image_name: name.into() };
        serde_json::to_vec(&Message { image, image_metadata }).expect("JSON")
    }
}
