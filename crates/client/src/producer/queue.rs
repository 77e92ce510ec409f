//! One partition's batches that have been sent at least once, or are about to be: windows, sequences, retries.
//!
//! Rules, all for one partition:
//! * A batch that must be sent again goes before every batch that was not sent yet, and only when nothing of the
//!   partition is in flight: so sequences reach the broker in order however many attempts it takes.
//! * A broker takes any first sequence from a producer that it does not know, so only one batch is in flight until the
//!   first is acknowledged.
//! * An idempotent batch keeps its sequence through every attempt. Only when an earlier one is lost for good is the
//!   producer epoch raised; then batches that may have been applied end as unknown, and those that were certainly
//!   not are sent under new sequences, which start at 0 again. The epoch is this partition's alone, since brokers
//!   keep producer state by partition.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use minisr_wire::ErrorCode;
use minisr_wire::batch::sequence_after;
use minisr_wire::messages::TopicName;

use super::batch::{Batch, Sequence};
use super::report::{Cause, Outcome};
use crate::backoff::Backoff;
use crate::connection::ConnectionError;

/// A producer id from InitProducerId, numbered in the order in which they were obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) generation: u64,
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// How one attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Acknowledged; with acks=0, written.
    Acked { base_offset: i64 },
    /// Answered with an error.
    Refused(ErrorCode),
    /// Not answered.
    Lost(ConnectionError),
    /// The answer does not mention it.
    NotMentioned,
}

/// A batch that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) batch: Batch,
    pub(super) outcome: Outcome,
    pub(super) base_offset: i64,
}

/// See the module.
pub(super) struct Queue {
    pub(super) topic: Arc<str>,
    pub(super) topic_name: TopicName,
    pub(super) index: i32,
    idempotent: bool,
    answered: bool,
    delivery_timeout: Duration,
    /// To be sent again, by order.
    retry: VecDeque<Batch>,
    /// Orders of what is in flight, and over which link.
    in_flight: BTreeSet<u64>,
    in_flight_link: Option<(i32, usize)>,
    next_order: u64,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Whether a batch under this identity has been acknowledged, so that brokers know it.
    confirmed: bool,
    /// The lowest generation that is good enough when `identity` is asked for.
    generation_min: u64,
    /// The epoch must be raised before anything is sent.
    reset_needed: bool,
    /// Nothing is sent before.
    resume_at: Option<Instant>,
    /// Nothing is sent before metadata that was asked for after this.
    stale_since: Option<Instant>,
    backoff: Backoff,
}

impl Queue {
    pub(super) fn new(
        topic: Arc<str>,
        index: i32,
        idempotent: bool,
        answered: bool,
        delivery_timeout: Duration,
    ) -> Self {
        Self {
            topic_name: TopicName(minisr_wire::StrBytes::from_string(topic.to_string())),
            topic,
            index,
            idempotent,
            answered,
            delivery_timeout,
            retry: VecDeque::new(),
            in_flight: BTreeSet::new(),
            in_flight_link: None,
            next_order: 0,
            identity: None,
            next_sequence: 0,
            confirmed: false,
            generation_min: 0,
            reset_needed: false,
            resume_at: None,
            stale_since: None,
            backoff: Backoff::metadata(),
        }
    }

