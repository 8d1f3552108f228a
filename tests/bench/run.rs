//! One run: the effort of one service to empty a queue full of messages. The service starts, processes its first
//! messages, and is stopped (SIGSTOP) while the queue is filled, so the figures include neither its start nor the
//! publishing. A run verifies the stored objects, and that the queue is empty after the service has ended.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use image_pipeline::publish::send;
use image_pipeline::rabbitmq::{Connection, QueueDepth};
use tokio_util::sync::CancellationToken;

use super::service::{Places, Service};
use super::tiles::Tiles;
use servers::client::{Client, QueueType};
use servers::store::Store;
use support::eventually::{LIMIT, eventually};
use support::process::Process;
use support::usage::{self, Machine};

/// Messages before the measurement, for one-time work.
const WARM_UP: u32 = 2;

/// Interval between two checks of the bucket. Each check costs a little CPU time.
const LOOK: Duration = Duration::from_millis(20);

/// Without a new object for this time, the run has stalled.
const STALLED: Duration = Duration::from_secs(120);

/// A process without a tick of CPU time for this long is idle: the last acknowledgement follows its object within a
/// millisecond of work.
const STILL: Duration = Duration::from_millis(200);

/// Number of concurrent publishes.
const IN_FLIGHT: usize = 8;

/// Servers and programs of the benchmark.
pub struct Bench {
    /// Addresses and programs for the services.
    pub places: Places,
    /// The S3 server.
    pub store: &'static Store,
}

/// A service with its own queue and bucket.
pub struct Running<'a> {
    bench: &'a Bench,
    name: String,
    /// The service's process.
    pub process: Process,
    /// Start time of the process.
    pub started: Instant,
    tiles: Tiles,
    client: Client,
    connection: Connection,
}

/// Figures of one run.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Messages per second, from the first to the last.
    pub messages_per_second: f64,
    /// User and system time of the process, in milliseconds per message.
    pub cpu_ms: f64,
    /// Size of the objects in bytes, per message.
    pub stored_bytes: f64,
    /// Peak resident memory in bytes.
    pub peak_rss: f64,
    /// Share of the machine's CPU time that was idle while there was a backlog.
    pub idle: f64,
    /// Whether PNGs were stored unchanged.
    pub as_it_came: bool,
}

/// Runs a service over this number of messages.
///
/// # Errors
/// The service lost a message, or stored an image that differs from the published one.
pub async fn run(
    bench: &Bench,
    service: Service,
    tiles: &Tiles,
    messages: u32,
    concurrency: u16,
) -> Result<Measured, String> {
    let failed = |why: String| format!("{} {} with {} tiles: {why}", service.name(), service.mode(), tiles.size);
    let running = Running::start(bench, service, tiles, concurrency).await;
    let measured = running.measure(messages).await.map_err(failed)?;
    running.end().await.map_err(failed)?;
    Ok(measured)
}

impl<'a> Running<'a> {
    /// Starts a service and waits until it consumes.
    pub async fn start(bench: &'a Bench, service: Service, tiles: &Tiles, concurrency: u16) -> Self {
        let running = Self::prepare(bench, service, tiles, concurrency, 0).await;
        eventually("the service to consume", LIMIT, async || match running.depth().await {
            QueueDepth { consumers: 1, .. } => Ok(()),
            depth => Err(format!("{depth:?}, the service's log\n{}", running.process.log())),
        })
        .await;
        running
    }

    /// Starts a service on a queue that already has messages.
    pub async fn prepare(bench: &'a Bench, service: Service, tiles: &Tiles, concurrency: u16, messages: u32) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("bench-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let client = Client::connect(&bench.places.broker).await.expect("a connection");
        client.declare(&name, QueueType::Classic).await;
        bench.store.create_bucket(&name);
        let connection = Connection::open(&bench.places.broker, "bench").await.expect("a connection");
        publish(bench, &name, tiles, 0, messages).await;
        let started = Instant::now();
        let process = service.start(&bench.places, &name, concurrency);
        Self { bench, name, process, started, tiles: tiles.clone(), client, connection }
    }

