//! 32: a member that reaches the leader's log end once in each lag window is never dropped by the leader
//! for the time it takes. (The legacy rule by messages drops such members by design; its drops are not judged here.)

use std::collections::BTreeMap;

use minisr_logic::{BrokerId, Epoch};

use super::Invariant;
use crate::state::{Fact, Place, Step};

/// When each follower last reached the end of each leader's log, in that leader's epoch.
#[derive(Debug, Default)]
pub struct HealthyMembersStay {
    caught_up_ms: BTreeMap<(Place, Epoch, BrokerId), u64>,
}

impl Invariant for HealthyMembersStay {
    fn number(&self) -> u8 {
        32
    }

    fn name(&self) -> &'static str {
        "HealthyMembersStay"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for fact in step.facts {
            match fact {
                Fact::ReplicaFetched {
                    place,
                    follower,
                    broker_epoch,
                    registered,
                    epoch: Some(epoch),
                    fetch_offset,
                    last_epoch,
                    flushed,
                    end,
                    ..
                } if fetch_offset == end && broker_epoch == registered => {
                    // Where only flushed data counts, reaching the end means having it flushed.
                    if step.state.counts_flushed && flushed.is_some_and(|flushed| flushed < *end) {
                        continue;
                    }
                    let Some(replica) = step.state.replicas.get(place) else { continue };
                    let last = replica.below(*end).last();
                    if last.is_none() || last.map(|it| it.epoch) == *last_epoch {
                        self.caught_up_ms.insert((*place, *epoch, *follower), step.now_ms);
                    }
                }
                Fact::IsrProposed { place, epoch, dropped } => {
                    for member in dropped {
                        let Some(last) = self.caught_up_ms.get(&(*place, *epoch, *member)) else { continue };
                        let ago = step.now_ms - last;
                        if ago < step.state.lag_time_max_ms {
                            return Err(format!(
                                "leader {place:?} drops {member}, which reached its log end {ago} ms ago"
                            ));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use minisr_logic::{BrokerEpoch, Offset};

    use super::super::doctor::{Doctored, place};
    use super::*;

    fn dropped_after(wait_ms: u64) -> Result<(), String> {
        let (mut invariant, mut cluster) = (HealthyMembersStay::default(), Doctored::sound());
        cluster.facts.push(Fact::ReplicaFetched {
            place: place(1),
            follower: BrokerId(2),
            broker_epoch: Some(BrokerEpoch(3)),
            registered: Some(BrokerEpoch(3)),
            epoch: Some(Epoch(0)),
            fetch_offset: Offset(3),
            last_epoch: Some(Epoch(0)),
            flushed: None,
            end: Offset(3),
        });
        cluster.check(&mut invariant).expect("a fetch");
        cluster.now_ms += wait_ms;
        cluster.facts.push(Fact::IsrProposed { place: place(1), epoch: Epoch(0), dropped: vec![BrokerId(2)] });
        cluster.check(&mut invariant)
    }

    #[test]
    fn healthy_members_stay_rings_for_a_drop_within_the_lag_time() {
        dropped_after(999).expect_err("too early");
        dropped_after(1_001).expect("a lagging member may be dropped");
    }
}
