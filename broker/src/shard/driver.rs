//! Steps the shard and carries out its outputs.
//!
//! A step is synchronous and ends with its outputs drained: promises are completed, fetches handed to their peer
//! loops, ISR proposals to the controller link, a sync round to the flusher. Nothing here calls back into the shard
//! while a step runs, so its `RefCell` is never borrowed twice; no borrow is held across an await.
//!
//! Appends are taken in one after the other as long as a connection has requests at hand; followers are woken when the
//! connection's task gives way. A follower that waits then gets all of them at once: by itself the first would travel
//! alone, and the second would wait for the follower's next fetch.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minisr_logic::metadata::Image;
use minisr_logic::{BrokerEpoch, Epoch, Millis, TopicPartition};
use minisr_replica::{
    Append, EpochEnd, Event, FetchError, FetchRequest, IsrReport, ListOffsetsError, ListedOffset, Notice, OffsetSpec,
    OpenError, Output, PartitionDescription, Reader, Shard, Ticket,
};
use minisr_storage::disk::real::RealDisk;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::flusher::{Flusher, SyncCounts, Synced};
use super::waiting::{Appends, FetchShared, Fetching, Waiters};

/// Where the shard's own requests go.
pub trait Peers {
    /// Send a Fetch to a leader.
    fn send_fetch(&self, shard: &ShardHandle, fetch: SendFetch);
    /// Propose an ISR.
    fn alter_partition(&self, shard: &ShardHandle, proposal: minisr_replica::AlterPartition);
}

/// [`Output::SendFetch`] by itself.
#[derive(Debug)]
pub struct SendFetch {
    /// The fetch loop.
    pub fetcher: minisr_replica::FetcherId,
    /// Comes back with the answer.
    pub correlation: u64,
    /// What to ask.
    pub request: FetchRequest,
}

/// The shard, for every task of the data thread. Cheap to clone.
#[derive(Clone)]
pub struct ShardHandle(Rc<Driver>);

struct Driver {
    core: RefCell<Core>,
    image: RefCell<Arc<Image>>,
    origin: Instant,
    flusher: Flusher,
    peers: Box<dyn Peers>,
    /// Appends were taken in and nothing was settled since.
    unsettled: Cell<bool>,
    to_settle: Notify,
    /// When the timer task will tick next.
    armed: Cell<Option<Millis>>,
    rearm: Notify,
    /// Why the first log failed; then the process must stop.
    failed: RefCell<Option<String>>,
    failing: Notify,
}

struct Core {
    /// `None` once the shard was closed.
    shard: Option<Shard<RealDisk>>,
    disk: RealDisk,
    waiters: Waiters,
    outputs: Vec<Output>,
}

impl ShardHandle {
    /// Takes over an opened shard and starts the tasks that feed it time and sync results. `origin` is where its
    /// clock starts, the same as when it was opened. Must be called inside the data thread's `LocalSet`.
    ///
    /// # Errors
    /// When the flusher thread cannot be started.
    pub fn start(
        shard: Shard<RealDisk>,
        origin: Instant,
        image: Arc<Image>,
        peers: Box<dyn Peers>,
    ) -> io::Result<Self> {
        let (flusher, synced) = Flusher::start()?;
        let core = Core { shard: Some(shard), disk: RealDisk, waiters: Waiters::default(), outputs: Vec::new() };
        let handle = Self(Rc::new(Driver {
            core: RefCell::new(core),
            image: RefCell::new(Arc::clone(&image)),
            origin,
            flusher,
            peers,
            unsettled: Cell::new(false),
            to_settle: Notify::new(),
            armed: Cell::new(None),
            rearm: Notify::new(),
            failed: RefCell::new(None),
            failing: Notify::new(),
        }));
        tokio::task::spawn_local(feed_synced(handle.clone(), synced));
        tokio::task::spawn_local(feed_time(handle.clone()));
        tokio::task::spawn_local(settle(handle.clone()));
        handle.step([Event::Image(image)]);
        Ok(handle)
    }

    /// What the flusher was asked to do.
    #[must_use]
    pub fn sync_counts(&self) -> SyncCounts {
        self.0.flusher.counts()
    }

