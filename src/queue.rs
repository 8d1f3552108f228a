//! RabbitMQ over AMQP 0-9-1: connect, read a depth, consume, publish confirmed. With its folder,
//! the only place that knows `lapin`. It must never reconnect by itself: a session that failed is
//! torn down by its owner, who decides when to open the next.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::StreamExt;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{AsyncTcpStream, ConnectionProperties, Event};
use tokio::sync::watch;

use crate::broker_address::BrokerAddress;

mod attempt;
mod declare;
mod delivery;
mod error;
pub mod frame_filter;
mod properties;
mod publish;
mod reach;
mod repair;
mod tls;

use attempt::Attempt;
pub use declare::QuorumQueues;
pub use delivery::{Copy, Deliveries, Delivery};
pub use error::QueueError;
use frame_filter::{Dialer, Version};
pub use properties::Parked;
pub use publish::{Outgoing, Published, Publishing};
pub use reach::Reach;

/// How long any one exchange with the broker may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a broker may take that answered on the same connection before.
const ANSWERS: Duration = Duration::from_secs(2);

/// The longest frame: the broker's own default. Said at the start, or the client library makes
/// its buffers of 32 frames anew once the broker has said it, and touches every page of them.
const FRAME_MAX: u32 = 128 << 10;

/// The same where only depths are read. The two buffers are rings, which an idle connection walks through in
/// days until it has touched all of them, and an operator may have a connection for each of many brokers.
/// RabbitMQ 4.1 asks for 8 KiB at the least.
const LOOKING_FRAME_MAX: u32 = 16 << 10;

/// Seconds between heartbeats: the broker's manual advises 5 to 20. A peer that is silent for two
/// of them is given up, so that a network that drops everything is named within ten seconds.
const HEARTBEAT_SECONDS: u16 = 5;

/// One AMQP connection: one host, one virtual host, one user.
pub struct Connection {
    inner: lapin::Connection,
    blocked: watch::Receiver<bool>,
    version: Arc<OnceLock<Version>>,
}

/// One AMQP channel. An error from the broker closes it, and no other of the same connection.
#[derive(Debug)]
pub struct Channel {
    inner: lapin::Channel,
    blocked: watch::Receiver<bool>,
}

/// What a passive declare tells of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueDepth {
    /// Messages ready to be delivered; those that consumers hold are not counted.
    pub ready: u32,
    /// Consumers registered on the queue. Before RabbitMQ 4.3 a quorum queue may answer with the
    /// messages that they hold.
    pub consumers: u32,
}

impl Connection {
    /// Connects and authenticates, wherever the broker is. `name` is what the broker's management
    /// page shows.
    ///
    /// # Errors
    /// Name resolution, connection, TLS, authentication or virtual host failed, or nothing answered
    /// within ten seconds.
    pub async fn open(address: &BrokerAddress, name: &str) -> Result<Self, QueueError> {
        Self::connect(Reach::Anywhere, FRAME_MAX, address, name).await
    }

    /// As `open`, to read depths alone, and dials only addresses within `reach`. The name is resolved
    /// once: what is dialled is what was judged.
    ///
    /// # Errors
    /// As `open`, and if the name leads to no address within reach.
    pub async fn open_to_look(reach: Reach, address: &BrokerAddress, name: &str) -> Result<Self, QueueError> {
        Self::connect(reach, LOOKING_FRAME_MAX, address, name).await
    }

