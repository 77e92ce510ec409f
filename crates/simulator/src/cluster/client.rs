//! Producers and consumers: what loads the cluster and what looks at it.
//!
//! A producer has one idempotent identity for each partition (or none), keeps at most five batches in flight in order,
//! and retries until it knows, each attempt marked with its own number. A consumer follows one partition after the
//! other from the offset it has reached.

use std::collections::VecDeque;

use minisr_logic::{BrokerId, Offset, TopicPartition};
use minisr_replica::{
    Acks, AppendError, BatchSummary, Event as ShardEvent, FetchPartition, FetchRequest, Isolation, Output,
    ProducerBatch, Reader, Ticket,
};
use minisr_wire::batch::{BatchBuilder, Producer as Marks};

use super::broker::CALL_TIMEOUT_MS;
use super::message::{Produce, Purpose, Request, Response};
use super::observe::batches_of;
use super::{Cluster, Event};
use crate::invariants::Violation;
use crate::plan::ProducerKind;
use crate::schedule::{Action, Node};
use crate::state::{Attempt, Fact};

/// Batches in flight for one partition, as idempotent clients allow.
const IN_FLIGHT_MAX: usize = 5;

/// A producer.
#[derive(Debug)]
pub struct Producer {
    node: Node,
    connection: u32,
    acks: Acks,
    idempotent: bool,
    slots: Vec<Slot>,
    /// The last batch of each partition, after healing: must be acknowledged.
    final_batches: Vec<Option<bool>>,
}

/// A producer's state for one partition.
#[derive(Debug, Default)]
struct Slot {
    id: Option<i64>,
    asking_id: bool,
    epoch: i16,
    next_sequence: i32,
    pending: VecDeque<Batch>,
    leader: Option<BrokerId>,
    flush_due: bool,
    misfits: u32,
}

/// A batch that is not settled.
#[derive(Debug)]
struct Batch {
    records: i32,
    sequence: i32,
    attempt: Option<Attempt>,
    attempts: u32,
    is_final: bool,
}

/// A consumer.
#[derive(Debug)]
pub struct Consumer {
    node: Node,
    positions: Vec<Offset>,
    waiting: bool,
}

impl Producer {
    /// Whether nothing is unsettled.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.pending.is_empty())
    }

    /// Asks anew who leads, as a client does whose connection broke; with acks=0 no answer would tell it.
    pub(super) fn forget_leaders(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.leader = None);
    }
}

impl Cluster {
    pub(super) fn add_clients(&mut self) {
        let partitions = self.plan.partitions as usize;
        for (index, kind) in (0_u32..).zip(self.plan.producers.clone()) {
            let (acks, idempotent) = match kind {
                ProducerKind::Idempotent => (Acks::All, true),
                ProducerKind::All => (Acks::All, false),
                ProducerKind::Leader => (Acks::Leader, false),
                ProducerKind::None => (Acks::None, false),
            };
            let slots = (0..partitions).map(|_| Slot::default()).collect();
            let final_batches = vec![None; partitions];
            self.producers.push(Producer {
                node: Node::Client(index),
                connection: 0,
                acks,
                idempotent,
                slots,
                final_batches,
            });
        }
        for index in 0..self.plan.consumers {
            let node = Node::Client(self.producers.len() as u32 + index);
            self.consumers.push(Consumer { node, positions: vec![Offset::ZERO; partitions], waiting: false });
            self.schedule(1, Event::Consume { consumer: index as usize });
        }
    }

    /// The ordered connection that a client uses now.
    pub(super) fn connection(&self, client: u32) -> u32 {
        self.producers.get(client as usize).map_or(0, |it| it.connection)
    }

    /// Draws a new batch for some partition, and the appointment for the next.
    pub(super) fn draw_produce(&mut self, producer: u32) {
        if self.healed {
            return;
        }
        let mut roll = self.roll("produce", u64::from(producer));
        let pause = roll.between(1, self.plan.rates.produce_pause_ms * 2);
        self.schedule(pause, Event::DrawProduce { producer });
        let partition = roll.below(self.plan.partitions as u64) as i32;
        self.act(Action::Produce { producer, partition, records: roll.between(1, 3) as i32 });
    }

    /// A new batch for a partition.
    pub(super) fn produce(&mut self, producer: u32, partition: i32, records: i32) {
        let (index, slot) = (producer as usize, partition as usize);
        if !self.healed && self.producers.get(index).is_some_and(|it| slot < it.slots.len()) {
            self.enqueue(index, slot, records, false);
        }
    }

    fn enqueue(&mut self, index: usize, slot_index: usize, records: i32, is_final: bool) {
        let slot = &mut self.producers[index].slots[slot_index];
        if slot.pending.len() >= 2 * IN_FLIGHT_MAX && !is_final {
            return;
        }
        let sequence = slot.next_sequence;
        slot.next_sequence += records;
        slot.pending.push_back(Batch { records, sequence, attempt: None, attempts: 0, is_final });
        self.flush_soon(index, slot_index, 0);
    }

