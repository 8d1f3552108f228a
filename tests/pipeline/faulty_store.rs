//! An HTTP proxy before the store that answers, delays, hangs or breaks off where the test says so.
//! It must never change a request that it lets through: its signature would no longer hold.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::port::Port;

/// What happens to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It is answered by the store.
    None,
    /// It is answered with this status and S3 error code, and never reaches the store.
    Answer(u16, &'static str),
    /// The same, but for the request that stores the probe object.
    AnswerAllButProbe(u16, &'static str),
    /// It is answered by the store after this time.
    Slow(Duration),
    /// It is read and never answered.
    Hang,
    /// Half of its body is read, and no more.
    Stall,
    /// The store has taken it; the answer is thrown away and the connection broken.
    ResetAfterCommit,
}

/// A running proxy, for as long as this lives.
pub struct FaultyStore {
    port: Arc<Port>,
    fault: watch::Sender<Fault>,
    met: Arc<AtomicUsize>,
}

impl FaultyStore {
    /// Starts one.
    pub fn start(store: SocketAddr, fault: Fault) -> Self {
        let (fault, faults) = watch::channel(fault);
        let (port, met) = (Arc::new(Port::reserve()), Arc::default());
        tokio::spawn(serve(Arc::clone(&port), store, faults, Arc::clone(&met)));
        Self { port, fault, met }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Changes what happens from now on, also to what hangs.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many requests have met a fault.
    pub fn met(&self) -> usize {
        self.met.load(Ordering::SeqCst)
    }
}

async fn serve(port: Arc<Port>, store: SocketAddr, mut faults: watch::Receiver<Fault>, met: Arc<AtomicUsize>) {
    let listener = port.socket().listen(64).expect("a listener on our own port");
    loop {
        let mut ended = faults.clone();
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                tokio::spawn(carry(client, store, faults.clone(), Arc::clone(&met)));
            }
            _ = async { while ended.changed().await.is_ok() {} } => return,
        }
        faults.mark_unchanged();
    }
}

/// One request after the other, until either side has had enough.
async fn carry(
    mut client: TcpStream,
    store: SocketAddr,
    mut faults: watch::Receiver<Fault>,
    met: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut read = Vec::new();
    loop {
        let Some(head) = until_head(&mut client, &mut read).await? else { return Ok(()) };
        let text = String::from_utf8_lossy(&read[..head]).into_owned();
        let whole = head + length(&text);
        let fault = match *faults.borrow_and_update() {
            Fault::AnswerAllButProbe(..) if text.lines().next().is_some_and(|line| line.contains("-probe")) => {
                Fault::None
            }
            Fault::AnswerAllButProbe(status, code) => Fault::Answer(status, code),
            fault => fault,
        };
        if fault != Fault::None {
            met.fetch_add(1, Ordering::SeqCst);
        }
        let wanted = if fault == Fault::Stall { head + (whole - head) / 2 } else { whole };
        while read.len() < wanted {
            if client.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
        match fault {
            Fault::Answer(status, code) => client.write_all(answer(status, code).as_bytes()).await?,
            // Whoever waits for longer than the test goes on is let down at its end.
            Fault::Hang | Fault::Stall => return faults.changed().await.map_or(Ok(()), |()| Ok(())),
            Fault::ResetAfterCommit => {
                ask(store, &read[..whole]).await?;
                return Ok(());
            }
            Fault::Slow(time) => {
                tokio::time::sleep(time).await;
                let answer = ask(store, &read[..whole]).await?;
                client.write_all(&answer).await?;
            }
            Fault::None | Fault::AnswerAllButProbe(..) => {
                let answer = ask(store, &read[..whole]).await?;
                client.write_all(&answer).await?;
            }
        }
        read.drain(..whole);
    }
}

/// Reads until a head is complete and returns its length.
async fn until_head(client: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<usize>> {
    loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        if client.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
}

/// The length of a body, from its head.
fn length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
    });
    value.unwrap_or(0)
}

/// The store's answer to one request; answers to HEAD have no body, whatever length they state.
async fn ask(store: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut store = TcpStream::connect(store).await?;
    store.write_all(request).await?;
    let mut answer = Vec::new();
    let Some(head) = until_head(&mut store, &mut answer).await? else { return Ok(answer) };
    let body = if request.starts_with(b"HEAD ") { 0 } else { length(&String::from_utf8_lossy(&answer[..head])) };
    while answer.len() < head + body {
        if store.read_buf(&mut answer).await? == 0 {
            break;
        }
    }
    Ok(answer)
}

fn answer(status: u16, code: &str) -> String {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault of the test</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} Fault\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{body}")
}
