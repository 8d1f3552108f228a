//! One decoder process: sends it a message, waits for its reports within their deadlines, and finds out how it ended.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures::future::join;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::crash::Crash;
use super::protocol::{GO, MAX_FRAME, Report, memory_for_body, memory_for_image, seconds_for};
use crate::consumer::capacity::Panicked;
use crate::consumer::decode::{Decoder, ObjectKey};
use crate::consumer::encode::Png;
use crate::consumer::settle::Refusal;

/// glibc allocates blocks of at least this size with mmap, and returns them to the kernel when they are freed
/// (mallopt(3)). Without this setting glibc raises the threshold dynamically, and freed memory that it retains would
/// count against the memory limit.
const MAPPED: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "4194304");

/// The most bytes read from a decoder's standard error. The runtime writes one line when it aborts.
const LAST_WORDS: u64 = 4 << 10;

/// Why a decoder process gave no result.
pub(super) enum NoResult {
    Refused(Refusal),
    /// The process ended without a result, usually because of the message.
    Crashed(Crash),
    /// The process failed before it could read the body, with the cause.
    NotStarted(String),
}

/// A decoder process. Dropping it kills the process.
pub(super) struct Process {
    seconds: u64,
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    ready: bool,
}

impl Process {
    /// Starts a process with no environment except `MAPPED`, since a variable of the consumer may hold a credential.
    pub fn start(program: &Path, seconds: u64) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg0("image-pipeline").arg("decode").env_clear().env(MAPPED.0, MAPPED.1).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the process has no stdin or stdout"));
        };
        Ok(Self { seconds, child, stdin, stdout, ready: false })
    }

    /// Sends the message to the process. Returns the bytes of memory that the image needs.
    pub async fn inspect(&mut self, order: &[u8], body: &[u8]) -> Result<u64, NoResult> {
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
            Some((_, Ok(Report::Refused(refusal)))) => Err(NoResult::Refused(refusal)),
            Some((_, Ok(Report::Panicked))) => Err(NoResult::Refused(Panicked.into())),
            Some((_, Ok(Report::Ready | Report::Done { .. }))) => Err(NoResult::Crashed(Crash::Nonsense)),
            Some((_, Err(error))) => Err(self.ended(&error, memory, seconds).await),
            None if !self.ready => Err(NoResult::NotStarted(format!("the process was not ready after {seconds} s"))),
            None => Err(NoResult::Crashed(Crash::Deadline(seconds))),
        }
    }

    /// Tells the process to continue, and receives the result.
    pub async fn encode(&mut self, needs: u64, decoder: &Decoder) -> Result<(ObjectKey, Png), NoResult> {
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
                    let key = decoder.accept(&key).ok_or(NoResult::Crashed(Crash::Nonsense));
                    key.map(|key| (key, Png::of_process(png.into(), digest.into())))
                }
                Report::Refused(refusal) => Err(NoResult::Refused(refusal)),
                Report::Panicked => Err(NoResult::Refused(Panicked.into())),
                Report::Ready | Report::Needs(_) | Report::Done { .. } => Err(NoResult::Crashed(Crash::Nonsense)),
            })
        };
        match within(seconds, result).await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(self.ended(&error, memory, seconds).await),
            None => Err(NoResult::Crashed(Crash::Deadline(seconds))),
        }
    }

    /// The fault of a process whose report could not be read.
    async fn ended(&mut self, error: &io::Error, memory: u64, seconds: u64) -> NoResult {
        if error.kind() != io::ErrorKind::UnexpectedEof {
            return NoResult::Crashed(Crash::Nonsense);
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
            Some(Err(error)) => return NoResult::NotStarted(error.to_string()),
            None => return NoResult::Crashed(Crash::Deadline(seconds)),
        };
        let stderr = String::from_utf8_lossy(&stderr);
        if !self.ready {
            return NoResult::NotStarted(format!("{status}: {}", stderr.trim()));
        }
        NoResult::Crashed(Crash::judge(status, &stderr, memory, seconds))
    }
}

impl From<Refusal> for NoResult {
    fn from(refusal: Refusal) -> Self {
        NoResult::Refused(refusal)
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
