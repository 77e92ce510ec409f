//! Single races and rules, told one at a time. "Trap n" is a data-loss trap of the semantics reference, §8.

use std::collections::BTreeMap;

use minisr_logic::metadata::{
    AlterPartitionError, Assignment, Command, CommandError, Election, RegisterError, Reply, TopicChange, UnfenceError,
    apply,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};

use super::vocabulary::{Cluster, P0, Proposal, TOPIC};

#[test]
fn placement_follows_the_seed_layout() {
    let mut cluster = Cluster::of(3);
    cluster.create("t", TOPIC, 4, 3, 1).unwrap();
    let layout: Vec<Vec<i32>> =
        cluster.image.partitions().map(|(_, it)| it.replicas.iter().map(|id| id.0).collect()).collect();
    assert_eq!(layout, [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]]);
    assert!(cluster.image.partitions().all(|(_, it)| it.leader == Some(it.replicas[0]) && it.isr == it.replicas));
}

#[test]
fn placement_leaves_out_fenced_and_stopping_brokers() {
    let mut cluster = Cluster::of(4);
    cluster.fence(1);
    cluster.begin_shutdown(3);
    let refused = cluster.create("t", TOPIC, 1, 3, 1).unwrap_err();
    assert_eq!(refused.kafka_code(), 38, "INVALID_REPLICATION_FACTOR: {refused}");
    cluster.create("t", TOPIC, 1, 2, 1).unwrap();
    assert_eq!(cluster.isr(), [2, 4]);
}

#[test]
fn create_topic_refuses_what_cannot_be() {
    let mut cluster = Cluster::of(2);
    cluster.create("a.b", TOPIC, 1, 2, 1).unwrap();
    let cases: [(&str, u128, i32, i16, i16); 8] = [
        ("a.b", 8, 1, 1, 36),
        ("a_b", 8, 1, 1, 17),
        ("a/b", 8, 1, 1, 17),
        ("c", 7, 1, 1, 42),
        ("c", 8, 0, 1, 37),
        ("c", 8, i32::MAX, 1, 37),
        ("c", 8, 1, 0, 38),
        ("c", 8, 1, 3, 38),
    ];
    for (name, id, partitions, replication_factor, code) in cases {
        let error = cluster.create(name, TopicId(id), partitions, replication_factor, 1).unwrap_err();
        assert_eq!(error.kafka_code(), code, "{error}");
    }
    assert_eq!(cluster.image.topics().count(), 1);
}

#[test]
fn manual_assignment_is_taken_or_refused_whole() {
    let mut cluster = Cluster::of(3);
    cluster.fence(3);
    let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
    let mut create = |assignment: &[&[i32]]| {
        cluster.apply(Command::CreateTopic {
            name: "t".to_owned(),
            topic_id: TOPIC,
            assignment: Assignment::Manual(assignment.iter().map(|it| brokers(it)).collect()),
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        })
    };
    for bad in [&[&[][..]][..], &[&[1, 1]], &[&[1, 9]], &[&[1, 2], &[1]], &[&[3]]] {
        assert_eq!(create(bad).unwrap_err().kafka_code(), 39, "{bad:?}");
    }
    create(&[&[3, 2], &[1, 3]]).unwrap();
    assert_eq!((cluster.leader(), cluster.isr()), (Some(2), vec![2]), "a fenced replica is not in the first ISR");
}

#[test]
fn second_incarnation_is_refused_until_the_first_is_fenced() {
    let mut cluster = Cluster::of(2);
    let first = cluster.epoch(2);
    assert_eq!(cluster.register(2, 99, true).unwrap_err().kafka_code(), 101);
    cluster.fence(2);
    let reply = cluster.register(2, 99, true).unwrap();
    let second = cluster.epoch(2);
    assert_eq!(reply, Reply::Registered { epoch: second });
    assert!(second > first);
    // The answer was lost; the same process asks again and learns the same epoch.
    assert_eq!(cluster.register(2, 99, true).unwrap(), Reply::Registered { epoch: second });
    assert!(cluster.image.broker(BrokerId(2)).unwrap().fenced, "a new life starts fenced");
}

