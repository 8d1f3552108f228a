//! The session with the broker: connect, look at the queue, consume, and begin again after anything
//! that goes wrong, for ever. It must never carry a delivery over into the next session: the broker
//! delivers it again.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff;
use super::broker::{self, Broker, BrokerError};
use super::capacity::Sizes;
use super::state::State;
use super::watchdog::{Patience, Watchdog};
use super::worker::Worker;
use crate::queue::{Channel, Connection, Deliveries, QueueError};
use crate::reason::Reason;

/// A session that lasted this long was a good one: the next attempt need not wait as if it had not
/// been there.
const LIVED: Duration = Duration::from_secs(10);

/// The longest pause before the next attempt. The status tells within ten seconds that a broker is
/// repaired: half of them are for noticing it, half for the operator's look at the pod.
const RECONNECT_CAP: Duration = Duration::from_secs(5);

/// Kept of the grace period for closing connections.
const CLOSING: Duration = Duration::from_secs(5);

/// Silence that means that no delivery is on its way: a quorum queue writes to its disk before it
/// answers an acknowledgement with the next one.
const QUIET: Duration = Duration::from_millis(250);

/// What a session is about.
pub struct Sessions {
    /// How to connect.
    pub broker: Broker,
    /// The queue to consume.
    pub queue: String,
    /// This consumer's name on the queue.
    pub tag: String,
    /// How many messages to have delivered and not acknowledged.
    pub sizes: Sizes,
    /// Time from the order to stop to the end of the process.
    pub grace_period: Duration,
    /// Cancelled when the broker sends nothing more. From the order to stop until then nobody may
    /// acknowledge.
    pub cut_off: CancellationToken,
    /// Who wants to know.
    pub state: Arc<State>,
}

struct Session {
    connection: Connection,
    channel: Channel,
    deliveries: Deliveries,
    prefetch: u16,
}

type Tasks = JoinSet<Result<(), BrokerError>>;

impl Sessions {
    /// Consumes until `stop`, then lets the worker finish what was delivered.
    pub async fn run(&self, worker: &Arc<Worker>, stop: &CancellationToken) {
        let (mut failures, mut patience) = (0, Patience::default());
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = stop.cancelled() => return,
            };
            let error = match opened {
                Err(error) => error,
                Ok(session) => {
                    let since = Instant::now();
                    let ended = self.work(session, worker, stop, &mut patience).await;
                    if since.elapsed() > LIVED {
                        failures = 0;
                    }
                    match ended {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
            };
            if let BrokerError::HeldTooLong(dependency) = error {
                self.state.waiting(dependency);
                if !worker.recovered(dependency).await {
                    return;
                }
                failures = 0;
                continue;
            }
            self.state.disconnected(error.reason(), error.to_string());
            tokio::select! {
                () = tokio::time::sleep(backoff::delay(failures, RECONNECT_CAP)) => failures += 1,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn open(&self) -> Result<Session, BrokerError> {
        let connection = self.broker.connect("consumer").await?;
        match self.register(&connection).await {
            Ok((channel, deliveries, prefetch)) => Ok(Session { connection, channel, deliveries, prefetch }),
            Err(error) => {
                broker::close(&connection).await;
                Err(error.into())
            }
        }
    }

    async fn register(&self, connection: &Connection) -> Result<(Channel, Deliveries, u16), QueueError> {
        let channel = connection.channel().await?;
        let channel = match channel.depth(&self.queue).await {
            Ok(_) => channel,
            // Some brokers let a user read a queue and not look at it; the refusal closed the channel.
            Err(error) if error.reason() == Reason::DeclareRefused => connection.channel().await?,
            Err(error) => return Err(error),
        };
        let largest_body = connection.largest_body();
        let prefetch = self.sizes.prefetch_for(largest_body);
        info!(broker = ?connection.broker_version(), largest_body, prefetch, "consuming");
        let deliveries = channel.consume(&self.queue, &self.tag, prefetch).await?;
        Ok((channel, deliveries, prefetch))
    }

    /// One session, from the first delivery to the close. `Ok`: told to stop, and done.
    async fn work(
        &self,
        mut session: Session,
        worker: &Arc<Worker>,
        stop: &CancellationToken,
        patience: &mut Patience,
    ) -> Result<(), BrokerError> {
        worker.capacity.fit(session.connection.largest_body()).await;
        self.state.consuming();
        let mut tasks = Tasks::new();
        let mut ended = self.consume(&mut session, &mut tasks, worker, stop, patience).await;
        if ended.is_ok() {
            let time = self.grace_period.saturating_sub(CLOSING);
            info!(in_flight = tasks.len(), seconds = time.as_secs(), "told to stop: finishing what is held");
            match tokio::time::timeout(time, self.drain(&mut session, &mut tasks, worker)).await {
                Ok(drained) => ended = drained,
                Err(_) => warn!(handed_back = tasks.len(), "no time left: the broker delivers the rest again"),
            }
        }
        tasks.shutdown().await;
        broker::close(&session.connection).await;
        ended
    }

    /// Takes deliveries until told to stop.
    async fn consume(
        &self,
        session: &mut Session,
        tasks: &mut Tasks,
        worker: &Arc<Worker>,
        stop: &CancellationToken,
        patience: &mut Patience,
    ) -> Result<(), BrokerError> {
        let mut watchdog = Watchdog::new(session.connection.channel().await?, self.queue.clone());
        let mut looks = looks(*patience);
        let mut delivered = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                next = session.deliveries.next() => match next {
                    Some(delivery) => {
                        tasks.spawn(Arc::clone(worker).handle(delivery?));
                        // One that waited for its turn has it.
                        if *patience != Patience::default() {
                            *patience = Patience::default();
                            looks = self::looks(*patience);
                        }
                        delivered = true;
                    }
                    None => return Err(BrokerError::Cancelled(self.queue.clone())),
                },
                Some(done) = tasks.join_next() => finished(done)?,
                _ = looks.tick() => {
                    if watchdog.is_stalled(delivered || tasks.len() >= session.prefetch.into()).await {
                        *patience = patience.grown();
                        return Err(BrokerError::Stalled(self.queue.clone()));
                    }
                    delivered = false;
                }
            }
        }
    }

    /// Ends the consumer and waits for everything that was delivered.
    ///
    /// An acknowledgement makes room for another delivery, which a quorum queue may send after it has
    /// confirmed the end of the consumer: too late to be handled, it would go back as redelivered.
    /// So this waits for what earlier ones brought, and only then ends the consumer.
    async fn drain(&self, session: &mut Session, tasks: &mut Tasks, worker: &Arc<Worker>) -> Result<(), BrokerError> {
        while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, session.deliveries.next()).await {
            tasks.spawn(Arc::clone(worker).handle(delivery?));
        }
        session.channel.cancel(&self.tag).await?;
        self.cut_off.cancel();
        while let Some(delivery) = session.deliveries.next().await {
            tasks.spawn(Arc::clone(worker).handle(delivery?));
        }
        while let Some(done) = tasks.join_next().await {
            finished(done)?;
        }
        Ok(())
    }
}

fn looks(patience: Patience) -> Interval {
    tokio::time::interval_at(Instant::now() + patience.interval(), patience.interval())
}

fn finished(done: Result<Result<(), BrokerError>, JoinError>) -> Result<(), BrokerError> {
    done.map_err(|_| BrokerError::WorkerLost)?
}
