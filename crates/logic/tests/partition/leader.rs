//! The leader's rules one by one, without log or network.

use std::collections::BTreeSet;

use minisr_logic::partition::{
    AckPolicy, Acks, Admitted, AlterPartitionError, AppendError, BatchSummary, Cursors, EpochCache, FollowerRefusal,
    IsrCommitted, LogState, Members, Producers, Replica, Role, Settings, Ticket, View,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch};

const LAG_MS: u64 = 1_000;
const ME: BrokerId = BrokerId(1);

struct Story {
    replica: Replica,
    now: Millis,
    tickets: u64,
}

fn ids(ids: &[i32]) -> BTreeSet<BrokerId> {
    ids.iter().map(|&id| BrokerId(id)).collect()
}

/// Brokers 1 to 3, broker i registered with epoch 10 + i, those in `eligible` unfenced.
fn members(min_isr: usize, eligible: &[i32]) -> Members {
    let registered = |id: i32| (BrokerId(id), Some((BrokerEpoch(10 + i64::from(id)), eligible.contains(&id))));
    Members::new((1..=3).map(registered), min_isr)
}

fn view(isr: &[i32], partition_epoch: i32, min_isr: usize) -> View {
    View {
        leader: Some(ME),
        leader_epoch: Epoch(5),
        partition_epoch: PartitionEpoch(partition_epoch),
        isr: ids(isr),
        members: members(min_isr, &[1, 2, 3]),
    }
}

impl Story {
    /// Broker 1 takes the lead in epoch 5 of a log with `records` records, of which `committed` are known committed.
    fn leading(policy: AckPolicy, isr: &[i32], min_isr: usize, records: i64, committed: i64) -> Self {
        let cursors = Cursors::recovered(policy, Offset(0), Offset(committed), Offset(records), Offset(records));
        let epochs = EpochCache::from_entries((records > 0).then_some((Epoch(1), Offset(0))));
        let settings =
            Settings { replica_lag_time_max_ms: LAG_MS, lag_max_messages: None, alter_partition_retry_ms: 100 };
        let mut replica = Replica::new(ME, settings, LogState::new(cursors, epochs, Producers::default()));
        replica.apply(Millis(0), view(isr, 1, min_isr));
        Self { replica, now: Millis(0), tickets: 0 }
    }

    fn send(&mut self, acks: Acks) -> Result<Ticket, AppendError> {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let batch = BatchSummary { records: 1, max_timestamp_ms: 0, producer: None };
        let (leader, log) = self.replica.as_leader().expect("leads");
        let admitted = leader.admit(self.now, log, ticket, &batch, acks, 30_000)?;
        let Admitted::Write { base_offset, .. } = admitted else { panic!("no producer id, no duplicate") };
        leader.written(self.now, log, base_offset.plus(1));
        Ok(ticket)
    }

    fn fetched(&mut self, id: i32, offset: i64, flushed: Option<i64>) {
        let (leader, log) = self.replica.as_leader().expect("leads");
        leader.follower_fetched(self.now, log, BrokerId(id), Offset(offset), flushed.map(Offset));
        self.replica.check();
    }

    fn tick(&mut self, by_ms: u64) {
        self.now = self.now.plus(by_ms);
        let (leader, log) = self.replica.as_leader().expect("leads");
        leader.tick(self.now, log);
    }

    fn answered(&mut self) -> Vec<(u64, Result<i64, AppendError>)> {
        let (leader, _) = self.replica.as_leader().expect("leads");
        std::iter::from_fn(|| leader.pop_decided())
            .map(|(ticket, result)| (ticket.0, result.map(|committed| committed.base_offset.0)))
            .collect()
    }

    /// The members of the proposal to send now, with its correlation.
    fn proposal(&mut self) -> Option<(u64, Vec<i32>)> {
        let (leader, _) = self.replica.as_leader().expect("leads");
        leader.take_proposal().map(|proposed| (proposed.correlation, proposed.isr.iter().map(|(id, _)| id.0).collect()))
    }

