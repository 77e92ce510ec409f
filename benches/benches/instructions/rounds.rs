//! Calls of a function: a few to warm up, then those that are counted.

use minisr_benches::gate::minisr_measured;

/// Counted calls of each function. Enough that what happens once in a while (a tree splits, a queue grows) has its
/// share in the average.
pub const COUNTED: u32 = 128;

/// Uncounted ones before them.
const WARM_UP: u32 = 16;

/// One call.
#[derive(Clone, Copy)]
pub struct Round {
    /// From 0, the warm-up included.
    pub number: u32,
}

impl Round {
    /// Calls `work`, which is counted unless this is a round of the warm-up. Whatever else a round does is not.
    pub fn count<R>(self, work: impl FnOnce() -> R) -> R {
        if self.number < WARM_UP { work() } else { minisr_measured(work) }
    }
}

/// All rounds, in order.
pub fn rounds() -> impl Iterator<Item = Round> {
    (0..WARM_UP + COUNTED).map(|number| Round { number })
}
