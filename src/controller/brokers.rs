//! The controller's sessions with brokers: one connection for all pipelines of the same host, port,
//! virtual host, user and TLS, one channel a pipeline, kept between readings. It must never let a broker
//! that hangs be tried by every pipeline in turn.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use kube::runtime::reflector::ObjectRef;

use super::observed::Trouble;
use crate::api::ImagePipeline;
use crate::api::names;
use crate::api::source::RabbitmqSource;
use crate::broker_address::BrokerAddress;
use crate::queue::{Channel, Connection, QueueDepth, QueueError, Reach};
use crate::reason::Reason;

/// How long a failure to connect is believed before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(3);

/// How long a number of parked messages is believed, and that it could not be read once it had to be: a
/// queue that is missing closes the channel and leaves a line in the broker's log.
const PARKED_FOR: Duration = Duration::from_secs(10);
const PARKED_UNKNOWN_FOR: Duration = Duration::from_secs(60);

/// How long a queue is believed to be a stream: finding it out leaves a line in the broker's log.
const STREAM_FOR: Duration = Duration::from_secs(60);

/// How long it may take to read it: the decision waits.
const PARKED_WITHIN: Duration = Duration::from_secs(1);

type Key = ObjectRef<ImagePipeline>;

/// The connections, by broker and user.
pub struct Connections {
    /// Who may write a Secret says where to dial.
    reach: Reach,
    links: Mutex<HashMap<BrokerAddress, Arc<tokio::sync::Mutex<Link>>>>,
}

/// One scope's channels, by pipeline, in connections that all scopes share.
pub struct Brokers {
    connections: Arc<Connections>,
    slots: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// What is kept of one pipeline between readings.
#[derive(Default)]
struct Slot {
    reader: Option<Reader>,
    parked: Option<Parked>,
    stream: Option<Stream>,
}

/// What is known of a parking queue.
struct Parked {
    queue: String,
    messages: Option<u32>,
    /// Whether it was not there, or not for this user to look at.
    refused: bool,
    /// Whether a pod had parked something by then, and whether one has since, which it may not live to repeat.
    expected: bool,
    expected_since: bool,
    read: Instant,
}

/// One broker and user. The connection lives as long as a pipeline's reader holds it.
#[derive(Default)]
struct Link {
    connection: Weak<Connection>,
    failed: Option<(Instant, QueueError)>,
}

/// One pipeline's channel, opened for one source with its Secrets in one version.
struct Reader {
    source: RabbitmqSource,
    revision: String,
    channel: Channel,
    _connection: Arc<Connection>,
}

/// A source queue that is a stream.
struct Stream {
    source: RabbitmqSource,
    trouble: Trouble,
    read: Instant,
}

impl Brokers {
    /// No channels yet, in these connections.
    pub fn sharing(connections: Arc<Connections>) -> Self {
        Self { connections, slots: Mutex::default() }
    }

    /// Reads the depth of a pipeline's queue. `revision` is the version of the Secrets that `address`
    /// reads; the address is only read when a session must be opened.
    ///
    /// # Errors
    /// What `address` failed with, or the broker's refusal or silence.
    pub async fn depth(
        &self,
        pipeline: Key,
        source: &RabbitmqSource,
        revision: &str,
        address: impl Future<Output = Result<BrokerAddress, Trouble>>,
    ) -> Result<QueueDepth, Trouble> {
        let slot = locked(&self.slots).entry(pipeline).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(reader) = slot.reader.take().filter(|reader| reader.is_for(source, revision))
            && let Ok(depth) = reader.channel.depth(&source.queue).await
        {
            slot.reader = Some(reader);
            return Ok(depth);
        }
        let trouble = |error: QueueError| {
            let error = error.with_login_secret(&names::login_secret(source));
            Trouble::new(error.reason(), error.to_string())
        };
        if let Some(stream) = slot.stream.as_ref().filter(|stream| stream.is_known(source)) {
            return Err(stream.trouble.clone());
        }
        let connection = self.connections.open(address.await?).await.map_err(trouble)?;
        let channel = connection.channel().await.map_err(trouble)?;
        let depth = match channel.depth(&source.queue).await {
            Ok(depth) => depth,
            Err(error) => return Err(trouble(connection.cause_of_silence(&source.queue, error).await)),
        };
        // The depth of a stream never falls, so the size would follow it to the maximum.
        if let Err(error) = connection.ensure_no_stream(&source.queue).await {
            let trouble = trouble(error);
            slot.stream = Some(Stream { source: source.clone(), trouble: trouble.clone(), read: Instant::now() });
            return Err(trouble);
        }
        let (source, revision) = (source.clone(), revision.to_owned());
        slot.reader = Some(Reader { source, revision, channel, _connection: connection });
        Ok(depth)
    }

