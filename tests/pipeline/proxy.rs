//! A TCP proxy before a server that can refuse connections, hold answers back, or swallow everything.
//! It must never change a byte that it lets through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;

use super::port::Port;

/// What the proxy does with connections, also with those that are open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Lets everything through.
    Pass,
    /// Lets requests through and keeps the answers until it passes again.
    HoldAnswers,
    /// Takes everything and passes nothing on in either direction, as a network does that drops
    /// packets: nobody is told.
    Blackhole,
    /// Ends all connections and refuses new ones.
    Refuse,
}

/// A running proxy, for as long as this lives.
pub struct Proxy {
    port: Arc<Port>,
    mode: watch::Sender<Mode>,
    held: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one in `mode`.
    pub fn start(target: SocketAddr, mode: Mode) -> Self {
        let (mode, modes) = watch::channel(mode);
        let (port, held) = (Arc::new(Port::reserve()), Arc::default());
        tokio::spawn(serve(Arc::clone(&port), target, modes, Arc::clone(&held)));
        Self { port, mode, held }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Changes what it does.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// How many pieces of answers it has kept so far.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// Until the proxy is dropped, which the end of `modes` tells.
async fn serve(port: Arc<Port>, target: SocketAddr, mut modes: watch::Receiver<Mode>, held: Arc<AtomicUsize>) {
    while modes.wait_for(|mode| *mode != Mode::Refuse).await.is_ok() {
        let listener = port.socket().listen(64).expect("a listener on our own port");
        let mut until_refused = modes.clone();
        loop {
            tokio::select! {
                refused = until_refused.wait_for(|mode| *mode == Mode::Refuse) => {
                    if refused.is_err() { return }
                    break;
                }
                Ok((client, _)) = listener.accept() => {
                    tokio::spawn(carry(client, target, modes.clone(), Arc::clone(&held)));
                }
            }
        }
    }
}

async fn carry(client: TcpStream, target: SocketAddr, modes: watch::Receiver<Mode>, held: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let uncounted = Arc::default();
    let mut refusing = modes.clone();
    // Whichever side ends first ends both; S3 clients do not send after closing their side.
    tokio::select! {
        _ = pump(from_client, to_server, modes.clone(), &[Mode::Blackhole], uncounted) => {}
        _ = pump(from_server, to_client, modes, &[Mode::Blackhole, Mode::HoldAnswers], held) => {}
        _ = refusing.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}

/// One direction, until it ends; what is read in one of the `holding` modes waits for its end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    holding: &[Mode],
    held: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        if holding.contains(&*modes.borrow()) {
            held.fetch_add(1, Ordering::SeqCst);
        }
        if modes.wait_for(|mode| !holding.contains(mode)).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