    fn flush_soon(&mut self, index: usize, slot_index: usize, pause: u64) {
        let slot = &mut self.producers[index].slots[slot_index];
        if !slot.flush_due {
            slot.flush_due = true;
            self.schedule(pause, Event::Flush { producer: index, slot: slot_index });
        }
    }

    /// Sends what may be sent, in order.
    pub(super) fn flush(&mut self, index: usize, slot_index: usize) {
        let node = self.producers[index].node;
        self.producers[index].slots[slot_index].flush_due = false;
        if self.producers[index].slots[slot_index].pending.is_empty() {
            return;
        }
        let Some(leader) = self.leader_for(node, self.producers[index].slots[slot_index].leader, slot_index) else {
            self.flush_soon(index, slot_index, 50);
            return;
        };
        self.producers[index].slots[slot_index].leader = Some(leader);
        if self.producers[index].idempotent && self.producers[index].slots[slot_index].id.is_none() {
            self.ask_producer_id(index, slot_index);
            return;
        }
        let producer = &self.producers[index];
        let slot = &producer.slots[slot_index];
        // In order: a batch goes out only if nothing before it waits for another attempt.
        let window = slot.pending.iter().take(IN_FLIGHT_MAX);
        let unsent: Vec<(i32, i32)> =
            window.filter(|it| it.attempt.is_none()).map(|it| (it.sequence, it.records)).collect();
        for (sequence, records) in unsent {
            self.send_batch(index, slot_index, leader, sequence, records);
        }
    }

    fn send_batch(&mut self, index: usize, slot_index: usize, leader: BrokerId, sequence: i32, records: i32) {
        self.last_attempt += 1;
        let attempt = Attempt(self.last_attempt);
        let partition = self.key(slot_index);
        let padding = self.roll("padding", index as u64).between(0, 60) as usize;
        let producer = &mut self.producers[index];
        let (node, acks) = (producer.node, producer.acks);
        let slot = &mut producer.slots[slot_index];
        let marks = slot.id.map(|id| ProducerBatch { id, epoch: slot.epoch, base_sequence: sequence });
        let produce = build(partition, attempt, acks, marks, records, padding);
        if acks == Acks::None {
            slot.pending.retain(|it| it.sequence != sequence);
        } else if let Some(batch) = slot.pending.iter_mut().find(|it| it.sequence == sequence) {
            batch.attempt = Some(attempt);
            batch.attempts += 1;
        }
        self.trace.write(self.now, format_args!("{node:?} sends {attempt:?} {marks:?} to {leader}"));
        let purpose = Purpose::Produce { producer: index, slot: slot_index, attempt };
        let timeout = CALL_TIMEOUT_MS + self.plan.lag_time_max_ms;
        self.call(node, Node::Broker(leader), Request::Produce(produce), purpose, timeout);
    }

    fn ask_producer_id(&mut self, index: usize, slot_index: usize) {
        if self.producers[index].slots[slot_index].asking_id {
            return;
        }
        self.producers[index].slots[slot_index].asking_id = true;
        let node = self.producers[index].node;
        let broker = *self.roll("ask producer id", node.number()).pick(&self.broker_ids());
        let purpose = Purpose::ProducerId { producer: index, slot: slot_index };
        self.call(node, Node::Broker(broker), Request::ProducerId, purpose, CALL_TIMEOUT_MS);
    }

    /// Who leads, as some broker that the client can reach believes.
    fn leader_for(&mut self, node: Node, known: Option<BrokerId>, slot_index: usize) -> Option<BrokerId> {
        if known.is_some() {
            return known;
        }
        let asked = *self.roll("ask metadata", node.number()).pick(&self.broker_ids());
        let key = self.key(slot_index);
        let broker = &self.brokers[&asked];
        let reachable = !broker.paused
            && !self.network.is_cut(node, Node::Broker(asked))
            && !self.network.is_cut(Node::Broker(asked), node);
        broker.run.as_ref().filter(|_| reachable)?.image.partition(key)?.leader
    }

    /// The answer to a client's call, or `None` if there will be none.
    pub(super) fn client_answered(&mut self, purpose: Purpose, answer: Option<Response>) {
        match (purpose, answer) {
            (Purpose::Produce { producer, slot, attempt }, answer) => {
                let result = match answer {
                    Some(Response::Produced(result)) => Some(result.map(|_| ())),
                    _ => None,
                };
                self.produced(producer, slot, attempt, result);
            }
            (Purpose::ProducerId { producer, slot }, answer) => {
                let target = &mut self.producers[producer].slots[slot];
                target.asking_id = false;
                if let Some(Response::ProducerId(id)) = answer {
                    (target.id, target.epoch) = (Some(id), 0);
                }
                self.flush_soon(producer, slot, 10);
            }
            (Purpose::Consume { consumer, slot }, answer) => self.consumed(consumer, slot, answer),
            (purpose, answer) => unreachable!("a client asked {purpose:?} and got {answer:?}"),
        }
    }

