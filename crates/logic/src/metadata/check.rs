//! The invariants of an image and of one step between two images, as checks that say what is wrong.

use std::error::Error;
use std::fmt;

use super::image::{Image, Partition};
use super::reassignment;
use crate::{BrokerId, TopicPartition};

/// A broken invariant: a bug in this crate, never the answer to bad input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvariantViolation {
    /// Number in the semantics reference.
    pub invariant: u8,
    /// Where, if in a partition.
    pub partition: Option<TopicPartition>,
    /// What is wrong.
    pub fault: &'static str,
}

impl Image {
    /// Checks invariants 11, 12, 14 and 30 of the whole image, in time proportional to its size.
    pub fn check(&self) -> Result<(), InvariantViolation> {
        for (key, partition) in self.partitions() {
            partition_fault(self, partition).map_or(Ok(()), |(invariant, fault)| {
                Err(InvariantViolation { invariant, partition: Some(key), fault })
            })?;
        }
        let whole = |invariant, fault| Err(InvariantViolation { invariant, partition: None, fault });
        let mut epochs: Vec<i64> = self.brokers().map(|it| it.epoch.0).collect();
        epochs.sort_unstable();
        if epochs.windows(2).any(|pair| pair[0] == pair[1]) {
            return whole(30, "two brokers share a broker epoch");
        }
        if epochs.last().is_some_and(|last| u64::try_from(*last).is_ok_and(|last| last > self.version)) {
            return whole(30, "a broker epoch is ahead of the log");
        }
        let indexed = self.topic_ids.iter().all(|(name, id)| self.topics.get(id).is_some_and(|it| it.name == *name));
        if self.topics.len() != self.topic_ids.len() || !indexed {
            return whole(29, "topics by name and by id differ");
        }
        Ok(())
    }
}

/// Checks what must hold between an image and a later one of the same log: invariants 2 and 30.
pub fn check_step(before: &Image, after: &Image) -> Result<(), InvariantViolation> {
    for (key, old) in before.partitions() {
        let Some(new) = after.partition(key) else { continue };
        if let Some(fault) = step_fault(old, new) {
            return Err(InvariantViolation { invariant: 2, partition: Some(key), fault });
        }
    }
    let whole = |invariant, fault| Err(InvariantViolation { invariant, partition: None, fault });
    if after.version < before.version {
        return whole(29, "the version went back");
    }
    if after.next_producer_id < before.next_producer_id {
        return whole(30, "the next producer id went back");
    }
    if before.brokers().any(|old| after.broker(old.id).is_some_and(|new| new.epoch < old.epoch)) {
        return whole(30, "a broker epoch went back");
    }
    Ok(())
}

/// Asserts invariants 11, 12 and 14 of one partition.
pub(super) fn assert_partition(image: &Image, partition: &Partition) {
    if let Some((invariant, fault)) = partition_fault(image, partition) {
        panic!("invariant {invariant}: {fault}: {partition:?}");
    }
}

/// Asserts invariant 2 across one change of one partition, which raises the partition epoch by exactly 1.
pub(super) fn assert_partition_step(old: &Partition, new: &Partition) {
    if let Some(fault) = step_fault(old, new) {
        panic!("invariant 2: {fault}: {old:?} became {new:?}");
    }
    assert_eq!(new.partition_epoch.0, old.partition_epoch.0 + 1, "a record raises the partition epoch by 1");
}

fn partition_fault(image: &Image, partition: &Partition) -> Option<(u8, &'static str)> {
    let Partition { replicas, isr, elr, leader, .. } = partition;
    let repeats = |ids: &[BrokerId]| ids.iter().enumerate().any(|(i, id)| ids[..i].contains(id));
    let faults = [
        (11, "no replicas", replicas.is_empty()),
        (11, "a replica is listed twice", repeats(replicas) || repeats(isr) || repeats(elr)),
        (11, "an ISR member is no replica", isr.iter().any(|id| !replicas.contains(id))),
        (11, "an ELR member is no replica", elr.iter().any(|id| !replicas.contains(id))),
        (11, "a broker is in ISR and ELR", elr.iter().any(|id| isr.contains(id))),
        (11, "the leader is not in the ISR", leader.is_some_and(|id| !isr.contains(&id))),
        (12, "an ISR without a leader", leader.is_none() && !isr.is_empty()),
        (2, "an unclean election in a later epoch", partition.last_unclean_epoch > Some(partition.leader_epoch)),
        (14, "an ISR member is fenced or shutting down", isr.iter().any(|id| !image.is_active(*id))),
    ];
    let found = faults.into_iter().find_map(|(invariant, fault, broken)| broken.then_some((invariant, fault)));
    found.or_else(|| reassignment::fault(partition).map(|fault| (11, fault)))
}

fn step_fault(old: &Partition, new: &Partition) -> Option<&'static str> {
    let changed = Partition { partition_epoch: old.partition_epoch, ..new.clone() } != *old;
    let faults = [
        ("the leader epoch went back", new.leader_epoch < old.leader_epoch),
        ("the partition epoch went back", new.partition_epoch < old.partition_epoch),
        (
            "a replica removed in the same leader epoch",
            old.replicas.iter().any(|id| !new.has_replica(*id)) && new.leader_epoch == old.leader_epoch,
        ),
        ("another leader in the same epoch", new.leader != old.leader && new.leader_epoch == old.leader_epoch),
        ("a change without a new partition epoch", changed && new.partition_epoch == old.partition_epoch),
    ];
    faults.into_iter().find_map(|(fault, broken)| broken.then_some(fault))
}

