//! Allocations of this thread while something runs.

use std::future::Future;
use std::iter::Sum;
use std::ops::Sub;
use std::pin::pin;
use std::task::Poll;

use allocation_counter::{AllocationInfo, measure};

/// Counted requests of each path and size. A multiple of what tokio's channels allocate for at once, so that their
/// share is the same in every run.
pub const ROUNDS: u32 = 128;

/// Uncounted ones before them, in which buffers and queues reach their size.
pub const WARM_UP: u32 = 32;

/// Allocations and their bytes. An allocation that grows counts as one of its new size.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    allocations: u64,
    bytes: u64,
}

/// The same per request.
#[derive(Clone, Copy, Debug)]
pub struct Average {
    /// Allocations.
    pub allocations: f64,
    /// Bytes allocated.
    pub bytes: f64,
}

impl Count {
    /// Adds what `work` allocates.
    pub fn of<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let mut result = None;
        self.add(measure(|| result = Some(work())));
        result.expect("the work was done")
    }

    /// Adds what polling `future` allocates, and nothing that other tasks do in between.
    pub async fn of_future<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|context| {
            let mut polled = Poll::Pending;
            self.add(measure(|| polled = future.as_mut().poll(context)));
            polled
        })
        .await
    }

    fn add(&mut self, info: AllocationInfo) {
        self.allocations += info.count_total;
        self.bytes += info.bytes_total;
    }

    /// Per request.
    pub fn per(self, requests: u32) -> Average {
        let per = |count: u64| (count as f64 / f64::from(requests) * 100.0).round() / 100.0;
        Average { allocations: per(self.allocations), bytes: per(self.bytes) }
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        let add = |one: Self, other: Self| Self {
            allocations: one.allocations + other.allocations,
            bytes: one.bytes + other.bytes,
        };
        counts.fold(Self::default(), add)
    }
}

impl Sub for Count {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { allocations: self.allocations - other.allocations, bytes: self.bytes - other.bytes }
    }
}
