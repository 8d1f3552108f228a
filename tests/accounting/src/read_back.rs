//! Reads objects, parked messages and queued messages at the end of a run. Messages stay in their queues. Uses none
//! of the product's code.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::timeout;

use super::amqp::connect;
use super::head::id_of_original;
use super::ledger::{Digest, Id, id_of};
use super::pixels::{self, Decoded};
use super::wire::Object;

/// Objects read concurrently. A single read waits 40 ms for a delayed TCP acknowledgement.
const AT_ONCE: usize = 128;

/// Limit for a message that the broker has counted.
const ANSWER: Duration = Duration::from_secs(60);

/// Header with the product's reason for parking a message.
const REASON: &str = "x-image-pipeline-reason";
/// Header with its explanation for people.
pub const DETAIL: &str = "x-image-pipeline-detail";
/// Header with the broker's reason for dead-lettering a message.
const BROKERS_REASON: &str = "x-first-death-reason";

/// Header with the properties of a message whose headers the product could not read.
const ORIGINAL_PROPERTIES: &str = "x-image-pipeline-unreadable-properties";
/// Metadata field with the id of the message that the object came from.
const MESSAGE_ID: &str = "image-pipeline-message-id";

#[derive(Clone, Debug)]
pub struct Stored {
    pub object: Object,
    /// Ledger number of the message whose id is in the metadata.
    pub id: Option<Id>,
    /// Digest of the file.
    pub body: Digest,
    /// Digest of its pixels, or the reason why it is no PNG.
    pub pixels: Decoded,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Queued {
    pub queue: String,
    /// Ledger number, if the message has one.
    pub id: Option<Id>,
    /// Digest of its body.
    pub body: Digest,
    /// Its headers, as text.
    pub headers: BTreeMap<String, String>,
}

/// All that was read back.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// From the buckets.
    pub stored: Vec<Stored>,
    /// From the parking queues.
    pub parked: Vec<Queued>,
    /// From the source queues.
    pub queued: Vec<Queued>,
}

/// Reads the objects of buckets.
#[derive(Clone)]
pub struct Buckets {
    client: Client,
}

impl Queued {
    /// The reason why the message was parked or dead-lettered.
    pub fn reason(&self) -> Option<&str> {
        self.headers.get(REASON).or_else(|| self.headers.get(BROKERS_REASON)).map(String::as_str)
    }
}

impl Buckets {
    /// Uses a client with read access.
    pub fn of(client: Client) -> Self {
        Self { client }
    }

    /// Connects to the S3 server at this URL.
    pub fn at(endpoint: &str, access_key: &str, secret_key: &str) -> Self {
        let settings = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .credentials_provider(Credentials::new(access_key, secret_key, None, None, "accountant"))
            .build();
        Self::of(Client::from_conf(settings))
    }

    /// All objects of a bucket, oldest first: what was written together lies together on the disk, and is read
    /// faster.
    pub async fn stored(&self, bucket: &str) -> Vec<Stored> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut objects = Vec::new();
        while let Some(page) = pages.next().await {
            objects.extend(page.expect("a listing").contents.unwrap_or_default());
        }
        objects.sort_by_key(|object| object.last_modified);
        let keys = objects.into_iter().filter_map(|object| object.key);
        futures::stream::iter(keys).map(|key| self.object(bucket, key)).buffered(AT_ONCE).collect().await
    }

    async fn object(&self, bucket: &str, key: String) -> Stored {
        let answer = self.client.get_object().bucket(bucket).key(&key).send().await.expect("an object");
        let id = answer.metadata().and_then(|metadata| id_of(metadata.get(MESSAGE_ID)?));
        let file = answer.body.collect().await.expect("a body").into_bytes();
        let object = Object { bucket: bucket.to_owned(), key };
        let read = move || Stored { object, id, body: blake3::hash(&file), pixels: pixels::stored(&file) };
        tokio::task::spawn_blocking(read).await.expect("a decoder that answers")
    }
}

/// All ready messages of a queue, which stay in the queue. A missing queue counts as empty.
pub async fn messages(uri: &str, queue: &str) -> Vec<Queued> {
    let connection = connect(uri).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let mut found = Vec::new();
    if let Ok(declared) = channel.queue_declare(queue.into(), look, FieldTable::default()).await {
        // A quorum queue delivers 2,000 messages to a consumer that sets no prefetch, and then waits.
        channel.basic_qos(u16::MAX, BasicQosOptions::default()).await.expect("a prefetch");
        let options = BasicConsumeOptions::default();
        let deliveries = channel.basic_consume(queue.into(), "accountant".into(), options, FieldTable::default()).await;
        let mut deliveries = deliveries.expect("a subscription").take(declared.message_count() as usize);
        while let Some(message) = timeout(ANSWER, deliveries.next()).await.expect("as many as the broker has counted") {
            found.push(queued(queue, &message.expect("a delivery")));
        }
    }
    // Closing the connection requeues the unacknowledged messages.
    connection.close(200, "read".into()).await.expect("closed");
    found
}

fn queued(queue: &str, message: &Delivery) -> Queued {
    let properties = &message.properties;
    let headers = properties.headers().iter().flat_map(FieldTable::inner);
    let headers: BTreeMap<_, _> = headers.map(|(name, value)| (name.to_string(), text(value))).collect();
    let own = properties.message_id().as_ref().and_then(|id| id_of(id.as_str()));
    let original = || id_of_original(headers.get(ORIGINAL_PROPERTIES)?.as_bytes());
    Queued { queue: queue.to_owned(), id: own.or_else(original), body: blake3::hash(&message.data), headers }
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}