    /// The newest image that the shard has seen.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0.image.borrow())
    }

    /// Requests that come after this see the new image, and the shard takes or leaves roles by it. An image that is
    /// not newer than the last one is dropped.
    pub fn publish(&self, image: Arc<Image>) {
        if image.version() <= self.0.image.borrow().version() {
            return;
        }
        self.0.image.replace(Arc::clone(&image));
        self.step([Event::Image(image)]);
    }

    /// The controller accepted this process's registration.
    pub fn registered(&self, broker_epoch: BrokerEpoch) {
        self.step([Event::Registered { broker_epoch }]);
    }

    /// Appends the batches of one produce request. `make` is called with each ticket in order.
    pub fn append(&self, count: usize, mut make: impl FnMut(usize, Ticket) -> Append) -> Appends {
        let (appends, shared) = Appends::new(count);
        let tickets: Vec<Ticket> = {
            let mut core = self.0.core.borrow_mut();
            (0..count).map(|index| core.waiters.append(&shared, index)).collect()
        };
        let events = tickets.into_iter().enumerate().map(|(index, ticket)| Event::Append(make(index, ticket)));
        {
            let mut core = self.0.core.borrow_mut();
            let Core { shard, disk, outputs, .. } = &mut *core;
            let Some(shard) = shard else { return appends };
            shard.take_in(self.now(), events, disk, outputs);
            self.carry_out(&mut core);
        }
        if !self.0.unsettled.replace(true) {
            self.0.to_settle.notify_one();
        }
        appends
    }

    /// Looks at what the appends taken in have touched: followers are woken, and so on. This happens by itself when the task
    /// that appended gives way.
    pub fn settle(&self) {
        if self.0.unsettled.get() {
            self.step([]);
        }
    }

    /// Fetches. The future is ready at once when data is there or nothing needs to be waited for.
    pub fn fetch(&self, request: FetchRequest) -> Fetching {
        let shared = Rc::new(FetchShared::default());
        let ticket = self.0.core.borrow_mut().waiters.fetch(&shared);
        self.step([Event::Fetch { ticket, request }]);
        Fetching::new(shared, ticket, self.clone())
    }

    pub(super) fn cancel_fetch(&self, ticket: Ticket) {
        self.step([Event::CancelFetch { ticket }]);
        self.0.core.borrow_mut().waiters.cancelled(ticket);
    }

    /// Hands the shard an answer to something it asked for.
    pub fn answer(&self, event: Event) {
        self.step([event]);
    }

    /// Looks up an offset.
    pub fn list_offset(
        &self,
        partition: TopicPartition,
        spec: OffsetSpec,
        reader: Reader,
        current_leader_epoch: Option<Epoch>,
    ) -> Result<ListedOffset, ListOffsetsError> {
        let Core { shard, disk, .. } = &mut *self.0.core.borrow_mut();
        let shard = shard.as_mut().ok_or(FetchError::UnknownPartition)?;
        shard.list_offset(partition, spec, reader, current_leader_epoch, disk)
    }

    /// Where `epoch` ends in this leader's log.
    pub fn epoch_end(
        &self,
        partition: TopicPartition,
        current_leader_epoch: Option<Epoch>,
        epoch: Epoch,
    ) -> Result<Option<EpochEnd>, FetchError> {
        let core = self.0.core.borrow();
        let shard = core.shard.as_ref().ok_or(FetchError::UnknownPartition)?;
        shard.epoch_end(partition, current_leader_epoch, epoch)
    }

    /// What every hosted partition looks like now.
    #[must_use]
    pub fn describe(&self) -> Vec<PartitionDescription> {
        self.0.core.borrow().shard.as_ref().map(|shard| shard.describe(self.now())).unwrap_or_default()
    }

    /// What this broker knows about the ISR of a partition that it leads, and the time to which its times refer.
    #[must_use]
    pub fn isr_report(&self, partition: TopicPartition) -> Option<(Millis, IsrReport)> {
        let now = self.now();
        Some((now, self.0.core.borrow().shard.as_ref()?.isr_report(now, partition)?))
    }

    /// Resolves when a log has failed, with the reason. The next start will not trust what the failure may have cost.
    ///
    /// Should there be nobody to tell, because the disk does not even take that, the reason says so.
    pub async fn failed(&self) -> String {
        self.0.failing.notified().await;
        let mut reason = self.0.failed.borrow_mut().take().unwrap_or_else(|| "a log failed".to_owned());
        let Core { shard, disk, .. } = &mut *self.0.core.borrow_mut();
        if let Some(Err(error)) = shard.as_mut().map(|shard| shard.abandon(disk)) {
            reason += &format!("; and the next start cannot be warned: {error}");
        }
        reason
    }

    /// Closes the shard: flushes every log and writes the checkpoints. What is asked of it afterwards stays
    /// unanswered.
    ///
    /// # Errors
    /// When some log or checkpoint could not be written; the next start will recover.
    pub fn close(&self) -> Result<(), OpenError> {
        let shard = self.0.core.borrow_mut().shard.take();
        match shard {
            Some(shard) => shard.close(&mut RealDisk),
            None => Ok(()),
        }
    }

    fn step(&self, events: impl IntoIterator<Item = Event>) {
        let mut core = self.0.core.borrow_mut();
        let Core { shard, disk, outputs, .. } = &mut *core;
        let Some(shard) = shard else { return };
        shard.step_batch(self.now(), events, disk, outputs);
        self.0.unsettled.set(false);
        let next = shard.next_deadline();
        self.carry_out(&mut core);
        drop(core);
        // A timer that rings too early does no harm, so it is only ever moved forward here.
        if next.is_some_and(|next| self.0.armed.get().is_none_or(|armed| next < armed)) {
            self.0.armed.set(next);
            self.0.rearm.notify_one();
        }
    }

    fn carry_out(&self, core: &mut Core) {
        let Core { shard: Some(shard), waiters, outputs, .. } = core else { return };
        for output in outputs.drain(..) {
            match output {
                Output::Appended { ticket, result } => waiters.appended(ticket, result),
                Output::Fetched { ticket, reply } => waiters.fetched(ticket, reply),
                Output::SendFetch { fetcher, correlation, request } => {
                    self.0.peers.send_fetch(self, SendFetch { fetcher, correlation, request });
                }
                Output::AlterPartition(proposal) => self.0.peers.alter_partition(self, proposal),
                Output::Sync { round } => self.0.flusher.sync(round, shard.take_sync(round)),
                Output::Notice(notice) => {
                    if let Notice::LogFailed { reason, .. } = &notice {
                        self.0.failed.borrow_mut().get_or_insert_with(|| reason.clone());
                        self.0.failing.notify_one();
                    }
                    log(&notice);
                }
            }
        }
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.0.origin.elapsed().as_millis()).expect("a process does not run that long"))
    }
}

