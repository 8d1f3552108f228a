//! A TCP port of one's own. It must never be one that another process could get in the
//! time between choosing it and listening on it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port that stays taken for as long as this lives: a bound socket that never listens keeps the
/// kernel from giving it away, refuses connections, and lets a server listen on it, since both have
/// SO_REUSEADDR.
pub struct Port {
    address: SocketAddr,
    _bound: TcpSocket,
}

impl Port {
    /// Any free one on loopback.
    pub fn reserve() -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// This one; for 0, any free one of the address.
    pub fn at(address: SocketAddr) -> Self {
        let bound = bound(address);
        Self { address: bound.local_addr().expect("the address of a bound socket"), _bound: bound }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Another socket on it, to listen with.
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
