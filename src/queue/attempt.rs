//! One attempt to connect, and its end where nobody waits for it any more. It must never keep a socket that
//! has become a connection: that ends for the peer when nobody holds it.

use std::net::Shutdown;
use std::os::fd::AsFd;

use tokio_util::sync::CancellationToken;

/// One attempt to connect. The library's thread goes on with one that nobody waits for any more: a peer that
/// takes connections and says nothing would keep a thread and a socket for each.
#[derive(Clone, Default)]
pub(super) struct Attempt {
    /// Nobody waits for it any more.
    pub given_up: CancellationToken,
    /// It has led to a connection.
    pub made: CancellationToken,
}

impl Attempt {
    /// Ends both ways of a socket, and so the library's wait for it, once the attempt is given up.
    pub fn hang_up(self, socket: &tokio::net::TcpStream) -> std::io::Result<()> {
        let socket = std::net::TcpStream::from(socket.as_fd().try_clone_to_owned()?);
        tokio::spawn(async move {
            tokio::select! {
                // It must not outlive the connection: that ends for the peer when nobody holds the socket.
                () = self.made.cancelled() => {}
                () = self.given_up.cancelled() => drop(socket.shutdown(Shutdown::Both)),
            }
        });
        Ok(())
    }
}
