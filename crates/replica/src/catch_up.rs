//! Replicas that catch up are polite: their bulk competes with what producers wait for.
//!
//! They have a fetch loop of their own, so that bulk does not stand in front of the few records that an acknowledgement
//! waits for. An answer in it is at most [`BYTES_MAX`], so that it holds leader and follower up for a moment only, and
//! after each answer that leaves at least as much to copy the loop rests for [`RESTS`] times as long as that answer
//! took. So it rests longer the busier the machines are, and of all replicas that catch up a quarter at most is served at
//! the same time.
//!
//! Where producers write so much that a polite replica would hardly get nearer, it is not polite: being in sync again is
//! worth more than their response times. A throttle ([`crate::throttle`]) comes on top of all this.

use crate::config::Config;

/// What one answer may carry, within the limits of the settings.
const BYTES_MAX: usize = 128 * 1024;
/// An answer of at most this much disturbs nobody: no rest after it. Far below [`BYTES_MAX`], since an answer consists of
/// whole batches and ends where a segment does, so that most are not full however much there is.
const BYTES_SMALL: usize = BYTES_MAX / 8;
/// How many times as long as an answer took, the loop rests after it.
const RESTS: u64 = 3;
/// No rest is longer: an answer may also have been late for a reason that is over.
const REST_MS_MAX: u64 = 100;

/// What one answer brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Haul {
    /// Bytes of records in it.
    pub(crate) bytes: usize,
    /// Records that were appended.
    pub(crate) records: i64,
    /// Committed records that are still missing.
    pub(crate) lacks: i64,
}

/// How a loop of those who catch up gets on.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Pace {
    /// Committed records that were missing after the last answer, if there may be a rest after it.
    lacked: Option<i64>,
}

impl Pace {
    /// How long to rest after an answer that took so long. No rest after a small one, nor near the end, where a rest would
    /// keep the replica from ever being in sync; and none when more than half of what it brought has grown again meanwhile.
    pub(crate) fn rest_ms(&mut self, took_ms: u64, haul: Haul) -> Option<u64> {
        if haul.bytes <= BYTES_SMALL || haul.lacks <= haul.records {
            self.lacked = None;
            return None;
        }
        let lacked = self.lacked.replace(haul.lacks);
        let gets_nearer = lacked.is_none_or(|lacked| (lacked - haul.lacks).saturating_mul(2) >= haul.records);
        gets_nearer.then(|| took_ms.max(1).saturating_mul(RESTS).min(REST_MS_MAX))
    }
}

/// The index of the loop in which replicas catch up: the one after those of `num.replica.fetchers`.
pub(crate) fn index(config: &Config) -> u32 {
    config.num_replica_fetchers.max(1)
}

/// What one answer may carry.
pub(crate) fn bytes_max(config: &Config) -> usize {
    config.replica_fetch_response_max_bytes.min(config.replica_fetch_max_bytes).min(BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use minisr_logic::partition::Position;
    use minisr_logic::{BrokerId, Epoch, Millis, Offset, TopicId, TopicPartition};

    use super::*;
    use crate::fetcher::{Fetchers, NextFetch};

    const FULL: Haul = Haul { bytes: BYTES_MAX, records: 100, lacks: 10_000 };

    /// Asks now, if it does not rest.
    fn ask(fetchers: &mut Fetchers, now: Millis, config: &Config) -> Option<NextFetch> {
        let position = Position {
            epoch: Epoch(1),
            fetch_offset: Offset(0),
            last_fetched_epoch: None,
            log_start: Offset(0),
            high_watermark: Offset(0),
            flushed: Offset(0),
        };
        fetchers.tick(now, config);
        fetchers.next_fetch(now, config, |_| Some(position))
    }

    /// When a loop asks again after a full answer that came at 1,004 and took 4 ms.
    fn asks_again_at(is_in_sync: bool) -> Millis {
        let config = Config::new(BrokerId(1));
        let mut fetchers = Fetchers::default();
        fetchers.assign(TopicPartition { topic: TopicId(7), partition: 0 }, BrokerId(2), is_in_sync, &config);
        let asked = ask(&mut fetchers, Millis(1_000), &config).expect("there is something to ask");
        let mut now = Millis(1_004);
        let in_flight = fetchers.answered(asked.fetcher, asked.correlation).expect("the newest question");
        fetchers.took_in(now, asked.fetcher, in_flight.sent_at, FULL, &config);
        while ask(&mut fetchers, now, &config).is_none() {
            now = fetchers.next_deadline().filter(|next| *next > now).expect("a rest has an end, and is told of");
        }
        now
    }

    #[test]
    fn catch_up_rests_three_times_as_long_as_a_full_answer_took() {
        assert_eq!(asks_again_at(false), Millis(1_016));
    }

    #[test]
    fn catch_up_rest_is_not_for_replicas_in_sync() {
        assert_eq!(asks_again_at(true), Millis(1_004));
    }

    #[test]
    fn catch_up_rest_has_bounds() {
        assert_eq!(Pace::default().rest_ms(0, FULL), Some(RESTS));
        assert_eq!(Pace::default().rest_ms(60_000, FULL), Some(REST_MS_MAX));
    }

    #[test]
    fn catch_up_rest_follows_an_answer_of_one_batch_that_leaves_no_room_for_another() {
        let one_batch = Haul { bytes: 49_246, records: 3, lacks: 10_859 };
        assert_eq!(Pace::default().rest_ms(2, one_batch), Some(6));
    }

    #[test]
    fn catch_up_does_not_rest_after_small_answers_nor_near_the_end() {
        assert_eq!(Pace::default().rest_ms(500, Haul { bytes: BYTES_SMALL, ..FULL }), None);
        assert_eq!(Pace::default().rest_ms(5, Haul { lacks: FULL.records, ..FULL }), None);
    }

    #[test]
    fn catch_up_does_not_rest_while_producers_write_faster() {
        let mut pace = Pace::default();
        let mut rests = |lacks| pace.rest_ms(5, Haul { lacks, ..FULL }).is_some();
        assert!(rests(10_000), "nothing is known yet");
        assert!(rests(9_950), "half of 100 records nearer");
        assert!(!rests(9_901), "51 of 100 have grown again");
        assert!(!rests(12_000), "further away than before");
        assert!(rests(11_900), "nobody writes any more");
    }
}
