//! A leader's shard with two followers: the step that a produce request makes, and those that follow from it.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use minisr_benches::samples::{FOLLOWERS, Metadata, REPLICATED, batch};
use minisr_logic::{BrokerId, Millis, Offset, TopicPartition};
use minisr_replica::{
    Acks, Append, Config, Event, FetchPartition, FetchRequest, Output, Reader, Shard, Ticket, batch_summary,
};
use minisr_storage::MemoryDisk;
use minisr_wire::batch::BatchView;

use crate::rounds::rounds;

/// Broker 1 with its followers' fetches waiting.
struct Leader {
    metadata: Metadata,
    partition: TopicPartition,
    shard: Shard<MemoryDisk>,
    disk: MemoryDisk,
    now: Millis,
    tickets: u64,
    outputs: Vec<Output>,
    produced: Bytes,
    end: Offset,
    /// Fetches without an answer yet.
    waiting: BTreeMap<Ticket, BrokerId>,
}

impl Leader {
    fn start() -> Self {
        let metadata = Metadata::of_three_brokers();
        let mut disk = MemoryDisk::new();
        let config = Config::new(BrokerId(1));
        let (shard, _) = Shard::open(&mut disk, Path::new("data"), config, Millis(0)).expect("the directory opens");
        let partition = metadata.partition(REPLICATED);
        let mut leader = Self {
            metadata,
            partition,
            shard,
            disk,
            now: Millis(1),
            tickets: 0,
            outputs: Vec::new(),
            produced: batch(64 << 10),
            end: Offset::ZERO,
            waiting: BTreeMap::new(),
        };
        let broker_epoch = leader.metadata.registration(BrokerId(1));
        leader.step(Event::Image(leader.metadata.image.clone()));
        leader.step(Event::Registered { broker_epoch });
        leader.answered();
        leader
    }

    fn step(&mut self, event: Event) {
        self.shard.step(self.now, event, &mut self.disk, &mut self.outputs);
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    fn append(&mut self) -> Event {
        let ticket = self.ticket();
        let (batch, partition) = (self.produced.clone(), self.partition);
        let summary = batch_summary(&BatchView::parse(&batch).expect("a batch"));
        self.end = Offset(self.end.0 + i64::from(summary.records));
        Event::Append(Append { ticket, partition, batch: batch.into(), summary, acks: Acks::All, timeout_ms: 30_000 })
    }

    /// The fetch of a follower that has everything up to the newest batch.
    fn fetch_of(&mut self, id: BrokerId) -> Event {
        let partition = FetchPartition {
            partition: self.partition,
            current_leader_epoch: self.metadata.image.partition(self.partition).map(|it| it.leader_epoch),
            fetch_offset: self.end,
            last_fetched_epoch: None,
            log_start: Some(Offset::ZERO),
            high_watermark: Some(self.end),
            flushed: None,
            max_bytes: 1 << 20,
        };
        let request = FetchRequest {
            reader: Reader::Replica { id, broker_epoch: Some(self.metadata.registration(id)) },
            client_rack: None,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 10 << 20,
            partitions: vec![partition],
        };
        let ticket = self.ticket();
        self.waiting.insert(ticket, id);
        Event::Fetch { ticket, request }
    }

    /// Lets every follower that has no fetch waiting fetch, until all of them wait. News of the high watermark is
    /// answered too, so one fetch each may not be enough.
    fn all_wait(&mut self) {
        while let Some(follower) = FOLLOWERS.into_iter().find(|id| self.waiting.values().all(|other| other != id)) {
            let fetch = self.fetch_of(follower);
            self.step(fetch);
            self.answered();
        }
    }

    /// Takes what the steps since the last call put out: how many fetches and how many appends were answered.
    fn answered(&mut self) -> (usize, usize) {
        let (mut fetched, mut appended) = (0, 0);
        for output in self.outputs.drain(..) {
            match output {
                Output::Fetched { ticket, .. } => {
                    self.waiting.remove(&ticket);
                    fetched += 1;
                }
                Output::Appended { result, .. } => {
                    result.expect("the batch is accepted");
                    appended += 1;
                }
                _ => {}
            }
        }
        (fetched, appended)
    }
}

/// Admits, copies, stamps and writes a batch, and answers the two fetches that wait for it.
pub fn append() {
    let mut leader = Leader::start();
    for round in rounds() {
        leader.all_wait();
        let append = leader.append();
        round.count(|| leader.step(black_box(append)));
        assert_eq!(leader.answered(), (2, 0), "both followers get the batch");
    }
}

/// The next fetch of the second follower, which tells that it has the batch: that commits it and answers the producer.
pub fn follower_fetch() {
    let mut leader = Leader::start();
    for round in rounds() {
        leader.all_wait();
        let append = leader.append();
        leader.step(append);
        assert_eq!(leader.answered(), (2, 0));
        let [first, last] = FOLLOWERS.map(|follower| leader.fetch_of(follower));
        leader.step(first);
        assert_eq!(leader.answered().1, 0, "one copy besides the leader's is missing");
        round.count(|| leader.step(black_box(last)));
        assert_eq!(leader.answered().1, 1, "all have it");
    }
}
