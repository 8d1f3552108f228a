//! The conditions about the size: `ScalingActive` and `ScalingLimited`.

use super::{Finding, finding};
use crate::api::Scaling;
use crate::api::conditions::ConditionStatus::{False, True};
use crate::api::conditions::ConditionType;
use crate::controller::cause::Cause;
use crate::controller::decide::{Basis, Decision};
use crate::controller::observation::Observation;
use crate::reason::Reason;

pub(super) fn active(observed: &Observation, decision: &Decision) -> Finding {
    let kind = ConditionType::ScalingActive;
    match (decision.basis, &observed.depth, observed.growth_blocker()) {
        (Basis::FixedSize, ..) => {
            let message = "spec.replicas sets a fixed size; remove the field to scale by queue depth.";
            finding(kind, False, Reason::FixedSize, message)
        }
        (Basis::Paused, ..) => {
            let message = "spec.paused freezes the size; set the field to false to scale by queue depth.";
            finding(kind, False, Reason::Paused, message)
        }
        (_, Err(cause), _) => finding(
            kind,
            False,
            Reason::DepthUnknown,
            format!("The size does not change, because the queue depth is unknown: {}", cause.message),
        ),
        (Basis::DepthUnknown, Ok(_), _) => {
            let message =
                "The size does not change: RabbitMQ reports 0 messages and 0 consumers, but consumers are connected.";
            finding(kind, False, Reason::DepthUnknown, message)
        }
        (_, Ok(_), Some(Cause { reason, message })) => {
            let message =
                format!("The size does not grow, because more consumers would not help ({reason}): {message}");
            finding(kind, False, Reason::GrowthHeld, message)
        }
        (_, Ok(_), None) => finding(kind, True, Reason::BacklogCounted, "The size follows the queue depth."),
    }
}

pub(super) fn limited(decision: &Decision, scaling: &Scaling) -> Finding {
    let kind = ConditionType::ScalingLimited;
    if decision.limited {
        let message = format!(
            "The backlog needs more pods than scaling.maxReplicas ({}); raise it to grow further.",
            scaling.max_replicas
        );
        return finding(kind, True, Reason::AtMaximum, message);
    }
    match decision.basis {
        Basis::FixedSize | Basis::Paused => finding(
            kind,
            False,
            decision.basis.reason(),
            "The limits apply only to a size that follows the queue depth.",
        ),
        _ => finding(kind, False, Reason::WithinLimits, "The desired size is within the limits."),
    }
}
