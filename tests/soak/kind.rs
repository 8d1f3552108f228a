//! The kinds of fault, and what the schedule has to know of each: what it takes hold of, whether one
//! pipeline or all feel it, how long it lasts, and how soon images must be stored after it. It must
//! never do anything: `faults` does.

use std::time::Duration;

use strum::{EnumIter, IntoStaticStr};

use super::plan::LED;

/// From the heal of any fault to the first stored image, at most.
pub const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

/// A kind of fault.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(serialize_all = "snake_case")]
pub enum Kind {
    /// A consumer's process is killed.
    ConsumerKilled,
    /// A consumer is told to end.
    ConsumerTerminated,
    /// A consumer's process is stopped, and goes on later.
    ConsumerStopped,
    /// The kernel kills a consumer for its memory.
    ConsumerOutOfMemory,
    /// Messages whose images take more memory than there is crash the consumers that decode them.
    ConsumerCrashed,
    /// The broker is shut down properly and started again.
    BrokerRestarted,
    /// The broker's process is killed.
    BrokerKilled,
    /// Connections to the broker are closed.
    ConnectionClosed,
    /// Nothing gets through to the broker, and nobody is told.
    BrokerBlackholed,
    /// The broker has too little memory to take messages.
    MemoryAlarm,
    /// The queue is deleted, and later made again.
    QueueRecreated,
    /// The node that leads a quorum queue is killed, and started again later.
    LeaderKilled,
    /// The store answers 500.
    StoreFails,
    /// The store answers 503 SlowDown.
    StoreThrottles,
    /// The store answers late.
    StoreSlow,
    /// The store does not answer.
    StoreHangs,
    /// The store takes objects, and the connection breaks before it says so.
    StoreResets,
    /// The store denies access.
    StoreDenies,
    /// The store calls the credentials expired.
    StoreExpired,
    /// A proxy before the store refuses large bodies.
    ProxyLimits,
    /// The credentials hold for a part of the keys.
    StoreDeniesSome,
    /// Another server answers in the store's place: 200, with a page.
    StoreIsAnother,
    /// The bucket is gone, and later there again with all that is in it.
    BucketRemoved,
    /// The broker's user is another, told to the pipeline late.
    BrokerUserRotated,
    /// The store's key is another, told to the pipeline late.
    StoreKeyRotated,
    /// The operator's process is killed.
    OperatorKilled,
    /// There are two operators, and the one that leads is taken away.
    TwoOperators,
    /// Of two operators the one that leads is stopped, and goes on once the other leads.
    LeaderPaused,
    /// The API server does not answer.
    ApiServerAway,
    /// The node's kubelet ends, and is started again.
    KubeletRestarted,
    /// The pipeline's spec is changed, and with it its pods.
    SpecChanged,
    /// A hand sets the size.
    ScaledByHand,
    /// The pipeline is paused.
    Paused,
    /// The release is upgraded.
    ReleaseUpgraded,
    /// The release is rolled back.
    ReleaseRolledBack,
}

/// What a fault takes hold of: no two take hold of the same at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// The consumers' processes.
    Consumers,
    /// The broker.
    Broker,
    /// The cluster of brokers that one pipeline has for itself.
    Leader,
    /// The way to the broker.
    Wire,
    /// The store.
    Store,
    /// The Secrets.
    Secrets,
    /// The operator.
    Operator,
    /// The API server and the node.
    Cluster,
    /// The ImagePipeline.
    Resource,
}

impl Kind {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What it takes hold of.
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

    /// Whether all pipelines feel it.
    fn of_all(self) -> bool {
        match self {
            Self::BrokerRestarted | Self::BrokerKilled | Self::MemoryAlarm => true,
            _ => matches!(self.hold(), Hold::Operator | Hold::Cluster),
        }
    }

    /// The pipeline that feels it, of which the schedule has drawn one; `None`: all do.
    pub fn felt_by(self, drawn: usize) -> Option<usize> {
        match self.hold() {
            Hold::Leader => Some(LED),
            _ => (!self.of_all()).then_some(drawn),
        }
    }

    /// Whether it is brought about through the API server, or needs the kubelet to act.
    fn needs_cluster(self) -> bool {
        match self {
            Self::BrokerRestarted | Self::MemoryAlarm | Self::QueueRecreated => true,
            _ => matches!(self.hold(), Hold::Secrets | Hold::Operator | Hold::Resource),
        }
    }

    /// Whether it can be there together with another.
    pub fn goes_with(self, other: Self) -> bool {
        let apart = |one: Self, other: Self| one.hold() == Hold::Cluster && other.needs_cluster();
        // A queue is deleted once it is empty, so that the broker loses nothing by our own order.
        let alone = |one: Self, other: Self| match one {
            Self::QueueRecreated => other.hold() != Hold::Operator,
            // A consumer that starts unseen meanwhile would have the memory, and store the image.
            Self::ConsumerCrashed => !matches!(other.hold(), Hold::Store | Hold::Leader),
            _ => false,
        };
        self.hold() != other.hold()
            && !(apart(self, other) || apart(other, self) || alone(self, other) || alone(other, self))
    }

    /// From its injection to its heal, in seconds: the shortest and the longest. What is over at once
    /// lasts no time.
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
            // Longer than two heartbeats of five seconds, and shorter.
            Self::BrokerBlackholed | Self::ConsumerStopped => (4, 20),
            // Longer than a Lease, shorter than the kubelet's patience.
            Self::LeaderPaused => (17, 20),
            Self::ApiServerAway => (8, 25),
            _ => (4, 14),
        }
    }

    /// What injecting and healing it takes beside its length, as a rule.
    pub fn effort(self) -> Duration {
        Duration::from_secs(match self {
            Self::BrokerRestarted | Self::BrokerKilled | Self::ReleaseUpgraded | Self::ReleaseRolledBack => 8,
            Self::TwoOperators | Self::LeaderPaused | Self::SpecChanged | Self::QueueRecreated => 8,
            Self::LeaderKilled | Self::ConsumerCrashed => 8,
            Self::BrokerUserRotated | Self::StoreKeyRotated | Self::MemoryAlarm => 4,
            _ => 2,
        })
    }

    /// From its heal to the first stored image, at most.
    pub fn recovers_within(self) -> Duration {
        if self == Self::ConnectionClosed { Duration::from_secs(5) } else { RECOVERS_WITHIN }
    }
}
