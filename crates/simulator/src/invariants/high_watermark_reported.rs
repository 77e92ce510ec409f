//! 15: a leader raises its high watermark only to what every member of the maximal ISR has reported **in this leader
//! epoch**; under flush=commit, reported as flushed.
//!
//! One step may take in several versions of the metadata, and with them several epochs of the same leader. What was
//! raised in it may have been raised in the epoch before, for an ISR that this epoch had by then or got in this step.

use std::collections::BTreeMap;

use minisr_logic::{BrokerId, Epoch, Offset, PartitionEpoch};
use minisr_replica::RoleName;

use super::Invariant;
use crate::state::{Fact, Place, Step};

/// What there is to know of the epochs of each leader.
#[derive(Debug, Default)]
pub struct HighWatermarkReported {
    epochs: BTreeMap<(Place, Option<Epoch>), LedEpoch>,
}

/// One epoch of a leader.
#[derive(Debug, Default)]
struct LedEpoch {
    /// The highest report of each follower.
    reports: BTreeMap<BrokerId, Offset>,
    /// Every ISR that the leader has seen in the metadata.
    isrs: BTreeMap<PartitionEpoch, Vec<BrokerId>>,
}

impl LedEpoch {
    /// The first of these members that has not reported this much; `own` is what the leader has itself.
    fn short(&self, members: &[BrokerId], leader: (BrokerId, Offset), wanted: Offset) -> Option<(BrokerId, Offset)> {
        let reported = |member: BrokerId| match self.reports.get(&member) {
            _ if member == leader.0 => leader.1,
            Some(report) => *report,
            None => Offset::ZERO,
        };
        members.iter().map(|member| (*member, reported(*member))).find(|(_, reported)| *reported < wanted)
    }
}

impl HighWatermarkReported {
    fn note_isrs(&mut self, fact: &Fact) {
        let Fact::Applied { broker, image, .. } = fact else { return };
        for (key, partition) in image.partitions().filter(|(_, it)| it.leader == Some(*broker)) {
            let epoch = self.epochs.entry(((key, *broker), Some(partition.leader_epoch))).or_default();
            epoch.isrs.insert(partition.partition_epoch, partition.isr.clone());
        }
    }

    fn note(&mut self, step: &Step<'_>, fact: &Fact) {
        let Fact::ReplicaFetched {
            place,
            follower,
            broker_epoch,
            registered,
            epoch,
            fetch_offset,
            last_epoch,
            flushed,
            ..
        } = fact
        else {
            return;
        };
        // A fetch of another life than the one that the leader knows has reported nothing (trap 10).
        if broker_epoch != registered {
            return;
        }
        // Where it is not (any more) a replica leads nobody.
        let Some(replica) = step.state.replicas.get(place) else { return };
        let Some(view) = replica.as_leader().filter(|view| *epoch == view.leader_epoch) else { return };
        // A follower that fetches past another history than the leader's has reported nothing (trap 4).
        let below = replica.below(*fetch_offset).last();
        let connects = below.map_or(Offset::ZERO, |it| it.end) == *fetch_offset
            && below.zip(*last_epoch).is_none_or(|(it, claimed)| it.epoch == claimed);
        if !connects {
            return;
        }
        let counted = match flushed {
            Some(flushed) if step.state.counts_flushed => *fetch_offset.min(flushed),
            _ => *fetch_offset,
        };
        let reports = &mut self.epochs.entry((*place, view.leader_epoch)).or_default().reports;
        let report = reports.entry(*follower).or_insert(counted);
        *report = counted.max(*report);
    }
}

impl Invariant for HighWatermarkReported {
    fn number(&self) -> u8 {
        15
    }

