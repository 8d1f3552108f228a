//! What the policy hears, and what it asks for.

use std::time::Duration;

/// Time since the process started.
pub type Time = Duration;

/// One delivery within this process.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Id(pub u64);

/// The pipeline's settings that the policy needs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The largest number of unacknowledged messages.
    pub prefetch: u16,
    /// Returns after which the broker drops a message (`failures.deliveryLimit`).
    pub delivery_limit: u64,
    /// How long a message may be held from its first failure on (`failures.holdingTime`).
    pub holding_time: Duration,
    /// Whether a message whose object alone S3 refuses is parked. Under the other failure policies such a message
    /// stays in the queue, since S3 may take it once a policy or a limit is corrected.
    pub parks: bool,
}

/// What a failed upload says about other uploads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// S3 may refuse this object and take others: a policy on keys, a size limit.
    MaybeObject,
    /// S3 fails for every object and may recover without help: 503, a timeout.
    Store,
    /// S3 fails for every object until a person corrects something: credentials, bucket, TLS.
    Environment,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dependency {
    Storage,
    Parking,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Event {
    /// A session with the broker is open, without a subscription.
    Connected,
    /// The session is gone. The broker returns every message that was held.
    Disconnected,
    /// [`Action::Subscribe`] is done.
    Subscribed,
    /// [`Action::Unsubscribe`] is done: no message follows.
    Unsubscribed,
    Delivered {
        id: Id,
        /// How often the broker took the message back before; 0 where the queue does not count.
        returns: u64,
        /// How often a copy of the message was renewed before.
        renewals: u64,
    },
    /// The PNG is ready for upload.
    Converted(Id),
    /// S3 confirmed the object.
    Stored(Id),
    UploadFailed {
        id: Id,
        scope: Scope,
        /// Tells objects apart: a hash of key and bytes.
        object: u64,
    },
    /// The message can never succeed, or S3 refused its object for the object's own fault.
    Refused(Id),
    /// The message is in the parking queue, or was disposed of as `failures.policy` says.
    Parked(Id),
    ParkFailed(Id),
    /// A copy of the message is in its queue, confirmed.
    Renewed(Id),
    RenewFailed {
        id: Id,
        /// The broker refused the copy; otherwise it could not answer.
        refused: bool,
    },
    /// SIGTERM.
    Stopping,
    /// Nothing happened but the time given by [`crate::Policy::wake_at`].
    TimePassed,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Subscribe {
        prefetch: u16,
    },
    /// Cancel the subscription and keep the messages held.
    Unsubscribe {
        /// As many messages are unacknowledged as the subscription allows: no delivery can be on its way.
        is_full: bool,
    },
    /// Decode the message and encode its PNG.
    Convert(Id),
    Upload(Id),
    Acknowledge(Id),
    /// Dispose of a message as `failures.policy` says, for the reason last reported for it.
    Park(Id),
    /// Park a message whose returns come near the limit and that the broker does not let us renew.
    ParkDeliveredTooOften(Id),
    /// Publish a copy to the same queue, which starts with 0 returns, then report [`Event::Renewed`].
    Renew(Id),
    /// Return one message to the queue (`basic.nack`, requeue).
    HandBack(Id),
    /// Stop work on a message; the end of the session returns it.
    Leave(Id),
}
