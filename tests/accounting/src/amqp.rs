//! The accountant's connections to RabbitMQ, by AMQP URI, with `lapin` only.

use lapin::{Connection, ConnectionProperties};

/// Connects to a broker, which may be away.
pub async fn connect(uri: &str) -> lapin::Result<Connection> {
    Connection::connect(uri, ConnectionProperties::default()).await
}
