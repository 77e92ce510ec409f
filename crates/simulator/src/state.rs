//! What the invariants look at: every replica as it is known from outside, and what happened in one step.

use std::collections::BTreeMap;
use std::sync::Arc;

use minisr_logic::metadata::{Command, Image, Topic};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Offset, TopicPartition};
use minisr_replica::{Bookkeeping, PartitionDescription, RoleName};

/// One batch as it lies in a replica's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Offset of its first record.
    pub base: Offset,
    /// The offset after its last.
    pub end: Offset,
    /// The leader epoch stamped on it.
    pub epoch: Epoch,
    /// Hash of all its bytes, the stamped ones included.
    pub bytes_hash: u64,
    /// Hash of this batch and everything below it in the log.
    pub prefix_hash: u64,
    /// Which attempt of which client wrote it.
    pub attempt: Attempt,
    /// Idempotent producer: id, epoch, first sequence.
    pub producer: Option<(i64, i16, i32)>,
}

/// The number of one attempt to append one batch. Every retry has its own, also where the sequences are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u64);

/// One replica. It is kept while its broker is down: its log is still on the disk.
#[derive(Clone, Debug)]
pub struct Replica {
    /// Its log, whole (nothing is deleted from the front in the simulator).
    pub log: Vec<Entry>,
    /// What its shard says of it; `None` while its broker is down.
    pub view: Option<PartitionDescription>,
    /// Its epochs and producers, as its shard has them.
    pub bookkeeping: Bookkeeping,
    /// `min.insync.replicas`, as its broker knows it; the least, where it has heard of several in its last step.
    pub min_isr: usize,
    /// Everything below is on stable storage, last the shard said.
    pub flushed: Offset,
    /// An injected loss cut its log, and its broker has not registered since: until it does, others may count on what
    /// it had reported before.
    pub damaged: bool,
    /// Its log failed in this life of its broker: the log takes no more, and what the process knew of batches that it
    /// could not write any more is used by nobody.
    pub failed: bool,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            log: Vec::new(),
            view: None,
            bookkeeping: Bookkeeping::default(),
            min_isr: 0,
            flushed: Offset::ZERO,
            damaged: false,
            failed: false,
        }
    }
}

impl Replica {
    /// The log's end offset.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.log.last().map_or(Offset::ZERO, |it| it.end)
    }

    /// The entries that end at or below `offset`.
    #[must_use]
    pub fn below(&self, offset: Offset) -> &[Entry] {
        &self.log[..self.log.partition_point(|it| it.end <= offset)]
    }

    /// The entry that begins at `offset`.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<&Entry> {
        self.log.binary_search_by_key(&offset, |it| it.base).ok().map(|index| &self.log[index])
    }

    /// Its view, if it leads.
    #[must_use]
    pub fn as_leader(&self) -> Option<&PartitionDescription> {
        self.view.as_ref().filter(|view| view.role == RoleName::Leader)
    }
}

/// A replica's place.
pub type Place = (TopicPartition, BrokerId);

/// Everything that is, as far as the invariants care.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The metadata as committed.
    pub image: Image,
    /// All replicas.
    pub replicas: BTreeMap<Place, Replica>,
    /// `replica.lag.time.max.ms`.
    pub lag_time_max_ms: u64,
    /// Whether only flushed data counts (flush=commit).
    pub counts_flushed: bool,
}

impl State {
    /// One replica.
    #[must_use]
    pub fn replica(&self, partition: TopicPartition, broker: BrokerId) -> Option<&Replica> {
        self.replicas.get(&(partition, broker))
    }

    /// Whether an unclean election was asked for in this partition: what had been committed before may be gone, and a
    /// leader that does not know yet may go on for a while.
    #[must_use]
    pub fn had_unclean_election(&self, partition: TopicPartition) -> bool {
        self.image.partition(partition).is_some_and(|it| it.last_unclean_epoch.is_some())
    }

    /// All replicas of one partition.
    pub fn replicas_of(&self, partition: TopicPartition) -> impl Iterator<Item = (BrokerId, &Replica)> {
        let range = (partition, BrokerId(i32::MIN))..=(partition, BrokerId(i32::MAX));
        self.replicas.range(range).map(|((_, broker), it)| (*broker, it))
    }

    /// The topic of a partition, as committed.
    #[must_use]
    pub fn topic(&self, partition: TopicPartition) -> Option<&Arc<Topic>> {
        self.image.topic(partition.topic)
    }
}

/// `min.insync.replicas` of a partition; 0 when it does not exist.
#[must_use]
pub fn min_isr(image: &Image, partition: TopicPartition) -> usize {
    let topic = image.topic(partition.topic);
    topic.and_then(|it| Some(it.min_insync_replicas(it.partition(partition.partition)?))).unwrap_or(0)
}

