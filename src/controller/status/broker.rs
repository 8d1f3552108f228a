//! The conditions that the operator's own connection to RabbitMQ shows: `BrokerReachable` and `QueueFound`.

use super::{Finding, finding};
use crate::api::ImagePipeline;
use crate::api::conditions::ConditionStatus::{False, True, Unknown};
use crate::api::conditions::ConditionType;
use crate::controller::cause::Cause;
use crate::controller::observation::Observation;
use crate::reason::Reason;

pub(super) fn reachable(observed: &Observation) -> Finding {
    let kind = ConditionType::BrokerReachable;
    match &observed.depth {
        Ok(_) => finding(kind, True, Reason::Connected, "Connected to RabbitMQ."),
        Err(Cause { reason, .. }) if is_of_queue(*reason) || *reason == Reason::DeclareRefused => {
            finding(kind, True, Reason::Connected, "Connected to RabbitMQ.")
        }
        Err(cause) => finding(kind, False, cause.reason, &cause.message),
    }
}

pub(super) fn queue_found(pipeline: &ImagePipeline, observed: &Observation) -> Finding {
    let kind = ConditionType::QueueFound;
    let queue = &pipeline.spec.source.rabbitmq.queue;
    match &observed.depth {
        Ok(_) if observed.foreign > 0 => {
            let others = if observed.foreign == 1 { "consumer" } else { "consumers" };
            let message = format!(
                "Queue {queue:?} exists, but RabbitMQ counts {} more {others} than this pipeline has pods. This pipeline \
                 does not store the messages that the others take. List them with `rabbitmqctl list_consumers`; stop \
                 them (an old script?), or give them a queue of their own.",
                observed.foreign
            );
            finding(kind, True, Reason::ForeignConsumers, message)
        }
        Ok(_) => finding(kind, True, Reason::QueueFound, format!("Queue {queue:?} exists.")),
        Err(cause) if is_of_queue(cause.reason) => finding(kind, False, cause.reason, &cause.message),
        Err(cause) if cause.reason == Reason::DeclareRefused => finding(kind, Unknown, cause.reason, &cause.message),
        Err(_) => finding(kind, Unknown, Reason::NotYetKnown, "No connection to RabbitMQ: see BrokerReachable."),
    }
}

/// Whether RabbitMQ answered that this queue can't be read.
fn is_of_queue(reason: Reason) -> bool {
    matches!(reason, Reason::QueueNotFound | Reason::QueueUnavailable | Reason::QueueInUse | Reason::StreamNotSupported)
}
