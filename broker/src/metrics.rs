//! What the data plane counts. Every counter is declared here once, its unit in its name.
//!
//! They live on the data thread, so they are plain cells; a snapshot is logged when the broker stops.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get() + amount);
    }

    /// What it came to.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// The counters of one broker.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections (QUIC streams count one each) that began.
    pub connections_begun: Counter,
    /// Connections open now.
    pub connections_open: Cell<u64>,
    /// Connections that ended, by the kind of reason.
    pub connections_closed: RefCell<BTreeMap<&'static str, u64>>,
    /// Requests read.
    pub requests: Counter,
    /// Bytes of requests read, length prefixes not counted.
    pub request_bytes: Counter,
    /// Batches appended for producers.
    pub batches_appended: Counter,
    /// Bytes of those batches.
    pub appended_bytes: Counter,
    /// Bytes of records sent to consumers and followers.
    pub fetched_bytes: Counter,
}

impl Metrics {
    /// Notes that a connection ended.
    pub fn connection_closed(&self, reason: &'static str) {
        *self.connections_closed.borrow_mut().entry(reason).or_default() += 1;
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "connections_begun={} connections_open={} requests={} request_bytes={} batches_appended={} \
             appended_bytes={} fetched_bytes={}",
            self.connections_begun.get(),
            self.connections_open.get(),
            self.requests.get(),
            self.request_bytes.get(),
            self.batches_appended.get(),
            self.appended_bytes.get(),
            self.fetched_bytes.get(),
        )?;
        for (reason, count) in &*self.connections_closed.borrow() {
            write!(f, " closed[{reason}]={count}")?;
        }
        Ok(())
    }
}
