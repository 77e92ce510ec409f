//! Stories of changing leaders: each is one of the classic ways to lose acknowledged data, and shows that it is not
//! lost here. Numbers are those of the traps in the semantics reference, §8.

mod support;

use minisr_logic::partition::EpochEnd;
use minisr_logic::{BrokerId, Epoch, Offset, TopicId};
use minisr_replica::{Acks, AppendError, Event, FetchError, ListOffsetsError, Notice, OffsetSpec, Reader};
use support::{Cluster, Message, idempotent};

/// Trap 1: B has record x but has not learned that it is committed; it restarts, the leader dies, B leads.
#[test]
fn failover_follower_restarted_before_it_learned_the_high_watermark_keeps_acknowledged_records() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    // The answer that would tell broker 2 of the commit of x is on its way when broker 2 dies.
    let x = cluster.send(1, "x", Acks::All);
    while cluster.result(x).is_none() {
        let message = cluster.in_transit.pop_front().expect("the record is on its way");
        cluster.deliver(message);
    }
    assert_eq!((cluster.log_end(2), cluster.high_watermark(2)), (2, 1));
    cluster.vanish(2);
    cluster.run();
    cluster.fence(2);
    cluster.start(2);
    cluster.run();
    assert_eq!(cluster.isr(), [1, 2]);
    assert!(cluster.truncations(2).is_empty(), "nothing is cut by a high watermark");

    cluster.kill(1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.read_all(2), ["a", "x"]);
}

/// Trap 2: two replicas recover different tails; the one with the shorter leads and writes on; the other must cut.
#[test]
fn failover_unequal_recovered_tails_converge_to_the_leaders() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.partition(1, 2);
    let orphan = cluster.send(1, "x", Acks::Leader);
    assert_eq!(cluster.result(orphan), Some(Ok(1)));
    cluster.kill(1);
    cluster.run();
    cluster.heal();
    assert_eq!(cluster.produce("y"), 1);
    cluster.start(1);
    cluster.run();
    assert_eq!(cluster.truncations(1), [(2, 1)]);
    cluster.assert_converged();
    assert_eq!(cluster.read_all(2), ["a", "y"]);
}

/// Trap 3: leaders change twice with hardly a record in between; one step of truncation would stop too high.
#[test]
fn failover_twice_in_a_row_with_few_writes_cuts_step_by_step() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    // Broker 1 leads and writes what nobody gets.
    cluster.partition(1, 2);
    cluster.partition(1, 3);
    cluster.send(1, "x1", Acks::Leader);
    cluster.send(1, "x2", Acks::Leader);
    cluster.send(1, "x3", Acks::Leader);
    cluster.kill(1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    // Broker 2 leads, writes what nobody gets.
    cluster.partition(2, 3);
    cluster.send(2, "y", Acks::Leader);
    cluster.kill(2);
    cluster.run();
    assert_eq!(cluster.leader(), Some(3));
    cluster.heal();
    cluster.produce("z1");
    cluster.produce("z2");
    cluster.start(1);
    cluster.start(2);
    cluster.pass(1_000);
    cluster.assert_converged();
    assert_eq!(cluster.read_all(3), ["a", "z1", "z2"]);
}

/// Trap 3 again: an epoch in which nobody wrote is known to the leader, so an answer about it is not taken for one
/// about the epoch before.
#[test]
fn failover_epoch_without_records_is_recorded_before_the_first_write() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    cluster.kill(1);
    cluster.run();
    let epoch = cluster.describe(2).leader_epoch.expect("led");
    let shard = cluster.brokers[&BrokerId(2)].shard.as_ref().expect("running");
    let end = shard.epoch_end(cluster.key(), None, epoch).expect("led here");
    assert_eq!(end, Some(EpochEnd { epoch, end_offset: Offset(1) }));
    let end = shard.epoch_end(cluster.key(), None, Epoch(epoch.0 - 1)).expect("led here");
    assert_eq!(end.expect("known").end_offset, Offset(1), "the epoch before ends where the silent one begins");
}

