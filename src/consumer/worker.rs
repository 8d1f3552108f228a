//! What is done with one message: decode, encode, upload, settle. It must never acknowledge on any
//! other verdict than that the message is stored or parked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::backoff;
use super::capacity::{Capacity, Memory, blocking};
use super::decode::{ObjectKey, decode};
use super::encode::{Png, encode, inspect};
use super::metrics::{Metrics, Outcome, Stage};
use super::parking::Parking;
use super::settle::{Failure, Verdict, settle};
use super::state::{Dependency, State};
use super::upload::{Kind, Store, UploadError};
use crate::api::image::ImageSettings;
use crate::queue::{Delivery, Parked, QueueError};
use crate::reason::Reason;

/// The longest pause between two attempts: how late a repaired bucket is noticed.
const RETRY_CAP: Duration = Duration::from_secs(10);

/// What every message needs.
pub struct Worker {
    /// The pipeline's namespace.
    pub namespace: String,
    /// The pipeline's name.
    pub name: String,
    /// Put before every image name.
    pub prefix: String,
    /// Processors and memory.
    pub capacity: Capacity,
    /// Where images go.
    pub store: Store,
    /// Where messages go that can never succeed.
    pub parking: Parking,
    /// Who wants to know.
    pub state: Arc<State>,
    /// What is counted.
    pub metrics: Metrics,
    /// The order to stop.
    pub stop: CancellationToken,
    /// Cancelled when, after it, the broker sends nothing more.
    pub cut_off: CancellationToken,
}

/// A message under way.
struct Message {
    delivery: Arc<Delivery>,
    first_seen: Timestamp,
    attempts: u32,
}

/// What is to be stored; the memory is held as long as the PNG is.
struct Object {
    key: ObjectKey,
    png: Png,
    _memory: Memory,
}

impl Worker {
    /// One message, from its delivery to its acknowledgement.
    ///
    /// # Errors
    /// The session it came by is gone.
    pub async fn handle(self: Arc<Self>, delivery: Delivery) -> Result<(), QueueError> {
        let _held = self.state.take();
        let mut message = Message { delivery: Arc::new(delivery), first_seen: Timestamp::now(), attempts: 1 };
        let verdict = match self.convert(&message).await {
            Ok(object) => self.upload(&mut message, object).await,
            Err(failure) => settle(Err(failure), false),
        };
        self.carry_out(&message, verdict).await
    }

    /// decode ─▶ encode, on threads that may be kept busy.
    async fn convert(&self, message: &Message) -> Result<Object, Failure> {
        let started = Instant::now();
        let (delivery, prefix) = (Arc::clone(&message.delivery), self.prefix.clone());
        let (processor, (job, header)) = blocking(self.capacity.processor().await, move || {
            let job = decode(delivery.body(), &prefix).map_err(Failure::Decode)?;
            let header = inspect(&job.image, ImageSettings::default().max_pixels).map_err(Failure::Encode)?;
            Ok((job, header))
        })
        .await?;
        self.metrics.stage(Stage::Decode, started.elapsed());

        let started = Instant::now();
        let needed = header.bytes_needed() + u64::try_from(job.image.len()).unwrap_or(u64::MAX);
        let mut memory = self.capacity.memory(needed).await.map_err(Failure::Encode)?;
        let (_, object) = blocking(processor, move || {
            let png = encode(job.image.into(), &header, &ImageSettings::default()).map_err(Failure::Encode)?;
            memory.keep(png.bytes().len());
            Ok(Object { key: job.key, png, _memory: memory })
        })
        .await?;
        self.metrics.stage(Stage::Encode, started.elapsed());
        Ok(object)
    }

