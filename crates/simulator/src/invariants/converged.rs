//! 31: with faults healed and no load, every replica is in the ISR again and all high watermarks equal the log ends.
//!
//! Excused is only a partition that nobody may lead: ISR and ELR empty, because power losses took un-flushed data, or
//! because failed syncs robbed everybody who might have led it of a trusted log ([`super::robbed`] says when exactly).

use minisr_logic::TopicPartition;
use minisr_logic::metadata::Partition;

use super::Invariant;
use super::robbed::Robbed;
use crate::state::{State, Step};

/// Looks at the end of a run.
#[derive(Debug, Default)]
pub struct Converged {
    /// Whether any injected loss cut a log.
    losses: bool,
    /// Whom failed disks took what from.
    robbed: Robbed,
}

impl Invariant for Converged {
    fn number(&self) -> u8 {
        31
    }

    fn name(&self) -> &'static str {
        "Converged"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        self.losses |= step.facts.iter().any(|fact| matches!(fact, crate::state::Fact::PowerLost { .. }));
        self.robbed.note(step);
        Ok(())
    }

    fn check_end(&mut self, state: &State) -> Result<(), String> {
        unfinished_but(state, self.losses, |key| self.robbed.is_robbed(key)).map_or(Ok(()), Err)
    }
}

/// What is not yet as it should be, if anything. Knows nothing of failed disks: whoever waits for a partition that was
/// robbed waits as long as for any other that has no leader.
#[must_use]
pub fn unfinished(state: &State, losses: bool) -> Option<String> {
    unfinished_but(state, losses, |_| false)
}

fn unfinished_but(state: &State, losses: bool, is_robbed: impl Fn(TopicPartition) -> bool) -> Option<String> {
    if let Some(broker) = state.image.brokers().find(|it| !it.is_active()) {
        return Some(format!("broker {} is still fenced or stopping", broker.id));
    }
    state.image.partitions().find_map(|(key, record)| unfinished_partition(state, key, record, losses, is_robbed(key)))
}

