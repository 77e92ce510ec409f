//! 6: every record that was ever below a leader's high watermark is in every later leader's log, unless **every** copy
//! that ever counted was destroyed by an injected loss.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::metadata::Image;
use minisr_logic::{BrokerId, Epoch, TopicPartition};
use minisr_replica::RoleName;

use super::Invariant;
use crate::state::{Entry, Fact, Place, Step};

/// The committed log of each partition, with the copies of each batch.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    committed: BTreeMap<TopicPartition, Vec<Committed>>,
}

#[derive(Debug)]
struct Committed {
    entry: Entry,
    /// The epoch of the leader that committed it.
    in_epoch: Option<Epoch>,
    /// Brokers that held it when it was committed or later.
    held: BTreeSet<BrokerId>,
    /// Those of them whose copy an injected loss destroyed.
    destroyed: BTreeSet<BrokerId>,
}

impl LeaderCompleteness {
    fn note_copies(&mut self, place: Place, entries: &[Entry]) {
        let Some(committed) = self.committed.get_mut(&place.0) else { return };
        for entry in entries {
            if let Some(record) = find(committed, entry) {
                record.held.insert(place.1);
                record.destroyed.remove(&place.1);
            }
        }
    }

    fn note_destroyed(&mut self, place: Place, entries: &[Entry]) {
        let Some(committed) = self.committed.get_mut(&place.0) else { return };
        for entry in entries {
            if let Some(record) = find(committed, entry).filter(|it| it.held.contains(&place.1)) {
                record.destroyed.insert(place.1);
            }
        }
    }

    /// Compares a leader's log with what is committed.
    fn check_leader(&mut self, place: Place, epoch: Option<Epoch>, log: &[Entry]) -> Result<(), String> {
        let Some(committed) = self.committed.get_mut(&place.0) else { return Ok(()) };
        let agree = committed.iter().zip(log).take_while(|(record, entry)| record.entry == **entry).count();
        // Only later leaders must have it: a broker may learn late that it led once, when others lead already.
        let earlier = |record: &&Committed| record.in_epoch < epoch;
        let excused = |record: &Committed| record.held.is_subset(&record.destroyed);
        let mut lacking = committed[agree..].iter().filter(earlier).peekable();
        if lacking.peek().is_none() {
            return Ok(());
        }
        if let Some(lost) = lacking.find(|record| !excused(record)) {
            return Err(format!(
                "leader {place:?} lacks the committed batch at {} of epoch {} ({:?}), held by {:?}, destroyed at {:?}",
                lost.entry.base, lost.entry.epoch, lost.entry.attempt, lost.held, lost.destroyed
            ));
        }
        committed.truncate(agree);
        Ok(())
    }