#[test]
fn commands_for_an_earlier_life_do_not_touch_the_present_one() {
    let mut cluster = Cluster::with_topic(2, 1);
    let first = cluster.epoch(2);
    cluster.fence(2);
    cluster.restart(2, true);
    cluster.unfence(2);
    cluster.alter(&[1, 2]);
    for command in [
        Command::FenceBroker { id: BrokerId(2), epoch: first },
        Command::BeginControlledShutdown { id: BrokerId(2), epoch: first },
        Command::AllocateProducerIds { broker: BrokerId(2), broker_epoch: first },
        Command::UnfenceBroker { id: BrokerId(2), epoch: first, applied_index: 1_000 },
    ] {
        assert_eq!(cluster.apply(command).unwrap_err().kafka_code(), 77);
    }
    assert_eq!(cluster.isr(), [1, 2]);
}

#[test]
fn unfencing_waits_until_the_broker_has_applied_its_registration() {
    let mut cluster = Cluster::of(1);
    cluster.fence(1);
    cluster.restart(1, true);
    let epoch = cluster.epoch(1);
    let behind = u64::try_from(epoch.0).unwrap() - 1;
    let error = cluster.apply(Command::UnfenceBroker { id: BrokerId(1), epoch, applied_index: behind }).unwrap_err();
    assert!(matches!(error, CommandError::Unfence(UnfenceError::NotCaughtUp { .. })), "{error}");
    assert!(!cluster.image.is_active(BrokerId(1)));
    cluster.apply(Command::UnfenceBroker { id: BrokerId(1), epoch, applied_index: behind + 1 }).unwrap();
    assert!(cluster.image.is_active(BrokerId(1)));
}

#[test]
fn fencing_the_leader_elects_the_next_in_assignment_order_in_one_step() {
    let mut cluster = Cluster::with_topic(3, 1);
    cluster.fence(1);
    assert_eq!((cluster.leader(), cluster.isr()), (Some(2), vec![2, 3]));
    assert_eq!((cluster.p0().leader_epoch, cluster.p0().partition_epoch), (Epoch(1), PartitionEpoch(1)));
    // A follower leaves: a new record, the same leadership.
    cluster.fence(3);
    assert_eq!((cluster.leader(), cluster.isr()), (Some(2), vec![2]));
    assert_eq!((cluster.p0().leader_epoch, cluster.p0().partition_epoch), (Epoch(1), PartitionEpoch(2)));
}

#[test]
fn last_in_sync_replica_keeps_its_claim_through_the_elr() {
    let mut cluster = Cluster::with_topic(3, 1);
    for id in [2, 3, 1] {
        cluster.fence(id);
    }
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (None, vec![], vec![1]));
    assert_eq!(cluster.p0().last_known_leader, Some(BrokerId(1)));
    // Others return first, but they may lack what 1 committed alone.
    for id in [2, 3] {
        cluster.restart(id, true);
        cluster.unfence(id);
        assert_eq!(cluster.leader(), None);
    }
    cluster.restart(1, true);
    cluster.unfence(1);
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (Some(1), vec![1], vec![]));
}

/// Trap 11. With min.insync.replicas 2 nothing is committed by one replica alone, so both stay eligible.
#[test]
fn last_replica_standing_is_not_the_only_heir_under_min_isr_two() {
    let mut cluster = Cluster::with_topic(3, 2);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    assert_eq!((cluster.isr(), cluster.elr()), (vec![], vec![1, 2]), "3 left while two others were in sync");
    // The last one standing lost its tail to a power cut: it gives up its claim, and 2 can still lead cleanly.
    cluster.restart(1, false);
    assert_eq!(cluster.elr(), [2]);
    cluster.unfence(1);
    assert_eq!(cluster.leader(), None, "1 may not lead");
    cluster.restart(2, true);
    cluster.unfence(2);
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (Some(2), vec![2], vec![]));
    cluster.alter(&[1, 2]);
    assert_eq!(cluster.elr(), [] as [i32; 0]);
}

