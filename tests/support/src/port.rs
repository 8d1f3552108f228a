//! Reserves a TCP port, so that no other process can get it between choosing the port and listening on it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port that stays reserved while this value lives. A bound socket that never listens keeps the kernel from
/// giving the port away, refuses connections, and lets a server listen on the port, since both have SO_REUSEADDR.
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// Reserves any free port on loopback.
    pub fn reserve() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// Reserves this port; port 0 means any free port of the address.
    pub fn at(address: SocketAddr) -> Self {
        let bound = bound(address);
        Self { address: bound.local_addr().expect("the address of a bound socket"), _bound: bound }
    }

    pub fn number(&self) -> u16 {
        self.address.port()
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Another socket on the port, to listen with.
    pub fn socket(&self) -> TcpSocket {
        bound(self.address)
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("SO_REUSEADDR");
    socket.bind(address).expect("a free port");
    socket
}
