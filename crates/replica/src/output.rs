//! What comes out of a shard: answers, requests to others, work for the driver, and news worth a log line.

use minisr_logic::partition::IsrReason;
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Offset, PartitionEpoch, TopicPartition};

use crate::error::AppendError;
use crate::event::{FetchReply, FetchRequest, FetcherId, Ticket};

/// Something the driver must carry out. Outputs of one step are in the order in which they were decided; answers of
/// one connection must leave in the order of its requests, which is the driver's business.
#[derive(Debug)]
pub enum Output {
    /// An [`crate::Append`] is decided. Also given for `acks=0`, where the driver sends nothing on success and closes
    /// the connection on an error.
    Appended {
        /// The append's ticket.
        ticket: Ticket,
        /// Where the batch is, or why it is not acknowledged.
        result: Result<Appended, AppendError>,
    },
    /// A fetch is answered.
    Fetched {
        /// The fetch's ticket.
        ticket: Ticket,
        /// The answer.
        reply: FetchReply,
    },
    /// Send this Fetch to a leader. Answer with [`crate::Event::FetchResponse`] or [`crate::Event::FetchFailed`],
    /// exactly once. A newer `SendFetch` of the same fetcher makes an older one void: its answer may be dropped.
    SendFetch {
        /// The fetch loop; `fetcher.leader` is the broker to ask.
        fetcher: FetcherId,
        /// Comes back with the answer.
        correlation: u64,
        /// What to ask.
        request: FetchRequest,
    },
    /// Propose an ISR to the controller. Answer with [`crate::Event::AlterPartitionReply`], exactly once, with
    /// [`crate::AlterPartitionError::Unknown`] when it can no longer be known whether it was applied.
    AlterPartition(AlterPartition),
    /// Sync the files of this round (take them with [`crate::Shard::take_sync`]), off the shard's thread, and answer
    /// with [`crate::Event::Synced`]. One round is outstanding at a time.
    Sync {
        /// The round.
        round: u64,
    },
    /// Something an operator wants to read in the log.
    Notice(Notice),
}

/// Where an acknowledged batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The partition's log start.
    pub log_start: Offset,
    /// The leader epoch the batch was written in (by this append or, for a duplicate, `None`).
    pub leader_epoch: Option<Epoch>,
}

/// A proposed ISR, with everything the controller compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterPartition {
    /// The partition.
    pub partition: TopicPartition,
    /// Comes back with the answer.
    pub correlation: u64,
    /// The leader that asks.
    pub leader: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The epoch it leads in.
    pub leader_epoch: Epoch,
    /// The partition epoch that the change is based on.
    pub partition_epoch: PartitionEpoch,
    /// The proposed members, each with the registration it was observed in.
    pub new_isr: Vec<(BrokerId, BrokerEpoch)>,
    /// The committed members that it leaves out, and why: for logs, the controller does not ask.
    pub dropped: Vec<(BrokerId, IsrReason)>,
}

/// What an operator wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// This broker leads the partition from now on.
    BecameLeader {
        /// The partition.
        partition: TopicPartition,
        /// In this epoch.
        leader_epoch: Epoch,
        /// Which starts here.
        start: Offset,
    },
    /// This broker follows from now on.
    BecameFollower {
        /// The partition.
        partition: TopicPartition,
        /// In this epoch.
        leader_epoch: Epoch,
        /// Following this broker.
        leader: Option<BrokerId>,
    },
    /// The leader proposes to drop or add members.
    IsrProposed {
        /// The partition.
        partition: TopicPartition,
        /// Committed members.
        from: Vec<BrokerId>,
        /// Proposed members.
        to: Vec<BrokerId>,
    },
    /// The committed ISR of a partition that this broker leads changed.
    IsrChanged {
        /// The partition.
        partition: TopicPartition,
        /// Members before.
        from: Vec<BrokerId>,
        /// Members now.
        to: Vec<BrokerId>,
        /// Who left or joined, and why.
        reasons: Vec<(BrokerId, IsrReason)>,
    },
    /// A follower cut its log because it held what the leader does not.
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// The log end before.
        from: Offset,
        /// The log end now.
        to: Offset,
        /// The high watermark at that time; a cut below it is data loss by an unclean election or lost storage.
        high_watermark: Offset,
    },
    /// A log takes no more writes until it is reopened; its partition answers KAFKA_STORAGE_ERROR (56).
    LogFailed {
        /// The partition.
        partition: TopicPartition,
        /// What failed.
        reason: String,
    },
    /// A partition of a deleted (or recreated) topic was removed from disk.
    Removed {
        /// The partition.
        partition: TopicPartition,
    },
    /// A small file in the data directory could not be written; it is tried again later.
    DirectoryWarning {
        /// A sentence.
        what: String,
    },
    /// Something that should not happen but is survived.
    Warning {
        /// The partition.
        partition: TopicPartition,
        /// A sentence.
        what: String,
    },
}