#[test]
fn elr_is_cleared_once_the_isr_is_large_enough_again() {
    let mut cluster = Cluster::with_topic(3, 2);
    cluster.alter(&[1]);
    assert_eq!(cluster.elr(), [2, 3]);
    cluster.alter(&[1, 3]);
    assert_eq!(cluster.elr(), [] as [i32; 0], "from now on 2 may miss what 1 and 3 commit");
    cluster.fence(1);
    cluster.fence(3);
    assert_eq!(cluster.elr(), [1, 3]);
}

/// Nobody with a full log is left: the partition waits rather than electing the last-known leader.
#[test]
fn unclean_election_does_not_happen_by_itself() {
    let mut cluster = Cluster::with_topic(2, 1);
    cluster.fence(2);
    cluster.fence(1);
    cluster.restart(1, false);
    cluster.unfence(1);
    cluster.restart(2, true);
    cluster.unfence(2);
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (None, vec![], vec![]));
    assert_eq!(cluster.p0().last_known_leader, Some(BrokerId(1)));
}

/// Trap 9. A life that lost its tail may not inherit the seat of the life before.
#[test]
fn quick_unclean_restart_loses_the_seat_before_it_can_lead() {
    let mut cluster = Cluster::with_topic(2, 2);
    cluster.fence(2);
    assert_eq!((cluster.isr(), cluster.elr()), (vec![1], vec![2]));
    cluster.restart(2, false);
    assert_eq!(cluster.elr(), [] as [i32; 0], "gone with the registration itself");
    cluster.unfence(2);
    cluster.fence(1);
    assert_eq!((cluster.leader(), cluster.elr()), (None, vec![1]), "2 does not lead, short as it is");
}

/// Trap 9 in disguise: a wiped directory, or one restored from a backup that claims to be clean.
#[test]
fn disk_that_does_not_know_the_last_life_must_register_as_not_clean() {
    let mut cluster = Cluster::with_topic(2, 2);
    let backup = cluster.epoch(2);
    cluster.fence(2);
    cluster.restart(2, true);
    cluster.unfence(2);
    cluster.alter(&[1, 2]);
    let latest = cluster.epoch(2);
    cluster.fence(2);
    // A life that died before it was unfenced acknowledged nothing: the disk may not know of it.
    cluster.register_knowing(2, 98, true, Some(latest)).unwrap();
    cluster.register_knowing(2, 99, true, Some(latest)).unwrap();
    assert_eq!(cluster.elr(), [2]);
    for (incarnation, previous) in [(100, Some(backup)), (101, None)] {
        let refused = cluster.register_knowing(2, incarnation, true, previous).unwrap_err();
        let stale = RegisterError::StaleRegistration { broker: BrokerId(2), previous, last_unfenced: latest };
        assert_eq!(refused, CommandError::Register(stale));
    }
    assert_eq!(cluster.elr(), [2], "a refused registration costs nothing");
    cluster.register_knowing(2, 101, false, Some(latest)).unwrap();
    assert_eq!(cluster.elr(), [] as [i32; 0]);
}

/// A registration of a process that died long ago arrives late. It must neither displace the present life nor take the
/// seats that the present life has earned.
#[test]
fn delayed_registration_of_a_dead_process_costs_the_present_one_nothing() {
    let mut cluster = Cluster::with_topic(2, 2);
    let first = cluster.epoch(2);
    for clean in [true, false] {
        cluster.fence(2);
        cluster.restart(2, true);
        cluster.unfence(2);
        cluster.alter(&[1, 2]);
        let present = cluster.epoch(2);
        cluster.fence(2);
        cluster.register_knowing(2, 77, clean, Some(first)).unwrap_err();
        assert_eq!((cluster.epoch(2), cluster.elr()), (present, vec![2]));
    }
}

