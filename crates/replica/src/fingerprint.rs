//! A shard's fingerprint for a model checker: everything that decides what it does next, without the numbers that
//! only tell answers apart. Every field is named here, so that a new one cannot be forgotten.

use std::hash::{Hash, Hasher};

use minisr_logic::metadata::Image;
use minisr_storage::Disk;

use crate::event::FetcherId;
use crate::partition::Partition;
use crate::shard::Shard;

impl<D: Disk> Shard<D> {
    /// Feeds what decides this shard's future, apart from the bytes on its disk, into `state`.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        let Self {
            config: _,
            root: _,
            broker_epoch,
            previous_broker_epoch,
            unclean_start,
            sync_failed,
            image,
            applied,
            partitions,
            offline,
            waiting,
            fetchers,
            flusher,
            deadlines,
            upkeep,
            throttles,
            touched,
        } = self;
        (broker_epoch, previous_broker_epoch, unclean_start, sync_failed).hash(state);
        (image.as_deref().map(Image::version), applied.as_deref().map(Image::version)).hash(state);
        partitions.len().hash(state);
        for partition in partitions.values() {
            partition.fingerprint(state);
        }
        (offline, waiting, deadlines, upkeep, throttles, touched).hash(state);
        fetchers.fingerprint(state);
        flusher.fingerprint(state);
    }

    /// Whether an answer to this fetch would still be taken: it is the newest of its loop and not answered.
    #[must_use]
    pub fn awaits(&self, fetcher: FetcherId, correlation: u64) -> bool {
        self.fetchers.awaits(fetcher, correlation)
    }
}

impl<D: Disk> Partition<D> {
    fn fingerprint(&self, state: &mut impl Hasher) {
        let (key, replica) = (&self.key, &self.replica);
        (key, replica).hash(state);
        self.log.fingerprint(state);
        self.private_state().hash(state);
        self.is_in_sync.hash(state);
    }
}
