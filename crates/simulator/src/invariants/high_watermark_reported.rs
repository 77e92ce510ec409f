//! 15: a leader raises its high watermark only to what every member of the maximal ISR has reported **in this leader
//! epoch**; under flush=commit, reported as flushed.

use std::collections::BTreeMap;

use minisr_logic::{BrokerId, Epoch, Offset};
use minisr_replica::RoleName;

use super::Invariant;
use crate::state::{Fact, Place, Step};

/// The highest report of each follower to each leader, in that leader's latest epoch.
#[derive(Debug, Default)]
pub struct HighWatermarkReported {
    reports: BTreeMap<Place, (Option<Epoch>, BTreeMap<BrokerId, Offset>)>,
}

impl HighWatermarkReported {
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
        let (known_epoch, reports) = self.reports.entry(*place).or_default();
        if *known_epoch != view.leader_epoch {
            *known_epoch = view.leader_epoch;
            reports.clear();
        }
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
        step.facts.iter().for_each(|fact| self.note(step, fact));
        for (place, before, now) in step.views().filter(|(_, _, now)| now.role == RoleName::Leader) {
            let Some(before) = before else { continue };
            if now.high_watermark <= before.high_watermark {
                continue;
            }
            let own = if step.state.counts_flushed { now.flushed } else { now.log_end };
            let reports = self.reports.get(&place).filter(|it| it.0 == now.leader_epoch).map(|it| &it.1);
            let reported = |member: BrokerId| match reports.and_then(|it| it.get(&member)) {
                _ if member == place.1 => own,
                Some(report) => *report,
                None => Offset::ZERO,
            };
            let maximal = now.isr.iter().chain(now.proposed_isr.iter().flatten());
            if let Some(short) = maximal.copied().find(|member| reported(*member) < now.high_watermark) {
                return Err(format!(
                    "leader {place:?} raised its high watermark to {} in epoch {:?}, but {short} has reported {}",
                    now.high_watermark,
                    now.leader_epoch,
                    reported(short)
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
}