/// Trap 10. A member is named with the broker epoch under which it fetched, and that life is over.
#[test]
fn stale_incarnation_cannot_be_voted_into_the_isr() {
    let mut cluster = Cluster::with_topic(2, 1);
    cluster.alter(&[1]);
    let proposal = cluster.proposal(1, &[1, 2]);
    cluster.fence(2);
    cluster.restart(2, false);
    assert_eq!(cluster.refused(&proposal).0, 107, "fenced");
    cluster.unfence(2);
    let proposal = Proposal { partition_epoch: cluster.p0().partition_epoch, ..proposal };
    assert_eq!(cluster.refused(&proposal).0, 107, "active, but another life than the one that fetched");
    cluster.alter(&[1, 2]);
}

/// Trap 7. The controller had removed B before the leader's own shrink arrived; the leader must learn that its idea
/// was rejected, and B's seat is the controller's to give.
#[test]
fn shrink_based_on_an_old_record_is_rejected() {
    let mut cluster = Cluster::with_topic(3, 1);
    let proposal = cluster.proposal(1, &[1, 2]);
    cluster.fence(2);
    let (code, error) = cluster.refused(&proposal);
    assert_eq!(code, 95, "{error}");
    assert_eq!(cluster.isr(), [1, 3]);
}

/// Trap 8. The expansion was committed and the answer lost. The repeat is refused with 95 (stay pending until
/// metadata arrives), never with 107, after which the leader would go back to the smaller set.
#[test]
fn repeated_expansion_whose_answer_was_lost_does_not_make_the_leader_revert() {
    let mut cluster = Cluster::with_topic(2, 1);
    cluster.alter(&[1]);
    let expansion = cluster.proposal(1, &[1, 2]);
    cluster.propose(&expansion).unwrap();
    assert_eq!(cluster.refused(&expansion).0, 95);
    // Even if the new member has died since: the record moved on, and that is checked first.
    cluster.fence(2);
    assert_eq!(cluster.refused(&expansion).0, 95);
}

#[test]
fn alter_partition_checks_in_kafkas_order() {
    let mut cluster = Cluster::with_topic(3, 1);
    cluster.fence(1);
    cluster.restart(1, true);
    cluster.unfence(1);
    cluster.alter(&[1, 2, 3]);
    let sound = cluster.proposal(2, &[2, 3]);
    let (leader_epoch, partition_epoch) = (sound.leader_epoch, sound.partition_epoch);
    let mut stale = sound.clone();

    // Everything is wrong at once; mending one fault after the other uncovers the next.
    stale.broker = BrokerId(3);
    stale.broker_epoch = BrokerEpoch(0);
    stale.leader_epoch = Epoch(leader_epoch.0 + 1);
    stale.partition_epoch = PartitionEpoch(partition_epoch.0 - 1);
    stale.new_isr[0].broker = BrokerId(8);
    stale.new_isr[1].broker_epoch = BrokerEpoch(0);
    assert_eq!(cluster.refused(&stale).0, 77);
    stale.broker_epoch = cluster.epoch(3);
    assert_eq!(cluster.refused(&stale).0, 41);
    stale.leader_epoch = Epoch(leader_epoch.0 - 1);
    assert_eq!(cluster.refused(&stale).0, 74);
    stale.leader_epoch = leader_epoch;
    assert!(matches!(cluster.refused(&stale), (42, AlterPartitionError::NotLeader { .. })));
    stale.broker = BrokerId(2);
    stale.broker_epoch = cluster.epoch(2);
    assert_eq!(cluster.refused(&stale).0, 95);
    stale.partition_epoch = PartitionEpoch(partition_epoch.0 + 1);
    assert_eq!(cluster.refused(&stale).0, 41);
    stale.partition_epoch = partition_epoch;
    assert!(matches!(cluster.refused(&stale), (42, AlterPartitionError::NotReplica { broker: BrokerId(8) })));
    stale.new_isr[0] = cluster.member(1);
    assert!(matches!(cluster.refused(&stale), (42, AlterPartitionError::LeaderMissing)));
    stale.new_isr[0] = cluster.member(2);
    assert_eq!(cluster.refused(&stale).0, 107);
    stale.new_isr[1] = cluster.member(3);
    assert_eq!(cluster.refused(&stale).0, 95, "no copy of a proposal that was refused for a member counts");
    stale.partition_epoch = PartitionEpoch(partition_epoch.0 + 1);
    cluster.propose(&stale).unwrap();
    assert_eq!(cluster.isr(), [2, 3]);
}

