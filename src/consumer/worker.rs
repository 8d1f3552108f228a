//! The processing steps of one message: convert, upload, park or renew, acknowledge. A message is acknowledged only
//! after it was stored, disposed of as `failures.policy` says, or copied to its queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use delivery_policy::{Event, Id};
use jiff::Timestamp;

use super::broker::BrokerError;
use super::capacity::{Capacity, Wanted, blocking};
use super::decode::{Decoder, Incoming};
use super::encode::{encode, inspect};
use super::isolate::{self, Decoded, Isolation};
use super::message::{self, Message};
use super::metrics::{Metrics, Outcome, Stage};
use super::parking::Parking;
use super::settle::{Failure, Refusal};
use super::state::{Dependency, State};
use super::upload::{Kind, Object, Scope, Store, Stored, UploadError};
use super::work::{Converted, Settlement, Step, Work};
use crate::api::failures::{FailurePolicy, Failures};
use crate::api::image::ImageSettings;
use crate::queue::{Delivery, Parked, QueueError};
use crate::reason::Reason;

/// The smallest common body limit of HTTP proxies: nginx's default, 1 MiB (`client_max_body_size`).
const SMALLEST_LIMIT: usize = 1 << 20;

/// From this number of attempts on, broken connections of a large upload count as a refusal of the object.
const BREAKS: u32 = 6;

/// Settings and resources shared by all messages.
pub struct Worker {
    pub namespace: String,
    pub name: String,
    pub queue: String,
    pub decoder: Decoder,
    pub image: ImageSettings,
    pub failures: Failures,
    /// Decodes redelivered messages in separate processes.
    pub isolation: Isolation,
    pub capacity: Capacity,
    pub store: Store,
    pub parking: Parking,
    pub state: Arc<State>,
    pub metrics: Metrics,
}

impl Worker {
    /// decode ─▶ encode: on a blocking thread or, for a redelivered message, which may have crashed a consumer, in a
    /// separate process.
    pub fn convert(self: Arc<Self>, work: &mut Work) -> impl Future<Output = Step> + use<> {
        let delivery = work.delivery();
        async move {
            if let Some(detail) = delivery.unreadable() {
                return Step::Converted(Some(Err(Failure::Unreadable(detail))));
            }
            if delivery.redelivered() {
                return Step::Converted(Some(self.isolated(&delivery).await));
            }
            let processor = self.capacity.processor().await;
            let worker = Arc::clone(&self);
            Step::Converted(blocking(processor, move |wanted| worker.work(&delivery, wanted).transpose()).await)
        }
    }

    async fn isolated(&self, delivery: &Delivery) -> Result<Converted, Failure> {
        let header = |name: &str| delivery.header(name);
        let incoming = isolate::Incoming { body: delivery.body(), timestamp: delivery.timestamp(), header: &header };
        let Decoded { key, png, memory } =
            self.isolation.convert(&incoming, &self.decoder, &self.capacity, &self.metrics).await?;
        Ok(Converted { key, digest: png.digest().to_string(), png, _memory: memory })
    }

