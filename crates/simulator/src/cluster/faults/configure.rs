//! An operator changes `min.insync.replicas` of the topic while it is in use.

use std::collections::BTreeMap;

use minisr_logic::metadata::Command;

use super::FaultType;
use crate::schedule::Parameters;

/// `min.insync.replicas` becomes `value`.
pub const MIN_ISR: FaultType = FaultType {
    name: "min-insync-replicas",
    seeds_permille: 300,
    draw: |cluster, roll| {
        let most = u64::from(cluster.plan.replication_factor.unsigned_abs());
        Some(Parameters::default().with("value", roll.between(1, most)))
    },
    strike: |cluster, parameters| {
        let value = parameters.number("value").to_string();
        let changes = BTreeMap::from([("min.insync.replicas".to_owned(), Some(value))]);
        let topic_id = cluster.topic;
        cluster.propose(Command::AlterTopicConfigs { topic_id, changes }, None);
    },
};