#[test]
fn alter_partition_names_what_does_not_exist() {
    let mut cluster = Cluster::with_topic(1, 1);
    let mut propose = |key| {
        let command = Command::AlterPartition {
            key,
            broker: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
            leader_epoch: Epoch(0),
            partition_epoch: PartitionEpoch(0),
            new_isr: Vec::new(),
        };
        cluster.apply(command).unwrap_err().kafka_code()
    };
    assert_eq!(propose(TopicPartition { topic: TopicId(1), partition: 0 }), 100);
    assert_eq!(propose(TopicPartition { topic: TOPIC, partition: 1 }), 3);
    assert_eq!(propose(TopicPartition { topic: TOPIC, partition: -1 }), 3);
}

#[test]
fn proposal_of_the_present_isr_changes_nothing() {
    let mut cluster = Cluster::with_topic(2, 1);
    let proposal = cluster.proposal(1, &[2, 1]);
    let reply = cluster.propose(&proposal).unwrap();
    assert!(matches!(reply, Reply::Partition { partition_epoch: PartitionEpoch(0), .. }), "{reply:?}");
}

#[test]
fn controlled_shutdown_hands_over_and_a_clean_return_finds_its_claim() {
    let mut cluster = Cluster::with_topic(3, 2);
    cluster.begin_shutdown(1);
    assert_eq!((cluster.leader(), cluster.isr()), (Some(2), vec![2, 3]));
    assert_eq!(cluster.image.led_by(BrokerId(1)), 0, "it may exit");
    assert_eq!(cluster.refused(&cluster.proposal(2, &[1, 2, 3])).0, 107, "nor may it be drawn back in");
    cluster.begin_shutdown(2);
    cluster.begin_shutdown(3);
    assert_eq!((cluster.leader(), cluster.elr()), (None, vec![2, 3]));
    for id in [1, 2, 3] {
        cluster.fence(id);
        cluster.restart(id, true);
        cluster.unfence(id);
    }
    assert_eq!((cluster.leader(), cluster.elr()), (Some(2), vec![3]));
}

#[test]
fn preferred_leader_returns_only_from_within_the_isr() {
    let mut cluster = Cluster::with_topic(2, 1);
    let elect = Command::ElectLeader { key: P0, election: Election::Preferred };
    assert_eq!(cluster.apply(elect.clone()).unwrap_err().kafka_code(), 84);
    cluster.fence(1);
    cluster.restart(1, true);
    cluster.unfence(1);
    assert_eq!(cluster.apply(elect.clone()).unwrap_err().kafka_code(), 80);
    assert_eq!(cluster.image.imbalanced().count(), 0);
    cluster.alter(&[1, 2]);
    assert_eq!(cluster.image.imbalanced().collect::<Vec<_>>(), [P0]);
    cluster.apply(elect).unwrap();
    assert_eq!((cluster.leader(), cluster.p0().leader_epoch), (Some(1), Epoch(2)));
}

