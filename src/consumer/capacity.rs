//! How much is worked on at once: processors and memory, each behind a semaphore. It must never let
//! decoded images outgrow the memory limit, nor heavy work run on the threads that answer the
//! broker.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::cgroup::Limits;
use super::encode::EncodeError;
use super::settle::Failure;

/// Of the memory limit, what the process itself needs: 64 MiB, or a quarter where there is less.
const PROCESS_BYTES: u64 = 64 << 20;

/// Of the memory limit, the part that bodies may fill, unless prefetch is asked for.
const BODY_SHARE_PERCENT: u64 = 40;

/// Of the memory limit, what images have at least, whatever prefetch is asked for.
const LEAST_IMAGE_SHARE_PERCENT: u64 = 10;

/// For images where there is no memory limit.
const UNLIMITED_BUDGET: u64 = 512 << 20;

/// Images at once where nobody limits the processors.
const MOST_BY_DEFAULT: u64 = 4;

/// The two budgets.
pub struct Capacity {
    processors: Arc<Semaphore>,
    memory: Arc<Semaphore>,
    limits: Sizes,
}

/// How large the budgets are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// Images worked on at once.
    pub concurrency: u16,
    /// Messages delivered and not acknowledged.
    pub prefetch: u16,
    /// Bytes for images, decoded and encoded.
    pub image_bytes: u64,
    /// The memory limit, if there is one.
    pub memory_limit: Option<u64>,
}

/// Leave to keep one processor busy.
pub struct Processor {
    _permit: Option<OwnedSemaphorePermit>,
}

/// Leave to hold some memory.
pub struct Memory {
    permit: Option<OwnedSemaphorePermit>,
}

/// Whether somebody waits for what is done on a thread of its own.
pub struct Wanted {
    runtime: Handle,
    abandoned: CancellationToken,
}

/// What the resource says about sizes.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// `spec.consumer.concurrency`.
    pub concurrency: Option<u16>,
    /// `spec.source.rabbitmq.prefetch`.
    pub prefetch: Option<u16>,
    /// `spec.source.rabbitmq.maxBodyBytes`.
    pub max_body_bytes: u64,
}

impl Sizes {
    /// Concurrency as asked for, or from the CPU limit, or `parallelism` (the node's) within reason.
    ///
    /// Prefetch as asked for, or those worked on, as many that are uploading or waiting, and two on
    /// their way; fewer where bodies of the largest size would fill more than 40 % of the memory
    /// limit: the client library holds delivered bodies without a bound of its own. What bodies of
    /// the largest size and the process leave of the limit is for images, so that no mix of messages
    /// takes the process over it.
    pub fn new(asked: Asked, limits: Limits, parallelism: u64) -> Self {
        let by_default = limits.processors.unwrap_or(parallelism.min(MOST_BY_DEFAULT)).clamp(1, 256);
        let concurrency = asked.concurrency.or(u16::try_from(by_default).ok()).unwrap_or(1);
        let wanted = concurrency.saturating_mul(2).saturating_add(2);
        let affordable = |limit: u64| (limit / 100 * BODY_SHARE_PERCENT / asked.max_body_bytes.max(1)).max(1);
        let most = limits.memory.map_or(u64::MAX, affordable);
        let prefetch = asked.prefetch.unwrap_or(wanted.min(u16::try_from(most).unwrap_or(u16::MAX)));
        let left = |limit: u64| {
            let bodies = asked.max_body_bytes.saturating_mul(prefetch.into());
            let rest = limit.saturating_sub(PROCESS_BYTES.min(limit / 4)).saturating_sub(bodies);
            rest.max(limit / 100 * LEAST_IMAGE_SHARE_PERCENT)
        };
        let image_bytes = limits.memory.map_or(UNLIMITED_BUDGET, left);
        Self { concurrency, prefetch, image_bytes, memory_limit: limits.memory }
    }
}

impl Capacity {
    /// Budgets of the given sizes.
    pub fn new(sizes: Sizes) -> Self {
        let permits = usize::try_from(kibibytes(sizes.image_bytes)).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            processors: Arc::new(Semaphore::new(sizes.concurrency.into())),
            memory: Arc::new(Semaphore::new(permits)),
            limits: sizes,
        }
    }

    /// Waits for a processor. Whoever has one may wait for memory; never the other way round.
    pub async fn processor(&self) -> Processor {
        // `None` only if the semaphore were closed, which it never is; the same below.
        Processor { _permit: Arc::clone(&self.processors).acquire_owned().await.ok() }
    }

    /// Waits for memory. Where there is no limit, more than the whole budget is given when nobody
    /// else holds any.
    ///
    /// # Errors
    /// More is needed than there will ever be.
    pub async fn memory(&self, bytes: u64) -> Result<Memory, EncodeError> {
        self.memory_beside(bytes, 0).await
    }

    /// As `memory`, for work that takes `more` beside it, which is no reason to refuse it.
    ///
    /// # Errors
    /// More is needed than there will ever be.
    pub async fn memory_beside(&self, bytes: u64, more: u64) -> Result<Memory, EncodeError> {
        let Sizes { image_bytes, memory_limit, .. } = self.limits;
        if memory_limit.is_some() && bytes > image_bytes {
            return Err(EncodeError::TooMuchMemory { needed: bytes, limit: image_bytes });
        }
        let permits = kibibytes(bytes.saturating_add(more).min(image_bytes));
        Ok(Memory { permit: Arc::clone(&self.memory).acquire_many_owned(permits).await.ok() })
    }
}