    /// Whether a batch may be sent now, over this link.
    pub(super) fn has_room(&self, link: (i32, usize), max_in_flight: usize, now: Instant) -> bool {
        if self.resume_at.is_some_and(|at| at > now) {
            return false;
        }
        if self.in_flight.is_empty() {
            return true;
        }
        if self.idempotent && !self.confirmed {
            return false;
        }
        // What is under way must end before anything is sent again, elsewhere, or under another epoch.
        self.retry.is_empty()
            && !self.reset_needed
            && self.in_flight_link == Some(link)
            && self.in_flight.len() < max_in_flight
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(super) fn has_retries(&self) -> bool {
        !self.retry.is_empty()
    }

    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    pub(super) fn stale_since(&self) -> Option<Instant> {
        self.stale_since
    }

    /// The broker that was sent to last.
    pub(super) fn last_broker(&self) -> Option<i32> {
        self.in_flight_link.map(|(broker_id, _)| broker_id)
    }

    /// Metadata asked for at `asked_at` has arrived.
    pub(super) fn refreshed(&mut self, asked_at: Instant) {
        if self.stale_since.is_some_and(|since| asked_at >= since) {
            self.stale_since = None;
        }
    }

    /// The generation of producer id that is needed before anything can be sent, if one is missing.
    pub(super) fn wants_identity(&self) -> Option<u64> {
        (self.idempotent && self.identity.is_none()).then_some(self.generation_min)
    }

    pub(super) fn give_identity(&mut self, identity: Identity) {
        if self.wants_identity().is_some_and(|min| identity.generation >= min) {
            self.identity = Some(identity);
            self.next_sequence = 0;
            self.confirmed = false;
        }
    }

    /// Raises the epoch if that is due and possible: what cannot be sent again has ended.
    pub(super) fn reset_if_due(&mut self) -> Vec<Ended> {
        if !self.reset_needed || !self.in_flight.is_empty() {
            return Vec::new();
        }
        self.reset_needed = false;
        self.next_sequence = 0;
        self.identity = match self.identity {
            Some(identity) if identity.generation >= self.generation_min && identity.epoch < i16::MAX => {
                Some(Identity { epoch: identity.epoch + 1, ..identity })
            }
            Some(identity) => {
                self.generation_min = self.generation_min.max(identity.generation + 1);
                None
            }
            None => None,
        };
        let mut ended = Vec::new();
        for mut batch in std::mem::take(&mut self.retry) {
            if batch.maybe_applied.is_some() {
                ended.push(self.end(batch, Cause::SequenceReset));
            } else {
                batch.sequence = None;
                self.retry.push_back(batch);
            }
        }
        ended
    }

    /// The next batch that must be sent again.
    pub(super) fn take_retry(&mut self) -> Option<Batch> {
        self.retry.pop_front()
    }

    /// Puts a batch in flight over this link and gives the bytes to be sent.
    pub(super) fn launch(&mut self, batch: &mut Batch, link: (i32, usize), now: Instant) -> Bytes {
        let sequence = match batch.sequence {
            // It keeps its sequence through every attempt.
            Some(sequence) => Some(sequence),
            None if self.idempotent => {
                let identity = self.identity.expect("a partition is not sent to before it has an identity");
                let base = self.next_sequence;
                self.next_sequence = sequence_after(base, batch.record_count());
                Some(Sequence { producer_id: identity.id, producer_epoch: identity.epoch, base })
            }
            None => None,
        };
        let order = *batch.order.get_or_insert(self.next_order);
        self.next_order = self.next_order.max(order + 1);
        batch.first_sent_at.get_or_insert(now);
        batch.attempts += 1;
        assert!(self.in_flight.insert(order), "a batch is in flight once");
        assert!(self.in_flight.len() == 1 || self.in_flight_link == Some(link), "a partition uses one link at a time");
        self.in_flight_link = Some(link);
        batch.seal(sequence)
    }

    /// An attempt has ended: either the batch has, or it waits for the next attempt.
    pub(super) fn settle(&mut self, mut batch: Batch, attempt: Attempt, now: Instant) -> Option<Ended> {
        let order = batch.order.expect("only a sent batch has an attempt");
        assert!(self.in_flight.remove(&order), "an attempt ends once");
        let refused = match attempt {
            Attempt::Acked { base_offset } => {
                self.backoff.reset();
                self.resume_at = None;
                self.confirmed = true;
                return Some(Ended { batch, outcome: Outcome::Ok, base_offset });
            }
            // The broker has it, but no longer knows where.
            Attempt::Refused(ErrorCode::DUPLICATE_SEQUENCE_NUMBER) => {
                return Some(Ended { batch, outcome: Outcome::Ok, base_offset: -1 });
            }
            Attempt::Refused(code) => {
                batch.last_cause = Some(Cause::Code(code));
                if !is_absent(code) {
                    batch.maybe_applied.get_or_insert(Cause::Code(code));
                }
                code
            }
            Attempt::Lost(error) => {
                let applied = error.may_have_been_applied();
                let cause = match error {
                    ConnectionError::NotWritten(reason) | ConnectionError::Unknown(reason) => Cause::Connection(reason),
                    ConnectionError::Encode(text) | ConnectionError::Decode(text) => Cause::Answer(text),
                };
                batch.last_cause = Some(cause.clone());
                if applied {
                    batch.maybe_applied.get_or_insert(cause.clone());
                    if !self.answered {
                        return Some(self.end(batch, cause));
                    }
                }
                self.stale_since = Some(now);
                ErrorCode::NETWORK_EXCEPTION
            }
            Attempt::NotMentioned => {
                let cause = Cause::Answer("the partition is not in the answer".into());
                batch.last_cause = Some(cause.clone());
                batch.maybe_applied.get_or_insert(cause);
                ErrorCode::NETWORK_EXCEPTION
            }
        };
        self.after_refusal(batch, refused, order, now)
    }

    fn after_refusal(&mut self, batch: Batch, code: ErrorCode, order: u64, now: Instant) -> Option<Ended> {
        match code {
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if self.idempotent => {
                let earlier = self.in_flight.first().is_some_and(|&first| first < order)
                    || self.retry.front().is_some_and(|first| first.order.is_some_and(|first| first < order));
                // Behind a batch that must be sent again this is expected; at the front something is lost.
                if !earlier {
                    self.reset_needed = true;
                    self.pause(now);
                }
            }
            ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::UNKNOWN_PRODUCER_ID
            | ErrorCode::PRODUCER_FENCED
            | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                if self.idempotent =>
            {
                self.reset_needed = true;
                let generation = self.identity.map_or(0, |identity| identity.generation);
                self.generation_min = self.generation_min.max(generation + 1);
                self.pause(now);
            }
            code if code.is_retriable() => {
                if concerns_leadership(code) {
                    self.stale_since = Some(now);
                }
                self.pause(now);
            }
            code => return Some(self.give_up(batch, Cause::Code(code))),
        }
        if now >= batch.opened_at + self.delivery_timeout {
            let cause = Cause::DeliveryTimeout(batch.last_cause.clone().map(Box::new));
            return Some(self.give_up(batch, cause));
        }
        let place = self.retry.partition_point(|waiting| waiting.order < Some(order));
        self.retry.insert(place, batch);
        None
    }

    /// What was in flight together fails together: one pause for all.
    fn pause(&mut self, now: Instant) {
        if self.resume_at.is_none_or(|at| at <= now) {
            self.resume_at = Some(now + self.backoff.next());
        }
    }

    /// Ends the batches to be sent again that are out of time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        let mut ended = Vec::new();
        while let Some(batch) = self.retry.pop_front_if(|batch| now >= batch.opened_at + self.delivery_timeout) {
            let cause = Cause::DeliveryTimeout(batch.last_cause.clone().map(Box::new));
            ended.push(self.give_up(batch, cause));
        }
        ended
    }