    /// The CPU-bound part of the conversion. Waits for the image's memory in between; `None`: the caller no longer
    /// waits for the image.
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
        let digest = png.digest().to_string();
        let key = job.key(&digest).map_err(Failure::Decode)?;
        self.metrics.stage(Stage::Encode, started.elapsed());
        Ok(Some(Converted { key, png, digest, _memory: memory }))
    }

    /// One attempt to upload the PNG.
    pub fn upload(self: Arc<Self>, work: &mut Work) -> impl Future<Output = Step> + use<> {
        let (delivery, converted) = (work.delivery(), work.converted());
        async move {
            let Some(converted) = converted else { return Step::Converted(None) };
            let Converted { key, png, digest, .. } = &*converted;
            let object = Object { key, png: png.bytes(), digest, origin: message::origin(&delivery) };
            let started = Instant::now();
            let stored = self.store.put(&object).await;
            self.metrics.stage(Stage::Upload, started.elapsed());
            Step::Uploaded(stored)
        }
    }

    /// Publishes a refused message to the parking queue. Under the other failure policies does nothing: the message is
    /// then acknowledged or rejected.
    pub fn dispose(self: Arc<Self>, work: &mut Work) -> impl Future<Output = Step> + use<> {
        let refusal = work.refusal().cloned();
        let Message { delivery, attempts, first_seen, .. } = work.message();
        let (delivery, attempts, first_seen) = (Arc::clone(delivery), *attempts, first_seen.to_string());
        async move {
            let Some(Refusal { reason, detail }) = refusal else { return Step::Converted(None) };
            if self.failures.policy != FailurePolicy::Park {
                return Step::Disposed(Ok(()));
            }
            let started = Instant::now();
            let parked = Parked {
                reason: reason.as_str(),
                detail: &detail,
                namespace: &self.namespace,
                name: &self.name,
                queue: &self.queue,
                attempts,
                first_seen: &first_seen,
            };
            let parked = self.parking.park(&delivery, &parked).await;
            self.metrics.stage(Stage::Settle, started.elapsed());
            Step::Disposed(parked)
        }
    }

    /// Publishes a copy of a message to the end of its queue; the copy starts with 0 returns.
    pub fn renew(self: Arc<Self>, work: &mut Work) -> impl Future<Output = Step> + use<> {
        let delivery = work.delivery();
        async move { Step::Renewed(self.parking.renew(&self.queue, &delivery).await) }
    }

    /// Stores a step's result in `work` and converts it to an event for the policy.
    ///
    /// # Errors
    /// `WorkerLost`: the conversion ended without a result.
    pub fn outcome(&self, id: Id, work: &mut Work, step: Step) -> Result<Event, BrokerError> {
        Ok(match step {
            Step::Converted(None) => return Err(BrokerError::WorkerLost),
            Step::Converted(Some(Ok(converted))) => {
                work.set_converted(converted);
                Event::Converted(id)
            }
            Step::Converted(Some(Err(failure))) => {
                work.refuse(failure.into());
                Event::Refused(id)
            }
            Step::Uploaded(Ok(stored)) => {
                self.stored(work, stored);
                Event::Stored(id)
            }
            Step::Uploaded(Err(error)) => self.upload_failed(id, work, error),
            Step::Disposed(Ok(())) => {
                if self.failures.policy == FailurePolicy::Park {
                    self.state.available(Dependency::Parking);
                }
                Event::Parked(id)
            }
            Step::Disposed(Err(error)) => {
                self.state.failing(Dependency::Parking, error.reason(), error.to_string());
                Event::ParkFailed(id)
            }
            Step::Renewed(Ok(())) => {
                work.set_renewed();
                Event::Renewed(id)
            }
            Step::Renewed(Err(error)) => Event::RenewFailed { id, refused: error.is_publish_refused() },
        })
    }

    fn stored(&self, work: &mut Work, stored: Stored) {
        let bytes = work.set_stored(stored);
        self.state.available(Dependency::Storage);
        self.metrics.stored(bytes, work.message().delivery.timestamp().map(age));
    }

    fn upload_failed(&self, id: Id, work: &mut Work, error: UploadError) -> Event {
        let scope = match (error.scope(), error.kind()) {
            (Scope::Object, _) => {
                let (reason, detail) = (error.reason(), error.to_string());
                work.refuse(Refusal { reason, detail });
                return Event::Refused(id);
            }
            // Only uploads of other objects show whether S3 fails: the policy decides.
            (Scope::MaybeObject, _) if !is_chance(&error, work) => delivery_policy::Scope::MaybeObject,
            (Scope::MaybeObject | Scope::Store, kind) => {
                self.state.failing(Dependency::Storage, error.reason(), error.to_string());
                if kind == Kind::Environment {
                    delivery_policy::Scope::Environment
                } else {
                    delivery_policy::Scope::Store
                }
            }
        };
        work.set_failure(error);
        Event::UploadFailed { id, scope, object: work.object() }
    }

    /// Acknowledges or rejects a message. An error means that the session ended; the broker redelivers the message.
    pub async fn acknowledge(&self, work: Work) -> Result<(), QueueError> {
        let message = work.message();
        let (outcome, refusal) = match work.settled() {
            Some(Settlement::Stored) => (Outcome::Stored, None),
            Some(Settlement::Renewed) => (Outcome::Renewed, None),
            Some(Settlement::Refused(refusal)) => (self.failures.policy.into(), Some(refusal)),
            // Not settled: the message returns to the queue when the session ends.
            None => return Ok(()),
        };
        let settled = match outcome {
            Outcome::DeadLettered => message.delivery.reject().await,
            _ => message.delivery.acknowledge().await,
        };
        if settled.is_err() {
            self.ended(message, Outcome::AcknowledgementLost, None);
            return settled;
        }
        self.ended(message, outcome, refusal.map(|Refusal { reason, detail }| (*reason, detail.as_str())));
        match refusal {
            Some(Refusal { reason, detail }) => self.state.refused(outcome, *reason, detail.clone()),
            None if outcome == Outcome::Stored => self.state.processed(),
            None => self.state.renewed(),
        }
        Ok(())
    }

    /// Counts and logs the outcome of a message.
    pub fn ended(&self, message: &Message, outcome: Outcome, refused: Option<(Reason, &str)>) {
        self.metrics.message(outcome, refused.map(|(reason, _)| reason));
        message.log(format_args!("{}/{}", self.namespace, self.name), outcome, refused);
    }
}

impl From<FailurePolicy> for Outcome {
    fn from(policy: FailurePolicy) -> Self {
        match policy {
            FailurePolicy::Park => Self::Parked,
            FailurePolicy::DeadLetter => Self::DeadLettered,
            FailurePolicy::Discard => Self::Discarded,
        }
    }
}

/// Whether the connection broke by chance, whatever the object. A proxy with a body limit breaks every connection that
/// sends a large body; so only repeated breaks of a large upload point to the object.
fn is_chance(error: &UploadError, work: &Work) -> bool {
    let is_small = work.converted().is_none_or(|converted| converted.png.bytes().len() < SMALLEST_LIMIT);
    error.reason() == Reason::EndpointUnreachable && (is_small || work.message().attempts < BREAKS)
}

/// The time since a publisher's timestamp; 0 if its clock is ahead.
fn age(timestamp: u64) -> Duration {
    let now = Duration::try_from(Timestamp::now().as_duration()).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(timestamp))
}
