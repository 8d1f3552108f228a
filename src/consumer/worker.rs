//! What is done with one message: decode, encode, upload, settle. It must never acknowledge on any
//! other verdict than that the message is stored, or refused as the policy says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::backoff;
use super::broker::BrokerError;
use super::capacity::{Capacity, Memory, Wanted, blocking};
use super::decode::{Decoder, Incoming, ObjectKey};
use super::encode::{Png, encode, inspect};
use super::markers::Markers;
use super::message::{self, Message};
use super::metrics::{Metrics, Outcome, Stage};
use super::parking::Parking;
use super::settle::{Failure, Verdict, settle};
use super::state::{Dependency, State};
use super::upload::{Kind, Object, Store, Stored, UploadError};
use crate::api::failures::{FailurePolicy, Failures};
use crate::api::image::ImageSettings;
use crate::queue::{Delivery, Parked, QueueError};
use crate::reason::Reason;

/// The longest pause between two attempts: how late a repaired bucket is noticed. The status tells of
/// it within ten seconds, of which the operator's look at the pod needs its part.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// What every message needs.
pub struct Worker {
    /// The pipeline's namespace.
    pub namespace: String,
    /// The pipeline's name.
    pub name: String,
    /// The queue that is read.
    pub queue: String,
    /// How a message is read.
    pub decoder: Decoder,
    /// How an image becomes a PNG.
    pub image: ImageSettings,
    /// What becomes of messages that can't.
    pub failures: Failures,
    /// Where the store is tried after it was given up.
    pub probe_key: ObjectKey,
    /// Marks of redelivered messages, which are decoded alone.
    pub markers: Markers,
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

/// What is to be stored; the memory is held as long as the PNG is.
struct Converted {
    key: ObjectKey,
    png: Png,
    _memory: Memory,
}

/// How a pause ended.
#[derive(PartialEq)]
enum Pause {
    Over,
    Stopped,
    HeldTooLong,
}

impl Worker {
    /// One message, from its delivery to its acknowledgement.
    ///
    /// # Errors
    /// The session it came by is gone, or must be ended: the message was held too long.
    pub async fn handle(self: Arc<Self>, delivery: Delivery) -> Result<(), BrokerError> {
        let _held = self.state.take();
        if delivery.redelivered() {
            self.metrics.redelivered();
        }
        let mut message = Message::new(delivery);
        let verdict = match self.convert(&message).await.ok_or(BrokerError::WorkerLost)? {
            Ok(converted) => self.upload(&mut message, converted).await?,
            Err(failure) => settle(Err(failure), self.failures.policy, false),
        };
        self.carry_out(&mut message, verdict).await
    }

    /// decode ─▶ encode, on a thread that may be kept busy. `None`: it was given up.
    async fn convert(self: &Arc<Self>, message: &Message) -> Option<Result<Converted, Failure>> {
        let (worker, delivery) = (Arc::clone(self), Arc::clone(&message.delivery));
        let leave = match self.markers.leave(delivery.body(), delivery.redelivered()).await {
            Ok(leave) => leave,
            Err(killer) => return Some(Err(Failure::Killer(killer))),
        };
        let processor = self.capacity.processor().await;
        blocking(processor, move |wanted| {
            let converted = worker.work(&delivery, wanted).transpose();
            drop(leave);
            converted
        })
        .await
    }

    /// What the processor does with a message. The memory that the image takes is waited for here,
    /// as long as somebody wants the image: `None` otherwise.
    fn work(&self, delivery: &Delivery, wanted: &Wanted) -> Result<Option<Converted>, Failure> {
        let started = Instant::now();
        let header = |name: &str| delivery.header(name);
        let incoming = Incoming { body: delivery.body(), timestamp: delivery.timestamp(), header: &header };
        let job = self.decoder.decode(&incoming).map_err(Failure::Decode)?;
        let header = inspect(&job.image, self.image.max_pixels).map_err(Failure::Encode)?;
        self.metrics.stage(Stage::Decode, started.elapsed());

        let started = Instant::now();
        let needed = header.bytes_needed() + u64::try_from(job.image.len()).unwrap_or(u64::MAX);
        let Some(memory) = wanted.wait_for(self.capacity.memory(needed)) else { return Ok(None) };
        let mut memory = memory.map_err(Failure::Encode)?;
        let png = encode(Bytes::clone(&job.image), &header, &self.image).map_err(Failure::Encode)?;
        memory.keep(png.bytes().len());
        let key = job.key(&png.digest().to_string()).map_err(Failure::Decode)?;
        self.metrics.stage(Stage::Encode, started.elapsed());
        Ok(Some(Converted { key, png, _memory: memory }))
    }