    fn reply(&mut self, correlation: u64, result: Result<IsrCommitted, AlterPartitionError>) {
        let (leader, log) = self.replica.as_leader().expect("leads");
        leader.alter_partition_reply(self.now, log, correlation, result);
    }

    fn high_watermark(&self) -> i64 {
        self.replica.log().cursors.high_watermark().0
    }
}

fn committed(isr: &[i32], partition_epoch: i32) -> Result<IsrCommitted, AlterPartitionError> {
    Ok(IsrCommitted {
        leader_epoch: Epoch(5),
        partition_epoch: PartitionEpoch(partition_epoch),
        isr: isr.iter().map(|&id| BrokerId(id)).collect(),
    })
}

#[test]
fn leader_high_watermark_is_the_lowest_log_end_of_the_isr() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2, 3], 2, 0, 0);
    for _ in 0..3 {
        story.send(Acks::All).expect("admitted");
    }
    story.fetched(2, 3, None);
    assert_eq!(story.high_watermark(), 0, "broker 3 has not been heard from in this epoch");
    story.fetched(3, 1, None);
    assert_eq!(story.high_watermark(), 1);
    story.fetched(3, 3, None);
    assert_eq!(story.answered(), [(1, Ok(0)), (2, Ok(1)), (3, Ok(2))]);
}

#[test]
fn leader_new_one_forgets_what_followers_reported_to_it_before() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2, 3], 2, 4, 2);
    assert_eq!(story.high_watermark(), 2, "its own knowledge from before");
    story.fetched(2, 4, None);
    assert_eq!(story.high_watermark(), 2);
    // The same leader in a later epoch begins anew.
    let mut later = view(&[1, 2, 3], 2, 2);
    later.leader_epoch = Epoch(6);
    assert!(story.replica.apply(Millis(1), later).new_epoch);
    story.fetched(3, 4, None);
    assert_eq!(story.high_watermark(), 2);
    story.fetched(2, 4, None);
    assert_eq!(story.high_watermark(), 4);
}

#[test]
fn leader_sole_member_of_the_isr_commits_what_it_has() {
    assert_eq!(Story::leading(AckPolicy::Written, &[1], 1, 4, 2).high_watermark(), 4);
}

#[test]
fn leader_below_min_isr_commits_nothing_however_many_hold_it() {
    let mut story = Story::leading(AckPolicy::Written, &[1], 2, 0, 0);
    assert_eq!(story.send(Acks::All), Err(AppendError::NotEnoughReplicas { isr: 1, min_isr: 2 }));
    story.send(Acks::Leader).expect("acks=1 ignores the minimum");
    story.fetched(2, 1, None);
    story.fetched(3, 1, None);
    assert_eq!(story.high_watermark(), 0, "the committed ISR is one");
    let (correlation, isr) = story.proposal().expect("broker 2 may join");
    assert_eq!(isr, [1, 2]);
    assert_eq!(story.high_watermark(), 0, "a proposal is not a commitment");
    story.reply(correlation, committed(&[1, 2], 2));
    assert_eq!(story.high_watermark(), 1);
}

#[test]
fn leader_caught_up_follower_outside_the_isr_counts_before_it_joins() {
    // It is about to be proposed; were the high watermark to pass it, it would join behind what is committed.
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 0, 0);
    story.fetched(2, 0, None);
    story.fetched(3, 0, None);
    story.send(Acks::All).expect("admitted");
    story.fetched(2, 1, None);
    assert_eq!(story.high_watermark(), 0, "broker 3 is eligible and was at the end a moment ago");
    story.fetched(3, 1, None);
    assert_eq!(story.high_watermark(), 1);
}

