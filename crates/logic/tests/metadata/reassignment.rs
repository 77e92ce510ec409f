//! Stories of reassignment: raise, lower, move, cancel, and what may happen half-way; and of growing and shrinking.

use std::collections::BTreeSet;

use minisr_logic::metadata::{
    AlterVoterError, Command, CommandError, CreatePartitionsError, ReassignmentError, Reply, UnregisterError,
};
use minisr_logic::{BrokerId, Epoch, TopicId};

use crate::vocabulary::{Cluster, P0, TOPIC};

fn ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

/// Brokers 1 to `brokers`, and a topic with one partition on the first `copies` of them.
fn cluster(brokers: i32, copies: i16, min_insync_replicas: i32) -> Cluster {
    let mut cluster = Cluster::of(brokers);
    cluster.create("t", TOPIC, 1, copies, min_insync_replicas).unwrap();
    cluster
}

impl Cluster {
    fn reassign(&mut self, target: &[i32]) {
        self.apply(Command::AlterReassignment { key: P0, target: Some(ids(target)) }).unwrap();
    }

    fn cancel(&mut self) -> Result<Reply, CommandError> {
        self.apply(Command::AlterReassignment { key: P0, target: None })
    }

    fn replicas(&self) -> Vec<i32> {
        self.p0().replicas.iter().map(|id| id.0).collect()
    }

    fn adding(&self) -> Vec<i32> {
        self.p0().adding_replicas().iter().map(|id| id.0).collect()
    }

    fn removing(&self) -> Vec<i32> {
        self.p0().removing_replicas().iter().map(|id| id.0).collect()
    }

    fn is_reassigning(&self) -> bool {
        self.p0().reassignment.is_some()
    }

    /// The leader proposes this ISR, and it is applied; what became of it may be more.
    fn propose_isr(&mut self, isr: &[i32]) -> Reply {
        let leader = self.leader().expect("there is a leader");
        let proposal = self.proposal(leader, isr);
        self.propose(&proposal).unwrap()
    }
}

#[test]
fn reassignment_raising_the_replication_factor_ends_when_the_new_replicas_are_in_sync() {
    let mut cluster = cluster(3, 1, 1);
    let epoch = cluster.p0().leader_epoch;
    cluster.reassign(&[1, 2, 3]);
    assert_eq!((cluster.replicas(), cluster.adding(), cluster.removing()), (vec![1, 2, 3], vec![2, 3], vec![]));
    assert_eq!((cluster.isr(), cluster.leader()), (vec![1], Some(1)), "serving goes on as before");
    cluster.propose_isr(&[1, 2]);
    assert!(cluster.is_reassigning());
    cluster.propose_isr(&[1, 2, 3]);
    assert!(!cluster.is_reassigning());
    assert_eq!((cluster.replicas(), cluster.isr(), cluster.leader()), (vec![1, 2, 3], vec![1, 2, 3], Some(1)));
    assert_eq!(cluster.p0().leader_epoch, epoch, "nobody was removed, so nobody need forget anything");
}

#[test]
fn reassignment_raising_does_not_stop_writers_that_want_two_in_sync_replicas() {
    let mut cluster = cluster(3, 1, 2);
    let min_isr = |cluster: &Cluster| cluster.image.topic(TOPIC).unwrap().min_insync_replicas(cluster.p0());
    assert_eq!(min_isr(&cluster), 1);
    cluster.reassign(&[1, 2, 3]);
    assert_eq!(min_isr(&cluster), 1, "the new copies do not count before they are there");
    cluster.propose_isr(&[1, 2, 3]);
    assert_eq!(min_isr(&cluster), 2);
}

#[test]
fn reassignment_lowering_drops_the_replica_at_once_and_raises_the_leader_epoch() {
    let mut cluster = cluster(3, 3, 1);
    let epoch = cluster.p0().leader_epoch;
    cluster.reassign(&[1, 2]);
    assert!(!cluster.is_reassigning(), "the ISR covered the target already");
    assert_eq!((cluster.replicas(), cluster.isr(), cluster.leader()), (vec![1, 2], vec![1, 2], Some(1)));
    assert_eq!(cluster.p0().leader_epoch, Epoch(epoch.0 + 1), "the leader stays, and forgets what it knew of 3");
}

