//! What is asked of our consumer besides ratios: how it starts, what it holds when idle and under
//! load, how it scales. It must never measure another service: these have no counterpart there.

use super::rows::median;
use super::run::{Bench, Measured, Running, run};
use super::service::{Mode, Service};
use super::tiles::{Input, Tiles};
use support::usage;

const FAST: Service = Service::ImagePipeline(Mode::Fast);

/// How many messages the parts of this take.
#[derive(Clone, Copy, Debug)]
pub struct Amounts {
    /// Starts that are timed.
    pub starts: u32,
    /// Messages for each concurrency.
    pub scaling: u32,
    /// Megapixels for each size of tile.
    pub megapixels: u32,
    /// Messages in the long run that watches the memory.
    pub long: u32,
}

/// What came of it.
pub struct Limits {
    /// Seconds from the start of the process to the first object: the median, and the longest.
    pub first_stored: (f64, f64),
    /// Resident bytes before the first message.
    pub idle_rss: u64,
    /// Concurrency and what was measured.
    pub scaling: Vec<(u16, Measured)>,
    /// Pixels along a side and what was measured.
    pub pixels: Vec<(u32, Measured)>,
    /// Messages so far, and the highest resident bytes of the process by then.
    pub memory: Vec<(u32, u64)>,
    /// Resident bytes once the long run is over.
    pub rss_after: u64,
    /// Bytes of the release binary.
    pub binary: u64,
}

/// Measures all.
///
/// # Errors
/// The consumer lost something, or stored something else than what was published.
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

/// A run at concurrency 4 in ten parts, with the highest memory after each of them.
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