    async fn connect(reach: Reach, frame_max: u32, address: &BrokerAddress, name: &str) -> Result<Self, QueueError> {
        short(&address.vhost)?;
        let found = reach.resolve(address).await?;
        let tls = address.tls.as_ref().map(tls::connector).transpose();
        let tls = tls.map_err(|error| QueueError::connecting_io(address, &error))?;
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let (attempt, version) = (Attempt::default(), Arc::default());
        let given_up = attempt.given_up.clone().drop_guard();
        let tokio = Tokio::current();
        let dialer = Dialer {
            tokio: tokio.clone(),
            host: address.host.clone(),
            tls: tls.map(Arc::new),
            attempt: attempt.clone(),
            frame_max,
            version: Arc::clone(&version),
        };
        let runtime = Runtime::new(RuntimeParts::new(tokio, dialer));
        let inner = within("connecting", async {
            let dial = async move |_, runtime| Ok(AsyncTcpStream::connect(&runtime, found.clone()).await?);
            let connected = lapin::Connection::connector(uri(address, frame_max), runtime, dial, properties);
            connected.await.map_err(|error| QueueError::connecting(address, &error))
        })
        .await?;
        given_up.disarm();
        attempt.made.cancel();
        let blocked = follow(&inner);
        Ok(Self { inner, blocked, version })
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// The connection is gone, or the broker refuses another channel.
    pub async fn channel(&self) -> Result<Channel, QueueError> {
        let inner = within("opening a channel", async {
            self.inner.create_channel().await.map_err(|error| QueueError::from_lapin(&error))
        })
        .await?;
        Ok(Channel { inner, blocked: self.blocked.clone() })
    }

    /// Reads a queue's depth by a channel of its own, which a refusal closes.
    ///
    /// # Errors
    /// As [`Channel::depth`].
    pub async fn depth(&self, queue: &str) -> Result<QueueDepth, QueueError> {
        let read = self.channel().await?.depth(queue).await;
        match read {
            Err(error) => Err(self.cause_of_silence(queue, error).await),
            read => read,
        }
    }

    /// Why the broker did not answer about a queue. RabbitMQ 4 waits for more than a minute for a classic queue
    /// whose node is down, and answers everything else on the same connection.
    pub async fn cause_of_silence(&self, queue: &str, error: QueueError) -> QueueError {
        let answers = async { matches!(tokio::time::timeout(ANSWERS, self.channel()).await, Ok(Ok(_))) };
        if error.is_timeout() && answers.await { QueueError::unavailable(queue, "it does not answer") } else { error }
    }

    /// Whether the connection is still open, as far as this side knows.
    pub fn is_open(&self) -> bool {
        self.inner.status().connected()
    }

    /// Whether the broker takes no messages by this connection, since it is short of memory or disk
    /// space. It says so at the first message; then nothing at all is sent to it any more.
    pub fn is_blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    /// The version of the broker, if it says that it is RabbitMQ.
    pub fn broker_version(&self) -> Option<(u16, u16, u16)> {
        self.version.get().copied()
    }

    /// Bytes of the largest body that the broker lets through, unless its `max_message_size` was changed. A body
    /// arrives whole before anything can refuse it.
    ///
    /// The default is 16 MiB since RabbitMQ 4.0 (its release notes, "Default maximum message size"), and was 128 MiB
    /// since 3.8 (`rabbitmq.conf.example`, `max_message_size`). LavinMQ has 128 MiB too.
    pub fn largest_body(&self) -> u64 {
        match self.broker_version() {
            Some(version) if version >= (4, 0, 0) => 16 << 20,
            _ => 128 << 20,
        }
    }

    /// Closes the connection; what is unacknowledged returns to its queue. A connection that is
    /// already gone is as good as closed.
    pub async fn close(&self) {
        let closing = self.inner.close(200, "closing".into());
        drop(tokio::time::timeout(TIMEOUT, closing).await);
    }
}

impl Channel {
    /// Whether the channel is still open, as far as this side knows.
    pub fn is_open(&self) -> bool {
        self.inner.status().connected()
    }

    /// Whether the channel can still be used: without a subscription nothing else shows that it ended.
    ///
    /// # Errors
    /// The channel or its connection is closed, and the broker has returned what was unacknowledged.
    pub fn ensure_open(&self) -> Result<(), QueueError> {
        if self.is_open() { Ok(()) } else { Err(QueueError::connection_lost("the broker closed the connection")) }
    }

    /// Reads a queue's depth by a passive declare, which creates nothing.
    ///
    /// # Errors
    /// The queue does not exist or may not be declared (both close the channel), or the broker does
    /// not answer.
    pub async fn depth(&self, queue: &str) -> Result<QueueDepth, QueueError> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = within("reading the queue's depth", async {
            self.inner
                .queue_declare(short(queue)?, options, FieldTable::default())
                .await
                .map_err(|error| QueueError::on_queue(queue, &error))
        })
        .await?;
        Ok(QueueDepth { ready: declared.message_count(), consumers: declared.consumer_count() })
    }

    /// Registers as a consumer that is sent at most `prefetch` messages before it acknowledges.
    ///
    /// The consumer has priority 0, as it would have without saying so. A stream takes no priority, and so
    /// refuses the consumer: it would deliver only what arrives from now on, and keep what is acknowledged.
    ///
    /// # Errors
    /// The queue is missing, is a stream or another connection's, the user may not read it, or the broker does
    /// not answer.
    pub async fn consume(&self, queue: &str, tag: &str, prefetch: u16) -> Result<Deliveries, QueueError> {
        within("registering as a consumer", async {
            let refused = |error: lapin::Error| QueueError::on_queue(queue, &error);
            let mut arguments = FieldTable::default();
            arguments.insert("x-priority".into(), AMQPValue::LongInt(0));
            self.inner.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(refused)?;
            let consumer = self
                .inner
                .basic_consume(short(queue)?, short(tag)?, BasicConsumeOptions::default(), arguments)
                .await
                .map_err(refused)?;
            Ok(Deliveries::new(consumer))
        })
        .await
    }

    /// Ends a consumer. What was delivered before can still be acknowledged; then the stream ends.
    ///
    /// # Errors
    /// The channel is gone, or the broker does not answer.
    pub async fn cancel(&self, tag: &str) -> Result<(), QueueError> {
        within("cancelling the consumer", async {
            let cancelled = self.inner.basic_cancel(short(tag)?, BasicCancelOptions::default()).await;
            cancelled.map_err(|error| QueueError::from_lapin(&error))
        })
        .await
    }
}