/// Traps 4 and 5: a returning ex-leader with a tail of its own reports a high offset; this acknowledges nothing, and the
/// leader's high watermark is not taken over before the cut.
#[test]
fn failover_diverging_fetch_is_not_an_acknowledgement_and_brings_no_high_watermark() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    cluster.partition(1, 2);
    cluster.partition(1, 3);
    for tail in ["x1", "x2", "x3"] {
        cluster.send(1, tail, Acks::Leader);
    }
    cluster.fence(1);
    cluster.hold(0, 1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    cluster.produce("y");
    assert_eq!(cluster.isr(), [2, 3]);

    // Broker 1 hears of it, fetches from offset 4, and is told where its last epoch ends.
    cluster.hold(2, 1);
    cluster.heal();
    cluster.release(0, 1);
    cluster.unfence(1);
    cluster.run();
    let pending = cluster.send(2, "z", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(pending), Some(Ok(2)), "by brokers 2 and 3 alone");
    assert_eq!(cluster.isr(), [2, 3], "broker 1's offset 4 did not count");
    assert_eq!((cluster.log_end(1), cluster.high_watermark(1)), (4, 1));
    let answer = cluster.in_transit.iter().find_map(|message| match message {
        Message::Reply { reply, .. } => reply.partitions[0].result.clone().ok(),
        _ => None,
    });
    let answer = answer.expect("an answer is held");
    assert!(answer.diverging.is_some() && answer.records.is_empty());

    cluster.release(2, 1);
    cluster.run();
    assert_eq!(cluster.truncations(1), [(4, 1)]);
    cluster.assert_converged();
}

/// Trap 6: a new leader's high watermark lags; a follower past it but before the epoch's start must not join the ISR.
#[test]
fn failover_follower_below_the_epochs_start_does_not_join_although_past_the_high_watermark() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    // Broker 3 leaves the ISR with one record.
    cluster.kill(3);
    cluster.run();
    // x is acknowledged by 1 and 2, but broker 2 has not heard so when broker 1 dies.
    let x = cluster.send(1, "x", Acks::All);
    while cluster.result(x).is_none() {
        let message = cluster.in_transit.pop_front().expect("the record is on its way");
        cluster.deliver(message);
    }
    cluster.vanish(1);
    cluster.fence(1);
    cluster.in_transit.retain(|message| matches!(message, Message::Image { .. }));
    cluster.run();
    // Broker 2 leads with all of x; as sole member of the ISR it commits it at once.
    assert_eq!(cluster.leader(), Some(2));
    let description = cluster.describe(2);
    assert_eq!((description.high_watermark, description.log_end), (Offset(2), Offset(2)));
    // Broker 3 returns with one record. Its first fetch, at offset 1, does not make it a member.
    cluster.start(3);
    cluster.hold(2, 3);
    cluster.run();
    assert_eq!(cluster.isr(), [2]);
    cluster.release(2, 3);
    cluster.run();
    assert_eq!(cluster.isr(), [2, 3]);
    assert_eq!(cluster.read_all(2), ["a", "x"]);
}

/// Trap 12 turned around: a new leader that does not know yet what is committed says so, instead of a low number.
#[test]
fn failover_new_leader_refuses_latest_until_it_knows_what_is_committed() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    // b is acknowledged; brokers 2 and 3 hold it but have not heard that it is committed.
    cluster.hold(1, 2);
    cluster.hold(1, 3);
    let b = cluster.send(1, "b", Acks::All);
    cluster.run();
    assert_eq!(cluster.result(b), None);
    for to in [2, 3] {
        let at = cluster.in_transit.iter().position(|message| message.link() == (1, to)).expect("data on its way");
        let message = cluster.in_transit.remove(at).expect("there");
        cluster.deliver(message);
    }
    cluster.run();
    assert_eq!(cluster.result(b), Some(Ok(1)));
    assert_eq!((cluster.log_end(2), cluster.high_watermark(2)), (2, 1));

    cluster.vanish(1);
    cluster.held.clear();
    cluster.hold(3, 2);
    cluster.fence(1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    let consumer = Reader::Consumer { isolation: minisr_replica::Isolation::ReadUncommitted };
    let key = cluster.key();
    let latest = |cluster: &mut Cluster| {
        let broker = cluster.brokers.get_mut(&BrokerId(2)).expect("known");
        let shard = broker.shard.as_mut().expect("running");
        shard.list_offset(key, OffsetSpec::Latest, consumer, None, &mut broker.disk)
    };
    assert_eq!(latest(&mut cluster), Err(ListOffsetsError::OffsetNotAvailable));
    cluster.release(3, 2);
    cluster.run();
    assert_eq!(latest(&mut cluster).expect("known now").offset, Some(Offset(2)));
}

