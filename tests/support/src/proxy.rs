//! A TCP proxy before a server. It can refuse connections, hold answers back or swallow everything, and lets an
//! `Ear` hear the traffic. It never changes a byte.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::port::Port;

/// What the proxy does with new and open connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Lets everything through.
    Pass,
    /// Lets requests through and holds answers until the mode is `Pass` again.
    HoldAnswers,
    /// Reads everything and passes nothing on in either direction, like a network that drops packets: neither side
    /// gets an error.
    Blackhole,
    /// Ends all connections and refuses new ones.
    Refuse,
}

/// Hears the bytes of one connection, in both directions, before they are passed on. It must be fast: the
/// connection waits for it.
pub trait Ear: Send {
    /// From the client.
    fn request(&mut self, bytes: &[u8]);
    /// From the server.
    fn answer(&mut self, bytes: &[u8]);
}

/// Makes an ear for each new connection.
type Ears = Arc<dyn Fn() -> Box<dyn Ear> + Send + Sync>;

/// A proxy that runs while this value lives.
pub struct Proxy {
    port: Arc<Port>,
    plan: watch::Sender<Plan>,
    held: Arc<AtomicUsize>,
}

#[derive(Clone, Copy)]
struct Plan {
    mode: Mode,
    /// Number of calls of `close_all`.
    closed: usize,
}

/// Shared with every new connection.
#[derive(Clone)]
struct Connecting {
    /// A connection goes to the first target that accepts it.
    targets: Arc<[SocketAddr]>,
    plans: watch::Receiver<Plan>,
    ears: Ears,
    held: Arc<AtomicUsize>,
}

struct Deaf;

impl Ear for Deaf {
    fn request(&mut self, _: &[u8]) {}
    fn answer(&mut self, _: &[u8]) {}
}

impl Proxy {
    /// Starts a proxy in `mode`.
    pub fn start(target: SocketAddr, mode: Mode) -> Self {
        Self::overheard(Port::reserve(), target, mode, || Box::new(Deaf))
    }

    /// Starts a proxy before several servers. Each connection goes to the first server that accepts it.
    pub fn before(targets: &[SocketAddr]) -> Self {
        Self::carrying(Port::reserve(), targets, Mode::Pass, || Box::new(Deaf))
    }

    /// Starts a proxy on a reserved port, with an ear for each connection.
    pub fn overheard(
        port: Port,
        target: SocketAddr,
        mode: Mode,
        ears: impl Fn() -> Box<dyn Ear> + Send + Sync + 'static,
    ) -> Self {
        Self::carrying(port, &[target], mode, ears)
    }

    fn carrying(
        port: Port,
        targets: &[SocketAddr],
        mode: Mode,
        ears: impl Fn() -> Box<dyn Ear> + Send + Sync + 'static,
    ) -> Self {
        let (plan, plans) = watch::channel(Plan { mode, closed: 0 });
        let (port, held) = (Arc::new(port), Arc::default());
        let connecting = Connecting { targets: targets.into(), plans, ears: Arc::new(ears), held: Arc::clone(&held) };
        // Listens before this returns, so that the next client is not refused.
        let listener = (mode != Mode::Refuse).then(|| listen(&port));
        tokio::spawn(serve(Arc::clone(&port), listener, connecting));
        Self { port, plan, held }
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    pub fn set(&self, mode: Mode) {
        self.plan.send_modify(|plan| plan.mode = mode);
    }

    /// Ends all connections that are open.
    pub fn close_all(&self) {
        self.plan.send_modify(|plan| plan.closed += 1);
    }

    /// Number of pieces of answers held so far.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// Runs until the proxy is dropped, which closes `plans`.
async fn serve(port: Arc<Port>, first: Option<TcpListener>, mut connecting: Connecting) {
    let mut first = first.filter(|_| connecting.plans.borrow().mode != Mode::Refuse);
    while connecting.plans.wait_for(|plan| plan.mode != Mode::Refuse).await.is_ok() {
        let listener = first.take().unwrap_or_else(|| listen(&port));
        let mut until_refused = connecting.plans.clone();
        loop {
            tokio::select! {
                refused = until_refused.wait_for(|plan| plan.mode == Mode::Refuse) => {
                    if refused.is_err() { return }
                    break;
                }
                Ok((client, _)) = listener.accept() => {
                    tokio::spawn(carry(client, connecting.clone()));
                }
            }
        }
    }
}

fn listen(port: &Port) -> TcpListener {
    port.socket().listen(64).expect("a listener on our own port")
}

async fn carry(client: TcpStream, connecting: Connecting) {
    let Connecting { targets, mut plans, ears, held } = connecting;
    let closed = plans.borrow().closed;
    // `connect` tries one address after the other.
    let Ok(server) = TcpStream::connect(&targets[..]).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let ear = Mutex::new(ears());
    let requests = |bytes: &[u8]| ear.lock().expect("no ear panics").request(bytes);
    let answers = |bytes: &[u8]| ear.lock().expect("no ear panics").answer(bytes);
    let uncounted = Arc::default();
    let (up, down) = (plans.clone(), plans.clone());
    // The side that ends first ends both; S3 clients do not send after closing their side.
    tokio::select! {
        _ = pump(from_client, to_server, up, &[Mode::Blackhole], uncounted, requests) => {}
        _ = pump(from_server, to_client, down, &[Mode::Blackhole, Mode::HoldAnswers], held, answers) => {}
        _ = plans.wait_for(|plan| plan.mode == Mode::Refuse || plan.closed != closed) => {}
    }
}

/// Copies one direction until it ends. Bytes that are read in a `holding` mode wait until the mode changes.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut plans: watch::Receiver<Plan>,
    holding: &[Mode],
    held: Arc<AtomicUsize>,
    hear: impl Fn(&[u8]),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = from.read(&mut buffer).await?;
        hear(&buffer[..read]);
        if holding.contains(&plans.borrow().mode) {
            held.fetch_add(1, Ordering::SeqCst);
        }
        if plans.wait_for(|plan| !holding.contains(&plan.mode)).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