#[test]
fn leader_under_flush_commit_counts_flushed_offsets_only() {
    let mut story = Story::leading(AckPolicy::Flushed, &[1, 2], 1, 0, 0);
    story.send(Acks::All).expect("admitted");
    story.fetched(2, 1, Some(1));
    assert_eq!(story.high_watermark(), 0, "its own disk has not answered");
    let (leader, log) = story.replica.as_leader().expect("leads");
    leader.flushed(Millis(1), log, Offset(1));
    assert_eq!(story.high_watermark(), 1);
    story.send(Acks::All).expect("admitted");
    let (leader, log) = story.replica.as_leader().expect("leads");
    leader.flushed(Millis(1), log, Offset(2));
    story.fetched(2, 2, Some(1));
    assert_eq!(story.high_watermark(), 1, "the follower's disk has not answered");
    story.fetched(2, 2, Some(2));
    assert_eq!(story.high_watermark(), 2);
}

/// Trap 6, at the one place where it is decided.
#[test]
fn leader_follower_joins_only_at_the_epochs_start() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 4, 2);
    story.fetched(3, 3, None);
    assert_eq!((story.high_watermark(), story.proposal()), (2, None), "past the high watermark is not enough");
    story.fetched(3, 4, None);
    assert_eq!(story.proposal().map(|(_, isr)| isr), Some(vec![1, 2, 3]));
}

#[test]
fn leader_follower_that_is_fenced_or_of_another_life_does_not_join() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 0, 0);
    let mut fenced = view(&[1, 2], 1, 1);
    fenced.members = members(1, &[1, 2]);
    story.replica.apply(Millis(1), fenced);
    story.fetched(3, 0, None);
    assert_eq!(story.proposal(), None);
    let (leader, _) = story.replica.as_leader().expect("leads");
    assert_eq!(leader.check_follower(BrokerId(3), Some(BrokerEpoch(12))), Err(FollowerRefusal::StaleBrokerEpoch));
    assert_eq!(leader.check_follower(BrokerId(3), None), Err(FollowerRefusal::StaleBrokerEpoch));
    assert_eq!(leader.check_follower(BrokerId(9), Some(BrokerEpoch(1))), Err(FollowerRefusal::NotReplica));
    assert_eq!(leader.check_follower(ME, Some(BrokerEpoch(11))), Err(FollowerRefusal::NotReplica));
    assert_eq!(leader.check_follower(BrokerId(3), Some(BrokerEpoch(13))), Ok(()));
}

/// Trap 11 of the zoo: what an earlier life of a follower reported is forgotten with that life.
#[test]
fn leader_forgets_the_progress_of_a_followers_earlier_life() {
    let mut story = Story::leading(AckPolicy::Written, &[1], 1, 3, 3);
    story.fetched(2, 3, None);
    let (correlation, _) = story.proposal().expect("it may join");
    story.reply(correlation, Err(AlterPartitionError::IneligibleReplica));
    let mut registered_again = view(&[1], 1, 1);
    registered_again.members =
        Members::new([(ME, Some((BrokerEpoch(11), true))), (BrokerId(2), Some((BrokerEpoch(99), true)))], 1);
    story.replica.apply(Millis(1), registered_again);
    let (leader, _) = story.replica.as_leader().expect("leads");
    assert_eq!(leader.follower(BrokerId(2)).and_then(|it| it.counted()), None);
}

#[test]
fn leader_drops_members_by_time_only_and_takes_one_to_one_and_a_half_lag_times() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2, 3], 1, 0, 0);
    for _ in 0..1_000 {
        story.send(Acks::Leader).expect("admitted");
    }
    story.tick(LAG_MS / 2);
    assert_eq!(story.proposal(), None, "a thousand records behind, but not for long");
    story.fetched(2, 1_000, None);
    story.tick(LAG_MS / 2);
    assert_eq!(story.proposal(), None, "exactly the lag time is still in time");
    story.fetched(2, 1_000, None);
    story.tick(LAG_MS / 2);
    assert_eq!(story.proposal().map(|(_, isr)| isr), Some(vec![1, 2]));
}