impl fmt::Display for InvariantViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {}: {}", self.invariant, self.fault)?;
        match self.partition {
            Some(key) => write!(f, " in partition {} of {:?}", key.partition, key.topic),
            None => Ok(()),
        }
    }
}

impl Error for InvariantViolation {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::metadata::{Registration, Topic};
    use crate::{BrokerEpoch, Epoch, PartitionEpoch, TopicId};

    const KEY: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };

    /// A sound image (brokers 1 to 3 active, one partition led by 1), then doctored.
    fn doctored(
        partition: impl FnOnce(&mut Partition),
        brokers: impl FnOnce(&mut BTreeMap<BrokerId, Registration>),
    ) -> Image {
        let ids: Vec<BrokerId> = (1..=3).map(BrokerId).collect();
        let mut registered: BTreeMap<BrokerId, Registration> = ids
            .iter()
            .map(|id| {
                let registration = Registration {
                    id: *id,
                    epoch: BrokerEpoch(i64::from(id.0)),
                    incarnation: id.0 as u128,
                    listeners: Vec::new(),
                    rack: None,
                    fenced: false,
                    in_controlled_shutdown: false,
                    clean_for_data: true,
                    last_unfenced_epoch: None,
                };
                (*id, registration)
            })
            .collect();
        let mut record = Partition {
            replicas: ids.clone(),
            isr: ids[..2].to_vec(),
            elr: Vec::new(),
            last_known_leader: Some(BrokerId(1)),
            leader: Some(BrokerId(1)),
            leader_epoch: Epoch(4),
            partition_epoch: PartitionEpoch(9),
            last_unclean_epoch: None,
            reassignment: None,
        };
        partition(&mut record);
        brokers(&mut registered);
        let topic = Topic {
            id: KEY.topic,
            name: "t".to_owned(),
            partitions: vec![record],
            configs: BTreeMap::new(),
            default_min_insync_replicas: 1,
        };
        Image {
            version: 10,
            brokers: Arc::new(registered.into_iter().map(|(id, it)| (id, Arc::new(it))).collect()),
            topic_ids: Arc::new(BTreeMap::from([(topic.name.clone(), topic.id)])),
            topics: Arc::new(BTreeMap::from([(topic.id, Arc::new(topic))])),
            next_producer_id: 1_000,
            ..Image::default()
        }
    }

    fn violated(image: &Image) -> u8 {
        image.check().expect_err("the doctored image must be refused").invariant
    }

    #[test]
    fn check_accepts_a_sound_image() {
        assert_eq!(doctored(|_| {}, |_| {}).check(), Ok(()));
    }

    #[test]
    fn check_rings_for_every_doctored_partition() {
        type Case = (u8, fn(&mut Partition));
        let cases: [Case; 8] = [
            (11, |it| it.replicas.clear()),
            (11, |it| it.isr.push(BrokerId(9))),
            (11, |it| it.isr.push(BrokerId(1))),
            (11, |it| it.elr.push(BrokerId(9))),
            (11, |it| it.elr.push(BrokerId(2))),
            (11, |it| it.leader = Some(BrokerId(3))),
            (12, |it| it.leader = None),
            (2, |it| it.last_unclean_epoch = Some(Epoch(5))),
        ];
        for (i, (invariant, doctor)) in cases.into_iter().enumerate() {
            assert_eq!(violated(&doctored(doctor, |_| {})), invariant, "case {i}");
        }
    }

    #[test]
    fn check_rings_for_inactive_members_and_bad_broker_epochs() {
        let with = |doctor: fn(&mut Registration)| {
            doctored(|_| {}, |brokers| doctor(brokers.get_mut(&BrokerId(2)).expect("registered")))
        };
        assert_eq!(violated(&with(|it| it.fenced = true)), 14);
        assert_eq!(violated(&with(|it| it.in_controlled_shutdown = true)), 14);
        assert_eq!(violated(&with(|it| it.epoch = BrokerEpoch(1))), 30);
        assert_eq!(violated(&with(|it| it.epoch = BrokerEpoch(11))), 30);
    }

    #[test]
    fn check_step_rings_when_epochs_go_back_or_stand_still() {
        let before = doctored(|_| {}, |_| {});
        let cases: [fn(&mut Partition); 4] = [
            |it| it.leader_epoch = Epoch(3),
            |it| it.partition_epoch = PartitionEpoch(8),
            |it| {
                it.leader = Some(BrokerId(2));
                it.partition_epoch = PartitionEpoch(10);
            },
            |it| it.isr.truncate(1),
        ];
        for (i, doctor) in cases.into_iter().enumerate() {
            let violation = check_step(&before, &doctored(doctor, |_| {})).expect_err("must be refused");
            assert_eq!(violation.invariant, 2, "case {i}");
        }
        let mut rewound = before.clone();
        rewound.next_producer_id = 0;
        assert_eq!(check_step(&before, &rewound).expect_err("must be refused").invariant, 30);
    }
}
