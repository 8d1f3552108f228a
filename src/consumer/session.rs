//! Sessions with the broker: connects, lets the policy drive one session, and reconnects after every error. No delivery
//! outlives its session: at its end, the broker returns the unacknowledged messages to the queue.

use std::sync::Arc;
use std::time::Duration;

use delivery_policy::{Event, Policy, Settings};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff;
use super::broker::{self, Broker, SessionError};
use super::capacity::Sizes;
use super::drive::Drive;
use super::live_status::LiveStatus;
use super::watchdog::Patience;
use super::worker::Worker;
use crate::rabbitmq::{Channel, Connection, QueueError};
use crate::reason::Reason;

/// A session that lasted this long resets the reconnect backoff.
const LIVED: Duration = Duration::from_secs(10);

/// The longest delay before a reconnect. The status shows a broker's recovery within 10 s: up to 5 s for this delay,
/// 5 s for the operator's poll of the pod.
const RECONNECT_CAP: Duration = Duration::from_secs(5);

/// Part of the grace period that is reserved for closing connections.
const CLOSING: Duration = Duration::from_secs(5);

pub struct Sessions {
    pub broker: Broker,
    pub queue: String,
    /// Prefix of this consumer's consumer tags.
    pub tag: String,
    pub sizes: Sizes,
    pub policy: Settings,
    /// Time from SIGTERM to the exit of the process.
    pub grace_period: Duration,
    pub state: Arc<LiveStatus>,
}

struct Session {
    connection: Connection,
    channel: Channel,
}

impl Sessions {
    /// Consumes until `stop`, then finishes the delivered messages.
    pub async fn run(&self, worker: &Arc<Worker>, stop: &CancellationToken) {
        let mut policy = Policy::new(self.policy, fastrand::u64(..));
        let (started, mut failures, mut patience) = (Instant::now(), 0, Patience::default());
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = stop.cancelled() => return,
            };
            let ended = match opened {
                Err(error) => Err(error),
                Ok(session) => {
                    let since = Instant::now();
                    let ended = self.work(session, worker, &mut policy, started, stop, &mut patience).await;
                    policy.handle(Event::Disconnected, started.elapsed());
                    if since.elapsed() > LIVED {
                        failures = 0;
                    }
                    ended
                }
            };
            let Err(error) = ended else { return };
            self.state.disconnected(error.reason(), error.to_string());
            tokio::select! {
                () = tokio::time::sleep(backoff::delay(failures, RECONNECT_CAP)) => failures += 1,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn open(&self) -> Result<Session, SessionError> {
        let connection = self.broker.connect("consumer").await?;
        match self.channel(&connection).await {
            Ok(channel) => Ok(Session { connection, channel }),
            Err(error) => {
                broker::close(&connection).await;
                Err(error.into())
            }
        }
    }

    async fn channel(&self, connection: &Connection) -> Result<Channel, QueueError> {
        match connection.depth(&self.queue).await {
            // Permissions can allow a user to read a queue but not to declare it passively.
            Err(error) if error.reason() != Reason::DeclareRefused => Err(error),
            _ => connection.channel().await,
        }
    }

    /// One session, until its connection is closed. `Ok`: the process must exit.
    async fn work(
        &self,
        Session { connection, channel }: Session,
        worker: &Arc<Worker>,
        policy: &mut Policy,
        started: Instant,
        stop: &CancellationToken,
        patience: &mut Patience,
    ) -> Result<(), SessionError> {
        let largest_body = connection.largest_body();
        let prefetch = self.sizes.prefetch_for(largest_body);
        info!(broker = ?connection.broker_version(), largest_body, prefetch, "connected");
        worker.converter.capacity.fit(largest_body).await;
        policy.set_prefetch(prefetch);
        let mut drive = Drive::new(&self.tag, worker, &channel, policy, started);
        let ended = tokio::select! {
            // Without a subscription, nothing else reports that the channel is closed.
            ended = channel.while_open(drive.run(&connection, stop, patience)) => ended,
            () = self.no_time_left(stop) => {
                warn!("grace period over: the broker returns the unfinished messages to the queue");
                Ok(())
            }
        };
        drop(drive);
        broker::close(&connection).await;
        ended
    }

    async fn no_time_left(&self, stop: &CancellationToken) {
        stop.cancelled().await;
        tokio::time::sleep(self.grace_period.saturating_sub(CLOSING)).await;
    }
}
