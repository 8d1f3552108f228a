//! Reads the depths of one pipeline's queues, on a channel that is kept between polls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cause::Cause;
use super::connections::{Connections, Place};
use crate::api::names;
use crate::api::source::RabbitmqSource;
use crate::rabbitmq::address::BrokerAddress;
use crate::rabbitmq::{Channel, Connection, QueueDepth, QueueError};
use crate::reason::Reason;

/// How long the number of parked messages is reused, and how long a failed read is not repeated although the parking
/// queue must exist. A missing queue closes the channel and adds a line to RabbitMQ's log.
const PARKED_REUSE: Duration = Duration::from_secs(10);
const PARKED_UNKNOWN_REUSE: Duration = Duration::from_secs(60);

/// How long a queue that is a stream is not checked again: each check adds a line to RabbitMQ's log.
const STREAM_REUSE: Duration = Duration::from_secs(60);

/// Timeout for reading the parking queue: the scale decision waits for it.
const PARKED_TIMEOUT: Duration = Duration::from_secs(1);

/// What is kept of one pipeline's queues between polls.
#[derive(Default)]
pub struct QueueReads {
    reader: Option<Reader>,
    parked: Option<Parked>,
    stream: Option<Stream>,
}

/// The last read of a parking queue.
struct Parked {
    queue: String,
    messages: Option<u32>,
    /// The queue was missing, or the user had no permission to read it.
    refused: bool,
    /// Whether a pod had reported parked messages at that read, and whether a pod has reported some since. The later
    /// report is kept because the pod may be gone at the next poll.
    expected: bool,
    expected_since: bool,
    read: Instant,
}

/// The channel of one pipeline, valid for one source and one version of its Secrets.
struct Reader {
    source: RabbitmqSource,
    revision: String,
    channel: Channel,
    _connection: Arc<Connection>,
    _place: Arc<Place>,
}

/// A source queue that was found to be a stream, which pipelines do not support.
struct Stream {
    source: RabbitmqSource,
    cause: Cause,
    read: Instant,
}

impl QueueReads {
    /// Reads the depth of the source queue. `revision` is the version of the Secrets that `address` reads; `address` is
    /// awaited only if a channel must be opened.
    ///
    /// # Errors
    /// The error of `address`, RabbitMQ refused or did not answer, or the queue is a stream.
    pub async fn depth(
        &mut self,
        (connections, namespace): (&Connections, &str),
        source: &RabbitmqSource,
        revision: &str,
        address: impl Future<Output = Result<BrokerAddress, Cause>>,
    ) -> Result<QueueDepth, Cause> {
        if let Some(reader) = self.reader.take().filter(|reader| reader.is_for(source, revision))
            && let Ok(depth) = reader.channel.depth(&source.queue).await
        {
            self.reader = Some(reader);
            return Ok(depth);
        }
        let cause = |error: QueueError| {
            let error = error.with_login_secret(&names::login_secret(source));
            Cause::new(error.reason(), error.to_string())
        };
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_known(source)) {
            return Err(stream.cause.clone());
        }
        let (connection, place) = connections.open(namespace, &address.await?).await.map_err(cause)?;
        let channel = connection.channel().await.map_err(cause)?;
        let depth = match channel.depth(&source.queue).await {
            Ok(depth) => depth,
            Err(error) => return Err(cause(connection.cause_of_silence(&source.queue, error).await)),
        };
        // The depth of a stream never falls, so the number of pods would rise to the maximum and stay there.
        if let Err(error) = connection.ensure_no_stream(&source.queue).await {
            let cause = cause(error);
            self.stream = Some(Stream { source: source.clone(), cause: cause.clone(), read: Instant::now() });
            return Err(cause);
        }
        let (source, revision) = (source.clone(), revision.to_owned());
        self.reader = Some(Reader { source, revision, channel, _connection: connection, _place: place });
        Ok(depth)
    }

    /// The number of messages in the parking queue, read on the channel of [`QueueReads::depth`]; `None`: unknown.
    /// `expected`: the queue must exist, because a pod reports parked messages.
    pub async fn parked(&mut self, queue: &str, expected: bool) -> Option<u32> {
        let mut known = self.parked.take().filter(|parked| parked.queue == queue);
        if let Some(parked) = &mut known {
            parked.expected_since |= expected;
        }
        let due = known.as_ref().is_none_or(Parked::is_due);
        let messages = known.as_ref().and_then(|parked| parked.messages);
        let expected = known.as_ref().map_or(expected, |parked| parked.expected_since);
        self.parked = match self.reader.take_if(|_| due) {
            Some(reader) => {
                let depth = tokio::time::timeout(PARKED_TIMEOUT, reader.channel.depth(queue)).await;
                // An error may have closed the channel; after a timeout the late response would answer a later request.
                self.reader = matches!(depth, Ok(Ok(_))).then_some(reader);
                Some(Parked::read(queue, messages, expected, depth.ok()))
            }
            None => known,
        };
        self.parked.as_ref()?.messages
    }

    /// Drops the channel and what was read; a connection closes with its last channel.
    pub fn close(&mut self) {
        *self = Self::default();
    }
}

impl Stream {
    fn is_known(&self, source: &RabbitmqSource) -> bool {
        self.source == *source && self.read.elapsed() < STREAM_REUSE
    }
}

impl Reader {
    /// Whether the channel still fits. The source is compared too: a new vhost needs no new Secret version.
    fn is_for(&self, source: &RabbitmqSource, revision: &str) -> bool {
        self.source == *source && self.revision == revision && self.channel.is_open()
    }
}

impl Parked {
    /// The result of one read; without an answer the known number stays.
    fn read(queue: &str, known: Option<u32>, expected: bool, answer: Option<Result<QueueDepth, QueueError>>) -> Self {
        let refused = |error: &QueueError| matches!(error.reason(), Reason::QueueNotFound | Reason::DeclareRefused);
        let (messages, refused) = match answer {
            Some(Ok(depth)) => (Some(depth.ready), false),
            Some(Err(error)) if refused(&error) => (None, true),
            Some(Err(_)) | None => (known, false),
        };
        Self { queue: queue.to_owned(), messages, refused, expected, expected_since: expected, read: Instant::now() }
    }

    fn is_due(&self) -> bool {
        let is_news = self.expected_since && !self.expected;
        let believed = if self.messages.is_some() || is_news { PARKED_REUSE } else { PARKED_UNKNOWN_REUSE };
        self.read.elapsed() >= believed && (self.expected_since || !self.refused)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Whether a read from `seconds` ago is repeated. `expected`: whether a pod had reported parked messages at that
    /// read, and whether a pod has reported some by now.
    fn is_due(seconds: u64, messages: Option<u32>, refused: bool, expected: [bool; 2]) -> bool {
        let read = Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        let [expected, expected_since] = expected;
        Parked { queue: String::new(), messages, refused, expected, expected_since, read }.is_due()
    }

    #[test]
    fn a_queue_that_was_not_there_is_looked_for_once_a_pod_has_parked_and_seldom_after_that() {
        let (never, now, before) = ([false; 2], [false, true], [true; 2]);
        assert!(!is_due(600, None, true, never));
        assert!(is_due(11, None, true, now) && !is_due(9, None, true, now));
        assert!(is_due(61, None, true, before) && !is_due(59, None, true, before));
        assert!(is_due(61, None, false, never) && !is_due(59, None, false, never), "no answer");
        assert!(is_due(11, Some(0), false, never) && !is_due(9, Some(0), false, never));
    }
}
