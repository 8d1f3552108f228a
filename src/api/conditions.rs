//! The condition types of an ImagePipeline. `controller/status` decides their values.

use strum::{EnumIter, EnumString, IntoStaticStr};

/// Condition types, in the order in which the status lists them.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
pub enum ConditionType {
    /// Summary: true when no condition below reports a fault.
    Ready,
    /// The operator is connected to RabbitMQ.
    BrokerReachable,
    QueueFound,
    /// The consumers can upload to S3.
    StorageAvailable,
    /// The consumers can publish to the parking queue.
    ParkingAvailable,
    /// The desired pods run and consume.
    ConsumersAvailable,
    /// The number of pods follows the backlog.
    ScalingActive,
    /// The backlog needs more pods than `scaling.maxReplicas`.
    ScalingLimited,
}

impl ConditionType {
    /// The type's name, such as `BrokerReachable`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The status of a condition (Kubernetes API conventions, "Typical status properties").
#[derive(Clone, Copy, Debug, EnumString, Eq, IntoStaticStr, PartialEq)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

impl ConditionStatus {
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
