//! Measurements of our consumer that the original service has no counterpart for: start time, memory when idle and
//! under load, and scaling with concurrency.

use super::rows::median;
use super::run::{Bench, Measured, Running, run};
use super::service::{Mode, Service};
use super::tiles::{Input, Tiles};
use support::usage;

const FAST: Service = Service::ImagePipeline(Mode::Fast);

/// Number of messages for each part.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Number of timed starts.
    pub starts: u32,
    /// Messages for each concurrency.
    pub scaling: u32,
    /// Megapixels for each size of tile.
    pub megapixels: u32,
    /// Messages in the long run that measures memory.
    pub long: u32,
}

pub struct Limits {
    /// Seconds from process start to the first stored object: median and maximum.
    pub first_stored: (f64, f64),
    /// Resident bytes before the first message.
    pub idle_rss: u64,
    /// Concurrency, and the run's figures.
    pub scaling: Vec<(u16, Measured)>,
    /// Side length in pixels, and the run's figures.
    pub pixels: Vec<(u32, Measured)>,
    /// Number of messages, and the process's peak resident bytes so far.
    pub memory: Vec<(u32, u64)>,
    /// Resident bytes after the long run.
    pub rss_after: u64,
    /// Size of the release binary in bytes.
    pub binary: u64,
}

/// Measures all values.
///
/// # Errors
/// The consumer lost a message, or stored an image that differs from the published one.
pub async fn measure(bench: &Bench, amounts: Amounts, count: u32) -> Result<Limits, String> {
    let tiles = Tiles::draw(640, Input::Mixed, count).await;
    let first_stored = first_stored(bench, &tiles, amounts.starts).await?;
    let mut scaling = Vec::new();
    for concurrency in [1, 2, 4] {
        scaling.push((concurrency, run(bench, FAST, &tiles, amounts.scaling, concurrency).await?));
    }
    let mut pixels = Vec::new();
    for side in [320, 640, 1280, 1920] {
        let (tiles, megapixel) = (Tiles::draw(side, Input::Mixed, 4).await, 1_000_000);
        let messages = (amounts.megapixels * megapixel / (side * side)).next_multiple_of(4);
        pixels.push((side, run(bench, FAST, &tiles, messages, 2).await?));
    }
    let (idle_rss, memory, rss_after) = memory(bench, &tiles, amounts.long).await?;
    let binary = std::fs::metadata(&bench.places.binary).expect("the release binary").len();
    Ok(Limits { first_stored, idle_rss, scaling, pixels, memory, rss_after, binary })
}

async fn first_stored(bench: &Bench, tiles: &Tiles, starts: u32) -> Result<(f64, f64), String> {
    let mut seconds = Vec::new();
    for _ in 0..starts {
        let running = Running::prepare(bench, FAST, tiles, 2, 1).await;
        running.stored(1, || ()).await?;
        seconds.push(running.started.elapsed().as_secs_f64());
        running.still().await;
        running.verify(1)?;
        running.end().await?;
    }
    Ok((median(&seconds), seconds.iter().copied().fold(0.0, f64::max)))
}

/// A run at concurrency 4 in ten parts, with the peak memory after each part.
async fn memory(bench: &Bench, tiles: &Tiles, messages: u32) -> Result<(u64, Vec<(u32, u64)>, u64), String> {
    let running = Running::start(bench, FAST, tiles, 4).await;
    running.still().await;
    let process = running.process.id();
    let idle = usage::rss(process);
    let (part, mut peaks) = (messages / 10, Vec::new());
    for number in 1..=10 {
        running.publish(0, part).await;
        running.stored(part, || ()).await?;
        running.still().await;
        running.verify(part)?;
        running.clear();
        peaks.push((number * part, usage::peak_rss(process)));
    }
    let after = usage::rss(process);
    running.end().await?;
    Ok((idle, peaks, after))
}
