//! Reads while the producer writes, to time each record from its planned instant to its reading.

use std::cell::Cell;
use std::time::Duration;

use anyhow::Result;

use crate::clock::Clock;
use crate::driver::Source;
use crate::record;
use crate::tally::Tally;

/// How long records are waited for after the producer has finished.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);

/// Told by the producer's side.
#[derive(Debug, Default)]
pub struct Finish {
    /// Records in the log once the producer has finished.
    pub expected: Cell<Option<u64>>,
}

/// Reads until the producer has finished and everything it wrote was read, or the wait for it is over.
pub async fn consume<S: Source>(source: &mut S, clock: Clock, tally: &mut Tally, finish: &Finish) -> Result<()> {
    let mut records = 0u64;
    let mut drain_end_ns = None;
    loop {
        source
            .poll(|_, _, value| {
                let now_ns = clock.now_ns();
                records += 1;
                if let Some((planned_ns, _)) = record::parse(value) {
                    tally.read(planned_ns, now_ns);
                }
            })
            .await?;
        if let Some(expected) = finish.expected.get() {
            let end_ns = *drain_end_ns.get_or_insert(clock.now_ns() + DRAIN_LIMIT.as_nanos() as u64);
            if records >= expected || clock.now_ns() >= end_ns {
                return Ok(());
            }
        }
    }
}