    /// When the first batch to be sent again will be out of time.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.retry.front().map(|batch| batch.opened_at + self.delivery_timeout)
    }

    /// Ends everything that waits to be sent again.
    pub(super) fn drain(&mut self, cause: &Cause) -> Vec<Ended> {
        std::mem::take(&mut self.retry).into_iter().map(|batch| self.end(batch, cause.clone())).collect()
    }

    /// Ends a batch that will not be sent again; its sequence leaves a gap, which only a new epoch closes.
    fn give_up(&mut self, batch: Batch, cause: Cause) -> Ended {
        self.reset_needed |= batch.sequence.is_some();
        self.end(batch, cause)
    }

    /// Failed only if no attempt may have been applied.
    pub(super) fn end(&self, batch: Batch, cause: Cause) -> Ended {
        let outcome = match &batch.maybe_applied {
            Some(first) => Outcome::Unknown(first.clone()),
            None => Outcome::Failed(cause),
        };
        Ended { batch, outcome, base_offset: -1 }
    }
}

/// Whether an attempt answered with this code left nothing in the log: the codes that say so, and those of the
/// checks of the producer's identity and sequence, which come before the append.
fn is_absent(code: ErrorCode) -> bool {
    code.is_definitely_absent()
        || matches!(
            code,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrorCode::INVALID_PRODUCER_EPOCH
                | ErrorCode::UNKNOWN_PRODUCER_ID
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                | ErrorCode::PRODUCER_FENCED
        )
}

fn concerns_leadership(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::NETWORK_EXCEPTION
    )
}
