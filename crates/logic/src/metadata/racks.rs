//! Spreading replicas over racks, by the rule of Kafka's own tools.
//!
//! The brokers are put in an order that alternates between the racks. Partition p is led by the p-th of them, round and
//! round; its other replicas follow in that order, each on a broker without one and, while some rack has no replica
//! yet, in such a rack. Each time the leaders have gone round once, the followers start one round of racks further on,
//! so that two brokers do not share all their partitions.

use std::collections::{BTreeMap, BTreeSet};

use crate::BrokerId;

/// The replicas of each partition. `brokers` holds each broker once, with its rack, in any order.
///
/// # Panics
/// When there are fewer brokers than copies, or none.
pub(super) fn spread_over_racks(
    brokers: &[(BrokerId, &str)],
    partitions: std::ops::Range<usize>,
    copies: usize,
) -> Vec<Vec<BrokerId>> {
    assert!(0 < copies && copies <= brokers.len(), "{copies} copies on {} brokers", brokers.len());
    let order = alternating(brokers);
    let racks = order.iter().map(|(_, rack)| rack).collect::<BTreeSet<_>>().len();
    partitions.map(|partition| replicas(&order, racks, partition, copies)).collect()
}

/// First the lowest id of every rack, then the second lowest of every rack that has one, and so on.
fn alternating<'a>(brokers: &[(BrokerId, &'a str)]) -> Vec<(BrokerId, &'a str)> {
    let mut by_rack: BTreeMap<&str, BTreeSet<BrokerId>> = BTreeMap::new();
    for (id, rack) in brokers {
        by_rack.entry(rack).or_default().insert(*id);
    }
    let mut order = Vec::with_capacity(brokers.len());
    while !by_rack.is_empty() {
        by_rack.retain(|rack, ids| {
            order.extend(ids.pop_first().map(|id| (id, *rack)));
            !ids.is_empty()
        });
    }
    order
}

fn replicas(order: &[(BrokerId, &str)], racks: usize, partition: usize, copies: usize) -> Vec<BrokerId> {
    let first = partition % order.len();
    // Never back to the leader itself: the others are 1 to n−1 steps on.
    let others = order.len().max(2) - 1;
    let shift = partition / order.len() * racks;
    let (leader, rack) = order[first];
    let mut chosen = vec![leader];
    let mut racks_used = BTreeSet::from([rack]);
    let mut step = shift;
    while chosen.len() < copies {
        let (candidate, rack) = order[(first + 1 + step % others) % order.len()];
        step += 1;
        let rack_may = racks_used.len() == racks || !racks_used.contains(rack);
        if rack_may && !chosen.contains(&candidate) {
            chosen.push(candidate);
            racks_used.insert(rack);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(racks: &[(i32, &'static str)], partitions: usize, copies: usize) -> Vec<Vec<i32>> {
        let brokers: Vec<(BrokerId, &str)> = racks.iter().map(|(id, rack)| (BrokerId(*id), *rack)).collect();
        let placed = spread_over_racks(&brokers, 0..partitions, copies);
        placed.iter().map(|replicas| replicas.iter().map(|id| id.0).collect()).collect()
    }

    const SIX: [(i32, &str); 6] = [(0, "a"), (1, "b"), (2, "c"), (3, "c"), (4, "b"), (5, "a")];

    #[test]
    fn racks_alternate_and_each_partition_is_in_all_of_them() {
        let placed = spread(&SIX, 12, 3);
        // The alternating order is 0 1 2 5 4 3.
        assert_eq!(placed[..3], [vec![0, 1, 2], vec![1, 2, 5], vec![2, 5, 4]]);
        for replicas in &placed {
            let racks: BTreeSet<&str> = replicas.iter().map(|id| SIX[*id as usize].1).collect();
            assert_eq!(racks.len(), 3, "{replicas:?}");
        }
        for (id, _) in SIX {
            assert_eq!(placed.iter().filter(|it| it[0] == id).count(), 2, "{id} leads as often as all others");
            assert_eq!(placed.iter().filter(|it| it.contains(&id)).count(), 6, "{id} holds as much as all others");
        }
        assert_ne!(placed[0], placed[6], "the second round pairs other brokers");
    }

    #[test]
    fn more_copies_than_racks_fill_up_where_there_is_room() {
        let racks = [(1, "a"), (2, "a"), (3, "b")];
        for replicas in spread(&racks, 6, 3) {
            assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
        }
        for replicas in spread(&racks, 6, 2) {
            assert!(replicas.contains(&3), "the one broker of rack b is in every partition: {replicas:?}");
        }
    }

    #[test]
    fn one_rack_or_one_broker_is_no_obstacle() {
        assert_eq!(spread(&[(7, "a")], 2, 1), [[7], [7]]);
        assert_eq!(spread(&[(1, "a"), (2, "a"), (3, "a")], 3, 2), [[1, 2], [2, 3], [3, 1]]);
    }
}