impl fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardHandle").finish_non_exhaustive()
    }
}

async fn feed_synced(shard: ShardHandle, mut synced: tokio::sync::mpsc::UnboundedReceiver<Synced>) {
    while let Some(Synced { round, results }) = synced.recv().await {
        shard.step([Event::Synced { round, results }]);
    }
}

/// Runs when the tasks have had their turn that were runnable when the first append was taken in.
async fn settle(shard: ShardHandle) {
    loop {
        shard.0.to_settle.notified().await;
        shard.settle();
    }
}

async fn feed_time(shard: ShardHandle) {
    loop {
        match shard.0.armed.get() {
            None => shard.0.rearm.notified().await,
            Some(deadline) => {
                let ring = tokio::time::sleep_until(shard.0.origin + Duration::from_millis(deadline.0));
                tokio::select! {
                    () = ring => {
                        shard.0.armed.set(None);
                        shard.step([Event::Tick { wall_clock_ms: wall_clock_ms() }]);
                    }
                    () = shard.0.rearm.notified() => {}
                }
            }
        }
    }
}

/// The wall clock, milliseconds since 1970.
pub fn wall_clock_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn log(notice: &Notice) {
    match notice {
        Notice::BecameLeader { .. }
        | Notice::BecameFollower { .. }
        | Notice::IsrProposed { .. }
        | Notice::Removed { .. } => tracing::debug!(?notice, "partition"),
        Notice::IsrChanged { .. } => tracing::info!(?notice, "in-sync replicas changed"),
        Notice::Truncated { from, to, high_watermark, .. } if to < high_watermark && from != to => {
            tracing::warn!(?notice, "log cut below the high watermark");
        }
        Notice::Truncated { .. } => tracing::info!(?notice, "log cut"),
        Notice::LogFailed { .. } => tracing::error!(?notice, "log offline"),
        Notice::Warning { .. } | Notice::DirectoryWarning { .. } => tracing::warn!(?notice, "unexpected"),
    }
}
