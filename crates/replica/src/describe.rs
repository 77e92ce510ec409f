//! What a shard tells about itself to those who watch.

use minisr_logic::{BrokerId, Epoch, Offset, PartitionEpoch, TopicPartition};

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

/// Why a follower is outside the ISR or about to leave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It sends no fetches.
    Stuck,
    /// It fetches but does not reach the leader's log end.
    Slow,
    /// It is outside the ISR and catching up.
    Bootstrapping,
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
    /// The leader epoch this broker acts in.
    pub leader_epoch: Epoch,
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
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
    /// The ISR this leader has proposed and not yet heard about.
    pub proposed_isr: Option<Vec<BrokerId>>,
    /// On a leader: its followers that lag, and how many records they lack (`None`: never heard from in this epoch).
    pub lagging: Vec<(BrokerId, Lag, Option<i64>)>,
    /// Producers waiting for the high watermark.
    pub waiting_acks: usize,
    /// Bytes on disk.
    pub size_bytes: u64,
}
