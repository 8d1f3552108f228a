//! Publishes with `mandatory` and confirms, and keeps the ledger. Every wait has a limit, and no message is sent
//! twice: a message without a confirm stays an attempt.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::amqp::connect;
use super::ledger::{Entry, Id, Ledger, message_id};

const PERSISTENT: u8 = 2;

/// Limit for a connection attempt, and for a confirm.
const ANSWER: Duration = Duration::from_secs(10);

/// Limit while the broker is away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between two connection attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Uses one connection, and opens a new one when it breaks. Clones share the connection and may publish
/// concurrently.
#[derive(Clone)]
pub struct Publisher {
    uri: String,
    ledger: Ledger,
    properties: BasicProperties,
    session: Arc<Mutex<Option<Session>>>,
}

struct Session {
    channel: Channel,
    // A channel closes with its connection.
    _connection: Connection,
}

impl Publisher {
    /// Connects to the broker at this URI with the first message.
    pub fn new(uri: &str, ledger: &Ledger) -> Self {
        Self {
            uri: uri.to_owned(),
            ledger: ledger.clone(),
            properties: BasicProperties::default(),
            session: Arc::default(),
        }
    }

    /// Adds headers to each message.
    pub fn with_headers(self, headers: FieldTable) -> Self {
        Self { properties: self.properties.with_headers(headers), ..self }
    }

    /// Publishes a message through the default exchange, and returns its ledger number.
    ///
    /// # Errors
    /// The broker did not confirm the message and may or may not have it; or no connection was possible for a
    /// minute, and the ledger has no attempt.
    pub async fn publish(&self, entry: Entry, body: &[u8]) -> Result<Id, String> {
        let channel = self.channel().await?;
        let queue = entry.queue.clone();
        let id = self.ledger.attempt(entry, body);
        let confirmed = timeout(ANSWER, confirmed(&channel, &queue, body, self.properties(id))).await;
        confirmed.map_err(|_| "no confirm in time".to_owned())??;
        self.ledger.confirm(id);
        Ok(id)
    }

    fn properties(&self, id: Id) -> BasicProperties {
        let properties = self.properties.clone().with_content_type("application/json".into());
        let now = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        properties.with_delivery_mode(PERSISTENT).with_message_id(message_id(id).into()).with_timestamp(now)
    }

    async fn channel(&self) -> Result<Channel, String> {
        let mut slot = self.session.lock().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(Session { channel, .. }) = slot.as_ref().filter(|session| session.channel.status().connected())
            {
                return Ok(channel.clone());
            }
            match timeout(ANSWER, open(&self.uri)).await {
                Ok(Ok(session)) => *slot = Some(session),
                Ok(Err(error)) if Instant::now() > deadline => return Err(error.to_string()),
                Err(_) if Instant::now() > deadline => return Err("the broker does not answer".to_owned()),
                _ => sleep(PAUSE).await,
            }
        }
    }
}

async fn open(uri: &str) -> lapin::Result<Session> {
    let connection = connect(uri).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(Session { channel, _connection: connection })
}

async fn confirmed(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) -> Result<(), String> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish("".into(), queue.into(), options, body, properties).await;
    match sent.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())? {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