    fn produced(&mut self, index: usize, slot_index: usize, attempt: Attempt, result: Option<Result<(), AppendError>>) {
        let producer = &mut self.producers[index];
        let slot = &mut producer.slots[slot_index];
        let Some(at) = slot.pending.iter().position(|it| it.attempt == Some(attempt)) else { return };
        match result {
            Some(Ok(())) => {
                let done = slot.pending.remove(at).expect("just found");
                slot.misfits = 0;
                if done.is_final {
                    producer.final_batches[slot_index] = Some(true);
                }
                self.flush_soon(index, slot_index, 0);
                return;
            }
            // After a loss the log may lack this producer's predecessors, or hold a batch it gave up: start anew.
            Some(Err(AppendError::OutOfOrderSequence { .. } | AppendError::InvalidProducerEpoch { .. })) if at == 0 => {
                slot.misfits += 1;
                if slot.misfits > 4 {
                    self.bump_epoch(index, slot_index);
                    return;
                }
            }
            Some(Err(_)) => {}
            // No answer: the connection is abandoned; what is still on it may yet arrive.
            None => producer.connection += 1,
        }
        let slot = &mut producer.slots[slot_index];
        slot.leader = None;
        // Everything from here on goes out again, in order.
        for batch in slot.pending.iter_mut().skip(at) {
            batch.attempt = None;
        }
        // A plain producer that gave up leaves the outcome unknown.
        let gives_up = !producer.idempotent && slot.pending[at].attempts > 6 && !slot.pending[at].is_final;
        if gives_up {
            slot.pending.remove(at);
        }
        let pause = self.roll("retry", index as u64).between(5, 100);
        self.flush_soon(index, slot_index, pause);
    }

    /// An idempotent producer whose sequences no longer fit leaves its batches unknown and begins a new epoch.
    fn bump_epoch(&mut self, index: usize, slot_index: usize) {
        self.count("producer-epochs-bumped", 1);
        let slot = &mut self.producers[index].slots[slot_index];
        slot.epoch += 1;
        slot.misfits = 0;
        slot.next_sequence = 0;
        let keeps_final = slot.pending.iter().any(|it| it.is_final);
        slot.pending.clear();
        if keeps_final {
            self.enqueue(index, slot_index, 1, true);
        }
    }

    /// The topic is another one now: consumers begin at its beginning.
    pub(super) fn forget_positions(&mut self) {
        for consumer in &mut self.consumers {
            consumer.positions.iter_mut().for_each(|it| *it = Offset::ZERO);
        }
    }

    /// A consumer's next fetch.
    pub(super) fn consume(&mut self, index: usize) {
        let mut roll = self.roll("consume", index as u64);
        let pause = roll.between(20, 200);
        self.schedule(pause, Event::Consume { consumer: index });
        if self.consumers[index].waiting {
            return;
        }
        let slot = roll.below(self.plan.partitions as u64) as usize;
        let node = self.consumers[index].node;
        let Some(leader) = self.leader_for(node, None, slot) else { return };
        self.consumers[index].waiting = true;
        let wait_ms = roll.between(0, 300);
        let request = consumer_fetch(self.key(slot), self.consumers[index].positions[slot], wait_ms);
        let purpose = Purpose::Consume { consumer: index, slot };
        self.call(node, Node::Broker(leader), Request::Fetch(request), purpose, CALL_TIMEOUT_MS + wait_ms);
    }

    fn consumed(&mut self, index: usize, slot: usize, answer: Option<Response>) {
        let consumer = &mut self.consumers[index];
        consumer.waiting = false;
        let Some(Response::Fetched(reply)) = answer else { return };
        // Logs begin at 0 here, so a refused offset means a leader whose high watermark has not caught up: try again.
        let Some(Ok(fetched)) = reply.partitions.first().map(|it| &it.result) else { return };
        if reply.partitions.first().is_none_or(|it| it.partition.topic != self.topic) {
            return;
        }
        if let Some(last) = batches_of(&fetched.records).last() {
            let records = last.end.0 - consumer.positions[slot].0;
            consumer.positions[slot] = last.end;
            self.count("records-consumed", records.max(0) as u64);
        }
    }

