//! Connections: TLS, authentication, frame sizes and heartbeats.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::StreamExt;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{AsyncTcpStream, ConnectionProperties, Event};
use tokio::sync::watch;

use super::address::BrokerAddress;
use super::attempt::Attempt;
use super::channel::{Channel, QueueDepth};
use super::dial_policy::DialPolicy;
use super::error::QueueError;
use super::frame_filter::{Dialer, Version};
use super::{FRAME_MAX, TIMEOUT, short, tls, within};

/// Timeout of the exchange that tests whether a connection still responds.
const ANSWERS: Duration = Duration::from_secs(2);

/// The maximum frame size of connections that only read depths. lapin's two buffers are rings: even an idle connection
/// touches all of their pages within days, and an operator may have a connection to each of many brokers. RabbitMQ 4.1
/// requires at least 8 KiB.
const LOOKING_FRAME_MAX: u32 = 16 << 10;

/// Seconds between heartbeats: RabbitMQ's manual advises 5 to 20. lapin closes the connection after two missed
/// heartbeats, so a network that drops all packets is reported within 10 s.
const HEARTBEAT_SECONDS: u16 = 5;

/// An AMQP connection to one host and virtual host, as one user.
pub struct Connection {
    inner: lapin::Connection,
    blocked: watch::Receiver<bool>,
    version: Arc<OnceLock<Version>>,
    /// Channel numbers used so far.
    channels: AtomicUsize,
}

impl Connection {
    /// Connects and authenticates, to any address. `name` is the connection name in RabbitMQ's management UI.
    ///
    /// # Errors
    /// Name resolution, TCP, TLS, authentication or the virtual host failed, or the broker did not respond within
    /// 10 s.
    pub async fn open(address: &BrokerAddress, name: &str) -> Result<Self, QueueError> {
        Self::connect(DialPolicy::AnyAddress, FRAME_MAX, address, name).await
    }

    /// Like `open`, for reading depths only, and connects only to addresses that `dial_policy` allows. The host name is
    /// resolved once, so the address that was checked is the address that is dialed.
    ///
    /// # Errors
    /// As `open`, and if the host name resolves to no allowed address.
    pub async fn open_to_look(
        dial_policy: DialPolicy,
        address: &BrokerAddress,
        name: &str,
    ) -> Result<Self, QueueError> {
        Self::connect(dial_policy, LOOKING_FRAME_MAX, address, name).await
    }

    async fn connect(
        dial_policy: DialPolicy,
        frame_max: u32,
        address: &BrokerAddress,
        name: &str,
    ) -> Result<Self, QueueError> {
        short(&address.vhost)?;
        let found = dial_policy.resolve(address).await?;
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
        Ok(Self { inner, blocked, version, channels: AtomicUsize::new(0) })
    }

    /// Opens a channel with a number that no channel of this connection has had. lapin 4.12 would use the numbers
    /// again. But once the broker has closed a channel with an error, as it does for a missing queue, lapin answers
    /// every request on its number with that error, whatever queue the later channel asks for.
    ///
    /// # Errors
    /// The connection is lost or has no number left, or a timeout.
    pub async fn channel(&self) -> Result<Channel, QueueError> {
        if self.channels.fetch_add(1, Ordering::Relaxed) >= self.channel_max() {
            return Err(QueueError::connection_lost("all channel numbers of the connection have been used"));
        }
        let inner = within("opening a channel", async {
            self.inner.create_channel().await.map_err(|error| QueueError::from_lapin(&error))
        })
        .await?;
        Ok(Channel { inner, blocked: self.blocked.clone() })
    }

    /// Reads a queue's depth on a new channel, since an error would close the channel.
    pub async fn depth(&self, queue: &str) -> Result<QueueDepth, QueueError> {
        let read = self.channel().await?.depth(queue).await;
        match read {
            Err(error) => Err(self.cause_of_silence(queue, error).await),
            read => read,
        }
    }

    /// Explains a timeout on a queue: `QueueUnavailable` if the connection still responds, else the original error.
    /// RabbitMQ 4 waits more than a minute for a classic queue whose node is down, and responds to everything else on
    /// the same connection.
    pub async fn cause_of_silence(&self, queue: &str, error: QueueError) -> QueueError {
        let answers = async { matches!(tokio::time::timeout(ANSWERS, self.channel()).await, Ok(Ok(_))) };
        if error.is_timeout() && answers.await { QueueError::unavailable(queue, "it does not answer") } else { error }
    }

