//! The leader-epoch cache against what a whole log says.

use minisr_logic::partition::{AckPolicy, Cursors, EpochCache, EpochEnd, Follower, LogState, PositionCheck, Producers};
use minisr_logic::partition::{Replica, Settings};
use minisr_logic::{BrokerId, Epoch, Offset};
use proptest::prelude::*;

/// A log as the epoch of each record.
fn cache_of(log: &[i32]) -> EpochCache {
    let mut cache = EpochCache::default();
    for (offset, &epoch) in (0..).zip(log) {
        cache.assign(Epoch(epoch), Offset(offset));
    }
    cache
}

fn end(log: &[i32]) -> Offset {
    Offset(i64::try_from(log.len()).expect("small"))
}

/// The definition, from the records themselves (all epochs have records here).
fn end_offset_by_definition(log: &[i32], epoch: i32) -> Option<EpochEnd> {
    let newest = log.last().copied()?;
    if epoch == newest {
        return Some(EpochEnd { epoch: Epoch(epoch), end_offset: end(log) });
    }
    let first_higher = log.iter().position(|&it| it > epoch)?;
    let floor = log.iter().copied().filter(|&it| it <= epoch).max().unwrap_or(epoch);
    Some(EpochEnd { epoch: Epoch(floor), end_offset: end(&log[..first_higher]) })
}

/// Ascending epochs with gaps.
fn any_log() -> impl Strategy<Value = Vec<i32>> {
    proptest::collection::vec((0..3_i32, 1..5_usize), 0..8).prop_map(|runs| {
        let mut epoch = 0;
        let mut log = Vec::new();
        for (step, count) in runs {
            epoch += step;
            log.extend(std::iter::repeat_n(epoch, count));
        }
        log
    })
}

/// Two logs that share a history and then went different ways, in different epochs.
fn diverged() -> impl Strategy<Value = (Vec<i32>, Vec<i32>)> {
    (any_log(), proptest::collection::vec((any::<bool>(), 1..4_usize), 0..6), 0..20_usize).prop_map(
        |(shared, elections, cut)| {
            let mut epoch = shared.last().copied().unwrap_or(0);
            let (mut leader, mut follower) = (shared.clone(), shared);
            // Each election is won by one of the two, who writes; the other hears nothing of it. The follower may
            // hold only a part of the shared history.
            for (first, count) in elections {
                epoch += 1;
                let writer = if first { &mut leader } else { &mut follower };
                writer.extend(std::iter::repeat_n(epoch, count));
            }
            if cut < follower.len() && cut % 2 == 0 {
                follower.truncate(cut);
            }
            leader.push(epoch + 1);
            (leader, follower)
        },
    )
}

fn replica(log: &[i32]) -> Replica {
    let cursors = Cursors::recovered(AckPolicy::Written, Offset(0), Offset(0), end(log), end(log));
    let settings = Settings { replica_lag_time_max_ms: 1, lag_max_messages: None, alter_partition_retry_ms: 1 };
    Replica::new(BrokerId(1), settings, LogState::new(cursors, cache_of(log), Producers::default()))
}

fn common_prefix(one: &[i32], other: &[i32]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

proptest! {
    #[test]
    fn epochs_end_offset_is_what_the_records_say(log in any_log(), epoch in 0..30_i32) {
        let cache = cache_of(&log);
        cache.check(end(&log));
        prop_assert_eq!(cache.end_offset_for(Epoch(epoch), end(&log)), end_offset_by_definition(&log, epoch));
    }

    #[test]
    fn epochs_after_a_cut_are_those_of_the_cut_log(log in any_log(), at in 0..40_usize) {
        let at = at.min(log.len());
        let mut cache = cache_of(&log);
        cache.truncate_suffix(Offset(i64::try_from(at).expect("small")));
        prop_assert_eq!(cache, cache_of(&log[..at]));
    }

    #[test]
    fn epochs_after_retention_answer_alike_for_what_is_left(log in any_log(), at in 0..40_usize, epoch in 0..30_i32) {
        let at = at.min(log.len().saturating_sub(1));
        let start = Offset(i64::try_from(at).expect("small"));
        let (whole, mut rest) = (cache_of(&log), cache_of(&log));
        rest.truncate_prefix(start);
        rest.check(end(&log));
        prop_assert!(rest.entries().all(|(_, first)| first >= start || log.is_empty()));
        if log.get(at).is_some_and(|&oldest| epoch >= oldest) {
            let (epoch, end) = (Epoch(epoch), end(&log));
            prop_assert_eq!(rest.end_offset_for(epoch, end), whole.end_offset_for(epoch, end));
        }
    }

    #[test]
    fn epochs_stay_ascending_whatever_is_assigned(entries in proptest::collection::vec((0..12_i32, 0..40_i64), 0..30)) {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign(Epoch(epoch), Offset(start));
            cache.check(Offset(40));
            prop_assert_eq!(cache.latest().map(|(latest, _)| latest), Some(Epoch(epoch)));
        }
    }

    /// Traps 1 to 3: the loop of fetch, diverging answer and cut ends with a prefix of the leader's log, having kept
    /// every record that the two had in common.
    #[test]
    fn epochs_truncation_loop_ends_at_exactly_the_common_prefix((leader, follower) in diverged()) {
        let kept = common_prefix(&leader, &follower);
        let of_leader = replica(&leader);
        let mut of_follower = replica(&follower);
        let following = Follower::new(Some(BrokerId(1)), Epoch(100));
        for _ in 0..20 {
            let position = following.position(of_follower.log());
            match of_leader.check_position(position.fetch_offset, position.last_fetched_epoch, end(&leader)) {
                PositionCheck::Prefix => break,
                PositionCheck::Diverging(answer) => {
                    let to = following.truncation_point(of_follower.log(), answer);
                    of_follower.log_mut().truncate(to);
                    let after = following.position(of_follower.log());
                    prop_assert!(after != position, "each step gets somewhere");
                }
                PositionCheck::OutOfRange => prop_assert!(false, "the leader knows a higher epoch"),
            }
        }
        prop_assert_eq!(of_follower.log().cursors.written(), Offset(i64::try_from(kept).expect("small")));
    }
}

#[test]
fn epochs_silent_election_conflicts_and_goes_although_nothing_is_cut() {
    // An ex-leader recorded epoch 5 at its log end and never wrote; meanwhile epoch 6 began one record earlier.
    let mut log = replica(&[4, 4, 4]);
    log.log_mut().epochs.assign(Epoch(5), Offset(3));
    let following = Follower::new(Some(BrokerId(2)), Epoch(6));
    let answer = EpochEnd { epoch: Epoch(4), end_offset: Offset(3) };
    let to = following.truncation_point(log.log(), answer);
    assert_eq!(to, Offset(3));
    log.log_mut().truncate(to);
    assert_eq!(following.position(log.log()).last_fetched_epoch, Some(Epoch(4)));
}
