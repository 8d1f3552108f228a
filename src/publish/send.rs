//! Publishes messages in parallel, with publisher confirms.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::message::{ImageMetadata, Message};
use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::args;
use crate::rabbitmq::{Channel, Connection, Outgoing, QueueError};
use crate::reason::Reason;

/// A message body, ready to publish.
pub struct Body {
    name: String,
    image_bytes: u64,
    json: Vec<u8>,
}

/// The result of `send`.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Prefix of the message ids. A message id is `{id}-{number}`, with the number of the image, from 0.
    pub id: String,
    /// Messages sent to the broker.
    pub published: usize,
    pub confirmed: usize,
    /// Bytes of the images in the confirmed messages, before base64.
    pub bytes: u64,
    /// Images that could not be read, or that the broker did not confirm.
    pub failed: usize,
    /// Images that were not tried, because of a stop or a lost connection.
    pub left: usize,
    /// Time of the first confirm.
    pub first_confirm: Option<Timestamp>,
    /// Time from the start to the last outcome.
    pub took: Duration,
}

/// The outcome for one image.
pub enum SendResult {
    /// The broker confirmed the message.
    Confirmed {
        /// Bytes of the image, before base64.
        bytes: u64,
        /// Time of the confirm.
        at: Timestamp,
    },
    /// The image could not be read. The text is a sentence.
    Unreadable(String),
    /// The broker did not confirm the message; it may or may not be in the queue.
    Refused {
        /// The image's name.
        name: String,
        /// The error as a sentence.
        why: String,
    },
}

/// What all messages of one `send` share.
struct Sender<'a> {
    connection: &'a Connection,
    queue: &'a str,
    /// Prefix of the message ids.
    id: &'a str,
    /// Channels without a publish in flight. A channel has one publish in flight at most, because only the order of
    /// the broker's replies tells which message it returns.
    idle: Mutex<Vec<Channel>>,
}

impl Body {
    /// Builds the message body of an image.
    pub fn new(name: String, image: &[u8]) -> Result<Self, serde_json::Error> {
        let image_metadata = ImageMetadata { image_name: name.as_str().into() };
        let json = serde_json::to_vec(&Message { image: STANDARD.encode(image).into(), image_metadata })?;
        Ok(Self { name, image_bytes: image.len() as u64, json })
    }
}

/// Publishes the bodies that `sources` return, at most `in_flight` in parallel, in no particular order. A source runs
/// on a blocking thread, and returns a sentence on error. `watch` is called with every outcome. When `stop` is
/// canceled, publishes in flight are finished, and no more are started.
///
/// # Errors
/// RabbitMQ is unavailable, or the queue does not exist. Faults of single messages are in the summary.
pub async fn send<S>(
    address: &BrokerAddress,
    queue: &str,
    sources: Vec<S>,
    in_flight: usize,
    stop: &CancellationToken,
    mut watch: impl FnMut(&SendResult),
) -> Result<Summary, QueueError>
where
    S: FnOnce() -> Result<Body, String> + Send + 'static,
{
    let connection = Connection::open(address, "image-pipeline publish").await?;
    match connection.channel().await?.depth(queue).await {
        // A publisher may have the write permission only.
        Err(error) if error.reason() != Reason::DeclareRefused => return Err(error),
        _ => {}
    }
    let (began, total) = (Instant::now(), sources.len());
    let id = format!("{:x}-{:x}", Timestamp::now().as_millisecond(), std::process::id());
    let sender = Sender { connection: &connection, queue, id: &id, idle: Mutex::default() };
    let going_on = |_: &(usize, S)| std::future::ready(connection.is_open() && !stop.is_cancelled());
    let mut outcomes = stream::iter(sources.into_iter().enumerate())
        .take_while(going_on)
        .map(|(number, source)| sender.one(number, source))
        .buffer_unordered(in_flight);
    let mut summary = Summary { id: id.clone(), left: total, ..Summary::default() };
    while let Some(outcome) = outcomes.next().await {
        summary.add(&outcome, began.elapsed());
        watch(&outcome);
    }
    drop(outcomes);
    connection.close().await;
    Ok(summary)
}