#[test]
fn reassignment_lowering_waits_for_a_remaining_replica_that_is_behind() {
    let mut cluster = cluster(3, 3, 1);
    cluster.alter(&[1, 3]);
    cluster.reassign(&[1, 2]);
    assert_eq!((cluster.replicas(), cluster.removing()), (vec![1, 2, 3], vec![3]));
    cluster.propose_isr(&[1, 2, 3]);
    assert_eq!((cluster.replicas(), cluster.isr()), (vec![1, 2], vec![1, 2]));
}

#[test]
fn reassignment_dropping_the_leader_moves_the_lead_in_the_same_entry_and_says_so() {
    let mut cluster = cluster(2, 1, 1);
    let epoch = cluster.p0().leader_epoch;
    cluster.reassign(&[2]);
    assert_eq!((cluster.replicas(), cluster.leader()), (vec![2, 1], Some(1)));
    let reply = cluster.propose_isr(&[1, 2]);
    // The proposer reads here that it does not lead any more: 108 in Kafka's words.
    let Reply::Partition { leader, leader_epoch, isr, .. } = reply else { panic!("{reply:?}") };
    assert_eq!((leader, leader_epoch, isr), (Some(BrokerId(2)), Epoch(epoch.0 + 1), ids(&[2])));
    assert_eq!((cluster.replicas(), cluster.leader()), (vec![2], Some(2)));
}

#[test]
fn reassignment_moving_all_replicas_keeps_the_old_until_all_new_are_in_sync() {
    let mut cluster = cluster(6, 3, 2);
    cluster.reassign(&[4, 5, 6]);
    assert_eq!(cluster.replicas(), [4, 5, 6, 1, 2, 3]);
    for isr in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5]] {
        cluster.propose_isr(isr);
        assert!(cluster.is_reassigning() && cluster.leader() == Some(1));
    }
    cluster.propose_isr(&[1, 2, 3, 4, 5, 6]);
    assert_eq!((cluster.replicas(), cluster.isr(), cluster.leader()), (vec![4, 5, 6], vec![4, 5, 6], Some(4)));
}

#[test]
fn reassignment_with_a_dead_original_replica_replaces_it() {
    let mut cluster = cluster(4, 3, 2);
    cluster.fence(3);
    cluster.reassign(&[1, 2, 4]);
    cluster.propose_isr(&[1, 2, 4]);
    assert_eq!((cluster.replicas(), cluster.isr()), (vec![1, 2, 4], vec![1, 2, 4]));
}

#[test]
fn reassignment_whose_adding_replica_dies_waits_and_serves_on() {
    let mut cluster = cluster(4, 3, 2);
    cluster.reassign(&[1, 2, 4]);
    cluster.propose_isr(&[1, 2, 3]);
    cluster.fence(4);
    assert!(cluster.is_reassigning());
    assert_eq!((cluster.isr(), cluster.leader()), (vec![1, 2, 3], Some(1)));
    cluster.restart(4, false);
    cluster.unfence(4);
    cluster.propose_isr(&[1, 2, 3, 4]);
    assert_eq!(cluster.replicas(), [1, 2, 4]);
}

#[test]
fn reassignment_cancelled_half_way_goes_back_to_where_it_began() {
    let mut cluster = cluster(5, 3, 2);
    cluster.reassign(&[5, 4, 1]);
    cluster.propose_isr(&[1, 2, 3, 5]);
    let epoch = cluster.p0().leader_epoch;
    cluster.cancel().unwrap();
    assert_eq!((cluster.replicas(), cluster.isr(), cluster.leader()), (vec![1, 2, 3], vec![1, 2, 3], Some(1)));
    assert!(cluster.p0().leader_epoch > epoch, "5 was removed");
    assert_eq!(cluster.cancel().unwrap_err().kafka_code(), 85);
}

#[test]
fn reassignment_cancelled_under_a_new_leader_gives_the_lead_back() {
    let mut cluster = cluster(3, 2, 1);
    cluster.reassign(&[3]);
    cluster.propose_isr(&[1, 2]);
    // 3 is in sync for a moment in which 1 is not: the target is covered and it ends; so let 4 be missing.
    cluster.restart(4, true);
    cluster.reassign(&[3, 4]);
    cluster.unfence(4);
    cluster.propose_isr(&[1, 2, 3]);
    cluster.fence(1);
    assert_eq!(cluster.leader(), Some(3), "the first replica of the target leads");
    cluster.cancel().unwrap();
    assert_eq!((cluster.replicas(), cluster.isr(), cluster.leader()), (vec![1, 2], vec![2], Some(2)));
}

