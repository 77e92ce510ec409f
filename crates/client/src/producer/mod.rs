//! An async producer: batches, a window per partition, idempotence, retries, and honest outcomes.
//!
//! Records are appended synchronously into the batch under construction of their partition ([`Producer::append`]);
//! one task sends batches and settles answers. What became of a batch is told once, in a [`BatchReport`] with the
//! tags of its records: *ok*, *failed* only if every attempt certainly left nothing in the log, *unknown* otherwise.
//!
//! A partition is pinned to one stream of its leader (its index modulo the number of streams), so its batches reach
//! the broker in the order in which they were sent.

mod accumulator;
mod batch;
mod config;
mod queue;
mod report;
mod sender;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

pub use accumulator::{AppendError, Appender, PartitionHandle};
pub use batch::Record;
pub use config::{ProducerConfig, ProducerConfigError};
pub use report::{BatchReport, Cause, Delivered, Outcome, ProduceError};

use crate::client::Client;
use accumulator::Accumulator;
use sender::Sender;

/// Sends records. Share it by reference or in an `Arc`; dropping it without [`Producer::close`] gives up what is
/// under way.
#[derive(Debug)]
pub struct Producer {
    accumulator: Arc<Accumulator>,
    task: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Accumulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accumulator").field("buffered_bytes", &self.buffered_bytes()).finish_non_exhaustive()
    }
}

/// Keeps the batches from lingering while somebody flushes, also when the flush is abandoned.
struct Flushing<'a>(&'a Accumulator);

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.set_flushing(false);
    }
}

impl Producer {
    /// Starts a producer on the current runtime. `on_report` is called in the sending task, once for every batch:
    /// it must be quick.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn start(
        client: Client,
        config: ProducerConfig,
        on_report: impl FnMut(BatchReport) + Send + 'static,
    ) -> Result<Self, ProducerConfigError> {
        config.validate()?;
        let accumulator = Arc::new(Accumulator::new(config.clone()));
        let sender = Sender::new(client, config, accumulator.clone(), Box::new(on_report));
        Ok(Self { accumulator, task: Some(tokio::spawn(sender.run())) })
    }

    /// As [`Self::start`], with a channel for the reports.
    ///
    /// # Errors
    /// The settings contradict each other.
    pub fn with_reports(
        client: Client,
        config: ProducerConfig,
    ) -> Result<(Self, mpsc::UnboundedReceiver<BatchReport>), ProducerConfigError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let producer = Self::start(client, config, move |report| {
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(report);
        })?;
        Ok((producer, receiver))
    }

    /// The handle of a partition, to be looked up once and used for every record.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionHandle {
        self.accumulator.partition(topic, partition)
    }

    /// Appends a record to the batch under construction. `tag` comes back in the report.
    ///
    /// # Errors
    /// The record is not accepted; nothing will be reported for it.
    pub fn append(&self, partition: PartitionHandle, record: &Record<'_>, tag: u64) -> Result<(), AppendError> {
        self.appender(partition).append(record, tag)
    }

    /// For several records of one partition in a row.
    #[must_use]
    pub fn appender(&self, partition: PartitionHandle) -> Appender<'_> {
        self.accumulator.appender(partition)
    }

    /// As [`Self::append`], but waits while the buffer is full.
    ///
    /// # Errors
    /// The record is too large, or the producer is closed.
    pub async fn append_wait(
        &self,
        partition: PartitionHandle,
        record: &Record<'_>,
        tag: u64,
    ) -> Result<(), AppendError> {
        // Registering as somebody who waits costs more than the append itself; usually there is room.
        match self.append(partition, record, tag) {
            Err(AppendError::Full) => {}
            other => return other,
        }
        loop {
            let space = self.accumulator.space.notified();
            tokio::pin!(space);
            // Registered before the attempt, so that space which comes between the two is not missed.
            space.as_mut().enable();
            match self.append(partition, record, tag) {
                Err(AppendError::Full) => space.await,
                other => return other,
            }
        }
    }

    /// Appends a record and waits for what becomes of it; waits for space first. Its tag in the report is
    /// [`u64::MAX`].
    ///
    /// # Errors
    /// It is not acknowledged.
    pub async fn produce(&self, partition: PartitionHandle, record: &Record<'_>) -> Result<Delivered, ProduceError> {
        loop {
            let (sender, receiver) = oneshot::channel();
            let space = self.accumulator.space.notified();
            tokio::pin!(space);
            space.as_mut().enable();
            // Given back before anything is waited for.
            let appended = self.appender(partition).append_for(record, u64::MAX, Some(sender));
            match appended {
                Ok(()) => return receiver.await.unwrap_or(Err(ProduceError::Unknown(Cause::Closed))),
                Err(AppendError::Full) => space.await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Bytes of records appended and not completed.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.accumulator.buffered_bytes()
    }

    /// Waits until every record appended so far is reported; nothing lingers meanwhile.
    pub async fn flush(&self) {
        self.accumulator.set_flushing(true);
        let _flushing = Flushing(&self.accumulator);
        loop {
            let idle = self.accumulator.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.accumulator.is_idle() {
                return;
            }
            idle.await;
        }
    }

    /// Flushes for up to `timeout`, then ends what is left, and returns when the last report has been given.
    pub async fn close(mut self, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.flush()).await;
        self.accumulator.close();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.accumulator.close();
    }
}
