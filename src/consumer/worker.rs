//! The processing steps of one message (convert, upload, park or renew), and what their results mean for the policy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use delivery_policy::{Event, Id};
use jiff::Timestamp;
use tracing::warn;

use super::acknowledge::Settler;
use super::breaks::Breaks;
use super::convert::{Converted, Converter};
use super::live_status::{Dependency, LiveStatus};
use super::message::{self, Message};
use super::metrics::{Metrics, TimedStep};
use super::parking::Parking;
use super::settle::Refusal;
use super::upload::{Extent, Kind, Object, Store, Stored, UploadError};
use super::work::{Step, Work};
use crate::api::failures::FailurePolicy;
use crate::rabbitmq::Parked;

/// Settings and resources shared by all messages.
pub struct Worker {
    pub namespace: String,
    pub name: String,
    /// The source queue.
    pub queue: String,
    pub delivery_limit: u64,
    pub converter: Arc<Converter>,
    pub store: Store,
    pub parking: Parking,
    pub settler: Settler,
    pub breaks: Breaks,
    pub state: Arc<LiveStatus>,
    pub metrics: Metrics,
}

/// Each step is `None` if `work` lacks the result of the step before it. The policy orders the steps so that this does
/// not happen.
impl Worker {
    pub fn convert(self: Arc<Self>, work: &mut Work) -> Option<impl Future<Output = Step> + use<>> {
        let (converter, delivery) = (Arc::clone(&self.converter), work.delivery());
        Some(async move { Step::Converted(converter.convert(delivery).await) })
    }

    /// One attempt to upload the PNG.
    pub fn upload(self: Arc<Self>, work: &mut Work) -> Option<impl Future<Output = Step> + use<>> {
        let (delivery, converted) = (work.delivery(), work.converted()?);
        Some(async move {
            let Converted { key, png, digest, .. } = &*converted;
            let object = Object { key, png: png.bytes(), digest, origin: message::origin(&delivery) };
            let started = Instant::now();
            let stored = self.store.put(&object).await;
            self.metrics.stage(TimedStep::Upload, started.elapsed());
            Step::Uploaded(stored)
        })
    }

    /// Publishes a refused message to the parking queue. Under the other failure policies does nothing: the message is
    /// then acknowledged or rejected.
    pub fn dispose(self: Arc<Self>, work: &mut Work) -> Option<impl Future<Output = Step> + use<>> {
        let Refusal { reason, detail } = work.refusal()?.clone();
        let copy = work.copy();
        let Message { delivery, attempts, first_seen, .. } = work.message();
        let (delivery, attempts, first_seen) = (Arc::clone(delivery), *attempts, first_seen.to_string());
        Some(async move {
            if self.settler.policy != FailurePolicy::Park {
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
            let parked = self.parking.park(&delivery, &copy, &parked).await;
            self.metrics.stage(TimedStep::Settle, started.elapsed());
            Step::Disposed(parked)
        })
    }

    /// Publishes a copy of a message to the end of its queue; the copy starts with 0 returns.
    pub fn renew(self: Arc<Self>, work: &mut Work) -> Option<impl Future<Output = Step> + use<>> {
        let (delivery, copy) = (work.delivery(), work.copy());
        Some(async move { Step::Renewed(self.parking.renew(&self.queue, &delivery, &copy).await) })
    }

    /// The refusal of a message that no step could renew.
    pub fn refuse_delivered_too_often(&self, work: &mut Work) {
        let delivery = work.delivery();
        let refusal = match delivery.unreadable() {
            Some(detail) => Refusal::unreadable(detail),
            None => Refusal::delivered_too_often(delivery.returns().unwrap_or_default(), self.delivery_limit),
        };
        work.refuse(refusal);
    }

    /// Records a step's result in `work`, state and metrics, and returns the event for the policy.
    pub fn finish_step(&self, id: Id, work: &mut Work, step: Step) -> Event {
        match step {
            Step::Converted(Ok(converted)) => {
                work.set_converted(converted);
                Event::Converted(id)
            }
            Step::Converted(Err(refusal)) => {
                work.refuse(refusal);
                Event::Refused(id)
            }
            Step::Uploaded(Ok(stored)) => {
                self.stored(work, stored);
                Event::Stored(id)
            }
            Step::Uploaded(Err(error)) => self.upload_failed(id, work, error),
            Step::Disposed(Ok(())) => {
                if self.settler.policy == FailurePolicy::Park {
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
        }
    }

    fn stored(&self, work: &mut Work, stored: Stored) {
        if work.failure().is_some_and(|failure| failure.scope() == Extent::MaybeTooLarge) {
            self.breaks.recovered();
        }
        let bytes = work.set_stored(stored);
        self.state.available(Dependency::Storage);
        self.metrics.stored(bytes, work.message().delivery.timestamp().map(age));
    }

    fn upload_failed(&self, id: Id, work: &mut Work, error: UploadError) -> Event {
        let bytes = work.converted().map_or(0, |converted| converted.png.bytes().len());
        let scope = match error.scope() {
            Extent::Object => {
                let (reason, detail) = (error.reason(), error.to_string());
                work.refuse(Refusal { reason, detail });
                return Event::Refused(id);
            }
            // Only uploads of other objects show whether S3 fails: the policy decides.
            Extent::MaybeObject => delivery_policy::Scope::MaybeObject,
            Extent::MaybeTooLarge if !self.breaks.is_chance(bytes) => delivery_policy::Scope::MaybeTooLarge,
            Extent::MaybeTooLarge | Extent::Store => {
                self.state.failing(Dependency::Storage, error.reason(), error.to_string());
                match error.kind() {
                    Kind::Environment => delivery_policy::Scope::Environment,
                    Kind::Passing | Kind::Message => delivery_policy::Scope::Store,
                }
            }
        };
        // The status names it only if S3 refuses other objects too.
        if scope.may_be_one_object() && work.failure().is_none() {
            warn!(pipeline = self.name, reason = %error.reason(), detail = %error, "S3 may refuse this object alone");
        }
        work.set_failure(error);
        Event::UploadFailed { id, scope, object: work.object() }
    }
}

/// The time since a publisher's timestamp; 0 if its clock is ahead.
fn age(timestamp: u64) -> Duration {
    let now = Duration::try_from(Timestamp::now().as_duration()).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(timestamp))
}
