//! Decodes redelivered messages in a separate process. A redelivered message may have crashed its consumer: on its
//! second delivery it crashes only the decoder process, and the consumer parks it. The decoder process's CPU and
//! memory count against the consumer's capacity, as if the consumer decoded the image.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tracing::warn;

use super::backoff;
use super::capacity::{Capacity, Memory, Panicked};
use super::decode::{Decoder, Incoming, ObjectKey};
use super::encode::Png;
use super::metrics::{Metrics, Stage};
use super::settle::Refusal;

mod child;
mod crash;
mod limits;
pub mod protocol;

pub use child::decode;
pub use crash::Crash;

use protocol::{GO, MAX_FRAME, Order, Report, SECONDS, Settings, memory_for_body, memory_for_image, seconds_for};

/// The running program. Works even after the file was replaced or deleted.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Bytes that a decoder process needs in addition to its body and image.
const PROCESS_BYTES: u64 = 8 << 20;

/// After this many kills by signals with a possible other cause (`Crash::may_be_of_others`), the message
/// counts as the cause.
const KILLS: u32 = 3;

/// The longest backoff before a decoder process is started again.
const RETRY_CAP: Duration = Duration::from_secs(5);

/// The most bytes read from a decoder's standard error. The runtime writes one line when it aborts.
const LAST_WORDS: u64 = 4 << 10;

/// glibc allocates blocks of at least this size with mmap, and returns them to the kernel when they are freed
/// (mallopt(3)). Without this setting glibc raises the threshold dynamically, and freed memory that it retains would
/// count against the memory limit.
const MAPPED: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "4194304");

/// Starts decoder processes.
pub struct Isolation {
    /// The program; its subcommand `decode` is started.
    program: PathBuf,
    settings: Settings,
    /// Seconds per phase, in addition to the seconds for its bytes.
    seconds: u64,
}

/// The result of a decoder process.
pub struct Decoded {
    pub key: ObjectKey,
    pub png: Png,
    /// The reservation for the PNG. Hold it as long as the PNG.
    pub memory: Memory,
}

/// Why a decoder process gave no result.
enum Fault {
    Refused(Refusal),
    /// The process ended without a result, usually because of the message.
    Crashed(Crash),
    /// The process failed before it could read the body, with the cause.
    NotStarted(String),
}

/// A decoder process. Dropping it kills the process.
struct Process {
    seconds: u64,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    ready: bool,
}

impl Isolation {
    pub fn new(settings: Settings) -> Self {
        Self { program: THIS_PROGRAM.into(), settings, seconds: SECONDS }
    }

    /// Replaces the program. It must have the subcommand `decode` of the same version.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Replaces the base deadline of each phase (`SECONDS`).
    #[must_use]
    pub fn with_seconds(self, seconds: u64) -> Self {
        Self { seconds, ..self }
    }

    /// Decodes and encodes one message. Retries without limit while a decoder process can't be started, since the
    /// message is not the cause.
    ///
    /// # Errors
    /// The message can never succeed, for the same reasons as in the consumer itself, or it crashed the decoder
    /// process.
    pub async fn convert(
        &self,
        incoming: &Incoming<'_>,
        decoder: &Decoder,
        capacity: &Capacity,
        metrics: &Metrics,
    ) -> Result<Decoded, Refusal> {
        let (mut failures, mut kills) = (0, 0);
        loop {
            let processor = capacity.processor().await;
            match self.attempt(incoming, decoder, capacity, metrics).await {
                Ok(decoded) => return Ok(decoded),
                Err(Fault::Crashed(crash)) if crash.may_be_of_others() && kills + 1 < KILLS => {
                    kills += 1;
                    warn!(%crash, "a decoder process ended without a result: retrying");
                }
                Err(Fault::Crashed(crash)) => return Err(crash.into()),
                Err(Fault::Refused(refusal)) => return Err(refusal),
                Err(Fault::NotStarted(error)) => {
                    warn!(
                        error,
                        "a decoder process can't be started: retrying; check the pod's process limit and memory"
                    );
                }
            }
            drop(processor);
            tokio::time::sleep(backoff::delay(failures, RETRY_CAP)).await;
            failures += 1;
        }
    }

    async fn attempt(
        &self,
        incoming: &Incoming<'_>,
        decoder: &Decoder,
        capacity: &Capacity,
        metrics: &Metrics,
    ) -> Result<Decoded, Fault> {
        let started = Instant::now();
        let order = self.order(incoming, decoder).map_err(|error| Fault::NotStarted(error.to_string()))?;
        let mut process = self.start().map_err(|error| Fault::NotStarted(error.to_string()))?;
        let needs = process.inspect(&order, incoming.body).await?;
        metrics.stage(Stage::Decode, started.elapsed());

        let started = Instant::now();
        let body_bytes = incoming.body.len() as u64;
        let mut memory = capacity.memory_beside(needs, body_bytes + PROCESS_BYTES).await.map_err(Refusal::from)?;
        let (key, png) = process.encode(needs, decoder).await?;
        memory.keep(png.bytes().len());
        metrics.stage(Stage::Encode, started.elapsed());
        Ok(Decoded { key, png, memory })
    }

