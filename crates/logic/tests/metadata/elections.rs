//! Who leads when nobody can be elected cleanly, and who says so (semantics reference §2.6).

use std::collections::BTreeMap;

use minisr_logic::metadata::{Command, CommandError, Election, Reply};
use minisr_logic::{BrokerId, Epoch, TopicPartition};

use super::vocabulary::{Cluster, P0, TOPIC};

const UNCLEAN: Election = Election::Unclean;

fn elect(cluster: &mut Cluster, election: Election) -> Result<Reply, CommandError> {
    cluster.apply(Command::ElectLeader { key: P0, election })
}

/// The whole in-sync set {1} lost its tail; 2 and 3 lag, 3 is down.
fn nobody_left() -> Cluster {
    let mut cluster = Cluster::with_topic(3, 1);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    cluster.restart(1, false);
    cluster.restart(2, true);
    cluster.unfence(2);
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (None, vec![], vec![]));
    cluster
}

fn set_unclean(cluster: &mut Cluster, value: Option<&str>) -> Result<Reply, CommandError> {
    let changes = BTreeMap::from([("unclean.leader.election.enable".to_owned(), value.map(str::to_owned))]);
    cluster.apply(Command::AlterTopicConfigs { topic_id: TOPIC, changes })
}

#[test]
fn unclean_election_on_request_leaves_its_epoch_in_the_image() {
    let mut cluster = nobody_left();
    let before = cluster.p0().leader_epoch;
    assert_eq!(cluster.p0().last_unclean_epoch, None);
    elect(&mut cluster, UNCLEAN).unwrap();
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (Some(2), vec![2], vec![]));
    assert_eq!(cluster.p0().last_unclean_epoch, Some(Epoch(before.0 + 1)));
    // The mark stays when clean elections follow, so that whoever looks later still learns of it.
    cluster.fence(2);
    cluster.restart(2, true);
    cluster.unfence(2);
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.p0().last_unclean_epoch, Some(Epoch(before.0 + 1)));
}

#[test]
fn unclean_election_takes_the_last_known_leader_if_it_is_there() {
    let mut cluster = nobody_left();
    cluster.unfence(1);
    assert_eq!(cluster.leader(), None, "back, but short of what it acknowledged: not by itself");
    elect(&mut cluster, UNCLEAN).unwrap();
    assert_eq!((cluster.leader(), cluster.isr()), (Some(1), vec![1]));
}

#[test]
fn unclean_election_takes_nobodys_leadership_away() {
    let mut cluster = Cluster::with_topic(2, 1);
    assert_eq!(elect(&mut cluster, UNCLEAN).unwrap_err().kafka_code(), 84);
    cluster.fence(1);
    assert_eq!(elect(&mut cluster, UNCLEAN).unwrap_err().kafka_code(), 84, "2 was elected cleanly");
}

#[test]
fn unclean_election_needs_an_active_replica() {
    let mut cluster = Cluster::with_topic(2, 1);
    cluster.fence(2);
    cluster.fence(1);
    assert_eq!(elect(&mut cluster, UNCLEAN).unwrap_err().kafka_code(), 83);
    assert_eq!(cluster.elr(), [1], "whoever still holds everything keeps the claim");
    let nowhere = Command::ElectLeader { key: TopicPartition { topic: TOPIC, partition: 9 }, election: UNCLEAN };
    assert_eq!(cluster.apply(nowhere).unwrap_err().kafka_code(), 3);
}

/// An operator may give up what an ELR member holds that does not come back; that member must then follow.
#[test]
fn unclean_election_ends_the_claims_of_the_elr() {
    let mut cluster = Cluster::with_topic(3, 2);
    for id in [3, 2, 1] {
        cluster.fence(id);
    }
    assert_eq!(cluster.elr(), [1, 2]);
    cluster.restart(3, true);
    cluster.unfence(3);
    elect(&mut cluster, UNCLEAN).unwrap();
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (Some(3), vec![3], vec![]));
    cluster.restart(1, true);
    cluster.unfence(1);
    assert_eq!((cluster.leader(), cluster.isr(), cluster.elr()), (Some(3), vec![3], vec![]));
}

#[test]
fn unclean_election_by_setting_asks_the_topic_first_and_then_the_brokers() {
    let by_default = |by_default| Election::UncleanIfEnabled { by_default };
    let waiting = |cluster: &Cluster, by_default| cluster.image.awaiting_unclean_election(by_default).count();
    let mut cluster = nobody_left();
    assert_eq!((waiting(&cluster, false), waiting(&cluster, true)), (0, 1));
    assert_eq!(elect(&mut cluster, by_default(false)).unwrap_err().kafka_code(), 83);

    // The topic refuses what the brokers allow. A proposal made before it did so finds that out at its turn.
    set_unclean(&mut cluster, Some("false")).unwrap();
    assert_eq!(waiting(&cluster, true), 0);
    assert_eq!(elect(&mut cluster, by_default(true)).unwrap_err().kafka_code(), 83);
    assert_eq!(set_unclean(&mut cluster, Some("perhaps")).unwrap_err().kafka_code(), 40);

    set_unclean(&mut cluster, Some("true")).unwrap();
    assert_eq!(waiting(&cluster, false), 1);
    elect(&mut cluster, by_default(false)).unwrap();
    assert_eq!((cluster.leader(), waiting(&cluster, false)), (Some(2), 0));
}

#[test]
fn nobody_waits_for_an_unclean_election_where_no_replica_is_active() {
    let mut cluster = nobody_left();
    cluster.fence(2);
    assert_eq!(cluster.image.awaiting_unclean_election(true).count(), 0);
}

/// Trap 12: what the unclean leader lacks is gone for everybody, and the returning replicas must follow it.
#[test]
fn returning_replicas_follow_the_unclean_leader() {
    let mut cluster = nobody_left();
    elect(&mut cluster, UNCLEAN).unwrap();
    cluster.unfence(1);
    assert_eq!((cluster.leader(), cluster.isr()), (Some(2), vec![2]));
    cluster.alter(&[1, 2]);
    let preferred = cluster.apply(Command::ElectLeader { key: P0, election: Election::Preferred }).unwrap();
    assert!(matches!(preferred, Reply::Partition { leader: Some(BrokerId(1)), .. }));
}

#[test]
fn leaderships_go_back_only_where_a_broker_lacks_more_than_the_percentage() {
    let mut cluster = Cluster::of(2);
    cluster.create("t", TOPIC, 20, 2, 1).unwrap();
    cluster.fence(1);
    cluster.restart(1, true);
    cluster.unfence(1);
    assert_eq!(cluster.image.to_rebalance(10, 100), [], "1 is in no ISR yet");
    let keys: Vec<TopicPartition> =
        cluster.image.partitions().filter(|(_, it)| it.replicas[0] == BrokerId(1)).map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 10);
    for (index, key) in keys.iter().enumerate() {
        cluster.join_isr(*key, 1);
        assert_eq!(cluster.image.to_rebalance(10, 100).len(), index + 1);
    }
    assert_eq!(cluster.image.to_rebalance(10, 3), keys[..3], "no more than asked for");
    assert_eq!(cluster.image.to_rebalance(100, 100), [], "more than everything cannot be lacking");
    for key in &keys[1..] {
        cluster.apply(Command::ElectLeader { key: *key, election: Election::Preferred }).unwrap();
    }
    assert_eq!(cluster.image.imbalanced().collect::<Vec<_>>(), keys[..1]);
    assert_eq!(cluster.image.to_rebalance(10, 100), [], "one of ten is not more than ten percent");
    assert_eq!(cluster.image.to_rebalance(9, 100), keys[..1]);
}
