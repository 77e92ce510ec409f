//! When a producer is answered: the choice of `acks`, the refusals, and the queue of those who wait for the high
//! watermark.
//!
//! Tickets leave the queue in the order of the offsets they wait for; two that wait for the same offset leave in the
//! order they came (a recognised duplicate waits like the original, so offsets need not rise as tickets arrive).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::{Epoch, Millis, Offset};

/// A number the caller chose, which comes back with the answer. Must be unique among unanswered requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What a producer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Acks {
    /// `acks=0`: nothing, ever.
    None,
    /// `acks=1`: the leader's local append. min.insync.replicas is ignored.
    Leader,
    /// `acks=all` (−1): the high watermark past the batch.
    All,
}

/// Why an append is not acknowledged. The number is Kafka's code; "nothing appended" means that this attempt's
/// records are nowhere and never will be, otherwise the outcome is unknown to the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AppendError {
    /// 3: this broker hosts no such partition. Nothing appended.
    UnknownPartition,
    /// 6: this broker does not lead the partition. Nothing appended.
    NotLeader,
    /// 6: leadership was lost while waiting for the high watermark; the records may survive.
    LeadershipLost,
    /// 19: the committed ISR is smaller than min.insync.replicas. Nothing appended.
    NotEnoughReplicas {
        /// Members of the committed ISR.
        isr: usize,
        /// Members needed.
        min_isr: usize,
    },
    /// 20: appended and replicated, but the maximal ISR is now below min.insync.replicas.
    NotEnoughReplicasAfterAppend {
        /// Members of the maximal ISR.
        isr: usize,
        /// Members needed.
        min_isr: usize,
    },
    /// 7: the request's timeout passed first; the records stay in the log.
    TimedOut,
    /// 45: sequence numbers out of order. Nothing appended.
    OutOfOrderSequence {
        /// The sequence that was due; `None` when a new producer epoch must begin at 0.
        expected: i32,
        /// The batch's first sequence.
        actual: i32,
    },
    /// 47: a newer epoch of this producer has written. Nothing appended.
    InvalidProducerEpoch {
        /// The newest epoch seen.
        current: i16,
        /// The batch's epoch.
        actual: i16,
    },
    /// 10: larger than `max.message.bytes`. Nothing appended.
    MessageTooLarge {
        /// The batch's size.
        size_bytes: usize,
        /// The limit.
        max_bytes: usize,
    },
    /// 18: larger than `segment.bytes`. Nothing appended.
    RecordListTooLarge {
        /// The batch's size.
        size_bytes: usize,
        /// The limit.
        max_bytes: u64,
    },
    /// 56: the log is offline, or this very write failed; the records may or may not be on disk.
    StorageFailed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownPartition => write!(f, "this broker hosts no such partition"),
            Self::NotLeader => write!(f, "this broker does not lead the partition"),
            Self::LeadershipLost => write!(f, "leadership was lost before the append was committed"),
            Self::NotEnoughReplicas { isr, min_isr } => write!(f, "{isr} in-sync replicas of {min_isr} needed"),
            Self::NotEnoughReplicasAfterAppend { isr, min_isr } => {
                write!(f, "appended, but only {isr} in-sync replicas of {min_isr} needed")
            }
            Self::TimedOut => write!(f, "not committed within the request's timeout"),
            Self::OutOfOrderSequence { expected, actual } => {
                write!(f, "sequence {actual} where {expected} was due")
            }
            Self::InvalidProducerEpoch { current, actual } => {
                write!(f, "producer epoch {actual} is older than {current}")
            }
            Self::MessageTooLarge { size_bytes, max_bytes } => {
                write!(f, "batch of {size_bytes} bytes exceeds max.message.bytes {max_bytes}")
            }
            Self::RecordListTooLarge { size_bytes, max_bytes } => {
                write!(f, "batch of {size_bytes} bytes exceeds segment.bytes {max_bytes}")
            }
            Self::StorageFailed => write!(f, "the partition's log is offline"),
        }
    }
}

impl std::error::Error for AppendError {}