    /// upload ─▶ settle, until there is a verdict other than to try again.
    async fn upload(&self, message: &mut Message, object: Object) -> Verdict {
        loop {
            let started = Instant::now();
            let put = self.store.put(&object.key, &object.png);
            let result = tokio::select! {
                result = put => result,
                // A store that has failed before is not waited for.
                () = self.stop.cancelled(), if message.attempts > 1 => return Verdict::HandBack,
            };
            self.metrics.stage(Stage::Upload, started.elapsed());
            self.observe_storage(message, &object, &result);
            match settle(result.map_err(Failure::Upload), self.stop.is_cancelled()) {
                Verdict::Retry if self.pause(message.attempts - 1).await => message.attempts += 1,
                Verdict::Retry => return Verdict::HandBack,
                verdict => return verdict,
            }
        }
    }

    fn observe_storage(&self, message: &Message, object: &Object, result: &Result<(), UploadError>) {
        match result {
            Ok(()) => {
                self.state.available(Dependency::Storage);
                self.metrics.stored(object.png.bytes().len(), message.delivery.timestamp().map(age));
                debug!(delivery_tag = message.delivery.tag(), key = object.key.as_str(), "stored");
            }
            // The store answered, and would take another object.
            Err(error) if error.kind() == Kind::Message => {}
            Err(error) => self.state.failing(Dependency::Storage, error.reason(), error.to_string()),
        }
    }

    async fn carry_out(&self, message: &Message, verdict: Verdict) -> Result<(), QueueError> {
        let started = Instant::now();
        match verdict {
            Verdict::Acknowledge => {
                self.acknowledge(message).await?;
                self.state.processed();
                self.metrics.message(Outcome::Stored, None);
            }
            Verdict::Park { reason, detail } => {
                if !self.park(message, reason, &detail).await {
                    self.hand_back(message);
                    return Ok(());
                }
                self.acknowledge(message).await?;
                self.state.parked(reason, detail);
                self.metrics.message(Outcome::Parked, Some(reason));
            }
            // `upload` leaves no message to be retried; one that is not acknowledged is safe.
            Verdict::HandBack | Verdict::Retry => self.hand_back(message),
        }
        self.metrics.stage(Stage::Settle, started.elapsed());
        Ok(())
    }

    /// Publishes to the parking queue until it is confirmed; `false`: told to stop before.
    async fn park(&self, message: &Message, reason: Reason, detail: &str) -> bool {
        let parked = Parked {
            reason: reason.as_str(),
            detail,
            namespace: &self.namespace,
            name: &self.name,
            attempts: message.attempts,
            first_seen: &message.first_seen.to_string(),
        };
        let mut failures = 0;
        while let Err(error) = self.parking.park(&message.delivery, &parked).await {
            self.state.failing(Dependency::Parking, error.reason(), error.to_string());
            if !self.pause(failures).await {
                return false;
            }
            failures += 1;
        }
        self.state.available(Dependency::Parking);
        let (message_id, delivery_tag) = (message.delivery.message_id(), message.delivery.tag());
        warn!(%reason, detail, message_id, delivery_tag, "parked a message that can never succeed");
        true
    }

    async fn acknowledge(&self, message: &Message) -> Result<(), QueueError> {
        if self.stop.is_cancelled() {
            self.cut_off.cancelled().await;
        }
        let acknowledged = message.delivery.acknowledge().await;
        if acknowledged.is_err() {
            self.metrics.message(Outcome::AcknowledgementLost, None);
        }
        acknowledged
    }

    /// Nothing is sent: the broker takes back what is unacknowledged when the connection closes.
    fn hand_back(&self, message: &Message) {
        self.metrics.message(Outcome::HandedBack, None);
        debug!(delivery_tag = message.delivery.tag(), "handed back");
    }

    /// Waits before the next attempt; `false`: told to stop.
    async fn pause(&self, failures: u32) -> bool {
        tokio::select! {
            () = tokio::time::sleep(backoff::delay(failures, RETRY_CAP)) => true,
            () = self.stop.cancelled() => false,
        }
    }
}

/// How long ago a publisher's timestamp was; clocks may differ a little.
fn age(timestamp: u64) -> Duration {
    let now = Duration::try_from(Timestamp::now().as_duration()).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(timestamp))
}