fn unfinished_partition(
    state: &State,
    key: TopicPartition,
    record: &Partition,
    losses: bool,
    is_robbed: bool,
) -> Option<String> {
    let name = key.partition;
    let Some(leader) = record.leader else {
        let is_empty = record.isr.is_empty() && record.elr.is_empty();
        let excused = is_empty && (is_robbed || losses && !state.counts_flushed);
        return (!excused)
            .then(|| format!("partition {name} has no leader; ISR {:?}, ELR {:?}", record.isr, record.elr));
    };
    if record.isr.len() < record.replicas.len() {
        return Some(format!("partition {name} has ISR {:?} of {:?}", record.isr, record.replicas));
    }
    let end = state.replica(key, leader)?.end();
    record.replicas.iter().find_map(|id| {
        let replica = state.replica(key, *id)?;
        let Some(view) = &replica.view else { return Some(format!("broker {id} does not host partition {name}")) };
        (replica.end() != end || view.high_watermark != end || view.leader_epoch != Some(record.leader_epoch)).then(
            || {
                format!(
                    "broker {id} has partition {name} up to {} with high watermark {}; the leader {leader} is at {end}",
                    replica.end(),
                    view.high_watermark
                )
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use minisr_logic::metadata::{Command, apply};
    use minisr_logic::{BrokerEpoch, BrokerId, Offset};

    use super::super::doctor::{Doctored, place};
    use super::*;
    use crate::state::Fact;

    #[test]
    fn converged_rings_for_a_replica_that_stays_behind() {
        let doctors: [fn(&mut Doctored); 4] = [
            |cluster| cluster.replica(3).log.truncate(2),
            |cluster| cluster.view(3).high_watermark = Offset(2),
            |cluster| cluster.replica(3).view = None,
            |cluster| {
                let id = place(3).1;
                let epoch = cluster.state.image.broker(id).expect("registered").epoch;
                let index = cluster.state.image.version() + 1;
                apply(&mut cluster.state.image, index, Command::FenceBroker { id, epoch }).expect("fenced");
            },
        ];
        Converged::default().check_end(&Doctored::sound().state).expect("sound");
        for doctor in doctors {
            let mut cluster = Doctored::sound();
            doctor(&mut cluster);
            Converged::default().check_end(&cluster.state).expect_err("must ring");
        }
    }

    fn fence(cluster: &mut Doctored, id: i32) {
        let epoch = cluster.state.image.broker(BrokerId(id)).expect("registered").epoch;
        cluster.apply(Command::FenceBroker { id: BrokerId(id), epoch });
    }

    fn unfence(cluster: &mut Doctored, id: i32) {
        let epoch = cluster.state.image.broker(BrokerId(id)).expect("registered").epoch;
        let applied_index = cluster.state.image.version();
        cluster.apply(Command::UnfenceBroker { id: BrokerId(id), epoch, applied_index });
    }

    /// A later life of a broker. The doctored cluster begins with life 1 of each.
    fn life(number: u128, id: i32) -> u128 {
        if number == 1 { id as u128 } else { number * 100 + id as u128 }
    }

    fn start(cluster: &mut Doctored, number: u128, id: i32) {
        cluster.facts.push(Fact::Started { broker: BrokerId(id), incarnation: life(number, id) });
    }

    fn fail_disk(cluster: &mut Doctored, number: u128, id: i32) {
        cluster.facts.push(Fact::DiskFailed { broker: BrokerId(id), incarnation: life(number, id) });
    }

    fn registration(number: u128, id: i32, clean_for_data: bool, previous: BrokerEpoch) -> Command {
        Command::RegisterBroker {
            id: BrokerId(id),
            incarnation: life(number, id),
            listeners: Vec::new(),
            rack: None,
            clean_for_data,
            previous_broker_epoch: Some(previous),
        }
    }

    fn register(cluster: &mut Doctored, number: u128, id: i32, clean_for_data: bool) {
        let previous = cluster.state.image.broker(BrokerId(id)).expect("registered").epoch;
        cluster.apply(registration(number, id, clean_for_data, previous));
    }

    /// 3 falls behind; then 1 and 2 are gone and come back as not clean, and everybody is active again. What befalls
    /// broker 1 between is told by `story`; the disk of 2 fails.
    fn both_members_come_back_unclean(story: impl FnOnce(&mut Doctored, &mut Converged)) -> Result<(), String> {
        let (mut invariant, mut cluster) = (Converged::default(), Doctored::sound());
        cluster.state.counts_flushed = true;
        (1..=3).for_each(|id| start(&mut cluster, 1, id));
        cluster.check(&mut invariant)?;
        cluster.shrink_isr(&[1, 2]);
        cluster.check(&mut invariant)?;
        fail_disk(&mut cluster, 1, 2);
        start(&mut cluster, 2, 2);
        for id in [1, 2] {
            fence(&mut cluster, id);
            cluster.check(&mut invariant)?;
        }
        register(&mut cluster, 2, 2, false);
        cluster.check(&mut invariant)?;
        story(&mut cluster, &mut invariant);
        cluster.check(&mut invariant)?;
        for id in [1, 2] {
            unfence(&mut cluster, id);
            cluster.check(&mut invariant)?;
        }
        let partition = cluster.partition();
        assert_eq!((partition.leader, partition.isr, partition.elr), (None, Vec::new(), Vec::new()));
        invariant.check_end(&cluster.state)
    }

    #[test]
    fn converged_excuses_a_partition_whose_last_members_all_lost_their_disks() {
        both_members_come_back_unclean(|cluster, _| {
            fail_disk(cluster, 1, 1);
            start(cluster, 2, 1);
            register(cluster, 2, 1, false);
        })
        .expect("nobody's log is to be trusted");
    }

    #[test]
    fn converged_rings_when_a_member_lost_its_seat_with_a_sound_disk() {
        both_members_come_back_unclean(|cluster, _| {
            start(cluster, 2, 1);
            register(cluster, 2, 1, false);
        })
        .expect_err("1 had no reason to give up its seat");
        both_members_come_back_unclean(|cluster, _| {
            fail_disk(cluster, 1, 3);
            start(cluster, 2, 1);
            register(cluster, 2, 1, false);
        })
        .expect_err("the disk of 3, which was no member, is no reason");
    }

    #[test]
    fn converged_excuses_a_member_whose_disk_failed_before_it_registered() {
        both_members_come_back_unclean(|cluster, invariant| {
            start(cluster, 2, 1);
            fail_disk(cluster, 2, 1);
            register(cluster, 2, 1, true);
            cluster.check(invariant).expect("nothing wrong yet");
            start(cluster, 3, 1);
            register(cluster, 3, 1, false);
        })
        .expect("life 2 registered with a disk that had failed, so life 3 could not trust it");
    }

    #[test]
    fn converged_excuses_a_member_that_never_heard_of_its_last_registration() {
        both_members_come_back_unclean(|cluster, invariant| {
            let known = cluster.state.image.broker(BrokerId(1)).expect("registered").epoch;
            start(cluster, 2, 1);
            register(cluster, 2, 1, true);
            unfence(cluster, 1);
            cluster.check(invariant).expect("nothing wrong yet");
            fence(cluster, 1);
            cluster.check(invariant).expect("nothing wrong yet");
            start(cluster, 3, 1);
            cluster.refuse(registration(3, 1, true, known));
            register(cluster, 3, 1, false);
        })
        .expect("life 3 could not name what life 2 had not heard of");
        both_members_come_back_unclean(|cluster, _| {
            start(cluster, 2, 1);
            start(cluster, 3, 1);
            cluster.refuse(registration(3, 1, true, BrokerEpoch(-1)));
            register(cluster, 3, 1, false);
        })
        .expect_err("what was registered last is not the life before");
    }

    #[test]
    fn converged_rings_when_a_seat_is_lost_long_after_the_disk_failed() {
        both_members_come_back_unclean(|cluster, invariant| {
            fail_disk(cluster, 1, 1);
            start(cluster, 2, 1);
            register(cluster, 2, 1, true);
            cluster.check(invariant).expect("nothing wrong yet");
            start(cluster, 3, 1);
            register(cluster, 3, 1, false);
        })
        .expect_err("life 2 had settled what the disk of life 1 had done");
        both_members_come_back_unclean(|cluster, _| {
            start(cluster, 2, 1);
            fail_disk(cluster, 2, 1);
            register(cluster, 2, 1, false);
        })
        .expect_err("a life's own disk is no reason for what it said of the one before");
    }
}
