//! Reads from followers (KIP-392). A leader answers a consumer at once with the follower that it should read from; a
//! follower serves consumers below its own high watermark, and answers "out of range" past its log end, after which
//! the consumer asks the leader again.

use minisr_logic::BrokerId;
use minisr_logic::partition::preferred_read_replica;
use minisr_storage::Disk;

use crate::config::ReplicaSelector;
use crate::event::{FetchPartition, FetchRequest, Reader};
use crate::shard::Shard;

/// Who asks, as far as it decides what is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) reader: Reader,
    /// It knows that followers answer too.
    pub(crate) may_read_follower: bool,
}

impl From<&FetchRequest> for Asker {
    fn from(request: &FetchRequest) -> Self {
        let is_consumer = matches!(request.reader, Reader::Consumer { .. });
        Self { reader: request.reader, may_read_follower: is_consumer && request.client_rack.is_some() }
    }
}

impl<D: Disk> Shard<D> {
    /// The follower to which this consumer is sent for this partition, if this broker leads it and has a selector.
    pub(crate) fn read_elsewhere(&self, request: &FetchRequest, entry: &FetchPartition) -> Option<BrokerId> {
        let (ReplicaSelector::RackAware, Reader::Consumer { .. }) = (self.config.replica_selector, request.reader)
        else {
            return None;
        };
        let rack = request.client_rack.as_deref()?;
        let leader = self.partitions.get(&entry.partition)?.replica.leader()?;
        let image = self.applied.as_ref()?;
        preferred_read_replica(leader, entry.fetch_offset, rack, |id| image.broker(id)?.rack.as_deref())
    }
}