    /// After healing: one more batch for each partition that can be led, which must be acknowledged.
    pub(super) fn write_once_more(&mut self) {
        if self.violation.is_some() || self.producers.is_empty() {
            return;
        }
        let index = 0;
        self.producers[index].acks = Acks::All;
        for slot in 0..self.plan.partitions as usize {
            if self.controller.image.partition(self.key(slot)).is_some_and(|it| it.leader.is_some()) {
                self.producers[index].final_batches[slot] = Some(false);
                self.enqueue(index, slot, 1, true);
            }
        }
        if !self.broken.is_empty() {
            return;
        }
        // Where nobody may lead, nothing can be settled any more.
        let dead: Vec<usize> = (0..self.plan.partitions as usize)
            .filter(|slot| self.controller.image.partition(self.key(*slot)).is_none_or(|it| it.leader.is_none()))
            .collect();
        for producer in &mut self.producers {
            dead.iter().for_each(|slot| producer.slots[*slot].pending.clear());
        }
    }

    /// A partition that did not take the last batch. Whether one may have lost its leader meanwhile is for the
    /// invariants CoreServes and Converged to say.
    pub(super) fn unserved(&self) -> Option<Violation> {
        let is_led =
            |slot: &usize| self.controller.image.partition(self.key(*slot)).is_some_and(|it| it.leader.is_some());
        let batches = self.producers.first()?.final_batches.iter().enumerate();
        let slot = batches.filter(|(_, it)| **it == Some(false)).map(|(slot, _)| slot).find(is_led)?;
        let what = format!("partition {slot} took no write after everything was healed");
        Some(Violation { number: 31, name: "ServesAfterHealing", what })
    }

    /// Reads every partition from its leader, from the first offset to the last.
    pub(super) fn read_everything(&mut self) {
        for slot in 0..self.plan.partitions as usize {
            let partition = self.key(slot);
            let Some(leader) = self.controller.image.partition(partition).and_then(|it| it.leader) else { continue };
            let mut position = Offset::ZERO;
            while let Some(next) = self.read_at(leader, partition, position) {
                position = next;
            }
            let end = self.state.replica(partition, leader).map_or(Offset::ZERO, crate::state::Replica::end);
            if position != end && self.violation.is_none() {
                let what = format!("a reader of partition {slot} came to {position}; the log ends at {end}");
                self.violation = Some(Violation { number: 7, name: "ReadsReachTheEnd", what });
            }
        }
    }

    fn read_at(&mut self, leader: BrokerId, partition: TopicPartition, position: Offset) -> Option<Offset> {
        let broker = self.brokers.get_mut(&leader)?;
        let run = broker.run.as_mut()?;
        let ticket = Ticket(u64::MAX);
        let request = consumer_fetch(partition, position, 0);
        let mut outputs = Vec::new();
        let now = minisr_logic::Millis(self.now);
        run.shard.step(now, ShardEvent::Fetch { ticket, request }, &mut broker.disk, &mut outputs);
        let reply = outputs.into_iter().find_map(|output| match output {
            Output::Fetched { ticket: of, reply } if of == ticket => Some(reply),
            _ => None,
        })?;
        let fetched = reply.partitions.first()?.result.as_ref().ok()?;
        let batches: Vec<_> = batches_of(&fetched.records).map(|it| (it.base, it.end, it.bytes_hash)).collect();
        let next = batches.last()?.1;
        let high_watermark = fetched.high_watermark;
        self.facts.push(Fact::Read {
            place: (partition, leader),
            consumer: u32::MAX,
            from: position,
            batches,
            high_watermark,
        });
        self.check();
        Some(next)
    }
}

fn consumer_fetch(partition: TopicPartition, position: Offset, max_wait_ms: u64) -> FetchRequest {
    FetchRequest {
        reader: Reader::Consumer { isolation: Isolation::ReadUncommitted },
        client_rack: None,
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partitions: vec![FetchPartition {
            partition,
            current_leader_epoch: None,
            fetch_offset: position,
            last_fetched_epoch: None,
            log_start: None,
            high_watermark: None,
            flushed: None,
            max_bytes: 1 << 16,
        }],
    }
}

fn build(
    partition: TopicPartition,
    attempt: Attempt,
    acks: Acks,
    marks: Option<ProducerBatch>,
    records: i32,
    padding: usize,
) -> Produce {
    let timestamp_ms = attempt.0 as i64;
    let mut builder = BatchBuilder::new(256);
    for record in 0..records {
        let mut value = format!("{}-{record}-", attempt.0).into_bytes();
        value.resize(value.len() + padding, b'.');
        builder.append(timestamp_ms, None, Some(&value), &[]);
    }
    let producer = marks.map_or(Marks::NONE, |it| Marks {
        id: it.id,
        epoch: it.epoch,
        base_sequence: it.base_sequence,
        transactional: false,
    });
    let summary = BatchSummary { records, max_timestamp_ms: timestamp_ms, producer: marks };
    Produce { partition, attempt, batch: builder.finish(producer), summary, acks }
}
