//! SIGTERM, later a start.

use super::{Cluster, FaultType, victim};
use crate::schedule::Parameters;

/// A broker begins a controlled stop, and is started again some time after it.
pub const CLEAN: FaultType = FaultType {
    name: "clean-restart",
    seeds_permille: 550,
    draw: |cluster, roll| Some(Parameters::default().with("broker", victim(cluster, roll))),
    strike: |cluster: &mut Cluster, parameters| {
        let now = cluster.now;
        if let Some(run) = cluster.brokers.get_mut(&parameters.broker()).and_then(|it| it.run.as_mut()) {
            run.stopping_since.get_or_insert(now);
        }
    },
};