    /// How many messages wait in a pipeline's parking queue, by the channel that its depth was read
    /// by; `None`: that is not known. `expected`: whether the queue must be there.
    pub async fn parked(&self, pipeline: Key, queue: &str, expected: bool) -> Option<u32> {
        let slot = locked(&self.slots).entry(pipeline).or_default().clone();
        let mut slot = slot.lock().await;
        let mut known = slot.parked.take().filter(|parked| parked.queue == queue);
        if let Some(parked) = &mut known {
            parked.expected_since |= expected;
        }
        let due = known.as_ref().is_none_or(Parked::is_due);
        let messages = known.as_ref().and_then(|parked| parked.messages);
        let expected = known.as_ref().map_or(expected, |parked| parked.expected_since);
        slot.parked = match slot.reader.take_if(|_| due) {
            Some(reader) => {
                let depth = tokio::time::timeout(PARKED_WITHIN, reader.channel.depth(queue)).await;
                // An error may have closed the channel, and an answer that is late would be another's.
                slot.reader = matches!(depth, Ok(Ok(_))).then_some(reader);
                Some(Parked::read(queue, messages, expected, depth.ok()))
            }
            None => known,
        };
        slot.parked.as_ref()?.messages
    }

    /// Drops a pipeline's channel; the connection closes with the last of them.
    pub fn forget(&self, pipeline: &Key) {
        locked(&self.slots).remove(pipeline);
    }

    /// Drops the channels of all pipelines but those that `lives` names.
    pub fn retain(&self, lives: impl Fn(&Key) -> bool) {
        locked(&self.slots).retain(|pipeline, _| lives(pipeline));
        self.connections.retain_used();
    }
}

impl Connections {
    /// None yet, and none with brokers out of `reach` ever.
    pub fn within(reach: Reach) -> Self {
        Self { reach, links: Mutex::default() }
    }

    fn retain_used(&self) {
        locked(&self.links).retain(|_, link| {
            // Whoever holds it may be about to connect.
            Arc::strong_count(link) > 1 || link.try_lock().is_ok_and(|link| link.connection.strong_count() > 0)
        });
    }

    async fn open(&self, address: BrokerAddress) -> Result<Arc<Connection>, QueueError> {
        let link = locked(&self.links).entry(address.clone()).or_default().clone();
        let mut link = link.lock().await;
        if let Some(connection) = link.connection.upgrade().filter(|connection| connection.is_open()) {
            return Ok(connection);
        }
        if let Some((when, error)) = &link.failed
            && when.elapsed() < RETRY_AFTER
        {
            return Err(error.clone());
        }
        match Connection::open_to_look(self.reach, &address, "image-pipeline controller").await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *link = Link { connection: Arc::downgrade(&connection), failed: None };
                Ok(connection)
            }
            Err(error) => {
                link.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

impl Stream {
    fn is_known(&self, source: &RabbitmqSource) -> bool {
        self.source == *source && self.read.elapsed() < STREAM_FOR
    }
}

impl Reader {
    /// Whether it can be asked still: another virtual host may be named without another Secret.
    fn is_for(&self, source: &RabbitmqSource, revision: &str) -> bool {
        self.source == *source && self.revision == revision && self.channel.is_open()
    }
}

impl Parked {
    /// What an answer tells, or that none came: then what was known still is.
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
        let believed = if self.messages.is_some() || is_news { PARKED_FOR } else { PARKED_UNKNOWN_FOR };
        self.read.elapsed() >= believed && (self.expected_since || !self.refused)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Whether what was read so many seconds ago is to be read again: messages, whether it was refused, and
    /// whether a pod had parked something by then, and by now.
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