#[test]
fn min_isr_is_capped_at_the_number_of_replicas() {
    let mut cluster = Cluster::with_topic(2, 5);
    let in_force = |cluster: &Cluster| {
        let topic = cluster.image.topic(TOPIC).unwrap();
        topic.min_insync_replicas(&topic.partitions[0])
    };
    assert_eq!(in_force(&cluster), 2);
    cluster.set_min_insync(Some(1)).unwrap();
    assert_eq!(in_force(&cluster), 1);
    assert_eq!(cluster.set_min_insync(Some(0)).unwrap_err().kafka_code(), 40);
    cluster.set_min_insync(None).unwrap();
    assert_eq!(in_force(&cluster), 2);
}

/// Under a lower minimum the leader may commit alone, so the others no longer hold everything.
#[test]
fn lowering_min_isr_ends_the_claims_of_the_elr_where_there_is_a_leader() {
    let mut cluster = Cluster::with_topic(2, 2);
    cluster.alter(&[1]);
    assert_eq!(cluster.elr(), [2]);
    let before = cluster.p0().partition_epoch;
    cluster.set_min_insync(Some(1)).unwrap();
    assert_eq!(cluster.elr(), [] as [i32; 0]);
    assert_eq!(cluster.p0().partition_epoch, PartitionEpoch(before.0 + 1));

    let mut leaderless = Cluster::with_topic(2, 2);
    leaderless.fence(1);
    leaderless.fence(2);
    leaderless.set_min_insync(Some(1)).unwrap();
    assert_eq!(leaderless.elr(), [1, 2], "nothing can be committed meanwhile, so both still hold everything");
}

#[test]
fn producer_ids_are_handed_out_once() {
    let mut cluster = Cluster::of(2);
    let mut first = |broker| {
        let broker_epoch = cluster.epoch(broker);
        match cluster.apply(Command::AllocateProducerIds { broker: BrokerId(broker), broker_epoch }) {
            Ok(Reply::ProducerIds { first, len: 1_000 }) => first,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([first(1), first(2), first(1)], [0, 1_000, 2_000]);
}

#[test]
fn recreated_topic_is_another_topic() {
    let mut cluster = Cluster::with_topic(2, 1);
    let old = cluster.image.clone();
    cluster.apply(Command::DeleteTopic { topic_id: TOPIC }).unwrap();
    assert_eq!(cluster.apply(Command::DeleteTopic { topic_id: TOPIC }).unwrap_err().kafka_code(), 100);
    cluster.create("t", TopicId(8), 1, 2, 1).unwrap();
    assert_eq!(cluster.image.topic_by_name("t").unwrap().id, TopicId(8));
    let changes = cluster.image.topic_changes(&old);
    assert!(
        matches!(&changes[..], [TopicChange::Deleted(gone), TopicChange::Changed(new)]
            if gone.id == TOPIC && new.id == TopicId(8)),
        "{changes:?}"
    );
    assert!(cluster.image.topic_changes(&cluster.image.clone()).is_empty());
}

#[test]
#[should_panic(expected = "skipped after version")]
fn an_entry_is_applied_once() {
    let mut cluster = Cluster::of(1);
    let version = cluster.image.version();
    let _ = apply(&mut cluster.image, version, Command::DeleteTopic { topic_id: TOPIC });
}

/// A proposal was sent twice. One copy is refused because its member is fenced just then, so the leader goes back to
/// the ISR without it, and commits without it. The other copy must not be accepted when the member is back.
#[test]
fn late_copy_of_a_refused_expansion_is_refused_too() {
    let mut cluster = Cluster::with_topic(2, 1);
    cluster.fence(2);
    cluster.unfence(2);
    let expansion = cluster.proposal(1, &[1, 2]);
    cluster.fence(2);
    assert_eq!(cluster.refused(&expansion).0, 107);
    cluster.unfence(2);
    assert_eq!(cluster.refused(&expansion).0, 95);
    assert_eq!(cluster.isr(), [1]);
    cluster.alter(&[1, 2]);
}
