//! An HTTP proxy before S3 that records every upload, and answers, delays, hangs or breaks off as the test sets it.
//! It never changes a request that it passes on, because the signature would become invalid. An answer is recorded
//! before the client receives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::ledger::{Digest, Id, id_of};
use super::pixels;
use super::store_faults::{Fault, Faults};
use super::wire::{Event, Object, Wire};
use support::port::Port;

/// Header with the id of the message that an object comes from.
const MESSAGE_ID: &str = "x-amz-meta-image-pipeline-message-id";

/// The answer of a login page or a console's port.
const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<html></html>";

/// A proxy that runs while this value lives.
pub struct StoreTap {
    port: Arc<Port>,
    faults: watch::Sender<Faults>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    met: AtomicUsize,
}

/// Serves one client connection.
#[derive(Clone)]
struct Carrier {
    store: SocketAddr,
    faults: watch::Receiver<Faults>,
    counts: Arc<Counts>,
    wire: Wire,
}

impl StoreTap {
    /// Starts a tap that passes everything on and records it in `wire`.
    pub fn start(port: Port, store: SocketAddr, wire: &Wire) -> Self {
        let (faults, drawn) = watch::channel(Fault::None.into());
        let (port, counts) = (Arc::new(port), Arc::<Counts>::default());
        let carrier = Carrier { store, faults: drawn, counts: Arc::clone(&counts), wire: wire.clone() };
        tokio::spawn(serve(Arc::clone(&port), carrier));
        Self { port, faults, counts }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Changes the faults from now on. Connections that hang are closed.
    pub fn set(&self, faults: impl Into<Faults>) {
        self.faults.send_replace(faults.into());
    }

    /// Number of requests that met a fault.
    pub fn met(&self) -> usize {
        self.counts.met.load(Ordering::SeqCst)
    }
}

async fn serve(port: Arc<Port>, carrier: Carrier) {
    let listener = port.socket().listen(64).expect("a listener on our own port");
    let mut ended = carrier.faults.clone();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                tokio::spawn(carrier.clone().carry(client));
            }
            _ = async { while ended.changed().await.is_ok() {} } => return,
        }
    }
}

impl Carrier {
    /// Serves one request after the other until either side closes.
    async fn carry(mut self, mut client: TcpStream) -> std::io::Result<()> {
        let mut read = Vec::new();
        loop {
            let Some(head) = until_head(&mut client, &mut read).await? else { return Ok(()) };
            let text = String::from_utf8_lossy(&read[..head]).into_owned();
            let whole = head + length(&text);
            let number = self.counts.requests.fetch_add(1, Ordering::SeqCst);
            let (fault, alone) = {
                let faults = self.faults.borrow_and_update();
                (faults.draw(number, &text), faults.concern_objects())
            };
            if fault != Fault::None {
                self.counts.met.fetch_add(1, Ordering::SeqCst);
            }
            let wanted = if matches!(fault, Fault::Stall | Fault::Reset) { head + (whole - head) / 2 } else { whole };
            while read.len() < wanted {
                if client.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            }
            let asked = Asked::of(&text);
            let body = head..wanted;
            let answer = match fault {
                Fault::Answer(status, code) => {
                    if alone && let Some(id) = header(&text, MESSAGE_ID).and_then(id_of) {
                        self.wire.note(Event::Refused { id, status });
                    }
                    answer(status, code).into_bytes()
                }
                // The request does not reach S3, so it is no upload.
                Fault::Page => {
                    client.write_all(PAGE.as_bytes()).await?;
                    read.drain(..whole);
                    continue;
                }
                Fault::Reset => return Ok(()),
                // Ends when the faults change or the tap is dropped.
                Fault::Hang | Fault::Stall => return self.faults.changed().await.map_or(Ok(()), |()| Ok(())),
                Fault::ResetAfterCommit => {
                    let answer = ask(self.store, &read[..whole]).await?;
                    self.note(asked, &read[body], &answer, false).await;
                    return Ok(());
                }
                Fault::Slow(time) => {
                    tokio::time::sleep(time).await;
                    ask(self.store, &read[..whole]).await?
                }
                Fault::None => ask(self.store, &read[..whole]).await?,
            };
            self.note(asked, &read[body], &answer, true).await;
            client.write_all(&answer).await?;
            read.drain(..whole);
        }
    }

    async fn note(&self, asked: Option<Asked>, body: &[u8], answer: &[u8], told: bool) {
        let Some(status) = status(answer) else { return };
        match asked {
            Some(Asked::Put(object, id)) => {
                let pixels = if (200..300).contains(&status) { pixels_of(body.to_vec()).await } else { None };
                self.wire.note(Event::Put { object, id, body: blake3::hash(body), pixels, status, told });
            }
            Some(Asked::Head(object)) if told => drop(self.wire.note(Event::Head { object, status })),
            _ => {}
        }
    }
}

/// A request that the accountant records.
enum Asked {
    Put(Object, Option<Id>),
    Head(Object),
}

impl Asked {
    /// Path-style requests: the bucket is the first part of the path.
    fn of(head: &str) -> Option<Self> {
        let mut line = head.lines().next()?.split(' ');
        let (method, target) = (line.next()?, line.next()?);
        let path = target.split('?').next()?.strip_prefix('/')?;
        let (bucket, key) = path.split_once('/')?;
        let decoded = |part| percent_decode_str(part).decode_utf8_lossy().into_owned();
        let object = Object { bucket: decoded(bucket), key: decoded(key) };
        match method {
            "PUT" => Some(Self::Put(object, header(head, MESSAGE_ID).and_then(id_of))),
            "HEAD" => Some(Self::Head(object)),
            _ => None,
        }
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Reads until the head is complete and returns its length.
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

/// Length of the body, from the head.
pub fn length(head: &str) -> usize {
    header(head, "content-length").map_or(0, |value| value.parse().expect("a length"))
}

/// Value of a header in the head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Digest of the pixels of an uploaded body.
async fn pixels_of(body: Vec<u8>) -> Option<Digest> {
    let decoded = tokio::task::spawn_blocking(move || pixels::stored(&body).ok()).await;
    decoded.expect("a decoder that answers")
}

/// S3's answer to one request. Answers to HEAD have no body, whatever their content-length is.
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
