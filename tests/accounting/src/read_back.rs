//! What is there at the end: objects, parked messages, and messages that are still queued. It must
//! never take a message out of its queue, nor ask anything of the product's own code.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::time::timeout;

use super::amqp::connect;
use super::head::id_of_original;
use super::ledger::{Digest, Id, id_of};
use super::pixels::{self, Decoded};
use super::wire::Object;

/// Objects that are read at once. One alone waits 40 ms for a delayed acknowledgement of TCP.
const AT_ONCE: usize = 128;

/// For a message that the broker has counted.
const ANSWER: Duration = Duration::from_secs(60);

/// The header that says why the product parked a message.
const REASON: &str = "x-image-pipeline-reason";
/// The header that says why the broker put a message aside.
const BROKERS_REASON: &str = "x-first-death-reason";

/// The header with the properties of a message whose headers the product could not read.
const ORIGINAL_PROPERTIES: &str = "x-image-pipeline-unreadable-properties";
/// The metadata field that says which message an object came by.
const MESSAGE_ID: &str = "image-pipeline-message-id";

/// An object in a bucket.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it is.
    pub object: Object,
    /// The number in the ledger of the message whose id its metadata has.
    pub id: Option<Id>,
    /// The digest of the file.
    pub body: Digest,
    /// The digest of its pixels, or why it is no PNG.
    pub pixels: Decoded,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The queue.
    pub queue: String,
    /// Its number in the ledger, if it carries one.
    pub id: Option<Id>,
    /// The digest of its body.
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

/// A reader of buckets.
#[derive(Clone)]
pub struct Buckets {
    client: Client,
}

impl Queued {
    /// Why it is where it is.
    pub fn reason(&self) -> Option<&str> {
        self.headers.get(REASON).or_else(|| self.headers.get(BROKERS_REASON)).map(String::as_str)
    }
}

impl Buckets {
    /// Through a client that may read them.
    pub fn of(client: Client) -> Self {
        Self { client }
    }

    /// Of the server at this URL.
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

    /// Everything in a bucket.
    pub async fn stored(&self, bucket: &str) -> Vec<Stored> {
        let mut pages = self.client.list_objects_v2().bucket(bucket).into_paginator().send();
        let mut keys = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.expect("a listing");
            keys.extend(page.contents().iter().filter_map(|object| object.key().map(str::to_owned)));
        }
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

/// Everything that is ready in a queue, which has it all again afterwards. One that is missing holds
/// nothing.
pub async fn messages(uri: &str, queue: &str) -> Vec<Queued> {
    let connection = connect(uri).await.expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let look = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let mut found = Vec::new();
    if let Ok(declared) = channel.queue_declare(queue.into(), look, FieldTable::default()).await {
        let options = BasicConsumeOptions::default();
        let deliveries = channel.basic_consume(queue.into(), "accountant".into(), options, FieldTable::default()).await;
        let mut deliveries = deliveries.expect("a subscription").take(declared.message_count() as usize);
        while let Some(message) = timeout(ANSWER, deliveries.next()).await.expect("as many as the broker has counted") {
            found.push(queued(queue, &message.expect("a delivery")));
        }
    }
    // What nobody has acknowledged goes back.
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
