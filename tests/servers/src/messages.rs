//! The queues of a namespace's RabbitMQ, as publishers and operators use them. Do not take messages from a queue
//! that a pipeline consumes.

use image_pipeline::message::{ImageMetadata, Message};
use image_pipeline::publish::{SampleArgs, Size, TileFormat};
use image_pipeline::rabbitmq::address::BrokerAddress;
use image_pipeline::rabbitmq::{Channel, Connection, Outgoing};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::cluster::{Namespace, Way};
use super::plainly::plainly;

/// Options for square sample tiles of a forest.
pub fn tiles(side: u32) -> SampleArgs {
    let size = Size { width: side, height: side };
    SampleArgs { sample: None, size, format: TileFormat::Png, seed: 1, prefix: "tile-".to_owned() }
}

/// A message as a publisher sends it: a small forest tile as PNG.
pub fn tile(index: u32) -> Vec<u8> {
    let tiles = tiles(320);
    let file = tiles.file(index).expect("a PNG");
    let image = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, file).into();
    let image_metadata = ImageMetadata { image_name: tiles.name(index).into() };
    serde_json::to_vec(&Message { image, image_metadata }).expect("JSON")
}

/// Access to RabbitMQ from here.
pub struct Messages {
    publisher: Channel,
    plain: lapin::Channel,
    /// Address of RabbitMQ from here.
    pub address: BrokerAddress,
    /// The same as a URI, for the accountant.
    pub uri: String,
    connections: (Connection, lapin::Connection, Way),
}

impl Messages {
    /// Connects to the RabbitMQ of a namespace.
    pub async fn of(namespace: &Namespace) -> Self {
        // A test waits for kubectl and shells in its own thread. Heartbeats need another thread, or RabbitMQ closes
        // the connections after ten seconds.
        let flavor = tokio::runtime::Handle::current().runtime_flavor();
        assert_eq!(flavor, tokio::runtime::RuntimeFlavor::MultiThread, "the test needs a runtime with worker threads");
        let way = namespace.way_to("rabbit", 5672);
        let (address, uri) = (namespace.broker(&way), namespace.broker_uri(&way));
        let connection = Connection::open(&address, "end-to-end tests").await.expect("a connection");
        let publisher = connection.channel().await.expect("a channel");
        publisher.confirm().await.expect("confirm mode");
        let plain_connection = plainly(&address).await;
        let plain = plain_connection.create_channel().await.expect("a channel");
        Self { publisher, plain, address, uri, connections: (connection, plain_connection, way) }
    }

    /// Declares a durable quorum queue.
    pub async fn declare(&self, queue: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        self.plain.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.expect("a queue");
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(&self, queue: &str, body: &[u8]) {
        self.publisher.publish(Outgoing { queue, body, message_id: None, timestamp: None }).await.expect("confirmed");
    }

    /// Number of ready messages in a queue.
    pub async fn depth(&self, queue: &str) -> u32 {
        self.publisher.depth(queue).await.expect("a depth").ready
    }

    /// Number of messages in a parking queue; 0 if it is missing. Does not declare it: its type is the consumer's
    /// choice.
    pub async fn parked(&self, queue: &str) -> u32 {
        // A passive declare of a missing queue closes its channel.
        let channel = self.connections.0.channel().await.expect("a channel");
        match channel.depth(queue).await {
            Err(error) if error.is_queue_not_found() => 0,
            depth => depth.expect("a depth").ready,
        }
    }
}