#[test]
fn reassignment_is_not_cancelled_when_only_the_new_replica_holds_everything() {
    let mut cluster = cluster(3, 1, 1);
    cluster.reassign(&[2, 3]);
    cluster.propose_isr(&[1, 2]);
    // The old replica dies; minISR is 1, so the new one commits alone and the old one knows nothing of it.
    cluster.fence(1);
    assert_eq!((cluster.isr(), cluster.elr()), (vec![2], vec![]));
    let refusal = cluster.cancel().unwrap_err();
    assert_eq!(refusal, CommandError::Reassignment(ReassignmentError::CancelNeedsUncleanElection));
    assert_eq!(refusal.kafka_code(), 39);
    // Also not when nobody leads: 2 is the only one who may.
    cluster.fence(2);
    assert_eq!(cluster.leader(), None);
    cluster.cancel().unwrap_err();
    cluster.unfence(2);
    cluster.unfence(3);
    cluster.propose_isr(&[2, 3]);
    assert_eq!(cluster.replicas(), [2, 3], "letting it finish is the way out");
}

#[test]
fn reassignment_cancelled_while_nobody_leads_keeps_the_eligible() {
    let mut cluster = cluster(4, 2, 2);
    cluster.reassign(&[3, 4]);
    cluster.fence(2);
    cluster.fence(1);
    assert_eq!((cluster.leader(), cluster.elr()), (None, vec![1, 2]));
    cluster.cancel().unwrap();
    assert_eq!((cluster.replicas(), cluster.elr()), (vec![1, 2], vec![1, 2]));
    cluster.unfence(2);
    assert_eq!(cluster.leader(), Some(2));
}

#[test]
fn reassignment_redirected_keeps_the_origin_and_an_in_sync_replica_of_the_old_target() {
    let mut cluster = cluster(5, 2, 1);
    cluster.reassign(&[3, 4]);
    cluster.propose_isr(&[1, 2, 3]);
    cluster.reassign(&[5]);
    assert_eq!(cluster.replicas(), [5, 3, 1, 2], "4 held nothing yet; 3 may have been counted upon");
    assert_eq!((cluster.adding(), cluster.removing()), (vec![5, 3], vec![3, 1, 2]));
    cluster.propose_isr(&[1, 2, 3, 5]);
    assert_eq!((cluster.replicas(), cluster.leader()), (vec![5], Some(5)));
}

#[test]
fn reassignment_that_only_reorders_changes_the_preferred_leader_and_no_epoch() {
    let mut cluster = cluster(3, 3, 2);
    let epoch = cluster.p0().leader_epoch;
    cluster.reassign(&[3, 1, 2]);
    assert!(!cluster.is_reassigning());
    assert_eq!((cluster.replicas(), cluster.leader(), cluster.p0().leader_epoch), (vec![3, 1, 2], Some(1), epoch));
    cluster.apply(Command::ElectLeader { key: P0, election: minisr_logic::metadata::Election::Preferred }).unwrap();
    assert_eq!(cluster.leader(), Some(3));
}

#[test]
fn reassignment_of_what_is_not_there_or_to_nowhere_is_refused() {
    let mut cluster = cluster(3, 2, 1);
    let mut code = |key, target: &[i32]| {
        cluster.apply(Command::AlterReassignment { key, target: Some(ids(target)) }).unwrap_err().kafka_code()
    };
    let mut other = P0;
    other.partition = 9;
    assert_eq!(code(other, &[1]), 3);
    other.topic = TopicId(99);
    assert_eq!(code(other, &[1]), 100);
    assert_eq!((code(P0, &[]), code(P0, &[1, 1]), code(P0, &[1, 9])), (39, 39, 39));
    assert_eq!(cluster.cancel().unwrap_err().kafka_code(), 85);
}

#[test]
fn reassignment_proposal_of_before_is_void_after_the_target_was_reached() {
    let mut cluster = cluster(3, 3, 1);
    let stale = cluster.proposal(1, &[1, 3]);
    cluster.reassign(&[1, 2]);
    assert_eq!(cluster.refused(&stale).0, 74, "3 must not come back by a delayed proposal");
}

#[test]
fn reassignment_survives_an_unclean_restart_of_the_replica_it_adds() {
    let mut cluster = cluster(3, 2, 2);
    cluster.reassign(&[1, 2, 3]);
    cluster.fence(3);
    cluster.restart(3, false);
    assert_eq!(cluster.adding(), [3]);
    cluster.unfence(3);
    cluster.propose_isr(&[1, 2, 3]);
    assert!(!cluster.is_reassigning());
}

