//! All reasons that conditions, events, metrics, logs, parking headers and `/status` use. A reason carries no data,
//! since metrics use it as a label: this list bounds the number of series.

use prometheus_client::encoding::EncodeLabelValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

/// A CamelCase reason, as Kubernetes conditions require (API conventions, "Conditions").
#[derive(
    Clone,
    Copy,
    Debug,
    Deserialize,
    EncodeLabelValue,
    EnumIter,
    EnumString,
    Eq,
    Hash,
    IntoStaticStr,
    JsonSchema,
    PartialEq,
    Serialize,
)]
pub enum Reason {
    // Faults of a message: it is parked.
    BodyTooLarge,
    CrashingMessage,
    DecoderPanicked,
    DeliveredTooOften,
    ImageTooLarge,
    InvalidBase64,
    InvalidImage,
    InvalidJson,
    InvalidName,
    MessageUnreadable,
    MissingField,
    ObjectExists,
    UnknownFormat,
    UnsupportedImage,
    // RabbitMQ.
    AddressRefused,
    AuthenticationFailed,
    BrokerUnreachable,
    Connected,
    ConnectionLimit,
    ConnectionLost,
    ConsumerStalled,
    DeclareRefused,
    DnsFailed,
    ForeignConsumers,
    NameTooLong,
    QueueFound,
    QueueInUse,
    QueueNotFound,
    QueueTemporary,
    QueueUnavailable,
    StreamNotSupported,
    TlsFailed,
    VhostNotFound,
    // Secrets.
    SecretInvalid,
    SecretNotFound,
    // Parking and renewal.
    MessagesParked,
    MessagesRenewed,
    ParkingAvailable,
    ParkingRefused,
    // Storage.
    AccessDenied,
    BucketNotFound,
    ClockSkewed,
    CredentialsExpired,
    CredentialsInvalid,
    CredentialsMissing,
    EndpointUnreachable,
    StorageAvailable,
    StorageFull,
    StorageRefused,
    StorageThrottled,
    StorageTimeout,
    StorageUnavailable,
    WrongRegion,
    // Consumers.
    ConsumersReady,
    ConsumersStarting,
    ContainerFailing,
    DeploymentRefused,
    ImagePullFailed,
    NoConsumers,
    NotYetKnown,
    PodsRefused,
    StatusUnreachable,
    Unschedulable,
    // Scaling, and the pipeline as a whole.
    AtMaximum,
    BacklogCounted,
    DepthUnknown,
    FixedSize,
    GrowthHeld,
    Idle,
    InvalidSpec,
    NameTaken,
    Paused,
    Running,
    ScaledDown,
    ScaledUp,
    Stopped,
    WithinLimits,
}

impl Reason {
    /// The reason's name, such as `QueueNotFound`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}