    /// Whether the connection is open, as far as the client knows, and has channel numbers left.
    pub fn is_open(&self) -> bool {
        self.inner.status().connected() && self.channels.load(Ordering::Relaxed) < self.channel_max()
    }

    /// How many channels can be opened in all; the limit that the broker has set, by default 2,047.
    pub fn channel_max(&self) -> usize {
        match self.inner.configuration().channel_max() {
            // AMQP 0-9-1, connection.tune: no limit.
            0 => usize::from(u16::MAX),
            limit => usize::from(limit),
        }
    }

    /// Whether the broker blocks this connection because of a memory or disk alarm (`connection.blocked`). It does so
    /// at the first publish, and then reads nothing more from the connection.
    pub fn is_blocked(&self) -> bool {
        *self.blocked.borrow()
    }

    /// The broker's version, if the broker identifies itself as RabbitMQ.
    pub fn broker_version(&self) -> Option<(u16, u16, u16)> {
        self.version.get().copied()
    }

    /// Bytes of the largest body that the broker accepts, unless `max_message_size` was changed. A body arrives
    /// completely before the client can refuse it.
    ///
    /// The default is 16 MiB since RabbitMQ 4.0 (its release notes, "Default maximum message size"), and was 128 MiB
    /// since 3.8 (`rabbitmq.conf.example`, `max_message_size`). LavinMQ has 128 MiB too.
    pub fn largest_body(&self) -> u64 {
        match self.broker_version() {
            Some(version) if version >= (4, 0, 0) => 16 << 20,
            _ => 128 << 20,
        }
    }

    /// Closes the connection, within 10 s: the broker returns unacknowledged messages to their queue. Errors are
    /// ignored, since a lost connection is closed too.
    pub async fn close(&self) {
        let closing = self.inner.close(200, "closing".into());
        drop(tokio::time::timeout(TIMEOUT, closing).await);
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

/// Tracks `connection.blocked` and `connection.unblocked`, for as long as the connection exists.
fn follow(connection: &lapin::Connection) -> watch::Receiver<bool> {
    let (blocked, state) = watch::channel(false);
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
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rabbitmq::address::Tls;
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
                _ = connected => panic!("connected to a silent peer"),
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
        tokio::time::timeout(TIMEOUT, gone).await.expect("lapin's threads end");
    }

    /// The error of connecting to a peer that sends `answer`.
    async fn diagnosis(answer: Vec<u8>, to_look: bool) -> QueueError {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let peer = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a client");
            // The client may close the connection before it has read everything.
            drop(socket.write_all(&answer).await);
            drop(socket.read_to_end(&mut Vec::new()).await);
        });
        let (host, vhost) = ("127.0.0.1".to_owned(), "/".to_owned());
        let address =
            BrokerAddress { host, port, vhost, username: "u".to_owned(), password: "p".to_owned(), tls: None };
        let opened = match to_look {
            true => Connection::open_to_look(DialPolicy::AnyAddress, &address, "test").await,
            false => Connection::open(&address, "test").await,
        };
        peer.abort();
        opened.err().expect("an error")
    }

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[kind, 0, 0][..], &length, payload, &[0xCE]].concat()
    }

    /// Connection.Start with `levels` nested arrays.
    fn start(levels: u32) -> Vec<u8> {
        let arrays: Vec<u8> =
            (0..levels).rev().flat_map(|level| [&b"A"[..], &(level * 5).to_be_bytes()].concat()).collect();
        let table = [&b"\x04deep"[..], &arrays].concat();
        let length = u32::try_from(table.len()).expect("short").to_be_bytes();
        let lists = b"\0\0\0\x05PLAIN\0\0\0\x05en_US";
        frame(1, &[&[0, 10, 0, 10, 0, 9][..], &length, &table, lists].concat())
    }

    /// Parsed by lapin, each level would take more than 2 KiB of a stack of 2 MiB: the process would crash.
    #[tokio::test]
    async fn a_peer_that_is_no_broker_is_named_and_costs_nothing() {
        for (answer, expected) in [
            (start(104_000), "it sent a frame of 520041 bytes; the limit is 16384"),
            (start(3_000), "nest more than 32 deep"),
            (frame(1, &[0, 50, 0, 10, 0, 0]), "a method that only clients send (50, 10)"),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "a byte that does not begin an AMQP 0-9-1 frame (0x48)"),
        ] {
            for look in [false, true] {
                let error = diagnosis(answer.clone(), look).await;
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
