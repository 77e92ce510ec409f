//! Which partitions nobody may lead because failed syncs took the trusted log of everyone who might have.
//!
//! A broker whose disk failed a sync registers as not clean for data and with that gives up its seats in ISR and ELR:
//! nobody knows what of its logs reached the disk. A partition without a leader is *robbed* if everybody who was in its
//! ISR or ELR when it lost its leader has registered like that since, each for an injected error of its own disk. Then
//! only an operator can say that somebody else's log will do. A seat that was lost in any other way excuses nothing.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::metadata::{Command, Image};
use minisr_logic::{BrokerId, TopicPartition};

use crate::state::{Fact, Step};

/// What is known of failed disks and of partitions without a leader.
#[derive(Debug, Default)]
pub struct Robbed {
    /// Whose disk has failed a sync since the broker registered last.
    failed: BTreeSet<BrokerId>,
    /// Per partition without a leader: who might have led it and has not been robbed.
    heirs: BTreeMap<TopicPartition, BTreeSet<BrokerId>>,
}

impl Robbed {
    /// Takes note of what has just happened.
    pub fn note(&mut self, step: &Step<'_>) {
        for fact in step.facts {
            match fact {
                Fact::DiskFailed { broker } => {
                    self.failed.insert(*broker);
                }
                Fact::Committed { before, command, accepted: true } => {
                    self.note_command(before, command, &step.state.image);
                }
                _ => {}
            }
        }
    }

    /// Whether nobody is left who might have led this partition, all for disks that failed.
    #[must_use]
    pub fn is_robbed(&self, partition: TopicPartition) -> bool {
        self.heirs.get(&partition).is_some_and(BTreeSet::is_empty)
    }

    fn note_command(&mut self, before: &Image, command: &Command, after: &Image) {
        self.heirs.retain(|key, _| after.partition(*key).is_some_and(|it| it.leader.is_none()));
        for (key, old) in before.partitions().filter(|(_, it)| it.leader.is_some()) {
            if after.partition(key).is_some_and(|it| it.leader.is_none()) {
                self.heirs.insert(key, old.isr.iter().chain(&old.elr).copied().collect());
            }
        }
        let Command::RegisterBroker { id, clean_for_data, .. } = command else { return };
        let epoch = |image: &Image| image.broker(*id).map(|it| it.epoch);
        // The repeated message of a life that has registered already changes nothing.
        if epoch(before) != epoch(after) && self.failed.remove(id) && !clean_for_data {
            for heirs in self.heirs.values_mut() {
                heirs.remove(id);
            }
        }
    }
}
