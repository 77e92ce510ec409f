//! The cursors under any sequence of what can happen to a log.

use minisr_logic::Offset;
use minisr_logic::partition::{AckPolicy, Cursors};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Change {
    Write(i64),
    Flush(i64),
    Commit(i64),
    Follow(i64),
    Cut(i64),
    Retain(i64),
    Restart(i64),
    Lead,
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..10_i64).prop_map(Change::Write),
        (0..100_i64).prop_map(Change::Flush),
        (0..100_i64).prop_map(Change::Commit),
        (0..100_i64).prop_map(Change::Follow),
        (0..100_i64).prop_map(Change::Cut),
        (0..100_i64).prop_map(Change::Retain),
        (0..100_i64).prop_map(Change::Restart),
        Just(Change::Lead),
    ]
}

/// `percent` of the way from one offset to another.
fn between(from: Offset, to: Offset, percent: i64) -> Offset {
    Offset(from.0 + (to.0 - from.0) * percent / 100)
}

proptest! {
    #[test]
    fn cursors_stay_in_order_whatever_happens(
        flushed_counts in any::<bool>(),
        changes in proptest::collection::vec(any_change(), 0..60),
    ) {
        let policy = if flushed_counts { AckPolicy::Flushed } else { AckPolicy::Written };
        let mut cursors = Cursors::recovered(policy, Offset(0), Offset(0), Offset(0), Offset(0));
        for change in changes {
            let (start, high_watermark, end) = (cursors.log_start(), cursors.high_watermark(), cursors.written());
            match change {
                Change::Write(records) => cursors.advance_written(end.plus(records)),
                Change::Flush(percent) => cursors.advance_flushed(between(start, end, percent)),
                Change::Commit(percent) => {
                    cursors.lower_high_watermark_to_acked();
                    let to = between(cursors.high_watermark(), cursors.local_acked(), percent);
                    if to > cursors.high_watermark() {
                        cursors.raise_high_watermark(to);
                    }
                    cursors.check_leader();
                }
                Change::Follow(offset) => {
                    cursors.follow_high_watermark(Offset(offset));
                    prop_assert!(cursors.high_watermark() >= high_watermark, "what is committed stays so");
                }
                Change::Cut(percent) => cursors.truncate(between(start, end, percent)),
                Change::Retain(percent) => cursors.raise_log_start(between(start, high_watermark, percent)),
                Change::Restart(offset) => cursors.restart(Offset(offset)),
                Change::Lead => {
                    cursors.lower_high_watermark_to_acked();
                    cursors.check_leader();
                }
            }
            cursors.check_follower();
        }
    }

    #[test]
    fn cursors_of_a_recovered_log_fit_it_whatever_the_checkpoints_say(
        start in 0..50_i64, length in 0..50_i64, high_watermark in -5..120_i64, flushed in -5..120_i64,
    ) {
        let end = start + length;
        let cursors = Cursors::recovered(
            AckPolicy::Flushed, Offset(start), Offset(high_watermark), Offset(flushed), Offset(end),
        );
        cursors.check_follower();
        prop_assert_eq!((cursors.log_start(), cursors.written()), (Offset(start), Offset(end)));
    }
}

#[test]
#[should_panic(expected = "cannot be committed")]
fn cursors_refuse_a_commit_of_what_is_not_flushed_under_flush_commit() {
    let mut cursors = Cursors::recovered(AckPolicy::Flushed, Offset(0), Offset(0), Offset(0), Offset(5));
    cursors.raise_high_watermark(Offset(1));
}

#[test]
#[should_panic(expected = "would pass the high watermark")]
fn cursors_refuse_retention_of_what_is_not_committed() {
    let mut cursors = Cursors::recovered(AckPolicy::Written, Offset(0), Offset(3), Offset(0), Offset(5));
    cursors.raise_log_start(Offset(4));
}
