//! Random command sequences, sound and stale ones mixed.

use std::collections::BTreeMap;

use minisr_logic::metadata::{Assignment, Command, CommandError, Election, Image, IsrMember, Reply, apply, check_step};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, PartitionEpoch, TopicId, TopicPartition};
use proptest::prelude::*;

/// Raw material of one command: what it means depends on the image at its turn, so that most are sound.
type Draw = (u8, u8, u8, u8, u8);

fn command(image: &Image, (kind, a, b, c, stale): Draw) -> Command {
    let id = BrokerId(i32::from(a % 5) + 1);
    // One in eight names a stale or future epoch.
    let skew = |value: i64| match stale % 16 {
        0 => value - 1,
        1 => value + 1,
        _ => value,
    };
    let epoch = BrokerEpoch(skew(image.broker(id).map_or(0, |it| it.epoch.0)));
    let topic_id = TopicId(u128::from(b % 3));
    let key = TopicPartition { topic: topic_id, partition: i32::from(c % 3) };
    match kind % 26 {
        20..=22 => Command::AlterReassignment { key, target: Some(some_brokers(a, b, stale)) },
        23 => Command::AlterReassignment { key, target: None },
        24 if b % 2 == 0 => Command::CreatePartitions {
            topic_id,
            count: i32::from(c % 6),
            assignments: (a % 3 == 0).then(|| vec![some_brokers(a, b, stale)]),
        },
        24 => Command::UnregisterBroker { id, directory: Some(u64::from(a)) },
        0..=3 => Command::RegisterBroker {
            id,
            incarnation: u128::from(b % 4),
            listeners: Vec::new(),
            // None, some, or every broker has one.
            rack: (stale / 16 % 4 == 0).then(|| format!("r{}", a % 2)),
            clean_for_data: c % 3 != 0,
            previous_broker_epoch: (stale % 8 != 0).then_some(epoch),
        },
        4..=8 => {
            Command::UnfenceBroker { id, epoch, applied_index: image.version().saturating_sub(u64::from(c % 4 / 3)) }
        }
        9 | 10 => Command::FenceBroker { id, epoch },
        11 => Command::BeginControlledShutdown { id, epoch },
        12 => Command::CreateTopic {
            name: format!("t{}", b % 3),
            topic_id,
            assignment: Assignment::Automatic {
                partitions: i32::from(c % 4),
                replication_factor: i16::from(stale % 5),
            },
            configs: BTreeMap::new(),
            default_min_insync_replicas: i32::from(a % 3) + 1,
        },
        13 if a % 4 == 0 => Command::DeleteTopic { topic_id },
        13 | 14 => Command::ElectLeader {
            key,
            election: match stale % 8 {
                0 => Election::Unclean,
                1 => Election::UncleanIfEnabled { by_default: a % 2 == 0 },
                _ => Election::Preferred,
            },
        },
        15 => Command::AllocateProducerIds { broker: id, broker_epoch: epoch },
        16 => Command::AlterTopicConfigs {
            topic_id,
            changes: BTreeMap::from([("min.insync.replicas".to_owned(), (c % 4 != 0).then(|| (c % 4).to_string()))]),
        },
        _ => {
            let Some(partition) = image.partition(key) else { return Command::DeleteTopic { topic_id } };
            let leader = partition.leader.unwrap_or(id);
            let chosen = partition.replicas.iter().enumerate().filter(|(i, it)| **it == leader || a >> i & 1 == 1);
            let new_isr = chosen.map(|(_, it)| IsrMember {
                broker: *it,
                broker_epoch: image.broker(*it).map_or(BrokerEpoch(0), |it| it.epoch),
            });
            Command::AlterPartition {
                key,
                broker: leader,
                broker_epoch: image.broker(leader).map_or(BrokerEpoch(0), |it| it.epoch),
                leader_epoch: Epoch(skew(i64::from(partition.leader_epoch.0)) as i32),
                partition_epoch: PartitionEpoch(partition.partition_epoch.0 - i32::from(stale % 16 == 2)),
                new_isr: new_isr.collect(),
            }
        }
    }
}

/// One to four brokers, at times one that does not exist.
fn some_brokers(a: u8, b: u8, stale: u8) -> Vec<BrokerId> {
    let brokers = if stale % 16 == 3 { 6 } else { 5 };
    (0..1 + b % 4).map(|i| BrokerId((i32::from(a) + i32::from(i * (1 + b % 2))) % brokers + 1)).collect()
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    prop::collection::vec(any::<Draw>(), 1..200)
}

/// Applies the draws, hands every step to `watch`, and returns the commands as they were.
fn run(draws: &[Draw], mut watch: impl FnMut(&Image, &Command, &Result<Reply, CommandError>, &Image)) -> Vec<Command> {
    let mut image = Image::new();
    let mut log = Vec::new();
    // Without brokers hardly anything succeeds, so they come first.
    let prelude = (0..5).flat_map(|a| [(0, a, 0, 1, 1), (4, a, 0, 0, 8)]).chain([(12, 1, 0, 3, 3), (12, 1, 1, 2, 4)]);
    for draw in prelude.chain(draws.iter().copied()) {
        let command = command(&image, draw);
        let before = image.clone();
        let result = apply(&mut image, before.version() + 1, command.clone());
        watch(&before, &command, &result, &image);
        log.push(command);
    }
    log
}

