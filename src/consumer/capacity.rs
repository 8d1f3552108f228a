//! Limits concurrent work: one semaphore for processors, one for the memory of decoded and encoded images. Decoding
//! and encoding run on blocking threads, so that the threads that serve the broker's connection stay free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cgroup::Limits;
use super::encode::EncodeError;

/// Memory for the process itself: 64 MiB, or a quarter of the memory limit if that is less.
const PROCESS_BYTES: u64 = 64 << 20;

/// Share of the memory limit that message bodies may fill if `prefetch` is not set.
const BODY_SHARE_PERCENT: u64 = 40;

/// Minimum share of the memory limit for images, whatever `prefetch` is.
const LEAST_IMAGE_SHARE_PERCENT: u64 = 10;

/// Bytes for images if there is no memory limit.
const UNLIMITED_BUDGET: u64 = 512 << 20;

/// Maximum default concurrency if there is no CPU limit.
const MOST_BY_DEFAULT: u64 = 4;

pub struct Capacity {
    processors: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    image_bytes: AtomicU64,
    sizes: Sizes,
}

/// The settings and limits from which the budgets are computed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Images decoded and encoded concurrently.
    pub concurrency: u16,
    /// The memory limit in bytes; `None`: no limit.
    pub memory_limit: Option<u64>,
    /// `spec.source.rabbitmq.prefetch`.
    pub prefetch: Option<u16>,
    /// `spec.source.rabbitmq.maxBodyBytes`.
    pub max_body_bytes: u64,
}

/// A permit for one processor, released on drop.
pub struct Processor {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A permit for memory, in KiB, released on drop.
pub struct Memory {
    permit: Option<OwnedSemaphorePermit>,
}

/// The work on a blocking thread panicked.
#[derive(Debug)]
pub struct Panicked;

/// The resource's fields that concern sizes.
#[derive(Clone, Copy, Debug)]
pub struct SizeFields {
    /// `spec.consumer.concurrency`.
    pub concurrency: Option<u16>,
    /// `spec.source.rabbitmq.prefetch`.
    pub prefetch: Option<u16>,
    /// `spec.source.rabbitmq.maxBodyBytes`.
    pub max_body_bytes: u64,
}

impl Sizes {
    /// Concurrency is the resource's, or else the CPU limit, or else `parallelism` (the node's processors) up to 4.
    pub fn new(asked: SizeFields, limits: Limits, parallelism: u64) -> Self {
        let by_default = limits.processors.unwrap_or(parallelism.min(MOST_BY_DEFAULT)).clamp(1, 256);
        let concurrency = asked.concurrency.or(u16::try_from(by_default).ok()).unwrap_or(1);
        let SizeFields { prefetch, max_body_bytes, .. } = asked;
        Self { concurrency, memory_limit: limits.memory, prefetch, max_body_bytes }
    }

    /// The prefetch for a broker that accepts bodies of up to `largest_body` bytes.
    ///
    /// `spec.source.rabbitmq.prefetch` if it is set. Otherwise twice the concurrency (images in conversion, and images
    /// that upload or wait) plus two deliveries in flight; fewer if that many of the largest bodies would fill more
    /// than 40 % of the memory limit. The largest body is `largest_body` or `maxBodyBytes`, whichever is larger: lapin
    /// buffers delivered bodies without a limit, and a body over `maxBodyBytes` arrives completely before the consumer
    /// can refuse it.
    pub fn prefetch_for(&self, largest_body: u64) -> u16 {
        let wanted = self.concurrency.saturating_mul(2).saturating_add(2);
        let affordable = |limit: u64| (limit / 100 * BODY_SHARE_PERCENT / self.body(largest_body)).max(1);
        let most = self.memory_limit.map_or(u64::MAX, affordable);
        self.prefetch.unwrap_or(wanted.min(u16::try_from(most).unwrap_or(u16::MAX)))
    }

