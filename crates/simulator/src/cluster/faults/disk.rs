//! A disk that fails a sync, and the machine that is switched off and on for it some time later.
//!
//! After a failed sync the kernel takes the pages for written, so a second sync proves nothing (which is what the
//! memory disk does, too): only what was synced before is certain to come back. Whoever starts a process on such a
//! machine restarts the machine first.

use minisr_logic::BrokerId;
use minisr_storage::disk::memory::{Fault, Operation};

use super::kill::kill;
use super::{Cluster, Event, FaultType, victim};
use crate::schedule::Parameters;

/// The next sync of a log fails. After `for` ms the machine is switched off (`salt`: what is left of un-flushed data)
/// and is back after `back` ms.
pub const ERROR: FaultType = FaultType {
    name: "disk-error",
    // Drawn by the mix `disk` only: a failed sync costs a broker its seats also under flush=commit, so that partitions
    // may rightly end without a leader (`invariants/robbed.rs`), and what should happen then could not be shown.
    seeds_permille: 0,
    draw: |cluster, roll| {
        let parameters =
            Parameters::default().with("broker", victim(cluster, roll)).with("for", roll.between(20, 1_500));
        Some(parameters.with("back", roll.between(10, 1_000)).with("salt", roll.between(1, 1 << 32)))
    },
    strike: |cluster, parameters| {
        let id = parameters.broker();
        let Some(broker) = cluster.brokers.get_mut(&id).filter(|it| it.disk_trouble.is_none()) else { return };
        broker.disk.inject(Fault {
            operation: Operation::Sync,
            path_contains: ".log".to_owned(),
            after: 0,
            times: 1,
            bytes_written: 0,
            error: std::io::ErrorKind::Other,
        });
        broker.disk_trouble = Some(parameters.clone());
        cluster.schedule(parameters.number("for"), Event::Reboot { broker: id });
    },
};

impl Cluster {
    /// Switches a machine in trouble off and on; a process is started if one ran.
    pub(in crate::cluster) fn reboot(&mut self, id: BrokerId) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        let Some(parameters) = broker.disk_trouble.take() else { return };
        broker.disk.heal();
        self.trace.write(self.now, format_args!("reboot {id}"));
        kill(self, id, &parameters, Some(parameters.number("salt")));
    }
}
