//! A driver without a cluster: acknowledges each record after a fixed time, and can stall.
//!
//! It states the floor of the generator itself, and proves that a stall cannot hide.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use anyhow::Result;

use super::{BatchReport, Driver, Outcome};
use crate::clock::{Clock, Pacer};

/// A stretch of time in which nothing is taken and nothing acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Stall {
    /// First instant.
    pub begin_ns: u64,
    /// First instant after it.
    pub end_ns: u64,
}

/// Acknowledges every record `delay_ns` after it was handed over.
pub struct NullDriver {
    clock: Clock,
    pacer: Pacer,
    /// [`Driver::send`] waits on its own timer: one timer serves one waiter.
    send_pacer: Pacer,
    delay_ns: u64,
    stall: Option<Stall>,
    waiting: RefCell<VecDeque<(u32, u64, u64)>>,
    arrived: tokio::sync::Notify,
    next_offset: RefCell<Vec<i64>>,
    /// Records taken.
    pub taken: Cell<u64>,
}

impl NullDriver {
    /// A driver for `partitions` partitions.
    pub fn new(clock: Clock, partitions: u32, delay_ns: u64, stall: Option<Stall>) -> Result<NullDriver> {
        Ok(NullDriver {
            clock,
            pacer: Pacer::new(clock, 0)?,
            send_pacer: Pacer::new(clock, 0)?,
            delay_ns,
            stall,
            waiting: RefCell::default(),
            arrived: tokio::sync::Notify::new(),
            next_offset: RefCell::new(vec![0; partitions as usize]),
            taken: Cell::new(0),
        })
    }

    fn after_stall(&self, instant_ns: u64) -> u64 {
        match self.stall {
            Some(stall) if (stall.begin_ns..stall.end_ns).contains(&instant_ns) => stall.end_ns,
            _ => instant_ns,
        }
    }
}

impl Driver for NullDriver {
    async fn send(&self, partition: u32, _value: &[u8], _made_ns: u64, tag: u64) -> Result<()> {
        self.send_pacer.wait_until(self.after_stall(self.clock.now_ns())).await?;
        self.taken.set(self.taken.get() + 1);
        self.waiting.borrow_mut().push_back((partition, tag, self.clock.now_ns()));
        self.arrived.notify_one();
        Ok(())
    }

    async fn next_report(&self) -> Result<BatchReport> {
        let (partition, tag, sent_ns) = loop {
            let oldest = self.waiting.borrow_mut().pop_front();
            match oldest {
                Some(record) => break record,
                None => self.arrived.notified().await,
            }
        };
        self.pacer.wait_until(self.after_stall(sent_ns + self.delay_ns)).await?;
        let mut next_offset = self.next_offset.borrow_mut();
        let base_offset = next_offset[partition as usize];
        next_offset[partition as usize] += 1;
        Ok(BatchReport {
            partition,
            tags: vec![tag],
            outcome: Outcome::Acked { base_offset },
            sent_ns,
            done_ns: self.clock.now_ns(),
            retries: 0,
        })
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }
}