fn uri(address: &BrokerAddress, frame_max: u32) -> AMQPUri {
    let BrokerAddress { host, port, vhost, username, password, tls } = address.clone();
    let mechanism = if username.is_empty() { SASLMechanism::External } else { SASLMechanism::Plain };
    AMQPUri {
        scheme: if tls.is_some() { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority { userinfo: AMQPUserInfo { username, password }, host, port },
        vhost,
        query: AMQPQueryString {
            heartbeat: Some(HEARTBEAT_SECONDS),
            auth_mechanism: Some(mechanism),
            frame_max: Some(frame_max),
            ..AMQPQueryString::default()
        },
    }
}

/// Follows what the broker says of its alarms, for as long as the connection is there.
fn follow(connection: &lapin::Connection) -> watch::Receiver<bool> {
    let (blocked, told) = watch::channel(false);
    let mut events = connection.events_listener();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::ConnectionBlocked(_) => blocked.send_replace(true),
                Event::ConnectionUnblocked => blocked.send_replace(false),
                _ => continue,
            };
        }
    });
    told
}

/// AMQP's short string: at most 255 bytes, which the resource's bound on characters can't promise.
fn short(name: &str) -> Result<ShortString, QueueError> {
    ShortString::try_new(name).map_err(|_| QueueError::too_long(name))
}

async fn within<T>(doing: &str, work: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(QueueError::timed_out(doing)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker_address::Tls;
    use crate::reason::Reason;

    fn threads() -> usize {
        let is_loop = |task: &std::fs::DirEntry| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim_end() == "lapin-io-loop")
        };
        std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().filter(is_loop).count()
    }

    #[tokio::test]
    async fn a_peer_that_takes_connections_and_says_nothing_keeps_no_thread() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut taken = Vec::new();
        for tls in [None, Some(Tls::default())] {
            let (host, vhost) = ("127.0.0.1".to_owned(), "/".to_owned());
            let address = BrokerAddress { host, port, vhost, username: "u".to_owned(), password: "p".to_owned(), tls };
            let connected = Connection::open(&address, "test");
            tokio::select! {
                _ = connected => panic!("it says nothing"),
                peer = async { (listener.accept().await, tokio::time::sleep(Duration::from_millis(100)).await) } => {
                    taken.push(peer.0.expect("a peer"));
                }
            }
        }
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let gone = async {
            while threads() > 0 {
                looks.tick().await;
            }
        };
        tokio::time::timeout(TIMEOUT, gone).await.expect("no thread is left");
    }

    /// What a peer says to anybody who connects, with the error that comes of it.
    async fn told_by(answer: Vec<u8>, look: bool) -> QueueError {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let peer = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            // It may hang up before it has all.
            drop(socket.write_all(&answer).await);
            drop(socket.read_to_end(&mut Vec::new()).await);
        });
        let (host, vhost) = ("127.0.0.1".to_owned(), "/".to_owned());
        let address =
            BrokerAddress { host, port, vhost, username: "u".to_owned(), password: "p".to_owned(), tls: None };
        let opened = match look {
            true => Connection::open_to_look(Reach::Anywhere, &address, "test").await,
            false => Connection::open(&address, "test").await,
        };
        peer.abort();
        opened.err().expect("no broker")
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind, 0, 0][..], &length, payload, &[0xCE]].concat()
    }

    /// Connection.Start with so many arrays in each other.
    fn start(levels: u32) -> Vec<u8> {
        let arrays: Vec<u8> =
            (0..levels).rev().flat_map(|level| [&b"A"[..], &(level * 5).to_be_bytes()].concat()).collect();
        let table = [&b"\x04deep"[..], &arrays].concat();
        let length = u32::try_from(table.len()).expect("short").to_be_bytes();
        let lists = b"\0\0\0\x05PLAIN\0\0\0\x05en_US";
        frame(1, &[&[0, 10, 0, 10, 0, 9][..], &length, &table, lists].concat())
    }

    /// Each level would take more than 2 KiB of a stack of 2 MiB: this process would end.
    #[tokio::test]
    async fn a_peer_that_is_no_broker_is_named_and_costs_nothing() {
        for (answer, expected) in [
            (start(104_000), "it sent a frame of 520041 bytes, and 16384 is the most"),
            (start(3_000), "nest more than 32 deep"),
            (frame(1, &[0, 50, 0, 10, 0, 0]), "a method that only clients send (50, 10)"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "a byte that begins no frame of AMQP 0-9-1 (0x48)"),
        ] {
            for look in [false, true] {
                let error = told_by(answer.clone(), look).await;
                let message = error.to_string();
                assert_eq!(error.reason(), Reason::BrokerUnreachable, "{message}");
                assert!(message.contains(expected) && message.contains("correct host and port"), "{message}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_amqp_cannot_hold_is_an_error_and_no_panic() {
        let vhost = "ä".repeat(200);
        let (host, username, password) = ("localhost".to_owned(), "u".to_owned(), "p".to_owned());
        let address = BrokerAddress { host, port: 1, vhost, username, password, tls: None };
        let refused = Connection::open(&address, "test").await.err().map(|error| error.reason());
        assert_eq!(refused, Some(Reason::NameTooLong));
    }
}