/// One thing that happened in a step.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A replica's log grew by the entries from this index on.
    Appended {
        /// Which replica.
        place: Place,
        /// Index of the first new entry in its log.
        from_index: usize,
    },
    /// A replica's log was cut.
    Cut {
        /// Which replica.
        place: Place,
        /// What was cut off.
        entries: Vec<Entry>,
        /// Its high watermark then.
        high_watermark: Offset,
        /// Whether an injected loss did it, not the replica itself.
        injected: bool,
    },
    /// A replica took leadership.
    BecameLeader {
        /// Which.
        place: Place,
        /// In this epoch.
        epoch: Epoch,
    },
    /// A produce attempt was answered with success.
    Acked {
        /// Which replica answered.
        place: Place,
        /// The attempt.
        attempt: Attempt,
        /// Where the batch is.
        base: Offset,
        /// Whether acks=all was asked for.
        all: bool,
    },
    /// A produce attempt was refused in a way that says that it is nowhere.
    Refused {
        /// Which partition.
        partition: TopicPartition,
        /// The attempt.
        attempt: Attempt,
    },
    /// A consumer's fetch was answered.
    Read {
        /// Which replica answered.
        place: Place,
        /// Who reads.
        consumer: u32,
        /// Where it wanted to begin.
        from: Offset,
        /// What it got: offsets and hash of the bytes.
        batches: Vec<(Offset, Offset, u64)>,
        /// The high watermark in the answer.
        high_watermark: Offset,
    },
    /// A leader would answer a client that asks for the end of its log.
    Listed {
        /// Which replica.
        place: Place,
        /// In which epoch it leads.
        epoch: Epoch,
        /// Its answer.
        latest: Offset,
    },
    /// A follower's fetch arrived at a replica.
    ReplicaFetched {
        /// The replica that is asked.
        place: Place,
        /// Who asks.
        follower: BrokerId,
        /// In which life.
        broker_epoch: Option<BrokerEpoch>,
        /// The life of the follower that the asked broker knows from its metadata.
        registered: Option<BrokerEpoch>,
        /// In which leader epoch, as the follower believes.
        epoch: Option<Epoch>,
        /// From where; the follower claims to hold everything below.
        fetch_offset: Offset,
        /// Epoch of the follower's last batch.
        last_epoch: Option<Epoch>,
        /// What the follower claims to have flushed.
        flushed: Option<Offset>,
        /// The asked replica's end when the fetch arrived.
        end: Offset,
    },
    /// A follower's fetch was answered.
    FetchAnswered {
        /// Whose.
        place: Place,
        /// In which leader epoch it had asked.
        asked: Epoch,
        /// Of which leader epoch its broker had been told by then.
        known: Epoch,
    },
    /// A leader asked the controller for an ISR.
    IsrProposed {
        /// The leader's replica.
        place: Place,
        /// In this epoch.
        epoch: Epoch,
        /// Members it wants to drop by the rule of time.
        dropped: Vec<BrokerId>,
    },
    /// A command was applied to the committed image.
    Committed {
        /// The image before.
        before: Image,
        /// The command.
        command: Command,
        /// Whether it was accepted; a refused one changes nothing.
        accepted: bool,
    },
    /// A broker applied the log up to some index.
    Applied {
        /// The broker.
        broker: BrokerId,
        /// Its image.
        image: Arc<Image>,
        /// The committed image of that index.
        committed: Arc<Image>,
    },
    /// A block of producer ids was handed out.
    ProducerIds {
        /// The first.
        first: i64,
        /// How many.
        len: i64,
    },
    /// A broker's machine lost power.
    PowerLost {
        /// The broker.
        broker: BrokerId,
    },
    /// A process of a broker starts.
    Started {
        /// The broker.
        broker: BrokerId,
        /// Its life.
        incarnation: u128,
    },
    /// An injected error made a sync of one of this broker's logs fail: what of them reached the disk is not known.
    DiskFailed {
        /// The broker.
        broker: BrokerId,
        /// In which life.
        incarnation: u128,
    },
    /// A broker came back and opened a log.
    Recovered {
        /// Which replica.
        place: Place,
        /// Up to here it is what it was.
        kept: Offset,
        /// Up to here it had to be.
        must_keep: Offset,
    },
}

/// One step: what happened, and how things are after it.
#[derive(Debug)]
pub struct Step<'a> {
    /// When, in milliseconds.
    pub now_ms: u64,
    /// How things are now.
    pub state: &'a State,
    /// Replicas whose view changed, with the view before.
    pub changed: &'a [(Place, Option<PartitionDescription>)],
    /// What happened.
    pub facts: &'a [Fact],
}

impl Step<'_> {
    /// The changed replicas that have a view now: place, view before, view now.
    pub fn views(&self) -> impl Iterator<Item = (Place, Option<&PartitionDescription>, &PartitionDescription)> {
        self.changed.iter().filter_map(|(place, before)| {
            let now = self.state.replicas.get(place)?.view.as_ref()?;
            Some((*place, before.as_ref(), now))
        })
    }
}