impl Memory {
    /// Gives back all but `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let Some(permit) = &mut self.permit else { return };
        let keep = usize::try_from(kibibytes(u64::try_from(bytes).unwrap_or(u64::MAX))).unwrap_or(usize::MAX);
        drop(permit.split(permit.num_permits().saturating_sub(keep)));
    }
}

impl Wanted {
    /// Waits, on the work's own thread, for something async; `None`: nobody wants the work any more.
    pub fn wait_for<T>(&self, something: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(self.abandoned.run_until_cancelled(something))
    }
}

/// Runs heavy work on a thread of its own. The processor goes with it, so that it stays taken until
/// the work ends, even if nobody waits for it any more; then the work ends as soon as it would wait.
/// `None`: it was given up before there was a result.
///
/// # Errors
/// The work failed, or panicked.
pub async fn blocking<T: Send + 'static>(
    processor: Processor,
    work: impl FnOnce(&Wanted) -> Option<Result<T, Failure>> + Send + 'static,
) -> Option<Result<T, Failure>> {
    let abandoned = CancellationToken::new();
    let _until_dropped = abandoned.clone().drop_guard();
    let wanted = Wanted { runtime: Handle::current(), abandoned };
    let work = move || {
        let _processor = processor;
        work(&wanted)
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(lost) if lost.is_panic() => Some(Err(Failure::Panicked)),
        // The process ends before the work began: no fault of the message.
        Err(_) => None,
    }
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
        let asked = |concurrency, prefetch| Asked { concurrency, prefetch, max_body_bytes: 16 << 20 };
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
            assert_eq!((sizes.concurrency, sizes.prefetch, sizes.image_bytes), (concurrency, prefetch, image_bytes));
        }
    }

    /// Bodies of 8 MiB under 256 MiB, of 16 MiB under the same, and of 8 MiB under 128 MiB.
    #[test]
    fn the_example_in_the_docs_is_right() {
        let mib = 1 << 20;
        for (body, memory, prefetch, image_bytes) in [(8, 256, 6, 144), (16, 256, 6, 96), (8, 128, 6, 48)] {
            let asked = Asked { concurrency: None, prefetch: None, max_body_bytes: body * mib };
            let sizes = Sizes::new(asked, Limits { processors: Some(2), memory: Some(memory * mib) }, 64);
            let Sizes { concurrency, prefetch: held, image_bytes: left, .. } = sizes;
            assert_eq!((concurrency, held, left), (2, prefetch, image_bytes * mib), "{body} {memory}");
        }
    }

    fn capacity(memory_limit: Option<u64>) -> Capacity {
        Capacity::new(Sizes { concurrency: 1, prefetch: 4, image_bytes: 1 << 20, memory_limit })
    }

    #[tokio::test]
    async fn an_image_over_the_budget_is_refused_or_runs_alone_where_there_is_no_limit() {
        let error = capacity(Some(2 << 20)).memory((1 << 20) + 1).await.err().expect("refused");
        assert_eq!(error.reason(), crate::reason::Reason::ImageTooLarge);

        let capacity = capacity(None);
        let small = capacity.memory(1000).await.unwrap();
        let mut large = Box::pin(capacity.memory(2 << 20));
        assert!(large.as_mut().now_or_never().is_none(), "waits for the other");
        drop(small);
        let mut large = large.await.unwrap();
        assert!(capacity.memory(1).now_or_never().is_none(), "is alone");
        large.keep(1024);
        assert!(capacity.memory(1000 * 1024).now_or_never().is_some(), "keeps only its PNG");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_frees_the_processor() {
        let capacity = capacity(None);
        let processor = capacity.processor().await;
        assert!(capacity.processor().now_or_never().is_none());
        let result = blocking::<()>(processor, |_| panic!("hostile image")).await;
        assert!(matches!(result, Some(Err(Failure::Panicked))));
        assert!(capacity.processor().now_or_never().is_some());
    }

    #[tokio::test]
    async fn work_that_nobody_wants_any_more_ends_where_it_would_wait() {
        let capacity = Arc::new(capacity(None));
        let all = capacity.memory(1 << 20).await.unwrap();
        let (processor, waiting) = (capacity.processor().await, Arc::clone(&capacity));
        let (began, begun) = tokio::sync::oneshot::channel();
        let work = tokio::spawn(blocking(processor, move |wanted| {
            began.send(()).unwrap();
            Some(wanted.wait_for(waiting.memory(1))?.map_err(Failure::Encode))
        }));
        begun.await.unwrap();
        work.abort();
        let freed = tokio::time::timeout(std::time::Duration::from_secs(10), capacity.processor()).await;
        assert!(freed.is_ok(), "the processor is held by work that waits for memory");
        drop(all);
    }

    #[test]
    fn work_that_never_began_is_no_panic() {
        let ending = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = ending.handle().clone();
        ending.shutdown_background();
        let _entered = handle.enter();
        let work = blocking(Processor { _permit: None }, |_| Some(Ok(())));
        assert!(matches!(work.now_or_never(), Some(None)));
    }
}
