//! What a failed sync means for the next start.
//!
//! After a failed sync nobody knows what reached the disk, and the kernel has marked the pages clean: a process that
//! starts again on the same boot reads them back from the page cache, finds nothing missing, and would keep its ISR
//! seats for data that the next power loss takes. So the failure is written down at once, as a start that was not
//! clean; and because the disk that should take the note is the one that failed, what a clean start rests on is
//! withdrawn if the note cannot be written: without boot id and broker epoch a directory counts as new.

use minisr_storage::Disk;
use minisr_storage::checkpoint::{self, Durability};

use crate::open::{BROKER_EPOCH, UNCLEAN_START};
use crate::output::Output;
use crate::shard::Shard;

impl<D: Disk> Shard<D> {
    /// A sync has failed: the next start must not count as clean, whatever it finds.
    pub(crate) fn doubt_next_start(&mut self, reason: &str, disk: &mut D, outputs: &mut Vec<Output>) {
        if self.sync_failed {
            return;
        }
        self.sync_failed = true;
        let reason = format!("{reason}, so data in the page cache may not be on disk");
        let write = |disk: &mut D, how| checkpoint::write(disk, &self.root, UNCLEAN_START, reason.as_bytes(), how);
        // Not synced is enough for a process that starts on the same boot; after a power loss the boot id tells.
        let Err(error) = write(disk, Durability::Synced).or_else(|_| write(disk, Durability::Written)) else {
            return;
        };
        self.warn_all(&format!("cannot note that the next start is not clean: {error}"), outputs);
        for evidence in [checkpoint::BOOT_ID, BROKER_EPOCH] {
            if let Err(error) = checkpoint::remove(disk, &self.root, evidence) {
                self.warn_all(&format!("cannot withdraw {evidence}: {error}"), outputs);
            }
        }
    }
}