    /// Bytes for decoded and encoded images: the memory limit minus the process's own memory and minus `prefetch_for`
    /// bodies of the largest size, so that no mix of messages exceeds the memory limit.
    pub fn image_bytes_for(&self, largest_body: u64) -> u64 {
        let left = |limit: u64| {
            let bodies = self.body(largest_body).saturating_mul(self.prefetch_for(largest_body).into());
            let rest = limit.saturating_sub(PROCESS_BYTES.min(limit / 4)).saturating_sub(bodies);
            rest.max(limit / 100 * LEAST_IMAGE_SHARE_PERCENT)
        };
        self.memory_limit.map_or(UNLIMITED_BUDGET, left)
    }

    fn body(&self, largest: u64) -> u64 {
        largest.max(self.max_body_bytes).max(1)
    }
}

impl Capacity {
    /// Budgets for bodies of up to `maxBodyBytes`; `fit` adapts them to the connected broker.
    pub fn new(sizes: Sizes) -> Self {
        let image_bytes = sizes.image_bytes_for(0);
        Self {
            processors: Arc::new(Semaphore::new(sizes.concurrency.into())),
            memory: Arc::new(Semaphore::new(permits(image_bytes))),
            image_bytes: AtomicU64::new(image_bytes),
            sizes,
        }
    }

    /// Sets the memory budget of images for a broker that accepts bodies of up to `largest_body` bytes. To shrink the
    /// budget, waits until images in progress release enough memory. Must not be called concurrently.
    pub async fn fit(&self, largest_body: u64) {
        let after = self.sizes.image_bytes_for(largest_body);
        let before = self.image_bytes.swap(after, Ordering::Relaxed);
        match permits(after).checked_sub(permits(before)) {
            Some(more) => self.memory.add_permits(more),
            None => {
                let fewer = kibibytes(before).saturating_sub(kibibytes(after));
                // `Err` only if the semaphore were closed, which never happens.
                if let Ok(taken) = self.memory.acquire_many(fewer).await {
                    taken.forget();
                }
            }
        }
    }

    /// Waits for a processor. A task with a processor may wait for memory; the reverse order could deadlock.
    pub async fn processor(&self) -> Processor {
        // `None` only if the semaphore were closed, which never happens; the same in `memory_beside`.
        Processor { _permit: Arc::clone(&self.processors).acquire_owned().await.ok() }
    }

    /// Waits for memory. Without a memory limit, a request above the whole budget is granted once no other task holds
    /// memory.
    ///
    /// # Errors
    /// There is a memory limit, and `bytes` exceeds the whole budget.
    pub async fn memory(&self, bytes: u64) -> Result<Memory, EncodeError> {
        self.memory_beside(bytes, 0).await
    }

    /// Like `memory`, plus `more` bytes that count against the budget but never cause a refusal.
    ///
    /// # Errors
    /// As for `memory`.
    pub async fn memory_beside(&self, bytes: u64, more: u64) -> Result<Memory, EncodeError> {
        let image_bytes = self.image_bytes.load(Ordering::Relaxed);
        if self.sizes.memory_limit.is_some() && bytes > image_bytes {
            return Err(EncodeError::TooMuchMemory { needed: bytes, limit: image_bytes });
        }
        let permits = kibibytes(bytes.saturating_add(more).min(image_bytes));
        Ok(Memory { permit: Arc::clone(&self.memory).acquire_many_owned(permits).await.ok() })
    }
}

impl Memory {
    /// Releases all memory but `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else { return };
        let keep = usize::try_from(kibibytes(u64::try_from(bytes).unwrap_or(u64::MAX))).unwrap_or(usize::MAX);
        drop(permit.split(permit.num_permits().saturating_sub(keep)));
    }
}

impl Processor {
    /// Runs CPU-bound work on a blocking thread. The thread owns the processor until the work ends, also if the caller
    /// is dropped.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Self, T), Panicked> {
        match tokio::task::spawn_blocking(move || (work(), self)).await {
            Ok((done, processor)) => Ok((processor, done)),
            Err(lost) if lost.is_panic() => Err(Panicked),
            // The runtime shuts down, and with it the caller.
            Err(_) => std::future::pending().await,
        }
    }
}

