//! What a consumer needs, tried once from where this runs and with the consumer's own means. It must never
//! take a message, nor leave anything behind but the object that consumers try a store with, too.

use serde::Serialize;

use super::broker::{self, Broker};
use super::decode;
use super::secrets::Secrets;
use super::upload::Store;
use crate::api::assignment::Assignment;
use crate::api::failures::FailurePolicy;
use crate::api::names;
use crate::queue::{Connection, QueueDepth, QueueError};
use crate::reason::Reason;

/// What one check found.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What was tried.
    pub check: Check,
    /// Whether a consumer could work.
    pub passed: bool,
    /// Why not, by the reason that the status would give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What was found and, where it is wrong, what to do.
    pub message: String,
}

/// What is tried.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, strum::IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Check {
    /// Name, port, TLS, user, password, virtual host.
    Broker,
    /// The queue.
    Queue,
    /// The parking queue.
    Parking,
    /// The bucket: endpoint, TLS, credentials, clock, region, rights, encryption.
    Store,
}

impl Finding {
    fn passed(check: Check, message: impl Into<String>) -> Self {
        Self { check, passed: true, reason: None, message: message.into() }
    }

    fn failed(check: Check, reason: Reason, message: impl std::fmt::Display) -> Self {
        Self { check, passed: false, reason: Some(reason), message: message.to_string() }
    }
}

/// Tries everything, the broker and the store at the same time.
pub async fn preflight(assignment: &Assignment, secrets: &Secrets) -> Vec<Finding> {
    let (broker, store) = tokio::join!(of_broker(assignment, secrets), of_store(assignment, secrets));
    broker.into_iter().chain([store]).collect()
}

async fn of_broker(assignment: &Assignment, secrets: &Secrets) -> Vec<Finding> {
    let source = assignment.source.rabbitmq.clone();
    let vhost = source.vhost.clone();
    let broker = Broker { secrets: secrets.clone(), source, name: "image-pipeline check".to_owned() };
    let connection = match broker.connect("preflight").await {
        Ok(connection) => connection,
        Err(error) => return vec![Finding::failed(Check::Broker, error.reason(), error)],
    };
    let connected = format!("the broker answers, and lets the user into virtual host {vhost:?}");
    let (queue, parking) = tokio::join!(queue(assignment, &connection), parking(assignment, &connection));
    broker::close(&connection).await;
    [Some(Finding::passed(Check::Broker, connected)), Some(queue), parking].into_iter().flatten().collect()
}

async fn queue(assignment: &Assignment, connection: &Connection) -> Finding {
    let queue = &assignment.source.rabbitmq.queue;
    match lasting(queue, connection).await {
        Ok(QueueDepth { ready, consumers: 0 }) => {
            Finding::passed(Check::Queue, format!("queue {queue:?} is there; messages ready: {ready}"))
        }
        Ok(QueueDepth { ready, consumers }) => {
            let message = format!(
                "queue {queue:?} is there; messages ready: {ready}; consumers: {consumers}, the pipeline's own pods \
                 included; what any other takes is never stored"
            );
            Finding::passed(Check::Queue, message)
        }
        Err(error) if error.reason() == Reason::DeclareRefused => {
            let message =
                format!("the user may not look at queue {queue:?}; whether it may read it shows when it does");
            Finding::passed(Check::Queue, message)
        }
        Err(error) => Finding::failed(Check::Queue, error.reason(), error),
    }
}

async fn parking(assignment: &Assignment, connection: &Connection) -> Option<Finding> {
    if assignment.failures.policy != FailurePolicy::Park {
        return None;
    }
    let queue = names::parking_queue(&assignment.source, &assignment.failures);
    Some(match lasting(&queue, connection).await {
        Ok(depth) => {
            let message = format!("parking queue {queue:?} is there; messages parked: {}", depth.ready);
            Finding::passed(Check::Parking, message)
        }
        Err(error) if matches!(error.reason(), Reason::QueueNotFound | Reason::DeclareRefused) => {
            let message = format!(
                "parking queue {queue:?} is not there, or not for this user to look at; the first message that must be \
                 parked has a consumer make it"
            );
            Finding::passed(Check::Parking, message)
        }
        Err(error) => Finding::failed(Check::Parking, error.reason(), error),
    })
}

/// The depth of a queue that keeps its messages, as far as the broker says.
async fn lasting(queue: &str, connection: &Connection) -> Result<QueueDepth, QueueError> {
    let depth = connection.depth(queue).await?;
    connection.ensure_lasting(queue).await?;
    Ok(depth)
}

async fn of_store(assignment: &Assignment, secrets: &Secrets) -> Finding {
    let s3 = &assignment.destination.s3;
    // Whoever reads Secrets by name may have an identity of their own, which says nothing of the pods'.
    if matches!(secrets, Secrets::Held(_)) && s3.credentials_secret.is_none() {
        let message = format!(
            "bucket {:?} was not tried: without destination.s3.credentialsSecret consumer pods store as their own \
             service account, and that can only be seen there, by StorageAvailable",
            s3.bucket
        );
        return Finding::passed(Check::Store, message);
    }
    let key = decode::probe_key(&s3.prefix);
    match Store::new(s3, secrets).await.probe(&key).await {
        Ok(()) => {
            let message = format!("bucket {:?} takes objects: {} was written", s3.bucket, key.as_str());
            Finding::passed(Check::Store, message)
        }
        Err(error) => Finding::failed(Check::Store, error.reason(), error),
    }
}
