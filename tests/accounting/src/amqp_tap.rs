//! A proxy before a broker that notes deliveries, acknowledgements and confirms on the wire. TLS it
//! can't read. It must never change a byte, nor keep one back longer than its mode says.

use std::net::SocketAddr;

use super::conversation::Conversation;
use super::wire::Wire;
use support::port::Port;
use support::proxy::{Mode, Proxy};

/// Starts one that passes everything on.
pub fn start(port: Port, broker: SocketAddr, wire: &Wire) -> Proxy {
    let wire = wire.clone();
    Proxy::overheard(port, broker, Mode::Pass, move || Box::new(Conversation::new(&wire)))
}