/// Trap 17: an answer from epoch 5 arrives after the follower has moved to epoch 6 at the same offset.
#[test]
fn failover_answer_of_a_deposed_leader_is_dropped_although_its_offset_fits() {
    let mut cluster = Cluster::new(3, 1);
    cluster.produce("a");
    // Broker 1's answer with x to broker 3 is delayed; nobody else gets x.
    cluster.partition(1, 2);
    cluster.hold(1, 3);
    cluster.send(1, "x", Acks::Leader);
    cluster.fence(1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    assert_eq!(cluster.log_end(3), 1);
    cluster.release(1, 3);
    cluster.run();
    assert_eq!(cluster.log_end(3), 1, "x is not appended");
    cluster.heal();
    cluster.produce("y");
    assert_eq!(cluster.read_all(2), ["a", "y"]);
}

/// Trap 10: a fetch from a broker's previous life, with a high offset, arrives after it came back empty.
#[test]
fn failover_fetch_from_a_previous_life_is_refused() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    cluster.hold(2, 1);
    cluster.produce_pending("b");
    let delayed = cluster.in_transit.iter().find(|message| message.link() == (2, 1)).cloned();
    let Some(Message::Fetch { request, .. }) = delayed else { panic!("a fetch is held") };
    cluster.lose_power(2);
    cluster.held.clear();
    cluster.run();
    cluster.start(2);
    cluster.hold(2, 1);
    cluster.run();
    let ticket = cluster.ticket();
    cluster.step(1, Event::Fetch { ticket, request });
    let answer = &cluster.fetched[&ticket].partitions[0].result;
    assert_eq!(answer, &Err(FetchError::StaleBrokerEpoch));
    assert_eq!(cluster.isr(), [1], "and it did not bring broker 2 back into the ISR");
}

/// Trap 15: a retry is recognised while its record is not yet committed.
#[test]
fn failover_duplicate_waits_for_the_commit_like_the_original() {
    let mut cluster = Cluster::new(2, 2);
    cluster.hold(2, 1);
    let original = cluster.send_batch(1, &["a"], Acks::All, idempotent(9, 0));
    let retry = cluster.send_batch(1, &["a"], Acks::All, idempotent(9, 0));
    cluster.run();
    assert_eq!((cluster.result(original), cluster.result(retry)), (None, None));
    cluster.release(2, 1);
    cluster.run();
    assert_eq!((cluster.result(original), cluster.result(retry)), (Some(Ok(0)), Some(Ok(0))));
}

/// Trap 16: the new leader recognises a retry of what the old one wrote, because it took it from the log.
#[test]
fn failover_new_leader_recognises_retries_of_its_predecessors_batches() {
    let mut cluster = Cluster::new(3, 2);
    for sequence in 0..5 {
        cluster.send_batch(1, &[&format!("r{sequence}")], Acks::All, idempotent(9, sequence));
    }
    cluster.run();
    cluster.kill(1);
    cluster.run();
    let retry = cluster.send_batch(2, &["r2"], Acks::All, idempotent(9, 2));
    let next = cluster.send_batch(2, &["r5"], Acks::All, idempotent(9, 5));
    cluster.run();
    assert_eq!((cluster.result(retry), cluster.result(next)), (Some(Ok(2)), Some(Ok(5))));
}

/// Trap 16 after a restart and a cut: producer state follows the log, not the other way round.
#[test]
fn failover_producer_state_forgets_what_was_cut_and_keeps_what_was_not() {
    let mut cluster = Cluster::new(2, 1);
    for sequence in 0..3 {
        cluster.send_batch(1, &["kept"], Acks::All, idempotent(9, sequence));
    }
    cluster.run();
    cluster.partition(1, 2);
    cluster.send_batch(1, &["cut"], Acks::Leader, idempotent(9, 3));
    cluster.kill(1);
    cluster.run();
    cluster.heal();
    cluster.start(1);
    cluster.run();
    cluster.elect_preferred();
    cluster.run();
    assert_eq!(cluster.leader(), Some(1));
    let retry = cluster.send_batch(1, &["kept"], Acks::All, idempotent(9, 2));
    let again = cluster.send_batch(1, &["cut"], Acks::All, idempotent(9, 3));
    cluster.run();
    assert_eq!((cluster.result(retry), cluster.result(again)), (Some(Ok(2)), Some(Ok(3))));
}

/// Trap 22: the same leader in a later epoch; the follower starts anew all the same.
#[test]
fn failover_to_the_same_leader_makes_followers_check_again() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("a");
    // Broker 2 is outside the ISR, up, and misses that 1 loses the lead and gets it back.
    cluster.hold(0, 2);
    cluster.fence(2);
    cluster.run();
    let before = cluster.describe(2).leader_epoch.expect("follows");
    cluster.fence(1);
    cluster.run();
    assert_eq!(cluster.leader(), None);
    cluster.unfence(1);
    cluster.unfence(2);
    cluster.run();
    assert_eq!(cluster.leader(), Some(1));
    cluster.release(0, 2);
    cluster.pass(1_000);
    let after = cluster.describe(2).leader_epoch.expect("follows");
    assert!(after > before);
    cluster.produce("b");
    cluster.assert_converged();
}