    async fn measure(&self, messages: u32) -> Result<Measured, String> {
        let (process, bucket) = (self.process.id(), self.bench.store.bucket(&self.name));
        self.publish(0, WARM_UP).await;
        self.stored(WARM_UP, || ()).await?;
        self.still().await;
        self.process.signal("STOP");
        eventually("the service to stop", LIMIT, async || {
            if usage::is_stopped(process) { Ok(()) } else { Err("it runs".to_owned()) }
        })
        .await;
        let all = WARM_UP + messages;
        self.publish(WARM_UP, all).await;

        let (cpu, machine) = (usage::cpu(process), Machine::now());
        self.process.signal("CONT");
        let began = Instant::now();
        // The backlog ends when the last messages are in process.
        let mut idle = 0.0;
        let backlog = WARM_UP + messages * 9 / 10;
        self.stored(backlog, || idle = Machine::now().idle_since(machine)).await?;
        self.stored(all, || ()).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.still().await;

        let messages = f64::from(messages);
        let as_it_came = self.tiles.verify(&bucket, all)?;
        let sizes = stored(&bucket).map(|(_, bytes)| bytes).sum::<u64>();
        Ok(Measured {
            messages_per_second: messages / seconds,
            cpu_ms: (usage::cpu(process) - cpu).as_secs_f64() * 1000.0 / messages,
            stored_bytes: sizes as f64 / f64::from(all),
            peak_rss: usage::peak_rss(process) as f64,
            idle,
            as_it_came,
        })
    }

    /// Publishes the messages with these numbers. Returns once all are confirmed.
    pub async fn publish(&self, from: u32, to: u32) {
        publish(self.bench, &self.name, &self.tiles, from, to).await;
    }

    /// Waits until the bucket has this many objects, then calls `then`.
    pub async fn stored(&self, objects: u32, then: impl FnOnce()) -> Result<(), String> {
        let bucket = self.bench.store.bucket(&self.name);
        let mut look = tokio::time::interval(LOOK);
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            look.tick().await;
            let now = stored(&bucket).count() as u32;
            if now >= objects {
                then();
                return Ok(());
            }
            if now > seen {
                (seen, since) = (now, Instant::now());
            }
            if since.elapsed() > STALLED || !self.process.is_running() {
                return Err(format!("{seen} of {objects} objects are stored. Its log:\n{}", self.process.log()));
            }
        }
    }

    /// Waits until the service uses no CPU time.
    pub async fn still(&self) {
        let (mut used, mut since) = (Duration::MAX, Instant::now());
        eventually("the service to be idle", LIMIT, async || {
            let now = usage::cpu(self.process.id());
            if now != used {
                (used, since) = (now, Instant::now());
            }
            if since.elapsed() > STILL { Ok(()) } else { Err(format!("{now:?} of CPU time")) }
        })
        .await;
    }

    /// Empties the bucket.
    pub fn clear(&self) {
        let bucket = self.bench.store.bucket(&self.name);
        for (name, _) in stored(&bucket) {
            std::fs::remove_file(bucket.join(name)).expect("an object to remove");
        }
    }

    /// Verifies the stored objects.
    pub fn verify(&self, messages: u32) -> Result<bool, String> {
        self.tiles.verify(&self.bench.store.bucket(&self.name), messages)
    }

    /// Ends the service, and checks that it left no message behind.
    pub async fn end(mut self) -> Result<(), String> {
        self.process.terminate();
        let process = &mut self.process;
        eventually("the service to end", LIMIT, async || process.exit_code().ok_or_else(|| "it runs".to_owned())).await;
        // RabbitMQ notices the end of the connection a moment later, and then requeues unacknowledged messages.
        let depth = eventually("the broker to see the service end", LIMIT, async || match self.depth().await {
            depth @ QueueDepth { consumers: 0, .. } => Ok(depth),
            depth => Err(format!("{depth:?}")),
        })
        .await;
        self.client.delete(&self.name).await;
        std::fs::remove_dir_all(self.bench.store.bucket(&self.name)).expect("the bucket to remove");
        self.connection.close().await;
        match depth.ready {
            0 => Ok(()),
            left => Err(format!("{left} messages were left in the queue or not acknowledged")),
        }
    }

    async fn depth(&self) -> QueueDepth {
        let channel = self.connection.channel().await.expect("a channel");
        channel.depth(&self.name).await.expect("a depth")
    }
}

/// The objects of a bucket with their sizes, as the server stores them on disk.
pub fn stored(bucket: &Path) -> impl Iterator<Item = (String, u64)> + use<> {
    let entries = std::fs::read_dir(bucket).expect("a bucket").map(|entry| entry.expect("an entry"));
    // The server keeps incomplete uploads there.
    let objects = entries.filter(|entry| entry.file_name() != ".sgwtmp");
    objects.map(|entry| {
        let name = entry.file_name().into_string().expect("a name");
        (name, entry.metadata().map_or(0, |metadata| metadata.len()))
    })
}

async fn publish(bench: &Bench, queue: &str, tiles: &Tiles, from: u32, to: u32) {
    let sources = (from..to).map(|number| tiles.source(number)).collect();
    let sent = send(&bench.places.broker, queue, sources, IN_FLIGHT, &CancellationToken::new(), |_| ()).await;
    let sent = sent.expect("a broker that takes messages");
    assert_eq!(sent.confirmed, (to - from) as usize, "{sent}");
}
