//! How much is worked on at once: processors and memory, each behind a semaphore. It must never let
//! decoded images outgrow the memory limit, nor heavy work run on the threads that answer the
//! broker.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::cgroup::Limits;
use super::encode::EncodeError;
use super::settle::Failure;

/// Of the memory limit, the part for images; the rest is for bodies and for the process itself.
const IMAGE_SHARE_PERCENT: u64 = 60;

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

impl Sizes {
    /// `concurrency` as asked for, or from the CPU limit, or `parallelism` (the node's) within reason.
    pub fn new(concurrency: Option<u16>, limits: Limits, parallelism: u64) -> Self {
        let by_default = limits.processors.unwrap_or(parallelism.min(MOST_BY_DEFAULT)).clamp(1, 256);
        let concurrency = concurrency.or(u16::try_from(by_default).ok()).unwrap_or(1);
        let image_bytes = limits.memory.map_or(UNLIMITED_BUDGET, |limit| limit / 100 * IMAGE_SHARE_PERCENT);
        Self { concurrency, image_bytes, memory_limit: limits.memory }
    }

    /// Messages to have delivered: those worked on, as many that are uploading or waiting, and two
    /// on their way.
    pub fn prefetch(self) -> u16 {
        self.concurrency.saturating_mul(2).saturating_add(2)
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

    /// Waits for memory. More than the whole budget is given when nobody else holds any.
    ///
    /// # Errors
    /// More is needed than the process may use in all.
    pub async fn memory(&self, bytes: u64) -> Result<Memory, EncodeError> {
        let Sizes { image_bytes, memory_limit, .. } = self.limits;
        if let Some(limit) = memory_limit.filter(|limit| bytes > *limit) {
            return Err(EncodeError::TooMuchMemory { needed: bytes, limit });
        }
        let permits = kibibytes(bytes.min(image_bytes));
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

/// Runs heavy work on a thread of its own. The processor goes with it, so that it stays taken until
/// the work ends, even if nobody waits for it any more.
///
/// # Errors
/// The work failed, or panicked.
pub async fn blocking<T: Send + 'static>(
    processor: Processor,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<(Processor, T), Failure> {
    match tokio::task::spawn_blocking(move || (work(), processor)).await {
        Ok((result, processor)) => result.map(|value| (processor, value)),
        Err(_) => Err(Failure::Panicked),
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
        for (asked, limits, parallelism, concurrency, image_bytes) in [
            (None, limits(None, None), 64, 4, UNLIMITED_BUDGET),
            (None, limits(None, None), 2, 2, UNLIMITED_BUDGET),
            (None, limits(Some(8), Some(GIB)), 64, 8, GIB / 100 * 60),
            (Some(3), limits(Some(8), Some(GIB)), 64, 3, GIB / 100 * 60),
            (None, limits(Some(100_000), None), 64, 256, UNLIMITED_BUDGET),
        ] {
            let sizes = Sizes::new(asked, limits, parallelism);
            assert_eq!((sizes.concurrency, sizes.image_bytes), (concurrency, image_bytes));
            assert_eq!(sizes.prefetch(), concurrency * 2 + 2);
        }
    }

    fn capacity() -> Capacity {
        Capacity::new(Sizes { concurrency: 1, image_bytes: 1 << 20, memory_limit: Some(2 << 20) })
    }

    #[tokio::test]
    async fn an_image_over_the_budget_runs_alone_and_one_over_the_limit_not_at_all() {
        let capacity = capacity();
        let small = capacity.memory(1000).await.unwrap();
        let mut large = Box::pin(capacity.memory(2 << 20));
        assert!(large.as_mut().now_or_never().is_none(), "waits for the other");
        drop(small);
        let mut large = large.await.unwrap();
        assert!(capacity.memory(1).now_or_never().is_none(), "is alone");
        large.keep(1024);
        assert!(capacity.memory(1000 * 1024).now_or_never().is_some(), "keeps only its PNG");
        let error = capacity.memory((2 << 20) + 1).await.err().expect("refused");
        assert_eq!(error.reason(), crate::reason::Reason::ImageTooLarge);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_frees_the_processor() {
        let capacity = capacity();
        let processor = capacity.processor().await;
        assert!(capacity.processor().now_or_never().is_none());
        let result = blocking::<()>(processor, || panic!("hostile image")).await;
        assert!(matches!(result, Err(Failure::Panicked)));
        assert!(capacity.processor().now_or_never().is_some());
    }
}
