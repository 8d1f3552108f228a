//! A TCP proxy before the store that can refuse connections or hold answers back. It must never
//! change a byte that it lets through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::port::Port;

/// What the proxy does with connections, also with those that are open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Lets everything through.
    Pass,
    /// Lets requests through and keeps the answers until it passes again.
    HoldAnswers,
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

async fn carry(client: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>, held: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut passing = modes.clone();
    let answers = async {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = from_server.read(&mut buffer).await?;
            if *passing.borrow() == Mode::HoldAnswers {
                held.fetch_add(1, Ordering::SeqCst);
            }
            if passing.wait_for(|mode| *mode != Mode::HoldAnswers).await.is_err() || read == 0 {
                return std::io::Result::Ok(());
            }
            to_client.write_all(&buffer[..read]).await?;
        }
    };
    // Whichever side ends first ends both; S3 clients do not send after closing their side.
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        _ = answers => {}
        _ = modes.wait_for(|mode| *mode == Mode::Refuse) => {}
    }
}
