//! Reassignments begun, redirected and cancelled while everything else befalls the cluster.

use minisr_logic::metadata::Command;
use minisr_logic::{BrokerId, TopicPartition};

use super::{Cluster, FaultType};
use crate::schedule::Parameters;

/// Partition `partition` is reassigned to the brokers in `target`, one bit each.
pub const REASSIGN: FaultType = FaultType {
    name: "reassign",
    seeds_permille: 450,
    draw: |cluster, roll| {
        let partition = roll.below(u64::try_from(cluster.plan.partitions).expect("not negative"));
        let brokers = cluster.broker_ids();
        let copies = roll.between(1, (brokers.len() as u64).min(3)) as usize;
        let first = roll.below(brokers.len() as u64) as usize;
        let step = if brokers.len() > 3 && roll.chance(500) { 2 } else { 1 };
        // Which brokers are meant, not in which order: the lowest id leads by preference.
        let mut target = 0_u64;
        for i in 0..copies {
            target |= 1 << brokers[(first + i * step) % brokers.len()].0;
        }
        Some(Parameters::default().with("partition", partition).with("target", target))
    },
    strike: |cluster, parameters| {
        let bits = parameters.number("target");
        let target: Vec<BrokerId> = cluster.broker_ids().into_iter().filter(|id| bits >> id.0 & 1 == 1).collect();
        cluster.propose_reassignment(parameters, Some(target));
    },
};

/// The reassignment of partition `partition`, if there is one, is cancelled.
pub const CANCEL: FaultType = FaultType {
    name: "cancel-reassignment",
    seeds_permille: 350,
    draw: |cluster, roll| {
        let ongoing: Vec<u64> =
            cluster.controller.image.reassigning().map(|(key, _)| u64::from(key.partition.unsigned_abs())).collect();
        if ongoing.is_empty() {
            return None;
        }
        Some(Parameters::default().with("partition", *roll.pick(&ongoing)))
    },
    strike: |cluster, parameters| cluster.propose_reassignment(parameters, None),
};

impl Cluster {
    fn propose_reassignment(&mut self, parameters: &Parameters, target: Option<Vec<BrokerId>>) {
        let partition = i32::try_from(parameters.number("partition")).expect("few partitions");
        let key = TopicPartition { topic: self.topic, partition };
        if target.as_ref().is_none_or(|target| !target.is_empty()) {
            self.propose(Command::AlterReassignment { key, target }, None);
        }
    }
}