#[test]
fn partitions_are_added_where_the_layout_goes_on_and_never_removed() {
    let mut cluster = cluster(3, 2, 1);
    let grow = |cluster: &mut Cluster, count, assignments| {
        cluster.apply(Command::CreatePartitions { topic_id: TOPIC, count, assignments })
    };
    grow(&mut cluster, 3, None).unwrap();
    let topic = cluster.image.topic(TOPIC).unwrap();
    let layout: Vec<_> = topic.partitions.iter().map(|it| it.replicas.clone()).collect();
    assert_eq!(layout, [ids(&[1, 2]), ids(&[2, 3]), ids(&[3, 1])]);
    assert!(topic.partitions.iter().all(|it| it.leader == Some(it.replicas[0]) && it.isr == it.replicas));
    for count in [3, 2, 0, -1, i32::MAX] {
        assert_eq!(grow(&mut cluster, count, None).unwrap_err().kafka_code(), 37, "{count}");
    }
    grow(&mut cluster, 4, Some(vec![ids(&[3, 2])])).unwrap();
    for wrong in [vec![], vec![ids(&[1])], vec![ids(&[1, 9])], vec![ids(&[1, 1])], vec![ids(&[1, 2]), ids(&[1, 2])]] {
        assert_eq!(grow(&mut cluster, 5, Some(wrong)).unwrap_err().kafka_code(), 39);
    }
    cluster.fence(2);
    cluster.fence(3);
    let refusal = grow(&mut cluster, 5, None).unwrap_err();
    assert!(
        matches!(
            refusal,
            CommandError::CreatePartitions(CreatePartitionsError::InvalidReplicationFactor {
                replication_factor: 2,
                usable_brokers: 1
            })
        ),
        "{refusal}"
    );
}

#[test]
fn broker_is_forgotten_only_when_it_is_down_empty_and_no_voter() {
    let mut cluster = cluster(3, 3, 1);
    let remove =
        |cluster: &mut Cluster| cluster.apply(Command::UnregisterBroker { id: BrokerId(3), directory: Some(77) });
    let listed: BTreeSet<BrokerId> = ids(&[1, 2, 3]).into_iter().collect();
    let voter = |is_voter| Command::AlterVoter { id: BrokerId(3), is_voter, listed: listed.clone() };
    let refusal = remove(&mut cluster).unwrap_err();
    assert!(matches!(refusal, CommandError::Unregister(UnregisterError::HoldsReplicas { replicas: 1, .. })));
    cluster.reassign(&[1, 2]);
    let refusal = remove(&mut cluster).unwrap_err();
    assert!(matches!(refusal, CommandError::Unregister(UnregisterError::NotFenced { .. })), "{refusal}");
    cluster.apply(voter(false)).unwrap();
    cluster.apply(voter(true)).unwrap();
    cluster.fence(3);
    let refusal = remove(&mut cluster).unwrap_err();
    assert!(matches!(refusal, CommandError::Unregister(UnregisterError::IsVoter { .. })), "{refusal}");
    cluster.apply(voter(false)).unwrap();
    remove(&mut cluster).unwrap();
    assert!(cluster.image.broker(BrokerId(3)).is_none());
    assert!(cluster.image.removed_directories().contains(&77));
    assert_eq!(remove(&mut cluster).unwrap_err().kafka_code(), 102);
    // The id may be used again, by an empty disk.
    cluster.restart(3, false);
    cluster.unfence(3);
}

#[test]
fn voters_change_one_by_one_and_the_last_one_stays() {
    let mut cluster = Cluster::of(2);
    let listed: BTreeSet<BrokerId> = ids(&[1]).into_iter().collect();
    let mut alter =
        |id, is_voter| cluster.apply(Command::AlterVoter { id: BrokerId(id), is_voter, listed: listed.clone() });
    assert_eq!(alter(1, true).unwrap_err().kafka_code(), 126);
    assert_eq!(alter(2, false).unwrap_err().kafka_code(), 127);
    assert_eq!(alter(9, true).unwrap_err().kafka_code(), 102);
    assert_eq!(
        alter(1, false).unwrap_err(),
        CommandError::AlterVoter(AlterVoterError::LastVoter { broker: BrokerId(1) })
    );
    alter(2, true).unwrap();
    alter(1, false).unwrap();
    assert_eq!(cluster.image.voters(), Some(&ids(&[2]).into_iter().collect()));
}
