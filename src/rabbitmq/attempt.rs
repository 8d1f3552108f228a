//! Aborts a connection attempt whose caller has given up. Drops its duplicate of the socket once connected: otherwise
//! the peer would never see the connection close.

use std::net::Shutdown;
use std::os::fd::AsFd;

use tokio_util::sync::CancellationToken;

/// One connection attempt. lapin's thread continues an abandoned attempt: a peer that accepts connections and stays
/// silent would keep a thread and a socket for each.
#[derive(Clone, Default)]
pub(super) struct Attempt {
    /// Canceled when the caller gives up.
    pub given_up: CancellationToken,
    /// Canceled when the connection is established.
    pub made: CancellationToken,
}

impl Attempt {
    /// Shuts the socket down, which ends lapin's wait for it, once the caller gives up.
    pub fn hang_up(self, socket: &tokio::net::TcpStream) -> std::io::Result<()> {
        let socket = std::net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        tokio::spawn(async move {
            tokio::select! {
                // Drop the duplicate: the peer sees the connection close only when no descriptor is open.
                () = self.made.cancelled() => {}
                () = self.given_up.cancelled() => drop(socket.shutdown(Shutdown::Both)),
            }
        });
        Ok(())
    }
}