/// A producer that waits for the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Waiting {
    /// Whom to answer.
    pub ticket: Ticket,
    /// The offset to report.
    pub base_offset: Offset,
    /// The epoch the batch was written in; `None` for a duplicate of an earlier write.
    pub epoch: Option<Epoch>,
    /// Answer `TimedOut` from here on.
    pub deadline: Millis,
}

/// Those who wait for the high watermark. See the module's documentation for the order.
#[derive(Clone, Debug, Default, Hash)]
pub struct PendingAcks {
    by_offset: BTreeMap<(Offset, u64), Waiting>,
    by_deadline: BTreeSet<(Millis, Offset, u64)>,
    arrivals: u64,
}

impl PendingAcks {
    /// Queues a producer until the high watermark reaches `needs`.
    pub fn push(&mut self, needs: Offset, waiting: Waiting) {
        self.arrivals += 1;
        let clash = self.by_offset.insert((needs, self.arrivals), waiting);
        assert!(clash.is_none(), "arrival numbers are unique");
        self.by_deadline.insert((waiting.deadline, needs, self.arrivals));
    }

    /// Removes the next one whom `high_watermark` satisfies.
    pub fn pop_reached(&mut self, high_watermark: Offset) -> Option<Waiting> {
        let entry = self.by_offset.first_entry()?;
        let (needs, arrival) = *entry.key();
        if needs > high_watermark {
            return None;
        }
        let waiting = entry.remove();
        let known = self.by_deadline.remove(&(waiting.deadline, needs, arrival));
        assert!(known, "both orders hold the same tickets");
        Some(waiting)
    }

    /// Removes the next one whose time is up.
    pub fn pop_expired(&mut self, now: Millis) -> Option<Waiting> {
        let &(deadline, needs, arrival) = self.by_deadline.first()?;
        if deadline > now {
            return None;
        }
        self.by_deadline.pop_first();
        let waiting = self.by_offset.remove(&(needs, arrival));
        assert!(waiting.is_some(), "both orders hold the same tickets");
        waiting
    }

    /// Removes any one, for when nobody can be served any more.
    pub fn pop_any(&mut self) -> Option<Waiting> {
        self.by_deadline.clear();
        self.by_offset.pop_first().map(|(_, waiting)| waiting)
    }

    /// When [`Self::pop_expired`] will next find someone.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        self.by_deadline.first().map(|&(deadline, _, _)| deadline)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_offset.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_offset.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(ticket: u64, deadline_ms: u64) -> Waiting {
        Waiting { ticket: Ticket(ticket), base_offset: Offset(0), epoch: None, deadline: Millis(deadline_ms) }
    }

    #[test]
    fn acks_tickets_leave_in_the_order_of_their_offsets_and_only_once_reached() {
        let mut acks = PendingAcks::default();
        acks.push(Offset(10), waiting(1, 100));
        acks.push(Offset(20), waiting(2, 100));
        acks.push(Offset(10), waiting(3, 100));
        let reached: Vec<_> = std::iter::from_fn(|| acks.pop_reached(Offset(19))).map(|w| w.ticket.0).collect();
        assert_eq!(reached, [1, 3]);
        assert_eq!(acks.len(), 1);
        assert_eq!(acks.pop_reached(Offset(20)).map(|w| w.ticket.0), Some(2));
        assert_eq!(acks.next_deadline(), None);
    }

    #[test]
    fn acks_ticket_expires_at_its_own_deadline_whatever_its_offset() {
        let mut acks = PendingAcks::default();
        acks.push(Offset(10), waiting(1, 300));
        acks.push(Offset(20), waiting(2, 100));
        assert_eq!(acks.next_deadline(), Some(Millis(100)));
        assert_eq!(acks.pop_expired(Millis(99)), None);
        assert_eq!(acks.pop_expired(Millis(100)).map(|w| w.ticket.0), Some(2));
        assert_eq!(acks.pop_reached(Offset(50)).map(|w| w.ticket.0), Some(1));
        assert!(acks.is_empty());
    }
}