proptest! {
    #[test]
    fn random_commands_keep_every_invariant(draws in draws()) {
        run(&draws, |before, command, result, after| {
            after.check().unwrap_or_else(|violation| panic!("{violation} after {command:?}"));
            check_step(before, after).unwrap_or_else(|violation| panic!("{violation} after {command:?}"));
            if result.as_ref().is_err_and(|refused| refused.kafka_code() != 107) {
                let mut skipped = before.clone();
                skipped.skip(after.version());
                assert_eq!(&skipped, after, "a refusal changes nothing: {command:?}");
            }
        });
    }

    #[test]
    fn replays_of_one_log_give_equal_images_and_answers(draws in draws()) {
        let mut answers = Vec::new();
        let mut last = Image::new();
        let log = run(&draws, |_, _, result, after| {
            answers.push(result.clone());
            last = after.clone();
        });
        let mut replayed = Image::new();
        for ((index, command), answer) in (1..).zip(log).zip(answers) {
            assert_eq!(apply(&mut replayed, index, command), answer);
        }
        assert_eq!(replayed, last);
    }

    /// The heart of clean elections: a new leader comes out of the ISR or ELR of the moment before.
    #[test]
    fn leaders_come_out_of_the_isr_or_the_elr(draws in draws()) {
        run(&draws, |before, command, _, after| {
            for (key, new) in after.partitions() {
                let Some(old) = before.partition(key) else { continue };
                if new.leader_epoch == old.leader_epoch { continue }
                if let Some(leader) = new.leader {
                    // A reassignment that a proposal completes may give the lead to a member of the proposed ISR, which
                    // counts from the moment it was proposed; cancelling one, to an eligible original replica.
                    let by_reassignment = match command {
                        Command::AlterPartition { new_isr, key: proposed, .. } => {
                            *proposed == key && old.reassignment.is_some() && new_isr.iter().any(|it| it.broker == leader)
                        }
                        Command::AlterReassignment { key: altered, target: None } => {
                            *altered == key && old.elr.contains(&leader)
                        }
                        _ => false,
                    };
                    let entitled = by_reassignment || old.isr.contains(&leader) || old.isr.iter().all(|it| !after.is_active(*it)) && old.elr.contains(&leader);
                    let asked = matches!(command, Command::ElectLeader { election, .. } if *election != Election::Preferred);
                    let is_unclean = new.last_unclean_epoch == Some(new.leader_epoch);
                    assert!(entitled != (asked && is_unclean), "{leader} leads {new:?} after {old:?} by {command:?}");
                    assert!(!is_unclean || (new.isr == [leader] && new.elr.is_empty()), "{new:?}");
                }
            }
        });
    }

    /// The ELR is sound only if its members left while the ISR could not commit, and were never unclean since.
    #[test]
    fn elr_members_come_out_of_isr_or_elr_while_below_min_isr(draws in draws()) {
        run(&draws, |before, command, _, after| {
            for (key, new) in after.partitions() {
                let topic = after.topic(key.topic).expect("listed");
                let Some(old) = before.partition(key) else {
                    assert!(new.elr.is_empty());
                    continue;
                };
                assert!(new.elr.iter().all(|it| old.elr.contains(it) || old.isr.contains(it)), "{old:?} {command:?}");
                assert!(
                    new.elr.is_empty() || new.leader.is_none() || new.isr.len() < topic.min_insync_replicas(new),
                    "{new:?} by {command:?}"
                );
                if let Command::RegisterBroker { id, clean_for_data: false, incarnation, .. } = command {
                    let accepted = after.broker(*id).is_some_and(|it| it.incarnation == *incarnation)
                        && before.broker(*id).is_some_and(|it| it.incarnation != *incarnation);
                    assert!(!accepted || !new.elr.contains(id) && !new.isr.contains(id), "{new:?} by {command:?}");
                }
            }
        });
    }

    /// Zoo 11 at its root: whoever is removed is removed together with a new leader epoch, so that no leader remembers
    /// its log; and nobody is removed but by a command that says so or by the ISR that completes one.
    #[test]
    fn replicas_leave_only_with_a_new_leader_epoch_and_by_reassignment(draws in draws()) {
        run(&draws, |before, command, _, after| {
            for (key, new) in after.partitions() {
                let Some(old) = before.partition(key) else { continue };
                if old.replicas.iter().all(|id| new.has_replica(*id)) {
                    continue;
                }
                assert!(new.leader_epoch > old.leader_epoch, "{old:?} became {new:?} by {command:?}");
                let is_meant = old.reassignment.is_some() || matches!(command, Command::AlterReassignment { .. });
                assert!(is_meant, "{old:?} became {new:?} by {command:?}");
            }
        });
    }

    /// Neither beginning, redirecting nor cancelling takes away the last one who holds everything.
    #[test]
    fn reassignment_never_needs_an_unclean_election(draws in draws()) {
        run(&draws, |before, command, _, after| {
            let Command::AlterReassignment { key, .. } = command else { return };
            let (Some(old), Some(new)) = (before.partition(*key), after.partition(*key)) else { return };
            let complete = |it: &minisr_logic::metadata::Partition| it.isr.len() + it.elr.len();
            assert!(complete(new) > 0 || complete(old) == 0, "{old:?} became {new:?}");
            assert!(new.leader.is_some() || old.leader.is_none(), "{old:?} became {new:?}");
        });
    }

    #[test]
    fn producer_ids_never_repeat(draws in draws()) {
        let mut next = 0;
        run(&draws, |_, _, result, _| {
            if let Ok(Reply::ProducerIds { first, len }) = result {
                assert_eq!(*first, next);
                next = first + len;
            }
        });
    }
}
