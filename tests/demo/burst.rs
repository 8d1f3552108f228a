//! The burst: tiles made in advance, then published as fast as RabbitMQ confirms. Only confirmed messages count.

use std::time::{Duration, Instant};

use image_pipeline::publish::{self, Body, SampleArgs, SendResult};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use servers::messages::Messages;

const IN_FLIGHT: usize = 16;

/// Result of the publishing.
#[derive(Clone, Copy)]
pub struct Burst {
    /// Number of confirmed messages.
    pub confirmed: usize,
    /// Size of their images, in bytes.
    pub bytes: u64,
    /// Time of the first confirm.
    pub first_confirm: Instant,
    /// The same as wall-clock time.
    pub first_confirm_at: Timestamp,
    /// Time from the first publish to the last confirm.
    pub took: Duration,
}

/// Makes the messages, on all processors.
pub fn prepare(tiles: &SampleArgs, images: u32) -> Vec<Body> {
    let processors = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap());
    let make = |index| Body::new(tiles.name(index), &tiles.file(index).expect("a PNG")).expect("JSON");
    std::thread::scope(|scope| {
        let share = |first: u32| {
            scope.spawn(move || -> Vec<Body> { (first..images).step_by(processors as usize).map(make).collect() })
        };
        let threads: Vec<_> = (0..processors).map(share).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Publishes all messages, several at a time, as `image-pipeline publish` does.
pub async fn publish(messages: &Messages, queue: &str, bodies: Vec<Body>) -> Burst {
    let began = Instant::now();
    let mut first_confirm = None;
    let sources: Vec<_> = bodies.into_iter().map(|body| move || Ok(body)).collect();
    let never = CancellationToken::new();
    let summary = publish::send(&messages.address, queue, sources, IN_FLIGHT, &never, |outcome| {
        if matches!(outcome, SendResult::Confirmed { .. }) {
            first_confirm.get_or_insert_with(|| (Instant::now(), Timestamp::now()));
        }
    });
    let summary = summary.await.expect("the broker takes messages");
    assert_eq!(summary.failed + summary.left, 0, "{summary:?}");
    let (first_confirm, first_confirm_at) = first_confirm.expect("at least one message");
    let (confirmed, bytes, took) = (summary.confirmed, summary.bytes, began.elapsed());
    Burst { confirmed, bytes, first_confirm, first_confirm_at, took }
}

impl std::fmt::Display for Burst {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (megabytes, seconds) = (self.bytes as f64 / 1e6, self.took.as_secs_f64());
        write!(formatter, "Published {} images ({megabytes:.0} MB) in {seconds:.1} s, each confirmed", self.confirmed)
    }
}
