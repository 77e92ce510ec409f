//! Where replicas go when brokers stand in racks.

use std::collections::BTreeMap;

use minisr_logic::metadata::{Assignment, Command};

use super::vocabulary::{Cluster, TOPIC};

fn layout(cluster: &Cluster) -> Vec<Vec<i32>> {
    cluster.image.partitions().map(|(_, it)| it.replicas.iter().map(|id| id.0).collect()).collect()
}

#[test]
fn placement_alternates_between_racks_when_every_broker_has_one() {
    let mut cluster = Cluster::of(0);
    for (id, rack) in [(1, "a"), (2, "a"), (3, "b"), (4, "b")] {
        cluster.join(id, Some(rack));
    }
    cluster.create("t", TOPIC, 4, 2, 1).unwrap();
    assert_eq!(layout(&cluster), [[1, 3], [3, 2], [2, 4], [4, 1]]);
}

#[test]
fn placement_with_some_racks_missing_is_refused_unless_replicas_are_named() {
    let mut cluster = Cluster::of(0);
    cluster.join(1, Some("a"));
    cluster.join(2, None);
    let refused = cluster.create("t", TOPIC, 1, 2, 1).unwrap_err();
    assert_eq!(refused.kafka_code(), 42);
    assert!(refused.to_string().contains("broker 2 has none"), "{refused}");
    // A broker that cannot be used does not decide.
    cluster.fence(2);
    cluster.create("t", TOPIC, 1, 1, 1).unwrap();
    assert_eq!(layout(&cluster), [[1]]);
    let named = Assignment::Manual(vec![vec![minisr_logic::BrokerId(1), minisr_logic::BrokerId(2)]]);
    let command = Command::CreateTopic {
        name: "named".to_owned(),
        topic_id: minisr_logic::TopicId(99),
        assignment: named,
        configs: BTreeMap::new(),
        default_min_insync_replicas: 1,
    };
    cluster.apply(command).unwrap();
}

#[test]
fn partitions_added_with_some_racks_missing_are_refused_unless_replicas_are_named() {
    let mut cluster = Cluster::of(0);
    cluster.join(1, Some("a"));
    cluster.create("t", TOPIC, 1, 1, 1).unwrap();
    cluster.join(2, None);
    let mut grow =
        |count, assignments| cluster.apply(Command::CreatePartitions { topic_id: TOPIC, count, assignments });
    let refused = grow(2, None).unwrap_err();
    assert_eq!(refused.kafka_code(), 42);
    assert!(refused.to_string().contains("broker 2 has none"), "{refused}");
    grow(2, Some(vec![vec![minisr_logic::BrokerId(2)]])).unwrap();
    assert_eq!(layout(&cluster), [[1], [2]]);
}
