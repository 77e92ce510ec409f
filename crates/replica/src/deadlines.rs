//! When each partition next wants a tick.
//!
//! The noted times are lower bounds: one that has become later is left as it is, since moving it at every append
//! would cost more than one early tick, which only finds the true time.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::{Millis, TopicPartition};

/// A lower bound of the next tick for each partition that wants one.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Deadlines {
    by_time: BTreeSet<(Millis, TopicPartition)>,
    of: BTreeMap<TopicPartition, Millis>,
}

impl Deadlines {
    /// This partition wants a tick at `deadline` or earlier.
    pub(crate) fn at_latest(&mut self, partition: TopicPartition, deadline: Option<Millis>) {
        let Some(deadline) = deadline else { return };
        match self.of.get_mut(&partition) {
            Some(noted) if *noted <= deadline => return,
            Some(noted) => {
                self.by_time.remove(&(*noted, partition));
                *noted = deadline;
            }
            None => {
                self.of.insert(partition, deadline);
            }
        }
        self.by_time.insert((deadline, partition));
    }

    /// Takes out the next partition whose time has come.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<TopicPartition> {
        let &(deadline, partition) = self.by_time.first()?;
        if deadline > now {
            return None;
        }
        self.by_time.pop_first();
        self.of.remove(&partition);
        Some(partition)
    }

    /// The earliest of all.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|&(deadline, _)| deadline)
    }
}