impl Sender<'_> {
    async fn one<S>(&self, number: usize, source: S) -> SendResult
    where
        S: FnOnce() -> Result<Body, String> + Send + 'static,
    {
        let body = match tokio::task::spawn_blocking(source).await {
            Ok(Ok(body)) => body,
            Ok(Err(sentence)) => return SendResult::Unreadable(sentence),
            Err(error) => return SendResult::Unreadable(error.to_string()),
        };
        match self.publish(number, &body).await {
            Ok(()) => SendResult::Confirmed { bytes: body.image_bytes, at: Timestamp::now() },
            Err(error) => SendResult::Refused { name: body.name, why: args::explained(&error) },
        }
    }

    async fn publish(&self, number: usize, body: &Body) -> Result<(), QueueError> {
        let idle = self.idle.lock().pop();
        let channel = match idle {
            Some(channel) => channel,
            None => {
                let channel = self.connection.channel().await?;
                channel.confirm().await?;
                channel
            }
        };
        let published = channel
            .publish(Outgoing {
                queue: self.queue,
                body: &body.json,
                message_id: Some(format!("{}-{number}", self.id)),
                timestamp: u64::try_from(Timestamp::now().as_second()).ok(),
            })
            .await;
        // After a failure, a late reply would be taken for the reply to the channel's next publish.
        if published.is_ok() {
            self.idle.lock().push(channel);
        }
        published
    }
}

impl Summary {
    fn add(&mut self, outcome: &SendResult, elapsed: Duration) {
        self.took = elapsed;
        self.left = self.left.saturating_sub(1);
        match outcome {
            SendResult::Confirmed { bytes, at } => {
                self.published += 1;
                self.confirmed += 1;
                self.bytes += bytes;
                self.first_confirm = Some(self.first_confirm.map_or(*at, |first| first.min(*at)));
            }
            SendResult::Unreadable(_) => self.failed += 1,
            SendResult::Refused { .. } => {
                self.published += 1;
                self.failed += 1;
            }
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, published, confirmed, bytes, failed, left, first_confirm, took } = self;
        write!(
            formatter,
            "published {published} ({:.1} MB) in {:.1} s, confirmed {confirmed}",
            *bytes as f64 / 1e6,
            took.as_secs_f64()
        )?;
        if let Some(first) = first_confirm {
            write!(formatter, ", first confirm at {first:.3}")?;
        }
        match confirmed + failed + left {
            0 => Ok(()),
            1 => write!(formatter, "\nmessage id {id}-0"),
            all => write!(formatter, "\nmessage ids {id}-0 to {id}-{}, in the order of the names", all - 1),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_back_as_the_message_that_devices_send() {
        let body = Body::new("north/\"4\".png".to_owned(), b"\x89PNG").unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body.json).unwrap();
        let expected = serde_json::json!({"image": "iVBORw==", "image_metadata": {"image_name": "north/\"4\".png"}});
        assert_eq!(json, expected);
    }

    #[test]
    fn only_what_was_confirmed_is_counted_as_such() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut summary = Summary { id: "19a-4d2".to_owned(), left: 5, ..Summary::default() };
        for outcome in [
            SendResult::Confirmed { bytes: 510_000, at: at(1_800_000_007) },
            SendResult::Unreadable("x.png can't be read".to_owned()),
            SendResult::Refused { name: "y.png".to_owned(), why: "returned".to_owned() },
            SendResult::Confirmed { bytes: 720_000, at: at(1_800_000_005) },
        ] {
            summary.add(&outcome, Duration::from_millis(1540));
        }
        assert_eq!((summary.published, summary.confirmed, summary.failed, summary.left), (3, 2, 2, 1));
        assert_eq!(
            summary.to_string(),
            "published 3 (1.2 MB) in 1.5 s, confirmed 2, first confirm at 2027-01-15T08:00:05.000Z\n\
             message ids 19a-4d2-0 to 19a-4d2-4, in the order of the names"
        );
    }
}