    /// upload ─▶ settle, until there is a verdict other than to try again.
    async fn upload(&self, message: &mut Message, converted: Converted) -> Result<Verdict, BrokerError> {
        let digest = converted.png.digest().to_string();
        let delivery = Arc::clone(&message.delivery);
        let (key, png, origin) = (&converted.key, converted.png.bytes(), message::origin(&delivery));
        let object = Object { key, png, digest: &digest, origin };
        message.key = Some(key.clone());
        let mut stored_by_half_time = None;
        loop {
            let started = Instant::now();
            let result = tokio::select! {
                result = self.store.put(&object) => result,
                // A store that has failed before is not waited for.
                () = self.stop.cancelled(), if message.attempts > 1 => return Ok(Verdict::HandBack),
            };
            self.metrics.stage(Stage::Upload, started.elapsed());
            self.observe_storage(message, png.len(), &result);
            let result = result.map(drop).map_err(Failure::Upload);
            match settle(result, self.failures.policy, self.stop.is_cancelled()) {
                Verdict::Retry => match self.pause(message, message.attempts - 1).await {
                    Pause::Over => {
                        message.attempts = message.attempts.saturating_add(1);
                        if message.since.elapsed() > Duration::from(self.failures.holding_time) / 2 {
                            stored_by_half_time.get_or_insert_with(|| self.state.status().processed);
                        }
                    }
                    Pause::Stopped => return Ok(Verdict::HandBack),
                    Pause::HeldTooLong => return self.give_up(message, &object, stored_by_half_time).await,
                },
                verdict => return Ok(verdict),
            }
        }
    }

    /// Ends with an object that was tried as long as it may be. Where others were stored in the second half of
    /// that time, which is none in an outage, it is tried once more, and what the store refuses then is this one
    /// alone: its message would come back for ever.
    async fn give_up(
        &self,
        message: &mut Message,
        object: &Object<'_>,
        stored_by_half_time: Option<u64>,
    ) -> Result<Verdict, BrokerError> {
        let others_stored = stored_by_half_time.is_some_and(|before| self.state.status().processed > before);
        if others_stored && self.failures.policy == FailurePolicy::Park {
            message.attempts = message.attempts.saturating_add(1);
            let result = self.store.put(object).await;
            self.observe_storage(message, object.png.len(), &result);
            match result {
                Ok(_) => return Ok(Verdict::Acknowledge),
                Err(error) if error.may_be_of_one_object() => {
                    self.state.available(Dependency::Storage);
                    let (policy, reason) = (FailurePolicy::Park, error.reason());
                    return Ok(Verdict::Refuse { policy, reason, detail: error.to_string() });
                }
                Err(_) => {}
            }
        }
        Err(self.held_too_long(message, Dependency::Storage))
    }

    fn observe_storage(&self, message: &mut Message, bytes: usize, result: &Result<Stored, UploadError>) {
        match result {
            Ok(stored) => {
                self.state.available(Dependency::Storage);
                self.metrics.stored(bytes, message.delivery.timestamp().map(age));
                message.stored = Some(*stored);
            }
            // The store answered, and would take another object.
            Err(error) if error.kind() == Kind::Message => self.state.available(Dependency::Storage),
            Err(error) => self.state.failing(Dependency::Storage, error.reason(), error.to_string()),
        }
    }

    async fn carry_out(&self, message: &mut Message, verdict: Verdict) -> Result<(), BrokerError> {
        let started = Instant::now();
        match verdict {
            Verdict::Acknowledge => {
                self.acknowledge(message).await?;
                self.ended(message, Outcome::Stored, None);
                self.state.processed();
            }
            Verdict::Refuse { policy, reason, detail } => self.refuse(message, policy, reason, detail).await?,
            // `upload` leaves no message to be retried; one that is not acknowledged is safe.
            Verdict::HandBack | Verdict::Retry => self.hand_back(message),
        }
        self.metrics.stage(Stage::Settle, started.elapsed());
        Ok(())
    }

