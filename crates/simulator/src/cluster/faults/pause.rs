//! SIGSTOP, later SIGCONT: whatever happens to the process meanwhile waits.

use minisr_logic::BrokerId;

use super::{Cluster, Event, FaultType, victim};
use crate::schedule::Parameters;

/// A process stands still for `for` ms.
pub const PAUSE: FaultType = FaultType {
    name: "pause",
    seeds_permille: 550,
    draw: |cluster, roll| {
        let longest = 2 * cluster.plan.session_timeout_ms.max(cluster.plan.lag_time_max_ms);
        Some(Parameters::default().with("broker", victim(cluster, roll)).with("for", roll.between(20, longest)))
    },
    strike: |cluster, parameters| {
        let id = parameters.broker();
        let Some(broker) = cluster.brokers.get_mut(&id) else { return };
        if broker.run.is_some() && !broker.paused {
            broker.paused = true;
            let life = broker.life;
            cluster.schedule(parameters.number("for"), Event::Resume { broker: id, life });
        }
    },
};

impl Cluster {
    /// A paused process goes on, and finds everything that came meanwhile.
    pub(in crate::cluster) fn resume(&mut self, id: BrokerId, life: u32) {
        let broker = self.brokers.get_mut(&id).expect("a broker of this cluster");
        if !broker.paused || broker.life != life {
            return;
        }
        broker.paused = false;
        let backlog = std::mem::take(&mut broker.backlog);
        self.count("pauses-outlived", 1);
        for event in backlog {
            self.schedule(0, event);
        }
    }
}
