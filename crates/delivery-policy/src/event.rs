//! The policy's inputs (events, settings) and outputs (actions).

use std::time::Duration;

/// Time since the process started.
pub type Time = Duration;

/// One delivery; unique within a session.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id(pub u64);

/// The pipeline's settings that the policy needs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest number of unacknowledged messages.
    pub prefetch: u16,
    /// Number of returns after which the broker drops a message (`failures.deliveryLimit`).
    pub delivery_limit: u64,
    /// How long a message may be held after its first failure (`failures.holdingTime`).
    pub holding_time: Duration,
    /// Whether a message is parked if S3 refuses only its object. Under the other failure policies the message stays in
    /// the queue, because S3 may store the object once a policy or a limit is corrected.
    pub parks: bool,
}

/// What a failed upload says about other uploads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// S3 may refuse this object and store others: a policy on keys, a size limit.
    MaybeObject,
    /// The connection broke while a large object was sent. A proxy may refuse its size, or the connection broke by
    /// chance: only several such failures count as a refusal of the object.
    MaybeTooLarge,
    /// S3 fails for every object and may recover without intervention: 503, a timeout.
    Store,
    /// S3 fails for every object until a person corrects something: credentials, bucket, TLS.
    Environment,
}

impl Scope {
    /// Whether S3 may store other objects.
    pub fn may_be_one_object(self) -> bool {
        matches!(self, Self::MaybeObject | Self::MaybeTooLarge)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sink {
    Storage,
    Parking,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A session with the broker is open, without a subscription.
    Connected,
    /// The session ended. The broker returns every held message to the queue.
    Disconnected,
    /// [`Action::Subscribe`] is done.
    Subscribed,
    /// [`Action::Unsubscribe`] is done: no further delivery follows.
    Unsubscribed,
    Delivered {
        id: Id,
        /// How often the message was returned to the queue; 0 if the queue does not count returns, and `u64::MAX` if
        /// the count is unknown.
        returns: u64,
        /// How often the message was renewed: republished as a copy with 0 returns.
        renewals: u64,
    },
    /// The PNG is ready for upload.
    Converted(Id),
    /// S3 confirmed the object.
    Stored(Id),
    UploadFailed {
        id: Id,
        scope: Scope,
        /// Identifies the object: a hash of its key and its pixels' digest.
        object: u64,
    },
    /// The message can never succeed, or S3 refused its object for a fault of the object.
    Refused(Id),
    /// The broker confirmed the message in the parking queue, or `failures.policy` does not park.
    Parked(Id),
    ParkFailed(Id),
    /// The broker confirmed a copy of the message in its queue.
    Renewed(Id),
    RenewFailed {
        id: Id,
        /// `true`: the broker refused the copy. `false`: the broker could not answer.
        refused: bool,
    },
    /// SIGTERM.
    Stopping,
    /// The time of [`crate::Policy::wake_at`] has come.
    TimePassed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Subscribe {
        prefetch: u16,
    },
    /// Cancel the subscription and keep the held messages.
    Unsubscribe {
        /// The subscription's prefetch is reached, so no delivery can be in flight.
        is_full: bool,
    },
    /// Decode the message and encode its PNG.
    Convert(Id),
    Upload(Id),
    Acknowledge(Id),
    /// Dispose of a message as `failures.policy` says, with the reason last reported for it.
    Park(Id),
    /// Park a message whose returns are near the limit, because the broker refused a renewed copy.
    ParkDeliveredTooOften(Id),
    /// Publish a copy, which starts with 0 returns, to the same queue, then report [`Event::Renewed`].
    Renew(Id),
    /// Return one message to the queue (`basic.nack`, requeue).
    HandBack(Id),
    /// Stop work on a message and leave it unacknowledged; it returns to the queue when the session ends.
    Leave(Id),
}
