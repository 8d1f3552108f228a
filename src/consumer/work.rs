//! A held message and its state between the processing steps.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::broker::SessionError;
use super::convert::Converted;
use super::live_status::InFlight;
use super::message::Message;
use super::parking::Copy;
use super::settle::{Refusal, Settlement};
use super::upload::{Extent, Stored, UploadError};
use crate::rabbitmq::Delivery;

/// How one step ended.
pub enum Step {
    Converted(Result<Converted, Refusal>),
    Uploaded(Result<Stored, UploadError>),
    /// The message was parked, or `failures.policy` needs only its acknowledgement or rejection.
    Disposed(Result<(), SessionError>),
    Renewed(Result<(), SessionError>),
}

pub struct Work {
    message: Message,
    copy: Arc<Mutex<Copy>>,
    converted: Option<Arc<Converted>>,
    failure: Option<UploadError>,
    settlement: Option<Settlement>,
    task: Option<Task>,
    _held: InFlight,
}

impl Work {
    pub fn new(delivery: Delivery, held: InFlight) -> Self {
        let message = Message::new(delivery);
        let copy = Arc::default();
        Self { message, copy, converted: None, failure: None, settlement: None, task: None, _held: held }
    }

    pub fn message(&self) -> &Message {
        &self.message
    }

    pub fn delivery(&self) -> Arc<Delivery> {
        Arc::clone(&self.message.delivery)
    }

    pub fn copy(&self) -> Arc<Mutex<Copy>> {
        Arc::clone(&self.copy)
    }

    pub fn follow(&mut self, task: AbortHandle) {
        self.task = Some(Task(task));
    }

    pub fn converted(&self) -> Option<Arc<Converted>> {
        self.converted.clone()
    }

    pub fn set_converted(&mut self, converted: Converted) {
        self.message.key = Some(converted.key.clone());
        self.converted = Some(Arc::new(converted));
    }

    /// Returns the size of the PNG, in bytes.
    pub fn set_stored(&mut self, stored: Stored) -> usize {
        self.message.stored = Some(stored);
        self.failure = None;
        self.settlement = Some(Settlement::Stored);
        self.converted.as_ref().map_or(0, |converted| converted.png.bytes().len())
    }

    /// How the last attempt to upload failed.
    pub fn failure(&self) -> Option<&UploadError> {
        self.failure.as_ref()
    }

    pub fn set_failure(&mut self, failure: UploadError) {
        self.message.attempts = self.message.attempts.saturating_add(1);
        self.failure = Some(failure);
    }

    pub fn refuse(&mut self, refusal: Refusal) {
        // Free the PNG's memory.
        self.converted = None;
        self.settlement = Some(Settlement::Refused(refusal));
    }

    pub fn set_renewed(&mut self) {
        self.settlement = Some(Settlement::Renewed);
    }

    /// The reason and detail for a parked message. Without an earlier refusal, S3 refused only this object.
    pub fn refusal(&mut self) -> Option<&Refusal> {
        if !matches!(self.settlement, Some(Settlement::Refused(_))) {
            let (reason, detail) = self.failure.take()?.as_fault_of_object();
            self.refuse(Refusal { reason, detail });
        }
        self.settlement()?.refusal()
    }

    /// S3's refusal of this object; a storage fault if S3 refuses every object.
    pub fn refusal_of_storage(&self) -> Option<&UploadError> {
        self.failure.as_ref().filter(|failure| matches!(failure.scope(), Extent::MaybeObject | Extent::MaybeTooLarge))
    }

    /// A hash of the object's key and digest, the policy's identifier for the object.
    pub fn object(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Some(converted) = &self.converted {
            (converted.key.as_str(), &converted.digest).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub fn settlement(&self) -> Option<&Settlement> {
        self.settlement.as_ref()
    }
}

/// The task of the current step, aborted when the work is dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
