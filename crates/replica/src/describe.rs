//! What a shard tells about itself to those who watch.

use minisr_logic::partition::{KnownProducer, LagKind, LogState, Role};
use minisr_logic::{BrokerId, Epoch, Millis, Offset, PartitionEpoch, TopicPartition};
use minisr_storage::Disk;

use crate::isr::members;
use crate::partition::Partition;

/// What this broker is for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It does neither, because the log failed or no metadata has arrived yet.
    Offline,
}

/// One replica of one partition at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The partition.
    pub partition: TopicPartition,
    /// What this broker is for it.
    pub role: RoleName,
    /// The leader, if this broker knows one.
    pub leader: Option<BrokerId>,
    /// The leader epoch this broker acts in; `None` before the first metadata.
    pub leader_epoch: Option<Epoch>,
    /// The partition epoch this broker has seen.
    pub partition_epoch: PartitionEpoch,
    /// First offset kept.
    pub log_start: Offset,
    /// First offset not known to be committed.
    pub high_watermark: Offset,
    /// Everything below is on stable storage.
    pub flushed: Offset,
    /// The next offset to write.
    pub log_end: Offset,
    /// On a leader: the committed ISR.
    pub isr: Vec<BrokerId>,
    /// The ISR this leader has proposed and not yet heard about.
    pub proposed_isr: Option<Vec<BrokerId>>,
    /// On a leader: its followers that lag, and how many records they lack (`None`: never heard from in this epoch).
    pub lagging: Vec<(BrokerId, LagKind, Option<i64>)>,
    /// Producers waiting for the high watermark.
    pub waiting_acks: usize,
    /// Bytes on disk.
    pub size_bytes: u64,
}

/// What a replica keeps in memory about its log beside the positions: what can be rebuilt from the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bookkeeping {
    /// Where its leader epochs begin, in order.
    pub epochs: Vec<(Epoch, Offset)>,
    /// Its idempotent producers, by id.
    pub producers: Vec<KnownProducer>,
}

pub(crate) fn bookkeeping(log: &LogState) -> Bookkeeping {
    Bookkeeping { epochs: log.epochs.entries().collect(), producers: log.producers.known().collect() }
}

pub(crate) fn describe<D: Disk>(now: Millis, partition: &Partition<D>) -> PartitionDescription {
    let replica = &partition.replica;
    let log = replica.log();
    let mut description = PartitionDescription {
        partition: partition.key,
        role: RoleName::Offline,
        leader: None,
        leader_epoch: replica.leader_epoch(),
        partition_epoch: replica.partition_epoch(),
        log_start: log.cursors.log_start(),
        high_watermark: log.cursors.high_watermark(),
        flushed: log.cursors.flushed(),
        log_end: log.cursors.written(),
        isr: Vec::new(),
        proposed_isr: None,
        lagging: Vec::new(),
        waiting_acks: 0,
        size_bytes: partition.log.size_bytes(),
    };
    match replica.role() {
        Role::Leader(leader) => {
            description.role = RoleName::Leader;
            description.leader = Some(leader.me());
            description.isr = members(leader.isr().settled());
            description.proposed_isr = leader.isr().proposal().map(|proposal| members(&proposal.isr));
            description.lagging = leader.lagging(now, log);
            description.waiting_acks = leader.waiting_acks();
        }
        Role::Follower(follower) => {
            description.role = RoleName::Follower;
            description.leader = follower.leader();
        }
        Role::Offline => {}
    }
    description
}
