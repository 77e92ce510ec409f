//! Growing pauses between attempts.

use std::time::Duration;

/// Pauses that double from `first` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    pauses: u32,
}

impl Backoff {
    /// Pauses from `first` to `max`.
    #[must_use]
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, pauses: 0 }
    }

    /// For questions about the cluster: short at first, since an election takes some hundred milliseconds.
    #[must_use]
    pub const fn metadata() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_millis(500))
    }

    /// The next pause.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> Duration {
        let pause = self.first.saturating_mul(1 << self.pauses.min(16)).min(self.max);
        self.pauses = self.pauses.saturating_add(1);
        pause
    }

    /// Starts over: things go well.
    pub const fn reset(&mut self) {
        self.pauses = 0;
    }
}
