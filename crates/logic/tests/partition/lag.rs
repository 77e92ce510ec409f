//! The three kinds of lagging follower, and the legacy rule by number of records.

use std::collections::BTreeSet;

use minisr_logic::partition::{
    AckPolicy, Acks, Admitted, BatchSummary, Cursors, EpochCache, IsrReason, LagComparison, LagKind, LagMaxMessages,
    LogState, Members, Producers, Replica, Settings, Ticket, View,
};
use minisr_logic::{BrokerEpoch, BrokerId, Epoch, Millis, Offset, PartitionEpoch};

const LAG_MS: u64 = 1_000;
const N: u64 = 4;

/// Broker 1 leads brokers 2 and 3 from an empty log; nothing is committed at a controller unless told.
struct Story {
    replica: Replica,
    now: Millis,
    end: i64,
}

impl Story {
    fn new(isr: &[i32], lag_max_messages: Option<LagMaxMessages>) -> Self {
        let cursors = Cursors::recovered(AckPolicy::Written, Offset(0), Offset(0), Offset(0), Offset(0));
        let settings = Settings { replica_lag_time_max_ms: LAG_MS, lag_max_messages, alter_partition_retry_ms: 100 };
        let log = LogState::new(cursors, EpochCache::default(), Producers::default());
        let mut replica = Replica::new(BrokerId(1), settings, log);
        let registered = |id: i32| (BrokerId(id), Some((BrokerEpoch(10 + i64::from(id)), true)));
        let view = View {
            leader: Some(BrokerId(1)),
            leader_epoch: Epoch(0),
            partition_epoch: PartitionEpoch(0),
            isr: isr.iter().map(|&id| BrokerId(id)).collect::<BTreeSet<_>>(),
            members: Members::new((1..=3).map(registered), 1),
        };
        replica.apply(Millis(0), view);
        Self { replica, now: Millis(0), end: 0 }
    }

    fn append(&mut self, records: u32) {
        let (leader, log) = self.replica.as_leader().expect("leads");
        let batch = BatchSummary { records: i32::try_from(records).expect("few"), max_timestamp_ms: 0, producer: None };
        let admitted = leader.admit(self.now, log, Ticket(1), &batch, Acks::Leader, 0).expect("admitted");
        let Admitted::Write { base_offset, .. } = admitted else { panic!("no producer id, no duplicate") };
        self.end = base_offset.0 + i64::from(records);
        leader.written(self.now, log, Offset(self.end));
    }

    fn fetch(&mut self, id: i32, offset: i64) {
        let (leader, log) = self.replica.as_leader().expect("leads");
        leader.follower_fetched(self.now, log, BrokerId(id), Offset(offset), None);
    }

    fn both_fetch_from(&mut self, offset: i64) {
        self.fetch(2, offset);
        self.fetch(3, offset);
    }

    /// Time passes in steps in which broker 2 fetches everything; `other` is done in each as well.
    fn pass(&mut self, duration_ms: u64, mut other: impl FnMut(&mut Self)) {
        for _ in 0..duration_ms / 100 {
            self.now = self.now.plus(100);
            self.fetch(2, self.end);
            other(self);
            let (leader, log) = self.replica.as_leader().expect("leads");
            leader.tick(self.now, log);
        }
    }

    fn dropped(&mut self) -> Vec<(i32, IsrReason)> {
        let (leader, _) = self.replica.as_leader().expect("leads");
        let proposed = leader.take_proposal();
        proposed.map(|it| it.dropped.into_iter().map(|(id, why)| (id.0, why)).collect()).unwrap_or_default()
    }

    fn lag_of(&self, id: i32) -> Option<(LagKind, Option<i64>)> {
        let leader = self.replica.leader().expect("leads");
        let lagging = leader.lagging(self.now, self.replica.log());
        lagging.into_iter().find(|(lagging, ..)| lagging.0 == id).map(|(_, kind, lacks)| (kind, lacks))
    }
}

