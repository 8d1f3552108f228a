//! The kinds of fault, and what the schedule needs to know about each: the part it affects, whether one pipeline or
//! all are affected, its length, and the time limit for recovery. The module `faults` injects them.

use std::time::Duration;

use strum::{EnumIter, IntoStaticStr};

use super::plan::LED;

/// Limit from the heal of any fault to the first stored image.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

/// A kind of fault.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A consumer process is killed.
    ConsumerKilled,
    /// A consumer receives SIGTERM.
    ConsumerTerminated,
    /// A consumer process is stopped and resumed later.
    ConsumerStopped,
    /// The kernel kills a consumer that exceeds its memory limit.
    ConsumerOutOfMemory,
    /// Images that need more memory than allowed crash the consumers that decode them.
    ConsumerCrashed,
    /// RabbitMQ is shut down properly and started again.
    BrokerRestarted,
    /// RabbitMQ's process is killed.
    BrokerKilled,
    /// All connections to RabbitMQ are closed.
    ConnectionClosed,
    /// No traffic reaches RabbitMQ, and neither side gets an error.
    BrokerBlackholed,
    /// RabbitMQ raises a memory alarm and blocks publishers.
    MemoryAlarm,
    /// The queue is deleted, and declared again later.
    QueueRecreated,
    /// The node that leads a quorum queue is killed, and started again later.
    LeaderKilled,
    /// S3 answers 500.
    StoreFails,
    /// S3 answers 503 SlowDown.
    StoreThrottles,
    /// S3 answers late.
    StoreSlow,
    /// S3 does not answer.
    StoreHangs,
    /// S3 stores objects, and the connection breaks before the answer.
    StoreResets,
    /// S3 denies access.
    StoreDenies,
    /// S3 reports expired credentials.
    StoreExpired,
    /// A proxy before S3 refuses large bodies.
    ProxyLimits,
    /// The credentials allow only some of the keys.
    StoreDeniesSome,
    /// Another server answers in place of S3: 200 with an HTML page.
    StoreIsAnother,
    /// The bucket disappears, and returns later with all its objects.
    BucketRemoved,
    /// The RabbitMQ user changes, and the pipeline's Secret follows later.
    BrokerUserRotated,
    /// The S3 credentials change, and the pipeline's Secret follows later.
    StoreKeyRotated,
    /// The operator process is killed.
    OperatorKilled,
    /// Two operators run, and the leader is deleted.
    TwoOperators,
    /// Two operators run; the leader is stopped, and resumed once the other operator leads.
    LeaderPaused,
    /// The API server does not answer.
    ApiServerAway,
    /// The node's kubelet is stopped and started again.
    KubeletRestarted,
    /// The pipeline's spec changes, and with it the pods.
    SpecChanged,
    /// A user sets the size.
    ScaledByHand,
    /// The pipeline is paused.
    Paused,
    /// The release is upgraded.
    ReleaseUpgraded,
    /// The release is rolled back.
    ReleaseRolledBack,
}

/// The part that a fault affects. Two concurrent faults never affect the same part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    Consumers,
    Broker,
    /// The RabbitMQ cluster that one pipeline has for itself.
    Leader,
    /// The network between the pipelines and RabbitMQ.
    Wire,
    Store,
    Secrets,
    Operator,
    /// The API server and the node.
    Cluster,
    /// The ImagePipeline resource.
    Resource,
}

impl Kind {
    /// Name in the report.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The part that the fault affects.
    pub fn hold(self) -> Hold {
        match self {
            Self::ConsumerKilled
            | Self::ConsumerTerminated
            | Self::ConsumerStopped
            | Self::ConsumerOutOfMemory
            | Self::ConsumerCrashed => Hold::Consumers,
            Self::BrokerRestarted | Self::BrokerKilled | Self::MemoryAlarm | Self::QueueRecreated => Hold::Broker,
            Self::LeaderKilled => Hold::Leader,
            Self::ConnectionClosed | Self::BrokerBlackholed => Hold::Wire,
            Self::StoreFails
            | Self::StoreThrottles
            | Self::StoreSlow
            | Self::StoreHangs
            | Self::StoreResets
            | Self::StoreDenies
            | Self::StoreExpired
            | Self::StoreDeniesSome
            | Self::StoreIsAnother
            | Self::ProxyLimits
            | Self::BucketRemoved => Hold::Store,
            Self::BrokerUserRotated | Self::StoreKeyRotated => Hold::Secrets,
            Self::OperatorKilled
            | Self::TwoOperators
            | Self::LeaderPaused
            | Self::ReleaseUpgraded
            | Self::ReleaseRolledBack => Hold::Operator,
            Self::ApiServerAway | Self::KubeletRestarted => Hold::Cluster,
            Self::SpecChanged | Self::ScaledByHand | Self::Paused => Hold::Resource,
        }
    }

