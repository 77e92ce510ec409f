//! The leader's decisions about an acks=all batch, bytes left out.

use std::hint::black_box;

use minisr_benches::samples::{FOLLOWERS, batch, leader};
use minisr_logic::Millis;
use minisr_logic::partition::{Acks, BatchSummary, Ticket};
use minisr_wire::batch::BatchView;

use crate::rounds::{Round, rounds};

/// Which of the three steps of a batch is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Admit,
    Written,
    FollowerFetched,
}

/// Whether the batch may be appended, and its place.
pub fn admit() {
    batches(Counted::Admit);
}

/// The batch is in the leader's log.
pub fn written() {
    batches(Counted::Written);
}

/// The second of two followers has it, which commits it.
pub fn follower_fetched() {
    batches(Counted::FollowerFetched);
}

fn batches(counted: Counted) {
    let mut replica = leader();
    let records = BatchView::parse(&batch(64 << 10)).expect("a batch").record_count();
    let summary = BatchSummary { records, max_timestamp_ms: 0, producer: None };
    let count = |round: Round, step: Counted, work: &mut dyn FnMut()| {
        if step == counted { round.count(work) } else { work() }
    };
    for round in rounds() {
        let (now, ticket) = (Millis(round.number.into()), Ticket(round.number.into()));
        let (leader, log) = replica.as_leader().expect("it leads");
        count(round, Counted::Admit, &mut || {
            black_box(leader.admit(now, log, ticket, &summary, Acks::All, 30_000)).expect("admitted");
        });
        let end = log.admitted_end();
        count(round, Counted::Written, &mut || leader.written(now, log, end));
        let [first, last] = FOLLOWERS;
        leader.follower_fetched(now, log, first, end, None);
        count(round, Counted::FollowerFetched, &mut || {
            black_box(leader.follower_fetched(now, log, last, end, None));
        });
        let (done, result) = leader.pop_decided().expect("the batch is committed");
        assert!(done == ticket && result.is_ok());
    }
}
