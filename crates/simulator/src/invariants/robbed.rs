//! Which partitions nobody may lead because everyone who might have lost its trusted log to a failed sync, or its name.
//!
//! A broker whose disk failed a sync registers its next life as not clean for data and with that gives up its seats in
//! ISR and ELR: nobody knows what of its logs reached the disk. A partition without a leader is *robbed* if everybody who
//! was in its ISR or ELR when it lost its leader has registered like that since, each for an injected error of its own
//! disk in an earlier life. Then only an operator can say that somebody else's log will do. A seat that was lost in any
//! other way excuses nothing, but for one: the life before was registered a second time and killed before it heard of
//! that. A broker names its last life by the epoch that it was given, so the next one names a wrong one, is refused with
//! its clean logs, and has to say that they are not. That costs a seat, never a record.
//!
//! A failure counts until a later life has registered, however often the life that it befell registers, before it or
//! after it.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::metadata::{Command, Image};
use minisr_logic::{BrokerId, TopicPartition};

use crate::state::{Fact, Step};

/// What is known of failed disks and of partitions without a leader.
#[derive(Debug, Default)]
pub struct Robbed {
    /// The lives of each broker.
    lives: BTreeMap<BrokerId, Lives>,
    /// Per partition without a leader: who might have led it and has not been robbed.
    heirs: BTreeMap<TopicPartition, BTreeSet<BrokerId>>,
}

#[derive(Debug, Default)]
struct Lives {
    /// All, in order.
    incarnations: Vec<u128>,
    /// The places of those whose disk failed and after which none has registered.
    failed: BTreeSet<usize>,
}

impl Lives {
    fn number(&self, incarnation: u128) -> Option<usize> {
        self.incarnations.iter().position(|it| *it == incarnation)
    }

    fn note_failure(&mut self, incarnation: u128) {
        self.failed.extend(self.number(incarnation));
    }

    /// A life has registered. Whether an earlier one had left it a disk that had failed.
    fn note_registration(&mut self, incarnation: u128) -> bool {
        let Some(this) = self.number(incarnation) else { return false };
        let later = self.failed.split_off(&this);
        !std::mem::replace(&mut self.failed, later).is_empty()
    }
}

impl Robbed {
    /// Takes note of what has just happened.
    pub fn note(&mut self, step: &Step<'_>) {
        for fact in step.facts {
            match fact {
                Fact::Started { broker, incarnation } => {
                    self.lives.entry(*broker).or_default().incarnations.push(*incarnation);
                }
                Fact::DiskFailed { broker, incarnation } => {
                    self.lives.entry(*broker).or_default().note_failure(*incarnation);
                }
                Fact::Committed { before, command, accepted: true } => {
                    self.note_command(before, command, &step.state.image);
                }
                Fact::Committed { before, command, accepted: false } => self.note_refusal(before, command),
                _ => {}
            }
        }
    }

    /// Whether nobody is left who might have led this partition, all for disks that failed.
    #[must_use]
    pub fn is_robbed(&self, partition: TopicPartition) -> bool {
        self.heirs.get(&partition).is_some_and(BTreeSet::is_empty)
    }

    /// A clean life may have been refused because the one before did not know its own last registration.
    fn note_refusal(&mut self, before: &Image, command: &Command) {
        let Command::RegisterBroker { id, incarnation, clean_for_data: true, .. } = command else { return };
        let Some(registered) = before.broker(*id).map(|it| it.incarnation) else { return };
        let lives = self.lives.entry(*id).or_default();
        let (last, this) = (lives.number(registered), lives.number(*incarnation));
        if last.is_some() && last.map(|last| last + 1) == this {
            lives.note_failure(registered);
        }
    }

    fn note_command(&mut self, before: &Image, command: &Command, after: &Image) {
        self.heirs.retain(|key, _| after.partition(*key).is_some_and(|it| it.leader.is_none()));
        for (key, old) in before.partitions().filter(|(_, it)| it.leader.is_some()) {
            if after.partition(key).is_some_and(|it| it.leader.is_none()) {
                self.heirs.insert(key, old.isr.iter().chain(&old.elr).copied().collect());
            }
        }
        let Command::RegisterBroker { id, incarnation, clean_for_data, .. } = command else { return };
        let epoch = |image: &Image| image.broker(*id).map(|it| it.epoch);
        // The repeated message of a life that has registered already changes nothing.
        let registers = epoch(before) != epoch(after);
        if registers && self.lives.entry(*id).or_default().note_registration(*incarnation) && !clean_for_data {
            for heirs in self.heirs.values_mut() {
                heirs.remove(id);
            }
        }
    }
}
