//! The condition types of an ImagePipeline: the one place that names them.
//! It must not decide when one is true; `controller/status` does.

use strum::{EnumIter, IntoStaticStr};

/// Condition types, in the order in which they are shown.
#[derive(Clone, Copy, Debug, EnumIter, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd)]
pub enum ConditionType {
    /// The whole: true when nothing below is wrong.
    Ready,
    /// The controller has a session with the broker.
    BrokerReachable,
    /// The queue exists.
    QueueFound,
    /// The consumers can store.
    StorageAvailable,
    /// The consumers can park.
    ParkingAvailable,
    /// The pods that are wanted run and consume.
    ConsumersAvailable,
    /// The size follows the queue.
    ScalingActive,
    /// The size wanted is beyond the maximum.
    ScalingLimited,
}

impl ConditionType {
    /// The type's name, as users see it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