    /// Whoever enters an ISR may be elected from then on, so it must hold everything that is committed already. One that
    /// enters for what a life reported that has lost power since may not: it loses the seat when it registers.
    fn check_joiners(&self, step: &Step<'_>, before: &Image) -> Result<(), String> {
        for (partition, committed) in &self.committed {
            let Some((old, new)) = before.partition(*partition).zip(step.state.image.partition(*partition)) else {
                continue;
            };
            if old.isr == new.isr {
                continue;
            }
            for joiner in new.isr.iter().filter(|id| !old.isr.contains(id) && !old.elr.contains(id)) {
                let replica = step.state.replica(*partition, *joiner);
                if replica.is_some_and(|it| it.damaged) {
                    continue;
                }
                let log = replica.map_or(&[][..], |it| &it.log);
                let agree = committed.iter().zip(log).take_while(|(record, entry)| record.entry == **entry).count();
                let lost = committed[agree..].iter().find(|record| !record.held.is_subset(&record.destroyed));
                if let Some(lost) = lost {
                    return Err(format!(
                        "broker {joiner} joined the ISR of partition {} without the committed batch at {} of epoch {}",
                        partition.partition, lost.entry.base, lost.entry.epoch
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything below a leader's high watermark is committed from now on.
    fn commit(&mut self, step: &Step<'_>, partition: TopicPartition, in_epoch: Option<Epoch>, below: &[Entry]) {
        let committed = self.committed.entry(partition).or_default();
        for entry in below.get(committed.len()..).unwrap_or_default() {
            let holders = step.state.replicas_of(partition).filter(|(_, it)| it.at(entry.base) == Some(entry));
            let held = holders.map(|(broker, _)| broker).collect();
            committed.push(Committed { entry: *entry, in_epoch, held, destroyed: BTreeSet::new() });
        }
    }
}

fn find<'a>(committed: &'a mut [Committed], entry: &Entry) -> Option<&'a mut Committed> {
    let index = committed.binary_search_by_key(&entry.base, |it| it.entry.base).ok()?;
    Some(&mut committed[index]).filter(|it| it.entry == *entry)
}

impl Invariant for LeaderCompleteness {
    fn number(&self) -> u8 {
        6
    }

    fn name(&self) -> &'static str {
        "LeaderCompleteness"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        // Before the first of the facts is looked at, which may be the very election.
        self.committed.retain(|partition, _| !step.state.had_unclean_election(*partition));
        for fact in step.facts {
            match fact {
                Fact::Appended { place, from_index } => {
                    self.note_copies(*place, &step.state.replicas[place].log[*from_index..]);
                }
                Fact::Cut { place, entries, injected: true, .. } => self.note_destroyed(*place, entries),
                Fact::Committed { before, .. } => self.check_joiners(step, before)?,
                _ => {}
            }
        }
        let leads = |place: &Place, role| role == RoleName::Leader && !step.state.had_unclean_election(place.0);
        for (place, before, now) in step.views().filter(|(place, _, now)| leads(place, now.role)) {
            let replica = &step.state.replicas[&place];
            let new_reign = before.is_none_or(|it| it.role != RoleName::Leader || it.leader_epoch != now.leader_epoch);
            let raised = before.is_none_or(|it| it.high_watermark < now.high_watermark);
            if new_reign {
                self.check_leader(place, now.leader_epoch, &replica.log)?;
            }
            if new_reign || raised {
                let below = replica.below(now.high_watermark);
                let known = self.committed.get(&place.0).map_or(&[][..], Vec::as_slice);
                if let Some((record, entry)) = known.iter().zip(below).find(|(record, entry)| record.entry != **entry) {
                    return Err(format!(
                        "leader {place:?} exposes {:?} at {} where {:?} was committed",
                        entry.attempt, entry.base, record.entry.attempt
                    ));
                }
                self.commit(step, place.0, now.leader_epoch, below);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use minisr_logic::metadata::{Command, IsrMember, apply};
    use minisr_logic::{Offset, PartitionEpoch};

    use super::super::doctor::{Doctored, P0, TOPIC, must_pass, must_ring, place};
    use super::*;

    fn elect_short(cluster: &mut Doctored, injected: bool, holders: &[i32]) {
        for broker in holders {
            let cut = cluster.replica(*broker).log.split_off(2);
            cluster.facts.push(Fact::Cut { place: place(*broker), entries: cut, high_watermark: Offset(0), injected });
        }
        let view = cluster.view(2);
        (view.role, view.leader_epoch, view.high_watermark, view.log_end) =
            (RoleName::Leader, Some(Epoch(1)), Offset(2), Offset(2));
    }

    #[test]
    fn leader_completeness_rings_when_a_leader_lacks_what_somebody_committed() {
        must_ring(LeaderCompleteness::default(), |cluster| elect_short(cluster, false, &[1, 2, 3]));
        must_ring(LeaderCompleteness::default(), |cluster| elect_short(cluster, true, &[2, 3]));
    }

    #[test]
    fn leader_completeness_rings_when_a_short_replica_joins_the_isr() {
        must_ring(LeaderCompleteness::default(), |cluster| {
            let mut before = cluster.state.image.clone();
            let member = |id| IsrMember {
                broker: BrokerId(id),
                broker_epoch: before.broker(BrokerId(id)).expect("there").epoch,
            };
            let shrink = Command::AlterPartition {
                key: P0,
                broker: BrokerId(1),
                broker_epoch: member(1).broker_epoch,
                leader_epoch: Epoch(0),
                partition_epoch: PartitionEpoch(0),
                new_isr: vec![member(1)],
            };
            let index = before.version() + 1;
            apply(&mut before, index, shrink.clone()).expect("a smaller ISR, min ISR 2: the others are in the ELR");
            let lower = BTreeMap::from([("min.insync.replicas".to_owned(), Some("1".to_owned()))]);
            apply(&mut before, index + 1, Command::AlterTopicConfigs { topic_id: TOPIC, changes: lower })
                .expect("lower");
            cluster.replica(3).log.truncate(2);
            cluster.facts.push(Fact::Committed { before, command: shrink, accepted: true });
        });
    }

    #[test]
    fn leader_completeness_excuses_what_an_injected_loss_destroyed_everywhere() {
        must_pass(LeaderCompleteness::default(), |cluster| elect_short(cluster, true, &[1, 2, 3]));
    }
}