    fn name(&self) -> &'static str {
        "HighWatermarkReported"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            self.note(step, fact);
            self.note_isrs(fact);
        }
        for (place, before, now) in step.views().filter(|(_, _, now)| now.role == RoleName::Leader) {
            let Some(before) = before else { continue };
            if now.high_watermark <= before.high_watermark {
                continue;
            }
            let own = if step.state.counts_flushed { now.flushed } else { now.log_end };
            let leader = (place.1, own);
            let maximal: Vec<BrokerId> = now.isr.iter().chain(now.proposed_isr.iter().flatten()).copied().collect();
            let (none, wanted) = (LedEpoch::default(), now.high_watermark);
            let epoch = self.epochs.get(&(place, now.leader_epoch)).unwrap_or(&none);
            let Some((short, reported)) = epoch.short(&maximal, leader, wanted) else { continue };
            let led_before = before.role == RoleName::Leader && before.leader_epoch != now.leader_epoch;
            let earlier = self.epochs.get(&(place, before.leader_epoch)).filter(|_| led_before);
            // Older ISRs were over before this step began.
            let is_reached = |it: &LedEpoch| {
                it.isrs.range(before.partition_epoch..).any(|(_, isr)| it.short(isr, leader, wanted).is_none())
            };
            if !earlier.is_some_and(is_reached) {
                return Err(format!(
                    "leader {place:?} raised its high watermark to {wanted} in epoch {:?}, but {short} has reported {reported}",
                    now.leader_epoch,
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass, must_ring, place};
    use super::*;

    fn fetched(cluster: &mut Doctored, follower: i32, offset: i64, last_epoch: i32, flushed: i64) {
        cluster.facts.push(Fact::ReplicaFetched {
            place: place(1),
            follower: BrokerId(follower),
            broker_epoch: None,
            registered: None,
            epoch: Some(Epoch(0)),
            fetch_offset: Offset(offset),
            last_epoch: Some(Epoch(last_epoch)),
            flushed: Some(Offset(flushed)),
            end: Offset(4),
        });
    }

    fn raise(cluster: &mut Doctored) {
        cluster.append(1, 0);
        cluster.view(1).flushed = Offset(4);
        cluster.view(1).high_watermark = Offset(4);
    }

    #[test]
    fn high_watermark_reported_rings_unless_every_member_has_reported() {
        must_pass(HighWatermarkReported::default(), |cluster| {
            raise(cluster);
            fetched(cluster, 2, 4, 0, 3);
            fetched(cluster, 3, 4, 0, 3);
        });
        must_ring(HighWatermarkReported::default(), |cluster| {
            raise(cluster);
            fetched(cluster, 2, 4, 0, 3);
            fetched(cluster, 3, 3, 0, 3);
        });
    }

    #[test]
    fn high_watermark_reported_rings_for_a_proposed_member_a_diverging_report_and_an_unflushed_one() {
        must_ring(HighWatermarkReported::default(), |cluster| {
            raise(cluster);
            cluster.view(1).isr.truncate(2);
            cluster.view(1).proposed_isr = Some((1..=3).map(BrokerId).collect());
            fetched(cluster, 2, 4, 0, 4);
        });
        must_ring(HighWatermarkReported::default(), |cluster| {
            raise(cluster);
            fetched(cluster, 2, 4, 0, 4);
            fetched(cluster, 3, 4, 1, 4);
        });
        must_ring(HighWatermarkReported::default(), |cluster| {
            cluster.state.counts_flushed = true;
            raise(cluster);
            fetched(cluster, 2, 4, 0, 4);
            fetched(cluster, 3, 4, 0, 3);
        });
    }

    /// In one step the ISR of epoch 0 shrinks to 1 and 2, which lets the high watermark rise, and the same broker leads
    /// anew in epoch 2, in which nobody has reported anything yet. `follower` has reported all in epoch 0. If that ISR
    /// `is_over`, the leader had already moved on to another before the step.
    fn two_epochs_in_one_step(follower: i32, is_over: bool) -> Result<(), String> {
        let (mut invariant, mut cluster) = (HighWatermarkReported::default(), Doctored::sound());
        cluster.check(&mut invariant)?;
        cluster.append(1, 0);
        fetched(&mut cluster, follower, 4, 0, 4);
        cluster.shrink_isr(&[1, 2]);
        let image = std::sync::Arc::new(cluster.state.image.clone());
        cluster.facts.push(Fact::Applied { broker: BrokerId(1), image: image.clone(), committed: image });
        if is_over {
            cluster.view(1).partition_epoch = PartitionEpoch(cluster.partition().partition_epoch.0 + 1);
        }
        cluster.check(&mut invariant)?;
        let view = cluster.view(1);
        view.leader_epoch = Some(Epoch(2));
        view.isr = vec![BrokerId(1), BrokerId(3)];
        view.flushed = Offset(4);
        view.high_watermark = Offset(4);
        cluster.check(&mut invariant)
    }

    #[test]
    fn high_watermark_reported_accepts_what_an_isr_of_the_epoch_before_had_reported_and_nothing_else() {
        two_epochs_in_one_step(2, false).expect("1 and 2 were the ISR, and both had it");
        two_epochs_in_one_step(3, false).expect_err("2 was in every ISR of that epoch and had not reported it");
        two_epochs_in_one_step(2, true).expect_err("what that ISR allowed was raised before the step or never");
    }
}