#[test]
fn lag_stuck_follower_sends_no_fetch_and_is_dropped_as_stuck() {
    let mut story = Story::new(&[1, 2, 3], None);
    story.fetch(3, 0);
    story.append(7);
    story.pass(LAG_MS, |_| {});
    assert_eq!((story.lag_of(3), story.dropped()), (None, vec![]), "within the lag time it is in step");
    story.pass(LAG_MS / 2, |_| {});
    assert_eq!(story.lag_of(3), Some((LagKind::Stuck, Some(7))));
    assert_eq!(story.dropped(), [(3, IsrReason::Stuck)]);
}

#[test]
fn lag_slow_follower_fetches_but_never_reaches_the_end_and_is_dropped_as_slow() {
    let mut story = Story::new(&[1, 2, 3], None);
    // It takes one record of every ten.
    let mut taken = 0;
    story.append(10);
    story.pass(LAG_MS + LAG_MS / 2, |story| {
        story.append(10);
        story.fetch(2, story.end);
        taken += 1;
        story.fetch(3, taken);
    });
    let lacks = story.end - taken;
    assert_eq!(story.lag_of(3), Some((LagKind::Slow, Some(lacks))));
    assert_eq!(story.dropped(), [(3, IsrReason::Slow)]);
}

#[test]
fn lag_bootstrapping_follower_is_outside_the_isr_and_fetching() {
    let mut story = Story::new(&[1, 2], None);
    story.append(100);
    story.pass(2 * LAG_MS, |story| story.fetch(3, 40));
    assert_eq!(story.lag_of(3), Some((LagKind::Bootstrapping, Some(60))));
    assert_eq!(story.dropped(), [], "who is no member is not dropped");
    // Its broker goes away: it does not catch up any more.
    story.pass(LAG_MS + 100, |_| {});
    assert_eq!(story.lag_of(3), Some((LagKind::Stuck, Some(60))));
}

#[test]
fn lag_of_a_follower_that_a_new_leader_has_not_heard_from_is_unknown() {
    let mut story = Story::new(&[1, 2], None);
    assert_eq!(story.lag_of(3), Some((LagKind::Bootstrapping, None)), "too early to call it silent");
    story.pass(LAG_MS + 100, |_| {});
    assert_eq!(story.lag_of(3), Some((LagKind::Stuck, None)));
}

#[test]
fn lag_by_messages_shuttles_healthy_followers_at_the_limit_or_just_above_it() {
    let dropped_by_one_batch = |records, comparison| {
        let mut story = Story::new(&[1, 2, 3], Some(LagMaxMessages { limit: N, comparison }));
        story.both_fetch_from(0);
        story.append(records);
        // No time has passed and no fetch was served.
        story.dropped()
    };
    let both = vec![(2, IsrReason::Messages), (3, IsrReason::Messages)];
    assert_eq!(dropped_by_one_batch(3, LagComparison::GreaterOrEqual), []);
    assert_eq!(dropped_by_one_batch(4, LagComparison::GreaterOrEqual), both);
    assert_eq!(dropped_by_one_batch(4, LagComparison::Greater), []);
    assert_eq!(dropped_by_one_batch(5, LagComparison::Greater), both);
    let mut story = Story::new(&[1, 2, 3], None);
    story.both_fetch_from(0);
    story.append(1_000);
    assert_eq!(story.dropped(), [], "by time nobody is late");
}

#[test]
fn lag_by_messages_leaves_a_follower_that_was_not_heard_from_to_the_rule_of_time() {
    let rule = LagMaxMessages { limit: N, comparison: LagComparison::Greater };
    let mut story = Story::new(&[1, 2, 3], Some(rule));
    story.append(100);
    assert_eq!(story.dropped(), []);
}

/// Safety does not hang on the rule: until the controller has committed the shrink, whom it drops still counts.
#[test]
fn lag_by_messages_commits_nothing_early() {
    let rule = LagMaxMessages { limit: N, comparison: LagComparison::GreaterOrEqual };
    let mut story = Story::new(&[1, 2, 3], Some(rule));
    story.both_fetch_from(0);
    story.append(4);
    assert_eq!(story.dropped().len(), 2);
    assert_eq!(story.replica.log().cursors.high_watermark(), Offset(0));
}