    /// Whether the fault affects all pipelines.
    fn of_all(self) -> bool {
        match self {
            Self::BrokerRestarted | Self::BrokerKilled | Self::MemoryAlarm => true,
            _ => matches!(self.hold(), Hold::Operator | Hold::Cluster),
        }
    }

    /// The affected pipeline; `None` means all. `drawn` is the pipeline that the schedule has drawn.
    pub fn felt_by(self, drawn: usize) -> Option<usize> {
        match self.hold() {
            Hold::Leader => Some(LED),
            _ => (!self.of_all()).then_some(drawn),
        }
    }

    /// Whether injecting it needs the API server or the kubelet.
    fn needs_cluster(self) -> bool {
        match self {
            Self::BrokerRestarted | Self::MemoryAlarm | Self::QueueRecreated => true,
            _ => matches!(self.hold(), Hold::Secrets | Hold::Operator | Hold::Resource),
        }
    }

    /// Whether both faults can be active at the same time.
    pub fn goes_with(self, other: Self) -> bool {
        let apart = |one: Self, other: Self| one.hold() == Hold::Cluster && other.needs_cluster();
        // A queue is deleted only when it is empty, so that the test itself loses no message.
        let alone = |one: Self, other: Self| match one {
            Self::QueueRecreated => other.hold() != Hold::Operator,
            // A consumer that starts unnoticed meanwhile would have enough memory, and store the image.
            Self::ConsumerCrashed => !matches!(other.hold(), Hold::Store | Hold::Leader),
            _ => false,
        };
        self.hold() != other.hold()
            && !(apart(self, other) || apart(other, self) || alone(self, other) || alone(other, self))
    }

    /// Shortest and longest time from injection to heal, in seconds. Zero for faults that end with their injection.
    pub fn seconds(self) -> (u64, u64) {
        match self {
            Self::ConsumerKilled
            | Self::ConsumerTerminated
            | Self::ConsumerOutOfMemory
            | Self::ConsumerCrashed
            | Self::BrokerKilled
            | Self::ConnectionClosed
            | Self::OperatorKilled
            | Self::SpecChanged
            | Self::ReleaseUpgraded
            | Self::ReleaseRolledBack => (0, 0),
            Self::QueueRecreated | Self::BrokerUserRotated | Self::StoreKeyRotated | Self::BrokerRestarted => (2, 6),
            Self::LeaderKilled | Self::MemoryAlarm | Self::KubeletRestarted | Self::TwoOperators => (4, 10),
            // Both shorter and longer than two heartbeats of five seconds.
            Self::BrokerBlackholed | Self::ConsumerStopped => (4, 20),
            // Longer than a Lease, shorter than the kubelet waits before it kills the pod.
            Self::LeaderPaused => (17, 20),
            Self::ApiServerAway => (8, 25),
            _ => (4, 14),
        }
    }

    /// Typical time for injecting and healing, in addition to the fault's length.
    pub fn effort(self) -> Duration {
        Duration::from_secs(match self {
            Self::BrokerRestarted | Self::BrokerKilled | Self::ReleaseUpgraded | Self::ReleaseRolledBack => 8,
            Self::TwoOperators | Self::LeaderPaused | Self::SpecChanged | Self::QueueRecreated => 8,
            Self::LeaderKilled | Self::ConsumerCrashed => 8,
            Self::BrokerUserRotated | Self::StoreKeyRotated | Self::MemoryAlarm => 4,
            _ => 2,
        })
    }

    /// Limit from this fault's heal to the first stored image.
    pub fn recovers_within(self) -> Duration {
        if self == Self::ConnectionClosed { Duration::from_secs(5) } else { RECOVERS_WITHIN }
    }
}