fn permits(bytes: u64) -> usize {
    usize::try_from(kibibytes(bytes)).unwrap_or(Semaphore::MAX_PERMITS)
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn follows_the_limits() {
        let limits = |processors, memory| Limits { processors, memory };
        let asked = |concurrency, prefetch| SizeFields { concurrency, prefetch, max_body_bytes: 16 << 20 };
        let mib = 1 << 20;
        for (asked, limits, parallelism, concurrency, prefetch, image_bytes) in [
            (asked(None, None), limits(None, None), 64, 4, 10, UNLIMITED_BUDGET),
            (asked(None, None), limits(None, None), 2, 2, 6, UNLIMITED_BUDGET),
            (asked(None, None), limits(Some(4), Some(GIB)), 64, 4, 10, (1024 - 64 - 160) * mib),
            (asked(None, None), limits(Some(16), Some(GIB)), 64, 16, 25, (1024 - 64 - 400) * mib),
            (asked(None, None), limits(Some(2), Some(128 * mib)), 64, 2, 3, (128 - 32 - 48) * mib),
            (asked(None, None), limits(Some(2), Some(16 * mib)), 64, 2, 1, 16 * mib / 100 * 10),
            (asked(Some(3), Some(50)), limits(Some(8), Some(GIB)), 64, 3, 50, (1024 - 64 - 800) * mib),
            (asked(None, Some(200)), limits(Some(8), Some(GIB)), 64, 8, 200, GIB / 100 * 10),
            (asked(None, None), limits(Some(100_000), None), 64, 256, 514, UNLIMITED_BUDGET),
        ] {
            let sizes = Sizes::new(asked, limits, parallelism);
            let found = (sizes.concurrency, sizes.prefetch_for(16 << 20), sizes.image_bytes_for(16 << 20));
            assert_eq!(found, (concurrency, prefetch, image_bytes));
        }
    }

    #[test]
    fn a_broker_that_lets_larger_bodies_through_gives_fewer_at_once() {
        let mib = 1 << 20;
        for (body, memory, prefetch, largest, held, image_bytes) in [
            // RabbitMQ 4.0 (16 MiB) and 3.10 (128 MiB), in a pod with the default limits.
            (16, Some(1024), None, 16, 10, 1024 - 64 - 160),
            (16, Some(1024), None, 128, 3, 1024 - 64 - 384),
            // The resource's maxBodyBytes above the broker's limit, and below it.
            (64, Some(1024), None, 16, 6, 1024 - 64 - 384),
            (1, Some(1024), None, 16, 10, 1024 - 64 - 160),
            // At least one message; images keep their minimum share.
            (16, Some(100), None, 128, 1, 10),
            // With the resource's prefetch; without a memory limit.
            (16, Some(1024), Some(20), 128, 20, 102),
            (16, None, None, 128, 10, UNLIMITED_BUDGET / mib),
        ] {
            let asked = SizeFields { concurrency: None, prefetch, max_body_bytes: body * mib };
            let memory = memory.map(|memory: u64| memory * mib);
            let sizes = Sizes::new(asked, Limits { processors: Some(4), memory }, 64);
            let found = (sizes.prefetch_for(largest * mib), sizes.image_bytes_for(largest * mib) / mib);
            assert_eq!(found, (held, image_bytes), "{body} {memory:?} {prefetch:?} {largest}");
        }
    }

    /// With RabbitMQ 4.0, whose limit of 16 MiB applies if `maxBodyBytes` is smaller.
    #[test]
    fn the_example_in_the_docs_is_right() {
        let mib = 1 << 20;
        for (body, memory, prefetch, image_bytes) in
            [(8, 256, 6, 96), (16, 256, 6, 96), (32, 256, 3, 96), (8, 128, 3, 48)]
        {
            let asked = SizeFields { concurrency: None, prefetch: None, max_body_bytes: body * mib };
            let sizes = Sizes::new(asked, Limits { processors: Some(2), memory: Some(memory * mib) }, 64);
            let (held, left) = (sizes.prefetch_for(16 * mib), sizes.image_bytes_for(16 * mib));
            assert_eq!((sizes.concurrency, held, left), (2, prefetch, image_bytes * mib), "{body} {memory}");
        }
    }

    fn capacity(memory_limit: Option<u64>) -> Capacity {
        let sizes = Sizes { concurrency: 1, memory_limit, prefetch: Some(4), max_body_bytes: 1 };
        let capacity = Capacity::new(sizes);
        let left = capacity.image_bytes.swap(1 << 20, Ordering::Relaxed);
        capacity.memory.forget_permits(permits(left) - permits(1 << 20));
        capacity
    }

    #[tokio::test]
    async fn an_image_over_the_budget_is_refused_or_runs_alone_where_there_is_no_limit() {
        let error = capacity(Some(2 << 20)).memory((1 << 20) + 1).await.err().expect("refused");
        assert_eq!(error.reason(), crate::reason::Reason::ImageTooLarge);

        let capacity = capacity(None);
        let small = capacity.memory(1000).await.unwrap();
        let mut large = Box::pin(capacity.memory(2 << 20));
        assert!(large.as_mut().now_or_never().is_none(), "waits for the small image");
        drop(small);
        let mut large = large.await.unwrap();
        assert!(capacity.memory(1).now_or_never().is_none(), "no other image runs beside it");
        large.keep(1024);
        assert!(capacity.memory(1000 * 1024).now_or_never().is_some(), "keeps only its PNG");
    }

    #[tokio::test]
    async fn the_budget_of_images_follows_the_broker_and_waits_for_what_is_held() {
        let asked = SizeFields { concurrency: Some(4), prefetch: None, max_body_bytes: 16 << 20 };
        let sizes = Sizes::new(asked, Limits { processors: None, memory: Some(GIB) }, 4);
        let capacity = Capacity::new(sizes);
        let mib = |permits: usize| permits / 1024;
        assert_eq!(mib(capacity.memory.available_permits()), 1024 - 64 - 160);
        let image = capacity.memory(700 << 20).await.unwrap();
        let mut smaller = Box::pin(capacity.fit(128 << 20));
        assert!(smaller.as_mut().now_or_never().is_none(), "waits for the image");
        drop(image);
        smaller.await;
        assert_eq!(mib(capacity.memory.available_permits()), 1024 - 64 - 384);
        assert!(capacity.memory(700 << 20).await.is_err());
        capacity.fit(16 << 20).await;
        assert_eq!(mib(capacity.memory.available_permits()), 1024 - 64 - 160);
    }

    #[tokio::test]
    async fn a_panic_frees_the_processor() {
        let capacity = capacity(None);
        let processor = capacity.processor().await;
        assert!(capacity.processor().now_or_never().is_none());
        let result = processor.run(|| panic!("a damaged image")).await;
        assert!(matches!(result, Err(Panicked)));
        assert!(capacity.processor().now_or_never().is_some());
    }

    #[tokio::test]
    async fn work_keeps_its_processor_after_its_caller_has_gone() {
        let capacity = Arc::new(capacity(None));
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        let processor = capacity.processor().await;
        let work = tokio::spawn(processor.run(move || {
            began.send(()).unwrap();
            finished.recv().unwrap();
        }));
        begun.await.unwrap();
        work.abort();
        assert!(work.await.is_err_and(|ended| ended.is_cancelled()));
        assert!(capacity.processor().now_or_never().is_none(), "the thread still works");
        finish.send(()).unwrap();
        let freed = tokio::time::timeout(std::time::Duration::from_secs(10), capacity.processor()).await;
        assert!(freed.is_ok(), "the work has ended");
    }

    #[test]
    fn work_that_never_began_is_no_panic() {
        let ending = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = ending.handle().clone();
        ending.shutdown_background();
        let _entered = handle.enter();
        let work = Processor { _permit: None }.run(|| ());
        assert!(work.now_or_never().is_none());
    }
}
