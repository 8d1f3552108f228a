//! RabbitMQ over AMQP 0-9-1: addresses in Secrets, connections, a queue's depth, consuming, publishing with confirms.
//! Only this module uses `lapin` (tests/contract/architecture.rs). It does not reconnect: the owner of a failed
//! connection closes it and decides when to open the next.

use std::time::Duration;

use lapin::types::ShortString;

pub mod address;
pub mod args;
mod attempt;
mod channel;
mod connection;
mod declare;
mod delivery;
mod dial_policy;
mod error;
pub mod frame_filter;
mod properties;
mod publish;
mod repair;
mod tls;

pub use channel::{Channel, QueueDepth};
pub use connection::Connection;
pub use declare::QuorumQueues;
pub use delivery::{Deliveries, Delivery};
pub use dial_policy::DialPolicy;
pub use error::QueueError;
pub use properties::Parked;
pub use publish::{Outgoing, Published, Publishing};

/// Timeout of one exchange with the broker.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum frame size: RabbitMQ's default. It is proposed when connecting; otherwise lapin reallocates its buffers
/// of 32 frames when the broker sends its value, and touches every page of them.
const FRAME_MAX: u32 = 128 << 10;

/// An AMQP short string: at most 255 bytes. The CRD's limit counts characters, so it does not guarantee that.
fn short(name: &str) -> Result<ShortString, QueueError> {
    ShortString::try_new(name).map_err(|_| QueueError::too_long(name))
}

async fn within<T>(doing: &str, work: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(QueueError::timed_out(doing)))
}