#[test]
fn leader_member_that_holds_everything_is_never_dropped_although_it_is_silent() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 0, 0);
    story.fetched(2, 0, None);
    story.tick(10 * LAG_MS);
    assert_eq!(story.proposal(), None);
}

/// Trap 13, at the ack: the minimum was raised after the append of what a duplicate repeats.
#[test]
fn leader_checks_the_minimum_again_when_the_high_watermark_arrives() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 0, 0);
    let ticket = story.send(Acks::All).expect("admitted");
    // Metadata: the ISR is {1} now and the minimum 1, then broker 2's copy does not count any more; then the minimum
    // rises before anything is acknowledged. The strict rule holds the high watermark; the second look would refuse.
    let mut raised = view(&[1], 2, 2);
    raised.members = members(2, &[1]);
    story.replica.apply(Millis(1), raised);
    assert_eq!((story.high_watermark(), story.answered()), (0, Vec::new()));
    story.tick(30_000);
    assert_eq!(story.answered(), [(ticket.0, Err(AppendError::TimedOut))]);
}

#[test]
fn leader_metadata_of_the_past_changes_nothing() {
    let mut story = Story::leading(AckPolicy::Written, &[1, 2], 1, 0, 0);
    story.replica.apply(Millis(1), view(&[1], 3, 1));
    story.replica.apply(Millis(2), view(&[1, 2, 3], 2, 1));
    let mut deposed = view(&[2], 9, 1);
    (deposed.leader, deposed.leader_epoch) = (Some(BrokerId(2)), Epoch(4));
    assert!(!story.replica.apply(Millis(3), deposed).new_epoch);
    let Role::Leader(leader) = story.replica.role() else { panic!("still leads") };
    assert_eq!((leader.isr().settled(), leader.isr().partition_epoch()), (&ids(&[1]), PartitionEpoch(3)));
}

#[test]
fn leader_answer_to_an_earlier_leaderships_proposal_is_not_taken_for_one_to_this() {
    let mut story = Story::leading(AckPolicy::Written, &[1], 1, 0, 0);
    story.fetched(2, 0, None);
    let (before, _) = story.proposal().expect("it may join");
    let mut later = view(&[1], 2, 1);
    later.leader_epoch = Epoch(6);
    story.replica.apply(Millis(1), later);
    story.fetched(2, 0, None);
    let (now, _) = story.proposal().expect("it may join");
    assert_ne!(before, now);
    story.reply(before, Err(AlterPartitionError::IneligibleReplica));
    let Role::Leader(leader) = story.replica.role() else { panic!("leads") };
    assert!(leader.isr().maximal_contains(BrokerId(2)), "the new proposal stands");
}

#[test]
fn leader_proposal_sent_again_does_not_speak_for_a_later_life_of_the_joiner() {
    let mut story = Story::leading(AckPolicy::Written, &[1], 1, 0, 0);
    story.fetched(2, 0, None);
    let life_proposed = |story: &mut Story| {
        let (leader, _) = story.replica.as_leader().expect("leads");
        let proposed = leader.take_proposal().expect("a proposal is due");
        proposed.isr.iter().find(|(id, _)| *id == BrokerId(2)).expect("broker 2 is to join").1
    };
    assert_eq!(life_proposed(&mut story), BrokerEpoch(12));
    // No answer comes; meanwhile broker 2 lost power and with it perhaps its tail, and registered again.
    let registered = |id: i32| (BrokerId(id), Some((BrokerEpoch(if id == 2 { 30 } else { 10 + i64::from(id) }), true)));
    let members = Members::new((1..=3).map(registered), 1);
    story.replica.apply(story.now, View { members, ..view(&[1], 1, 1) });
    story.tick(LAG_MS / 2);
    assert_eq!(life_proposed(&mut story), BrokerEpoch(12), "the controller must see that this life is over");
}