    fn order(&self, incoming: &Incoming<'_>, decoder: &Decoder) -> io::Result<Vec<u8>> {
        let text = |name: &str| Some((name.to_owned(), (incoming.header)(name)?));
        let headers: BTreeMap<_, _> = decoder.headers().filter_map(text).collect();
        protocol::frame(&Order {
            settings: self.settings.clone(),
            timestamp: incoming.timestamp,
            headers,
            body_bytes: incoming.body.len() as u64,
        })
    }

    /// Starts a process with no environment except `MAPPED`, since a variable of the consumer may hold a credential.
    fn start(&self) -> io::Result<Process> {
        let mut command = Command::new(&self.program);
        command.arg0("image-pipeline").arg("decode").env_clear().env(MAPPED.0, MAPPED.1).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the process has no stdin or stdout"));
        };
        Ok(Process { seconds: self.seconds, child, stdin, stdout, ready: false })
    }
}

impl Process {
    /// Sends the message to the process. Returns the bytes of memory that the image needs.
    async fn inspect(&mut self, order: &[u8], body: &[u8]) -> Result<u64, Fault> {
        let bytes = body.len() as u64;
        let (seconds, memory) = (self.seconds + seconds_for(bytes), memory_for_body(bytes));
        let Self { stdin, stdout, ready, .. } = self;
        // The send fails if the decoder has ended. Its reports from before that still count.
        let send = async {
            stdin.write_all(order).await?;
            stdin.write_all(body).await
        };
        let receive = async {
            let mut report = receive(stdout).await?;
            if report == Report::Ready {
                *ready = true;
                report = receive(stdout).await?;
            }
            Ok(report)
        };
        match within(seconds, join(send, receive)).await {
            Some((_, Ok(Report::Needs(needs)))) => Ok(needs),
            Some((_, Ok(Report::Refused(refusal)))) => Err(Fault::Refused(refusal)),
            Some((_, Ok(Report::Panicked))) => Err(Fault::Refused(Panicked.into())),
            Some((_, Ok(Report::Ready | Report::Done { .. }))) => Err(Fault::Crashed(Crash::Nonsense)),
            Some((_, Err(error))) => Err(self.ended(&error, memory, seconds).await),
            None if !self.ready => Err(Fault::NotStarted(format!("the process was not ready after {seconds} s"))),
            None => Err(Fault::Crashed(Crash::Deadline(seconds))),
        }
    }

    /// Tells the process to continue, and receives the result.
    async fn encode(&mut self, needs: u64, decoder: &Decoder) -> Result<(ObjectKey, Png), Fault> {
        let (seconds, memory) = (self.seconds + seconds_for(needs), memory_for_image(needs));
        let Self { stdin, stdout, .. } = self;
        let result = async {
            // The write fails if the decoder has ended. `ended` finds out how.
            drop(stdin.write_all(&[GO]).await);
            Ok(match receive(stdout).await? {
                // A PNG is at most a little larger than its pixels, which `needs` counts several times.
                Report::Done { key, digest, bytes } if bytes <= needs => {
                    let mut png = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
                    stdout.take(bytes).read_to_end(&mut png).await?;
                    if png.len() as u64 != bytes {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let key = decoder.accept(&key).ok_or(Fault::Crashed(Crash::Nonsense));
                    key.map(|key| (key, Png::of_process(png.into(), digest.into())))
                }
                Report::Refused(refusal) => Err(Fault::Refused(refusal)),
                Report::Panicked => Err(Fault::Refused(Panicked.into())),
                Report::Ready | Report::Needs(_) | Report::Done { .. } => Err(Fault::Crashed(Crash::Nonsense)),
            })
        };
        match within(seconds, result).await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(self.ended(&error, memory, seconds).await),
            None => Err(Fault::Crashed(Crash::Deadline(seconds))),
        }
    }

    /// The fault of a process whose report could not be read.
    async fn ended(&mut self, error: &io::Error, memory: u64, seconds: u64) -> Fault {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return Fault::Crashed(Crash::Nonsense);
        }
        let mut stderr = Vec::new();
        let status = async {
            if let Some(pipe) = self.child.stderr.take() {
                drop(pipe.take(LAST_WORDS).read_to_end(&mut stderr).await);
            }
            self.child.wait().await
        };
        let status = match within(seconds, status).await {
            Some(Ok(status)) => status,
            Some(Err(error)) => return Fault::NotStarted(error.to_string()),
            None => return Fault::Crashed(Crash::Deadline(seconds)),
        };
        let stderr = String::from_utf8_lossy(&stderr);
        if !self.ready {
            return Fault::NotStarted(format!("{status}: {}", stderr.trim()));
        }
        Fault::Crashed(Crash::judge(status, &stderr, memory, seconds))
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Fault::Refused(refusal)
    }
}

async fn receive(input: &mut ChildStdout) -> io::Result<Report> {
    let length = input.read_u32_le().await?;
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too long"));
    }
    let mut json = Vec::new();
    input.take(length.into()).read_to_end(&mut json).await?;
    if json.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&json)?)
}

/// `None`: timeout. Sleeps for one second at a time, so that a freeze of the whole pod costs the decoder at most one
/// second of its deadline.
async fn within<T>(seconds: u64, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        for _ in 0..seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}