    /// Ends a message that can never succeed.
    async fn refuse(
        &self,
        message: &mut Message,
        policy: FailurePolicy,
        reason: Reason,
        detail: String,
    ) -> Result<(), BrokerError> {
        let outcome = match policy {
            FailurePolicy::Park => {
                if !self.park(message, reason, &detail).await? {
                    self.hand_back(message);
                    return Ok(());
                }
                self.acknowledge(message).await?;
                Outcome::Parked
            }
            FailurePolicy::DeadLetter => {
                self.wait_for_cut_off().await;
                self.counted(message, message.delivery.reject().await)?;
                Outcome::DeadLettered
            }
            FailurePolicy::Discard => {
                self.acknowledge(message).await?;
                Outcome::Discarded
            }
        };
        self.ended(message, outcome, Some((reason, &detail)));
        self.state.refused(outcome, reason, detail);
        Ok(())
    }

    /// Publishes to the parking queue until it is confirmed; `false`: told to stop before.
    async fn park(&self, message: &mut Message, reason: Reason, detail: &str) -> Result<bool, BrokerError> {
        let mut failures = 0;
        loop {
            let parked = Parked {
                reason: reason.as_str(),
                detail,
                namespace: &self.namespace,
                name: &self.name,
                queue: &self.queue,
                attempts: message.attempts,
                first_seen: &message.first_seen.to_string(),
            };
            let Err(error) = self.parking.park(&message.delivery, &parked).await else { break };
            self.state.failing(Dependency::Parking, error.reason(), error.to_string());
            match self.pause(message, failures).await {
                Pause::Over => failures += 1,
                Pause::Stopped => return Ok(false),
                Pause::HeldTooLong => return Err(self.held_too_long(message, Dependency::Parking)),
            }
        }
        self.state.available(Dependency::Parking);
        Ok(true)
    }

    async fn acknowledge(&self, message: &Message) -> Result<(), QueueError> {
        self.wait_for_cut_off().await;
        self.counted(message, message.delivery.acknowledge().await)
    }

    /// Once told to stop, nothing is acknowledged before the broker has stopped to send.
    async fn wait_for_cut_off(&self) {
        if self.stop.is_cancelled() {
            self.cut_off.cancelled().await;
        }
    }

    fn counted(&self, message: &Message, acknowledged: Result<(), QueueError>) -> Result<(), QueueError> {
        if acknowledged.is_err() {
            self.ended(message, Outcome::AcknowledgementLost, None);
        }
        acknowledged
    }

    /// Nothing is sent: the broker takes back what is unacknowledged when the connection closes.
    fn hand_back(&self, message: &Message) {
        self.ended(message, Outcome::HandedBack, None);
    }

    fn held_too_long(&self, message: &Message, dependency: Dependency) -> BrokerError {
        self.hand_back(message);
        BrokerError::HeldTooLong(dependency)
    }

    /// The end of a message, once: counted, and told in the log.
    fn ended(&self, message: &Message, outcome: Outcome, refused: Option<(Reason, &str)>) {
        self.metrics.message(outcome, refused.map(|(reason, _)| reason));
        message.log(format_args!("{}/{}", self.namespace, self.name), outcome, refused);
    }

    /// Waits before the next attempt.
    async fn pause(&self, message: &Message, failures: u32) -> Pause {
        let held_until = message.since + self.failures.holding_time.into();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Pause::Stopped,
            () = tokio::time::sleep_until(held_until) => Pause::HeldTooLong,
            () = tokio::time::sleep(backoff::delay(failures, RETRY_CAP)) => Pause::Over,
        }
    }

    /// Waits until what has failed works again, with nothing held; `false`: told to stop before.
    pub async fn recovered(&self, dependency: Dependency) -> bool {
        let mut failures = 0;
        loop {
            let tried = match dependency {
                Dependency::Parking => {
                    self.parking.available().await.map_err(|error| (error.reason(), error.to_string()))
                }
                Dependency::Storage | Dependency::Broker => {
                    self.store.probe(&self.probe_key).await.map_err(|error| (error.reason(), error.to_string()))
                }
            };
            let Err((reason, text)) = tried else { break };
            self.state.failing(dependency, reason, text);
            tokio::select! {
                () = tokio::time::sleep(backoff::delay(failures, RETRY_CAP)) => failures += 1,
                () = self.stop.cancelled() => return false,
            }
        }
        self.state.available(dependency);
        true
    }
}

/// How long ago a publisher's timestamp was; clocks may differ a little.
fn age(timestamp: u64) -> Duration {
    let now = Duration::try_from(Timestamp::now().as_duration()).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(timestamp))
}