#[test]
fn failover_waiting_producers_learn_that_leadership_is_lost() {
    let mut cluster = Cluster::new(2, 2);
    cluster.hold(2, 1);
    let pending = cluster.send(1, "a", Acks::All);
    cluster.run();
    cluster.fence(1);
    cluster.run();
    assert_eq!(cluster.result(pending), Some(Err(AppendError::LeadershipLost)));
}

/// A leader that was frozen while it was replaced (SIGSTOP) wakes up and finds requests waiting: it does not know yet.
#[test]
fn failover_frozen_leader_acknowledges_nothing_with_acks_all_after_it_was_replaced() {
    let mut cluster = Cluster::new(3, 2);
    cluster.produce("a");
    // Frozen: it hears neither the controller nor its followers.
    cluster.hold(0, 1);
    cluster.hold(2, 1);
    cluster.hold(3, 1);
    cluster.fence(1);
    cluster.run();
    assert_eq!(cluster.leader(), Some(2));
    cluster.produce("b");
    // It wakes up. What waited in its sockets comes first: a write, and the fetches that its followers had sent it.
    let late = cluster.send(1, "late", Acks::All);
    let careless = cluster.send(1, "late, acks=1", Acks::Leader);
    cluster.release(2, 1);
    cluster.release(3, 1);
    cluster.run();
    assert_eq!(cluster.result(late), None, "nobody fetches it in the epoch that is over");
    assert_eq!(cluster.result(careless), Some(Ok(2)), "acks=1 promises no more than this");
    // Only then the news.
    cluster.release(0, 1);
    cluster.run();
    assert_eq!(cluster.result(late), Some(Err(AppendError::LeadershipLost)));
    cluster.unfence(1);
    cluster.pass(1_000);
    cluster.assert_converged();
    assert_eq!(cluster.read_all(2), ["a", "b"], "what it wrote late is cut off");
}

/// Trap 21: a topic is deleted and made again under the same name while a replica is away.
#[test]
fn failover_recreated_topic_does_not_inherit_its_namesakes_records() {
    let mut cluster = Cluster::new(2, 1);
    cluster.produce("old");
    cluster.kill(2);
    cluster.run();
    let old = cluster.topic;
    cluster.command(minisr_logic::metadata::Command::DeleteTopic { topic_id: old }).expect("deleted");
    cluster.run();
    cluster.topic = TopicId(8);
    cluster.create_topic(cluster.topic, "t", vec![vec![BrokerId(1)]], 1);
    cluster.run();
    cluster.start(2);
    cluster.run();
    let removed: Vec<_> = cluster
        .notices
        .iter()
        .filter(|(_, notice)| matches!(notice, Notice::Removed { .. }))
        .map(|(id, _)| id.0)
        .collect();
    assert_eq!(removed, [1, 2]);
    cluster.produce("new");
    assert_eq!(cluster.read_all(1), ["new"]);
}

/// The same, seen by a broker that follows the metadata log in leaps: both changes come with one image.
#[test]
fn failover_topic_recreated_between_two_images_does_not_inherit_its_namesakes_records() {
    for new in [TopicId(1), TopicId(1 << 100)] {
        let mut cluster = Cluster::new(2, 1);
        cluster.produce("old");
        cluster.run();
        let old = cluster.topic;
        cluster.command(minisr_logic::metadata::Command::DeleteTopic { topic_id: old }).expect("deleted");
        cluster.topic = new;
        cluster.create_topic(new, "t", vec![vec![BrokerId(1), BrokerId(2)]], 1);
        let image = std::sync::Arc::new(cluster.image.clone());
        for id in [1, 2] {
            cluster.step(id, Event::Image(std::sync::Arc::clone(&image)));
        }
        cluster.run();
        cluster.produce("new");
        cluster.run();
        assert_eq!(cluster.read_all(1), ["new"]);
        cluster.kill(1);
        cluster.kill(2);
        cluster.start(1);
        cluster.start(2);
        cluster.run();
        assert_eq!(cluster.log_end(1), 1, "what was written to the new topic is there after a restart");
        cluster.assert_converged();
    }
}

#[test]
fn failover_requests_with_other_leader_epochs_are_refused() {
    let cluster = Cluster::new(1, 1);
    let key = cluster.key();
    let current = cluster.describe(1).leader_epoch.expect("leads");
    let shard = cluster.brokers[&BrokerId(1)].shard.as_ref().expect("running");
    let ask = |epoch: i32| shard.epoch_end(key, Some(Epoch(epoch)), current);
    assert_eq!(ask(current.0 - 1), Err(FetchError::FencedLeaderEpoch { current }));
    assert_eq!(ask(current.0 + 1), Err(FetchError::UnknownLeaderEpoch { current }));
    assert!(ask(current.0).is_ok());
}
