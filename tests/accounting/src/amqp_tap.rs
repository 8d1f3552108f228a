//! A proxy before RabbitMQ that records deliveries, acknowledgements and confirms. It can't read TLS. It never
//! changes a byte.

use std::net::SocketAddr;

use super::conversation::Conversation;
use super::wire::Wire;
use support::port::Port;
use support::proxy::{Mode, Proxy};

/// Starts a tap that passes everything on.
pub fn start(port: Port, broker: SocketAddr, wire: &Wire) -> Proxy {
    let wire = wire.clone();
    Proxy::overheard(port, broker, Mode::Pass, move || Box::new(Conversation::new(&wire)))
}
