//! Decodes redelivered messages in a separate process. A redelivered message may have crashed its consumer: on its
//! second delivery it crashes only the decoder process, and the consumer parks it. The decoder process's CPU and
//! memory count against the consumer's capacity, as if the consumer decoded the image.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::warn;

use super::backoff;
use super::capacity::{Capacity, Memory};
use super::decode::{Decoder, Incoming, ObjectKey};
use super::encode::Png;
use super::metrics::{Metrics, TimedStep};
use super::settle::Refusal;

mod child;
mod crash;
mod limits;
mod process;
pub mod protocol;

pub use child::decode;
pub use crash::Crash;

use process::{NoResult, Process};
use protocol::{Order, SECONDS, Settings};

/// The running program. Works even after the file was replaced or deleted.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Bytes that a decoder process needs in addition to its body and image.
const PROCESS_BYTES: u64 = 8 << 20;

/// After this many kills by signals with a possible other cause (`Crash::may_be_of_others`), the message
/// counts as the cause.
const KILLS: u32 = 3;

/// The longest backoff before a decoder process is started again.
const RETRY_CAP: Duration = Duration::from_secs(5);

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
                Err(NoResult::Crashed(crash)) if crash.may_be_of_others() && kills + 1 < KILLS => {
                    kills += 1;
                    warn!(%crash, "a decoder process ended without a result: retrying");
                }
                Err(NoResult::Crashed(crash)) => return Err(crash.into()),
                Err(NoResult::Refused(refusal)) => return Err(refusal),
                Err(NoResult::NotStarted(error)) => {
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
    ) -> Result<Decoded, NoResult> {
        let started = Instant::now();
        let order = self.order(incoming, decoder).map_err(|error| NoResult::NotStarted(error.to_string()))?;
        let mut process =
            Process::start(&self.program, self.seconds).map_err(|error| NoResult::NotStarted(error.to_string()))?;
        let needs = process.inspect(&order, incoming.body).await?;
        metrics.stage(TimedStep::Decode, started.elapsed());

        let started = Instant::now();
        let body_bytes = incoming.body.len() as u64;
        let mut memory = capacity.memory_beside(needs, body_bytes + PROCESS_BYTES).await.map_err(Refusal::from)?;
        let (key, png) = process.encode(needs, decoder).await?;
        memory.keep(png.bytes().len());
        metrics.stage(TimedStep::Encode, started.elapsed());
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
}
