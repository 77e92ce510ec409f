//! The task that sends: takes batches that are due, groups them by leader and stream, and settles what comes back.
//!
//! One task for everything, one request for every ready partition of a stream. It never waits for anything but the
//! next event: connecting, metadata and producer ids are asked for by tasks of their own, answers to Produce come
//! over one channel with a tag for each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use minisr_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use minisr_wire::messages::{InitProducerIdRequest, ProduceRequest};
use minisr_wire::{ErrorCode, StrBytes};

use super::accumulator::{Accumulator, Take};
use super::batch::Batch;
use super::config::ProducerConfig;
use super::queue::{Attempt, Ended, Identity, Queue};
use super::report::{BatchReport, Cause, Delivered, Outcome, ProduceError};
use crate::backoff::Backoff;
use crate::client::{Client, ClientError};
use crate::connection::{self, Connection, ConnectionError, ReplyTo, Tagged};
use crate::metadata::ClusterView;

/// The highest Produce version in use.
const PRODUCE_VERSION_MAX: i16 = 11;

/// Connecting usually takes milliseconds; after this long the leader is doubted.
const CONNECT_DOUBT: Duration = Duration::from_millis(100);

/// Pauses between questions of metadata: writes resume soon after the new leader is known.
const REFRESH_BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));

/// A leader and one of the streams to it.
type LinkKey = (i32, usize);

enum Link {
    Connecting {
        since: Instant,
        backoff: Backoff,
    },
    Ready {
        connection: Connection,
        version: i16,
    },
    /// The last attempt to connect failed, or the connection ended.
    Down {
        until: Instant,
        backoff: Backoff,
    },
}

/// A Produce request that is not settled.
struct Request {
    link: LinkKey,
    version: i16,
    sent_at: Instant,
    /// The partitions, with the leader epoch known when it was sent.
    batches: Vec<(usize, i32, Batch)>,
}

enum Event {
    Connected(LinkKey, Result<Connection, ClientError>),
    Refreshed(Instant, Result<Arc<ClusterView>, ClientError>),
    Identity(Result<(i64, i16), String>),
}

/// Where reports go.
pub(super) type OnReport = Box<dyn FnMut(BatchReport) + Send>;

pub(super) struct Sender {
    client: Client,
    config: ProducerConfig,
    accumulator: Arc<Accumulator>,
    on_report: OnReport,
    queues: Vec<Queue>,
    /// Partitions with anything to do.
    active: BTreeSet<usize>,
    links: BTreeMap<LinkKey, Link>,
    requests: BTreeMap<u64, Request>,
    next_tag: u64,
    /// Turns the partition that is served first, so that a small request limit starves nobody.
    turn: usize,
    view: Arc<ClusterView>,
    topics: BTreeSet<Arc<str>>,
    refresh: Refresh,
    identity: Option<Identity>,
    identity_asked: bool,
    identity_backoff: Backoff,
    identity_not_before: Option<Instant>,
    events_in: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    answers_in: mpsc::UnboundedSender<Tagged>,
    answers: mpsc::UnboundedReceiver<Tagged>,
}

/// Whether and when to ask for metadata.
struct Refresh {
    under_way: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
}

/// What a pass over the partitions found out.
#[derive(Default)]
struct Findings {
    /// When to look again at the latest.
    deadline: Option<Instant>,
    /// Something waits for newer metadata; a broker that is suspected, if one is.
    wants_metadata: bool,
    suspect: Option<i32>,
    /// Some partition waits for a producer id of at least this generation.
    wants_identity: Option<u64>,
}

impl Findings {
    fn look_again(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |deadline| deadline.min(at)));
    }
}

impl Sender {
    pub(super) fn new(
        client: Client,
        config: ProducerConfig,
        accumulator: Arc<Accumulator>,
        on_report: OnReport,
    ) -> Self {
        let (events_in, events) = mpsc::unbounded_channel();
        let (answers_in, answers) = mpsc::unbounded_channel();
        let view = client.view();
        Self {
            client,
            config,
            accumulator,
            on_report,
            queues: Vec::new(),
            active: BTreeSet::new(),
            links: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_tag: 0,
            turn: 0,
            view,
            topics: BTreeSet::new(),
            refresh: Refresh { under_way: false, not_before: None, backoff: REFRESH_BACKOFF },
            identity: None,
            identity_asked: false,
            identity_backoff: Backoff::metadata(),
            identity_not_before: None,
            events_in,
            events,
            answers_in,
            answers,
        }
    }

    pub(super) async fn run(mut self) {
        let accumulator = self.accumulator.clone();
        while !accumulator.is_closed() {
            let now = Instant::now();
            let deadline = self.pass(now);
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = self.answers.recv() => self.on_answer(answer.expect("this task holds a sender")),
                event = self.events.recv() => self.on_event(event.expect("this task holds a sender")),
                () = accumulator.work.notified() => {}
                () = sleep => {}
            }
            while let Ok(answer) = self.answers.try_recv() {
                self.on_answer(answer);
            }
            while let Ok(event) = self.events.try_recv() {
                self.on_event(event);
            }
        }
        self.close();
    }

    /// Ends everything: what was sent is unknown, what was not has failed.
    fn close(&mut self) {
        for (_, request) in std::mem::take(&mut self.requests) {
            for (slot, _, mut batch) in request.batches {
                batch.maybe_applied.get_or_insert(Cause::Closed);
                let ended = self.queues[slot].end(batch, Cause::Closed);
                self.report(slot, ended);
            }
        }
        for slot in 0..self.accumulator.slot_count() {
            self.queue(slot);
            let mut ended = self.queues[slot].drain(&Cause::Closed);
            for batch in self.accumulator.take_older(slot, None) {
                ended.push(self.queues[slot].end(batch, Cause::Closed));
            }
            for ended in ended {
                self.report(slot, ended);
            }
        }
    }

    /// Does everything that can be done now; returns when to look again.
    fn pass(&mut self, now: Instant) -> Option<Instant> {
        let mut findings = Findings::default();
        self.accumulator.take_dirty(&mut self.active);
        self.check_links(now, &mut findings);
        self.send_what_is_due(now, &mut findings);
        self.ask_identity(now, &mut findings);
        self.ask_metadata(now, &mut findings);
        findings.deadline
    }

    /// Notices ended and stalled connections.
    fn check_links(&mut self, now: Instant, findings: &mut Findings) {
        let mut oldest: BTreeMap<LinkKey, Instant> = BTreeMap::new();
        for request in self.requests.values() {
            let oldest = oldest.entry(request.link).or_insert(request.sent_at);
            *oldest = (*oldest).min(request.sent_at);
        }
        let mut given_up = Vec::new();
        for (&key, link) in &mut self.links {
            let connection = match link {
                Link::Ready { connection, .. } => connection,
                Link::Connecting { .. } | Link::Down { .. } => continue,
            };
            if connection.is_closed() {
                *link = Link::Down { until: now, backoff: Backoff::metadata() };
                continue;
            }
            let Some(&oldest) = oldest.get(&key) else { continue };
            // The broker's own timeout is the same; its answer is given time to arrive.
            let answer_due = oldest + self.config.request_timeout + self.config.suspect_after;
            if now >= answer_due {
                given_up.push((key, "request timeout"));
                continue;
            }
            findings.look_again(answer_due);
            let stalled = connection.stalled_for();
            if stalled < self.config.suspect_after {
                findings.look_again(now + (self.config.suspect_after - stalled));
                continue;
            }
            // Suspect: keep the connection, ask others whether the leader has moved.
            let moved = self.requests.values().filter(|request| request.link == key).any(|request| {
                request.batches.iter().any(|&(slot, epoch, _)| has_moved(&self.view, &self.queues[slot], epoch))
            });
            if moved {
                given_up.push((key, "no progress, and the leader has moved"));
            } else {
                findings.wants_metadata = true;
                findings.suspect = Some(key.0);
            }
        }
        for (key, why) in given_up {
            tracing::debug!(broker = key.0, stream = key.1, why, "giving up a connection");
            if let Some(Link::Ready { connection, .. }) = self.links.get(&key) {
                connection.close(why);
            }
            self.links.insert(key, Link::Down { until: now, backoff: Backoff::metadata() });
            if let Ok(address) = self.client.broker_address(key.0) {
                self.client.abandon(&address, why);
            }
            // Its requests come back over the channel of answers, at once.
            findings.look_again(now);
        }
    }

    /// Groups what may be sent by leader and stream, and sends until nothing more may be.
    fn send_what_is_due(&mut self, now: Instant, findings: &mut Findings) {
        let mut groups: BTreeMap<LinkKey, Vec<(usize, i32)>> = BTreeMap::new();
        let active: Vec<usize> = self.active.iter().copied().collect();
        self.turn = self.turn.wrapping_add(1);
        let start = if active.is_empty() { 0 } else { self.turn % active.len() };
        for &slot in active[start..].iter().chain(&active[..start]) {
            match self.place(slot, now, findings) {
                Some((key, epoch)) => groups.entry(key).or_default().push((slot, epoch)),
                None => self.retire_if_idle(slot),
            }
        }
        for (key, slots) in groups {
            while self.send_one(key, &slots, now, findings) {}
            for (slot, _) in slots {
                self.retire_if_idle(slot);
            }
        }
    }

    fn retire_if_idle(&mut self, slot: usize) {
        let queue = &self.queues[slot];
        if queue.in_flight() == 0 && !queue.has_retries() && self.accumulator.oldest(slot).is_none() {
            self.active.remove(&slot);
        }
    }

    /// Where the next batch of a partition would go now, if it could go; otherwise notes what it waits for.
    fn place(&mut self, slot: usize, now: Instant, findings: &mut Findings) -> Option<(LinkKey, i32)> {
        self.queue(slot);
        self.expire(slot, now);
        for ended in self.queues[slot].reset_if_due() {
            self.report(slot, ended);
        }
        let waiting = self.queues[slot].has_retries() || self.accumulator.oldest(slot).is_some();
        if !waiting {
            return None;
        }
        let queue = &mut self.queues[slot];
        let oldest = self.accumulator.oldest(slot).map(|opened_at| opened_at + self.config.delivery_timeout);
        for at in [queue.expires_at(), oldest].into_iter().flatten() {
            findings.look_again(at);
        }
        if let Some(identity) = self.identity {
            queue.give_identity(identity);
        }
        if let Some(generation) = queue.wants_identity() {
            findings.wants_identity = Some(findings.wants_identity.map_or(generation, |known| known.max(generation)));
            return None;
        }
        if let Some(at) = queue.resume_at().filter(|&at| at > now) {
            findings.look_again(at);
            // What it needs to know when it resumes is asked for meanwhile.
            if queue.stale_since().is_some() {
                findings.wants_metadata = true;
                findings.suspect = findings.suspect.or(queue.last_broker());
            }
            return None;
        }
        if queue.stale_since().is_some() {
            findings.wants_metadata = true;
            findings.suspect = findings.suspect.or(queue.last_broker());
            return None;
        }
        let Some(leader) = self.view.leader(&queue.topic, queue.index) else {
            findings.wants_metadata = true;
            return None;
        };
        let key =
            (leader.broker_id, queue.index.unsigned_abs() as usize % self.client.config().streams_per_broker.max(1));
        if !queue.has_room(key, self.config.max_in_flight, now) {
            return None;
        }
        self.ready(key, now, findings).then_some((key, leader.epoch))
    }

    /// Ends what is out of time without having been sent again.
    fn expire(&mut self, slot: usize, now: Instant) {
        let mut ended = self.queues[slot].expire(now);
        if let Some(limit) = now.checked_sub(self.config.delivery_timeout) {
            for batch in self.accumulator.take_older(slot, Some(limit)) {
                ended.push(self.queues[slot].end(batch, Cause::DeliveryTimeout(None)));
            }
        }
        for ended in ended {
            self.report(slot, ended);
        }
    }

    /// Whether a link is up; starts to connect if not.
    fn ready(&mut self, key: LinkKey, now: Instant, findings: &mut Findings) -> bool {
        match self.links.get(&key) {
            Some(Link::Ready { .. }) => return true,
            Some(Link::Connecting { since, .. }) => {
                if now >= *since + CONNECT_DOUBT {
                    findings.wants_metadata = true;
                    findings.suspect = Some(key.0);
                } else {
                    findings.look_again(*since + CONNECT_DOUBT);
                }
                return false;
            }
            Some(Link::Down { until, .. }) if *until > now => {
                findings.wants_metadata = true;
                findings.look_again(*until);
                return false;
            }
            Some(Link::Down { .. }) | None => {}
        }
        let backoff = match self.links.get(&key) {
            Some(Link::Down { backoff, .. }) => *backoff,
            _ => Backoff::metadata(),
        };
        self.links.insert(key, Link::Connecting { since: now, backoff });
        findings.look_again(now + CONNECT_DOUBT);
        let (client, events) = (self.client.clone(), self.events_in.clone());
        tokio::spawn(async move {
            let result = client.connect(key.0).await;
            let _ = events.send(Event::Connected(key, result));
        });
        false
    }

    /// Sends one request with a batch of each of these partitions that has one due. False when none has.
    fn send_one(&mut self, key: LinkKey, slots: &[(usize, i32)], now: Instant, findings: &mut Findings) -> bool {
        let Some(Link::Ready { connection, version }) = self.links.get(&key) else {
            return false;
        };
        let (connection, version) = (connection.clone(), *version);
        let mut batches: Vec<(usize, i32, Batch)> = Vec::new();
        let mut topics: Vec<TopicProduceData> = Vec::new();
        let mut request_bytes = 0;
        for &(slot, epoch) in slots {
            if request_bytes >= self.config.request_bytes_max {
                break;
            }
            let queue = &mut self.queues[slot];
            if !queue.has_room(key, self.config.max_in_flight, now) || queue.wants_identity().is_some() {
                continue;
            }
            let mut batch = match queue.take_retry() {
                Some(batch) => batch,
                None => match self.accumulator.take(slot, now) {
                    Take::Batch(batch) => *batch,
                    Take::Lingers(until) => {
                        findings.look_again(until);
                        continue;
                    }
                    Take::Nothing => continue,
                },
            };
            let bytes = queue.launch(&mut batch, key, now);
            request_bytes += bytes.len();
            let data = PartitionProduceData::default().with_index(queue.index).with_records(Some(bytes));
            match topics.iter_mut().find(|topic| topic.name == queue.topic_name) {
                Some(topic) => topic.partition_data.push(data),
                None => topics.push(
                    TopicProduceData::default().with_name(queue.topic_name.clone()).with_partition_data(vec![data]),
                ),
            }
            batches.push((slot, epoch, batch));
        }
        if batches.is_empty() {
            return false;
        }
        let timeout_ms = i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(self.config.acks)
            .with_timeout_ms(timeout_ms)
            .with_topic_data(topics);
        let tag = self.next_tag;
        self.next_tag += 1;
        let reply_to = if self.config.acks == 0 {
            ReplyTo::Written(self.answers_in.clone(), tag)
        } else {
            ReplyTo::Tagged(self.answers_in.clone(), tag)
        };
        self.requests.insert(tag, Request { link: key, version, sent_at: now, batches });
        if let Err(error) = connection.send_produce(&request, version, reply_to) {
            self.links.insert(key, Link::Down { until: now, backoff: Backoff::metadata() });
            self.on_answer(Tagged { tag, result: Err(error) });
            findings.look_again(now);
            return false;
        }
        findings.look_again(now + self.config.suspect_after);
        true
    }

    fn on_answer(&mut self, answer: Tagged) {
        let Some(request) = self.requests.remove(&answer.tag) else {
            return;
        };
        let now = Instant::now();
        let attempts = self.attempts(&request, answer.result);
        for ((slot, epoch, batch), attempt) in request.batches.into_iter().zip(attempts) {
            self.active.insert(slot);
            if let Some(ended) = self.queues[slot].settle(batch, attempt, now) {
                self.report(slot, ended);
            }
            if has_moved(&self.view, &self.queues[slot], epoch) {
                // What is known is newer than this attempt already: it need not be asked for once more.
                self.queues[slot].refreshed(now);
            }
        }
    }

    /// How the attempt of each batch of a request ended, in order.
    fn attempts(&self, request: &Request, result: Result<Bytes, ConnectionError>) -> Vec<Attempt> {
        let all = |attempt: Attempt| vec![attempt; request.batches.len()];
        let frame = match result {
            Ok(_) if self.config.acks == 0 => return all(Attempt::Acked { base_offset: -1 }),
            Ok(frame) => frame,
            Err(error) => return all(Attempt::Lost(error)),
        };
        let response = match connection::decode::<ProduceRequest>(frame, request.version) {
            Ok(response) => response,
            Err(error) => return all(Attempt::Lost(error)),
        };
        let attempt = |slot: usize| {
            let queue = &self.queues[slot];
            let topic = response.responses.iter().find(|topic| topic.name == queue.topic_name)?;
            let partition = topic.partition_responses.iter().find(|partition| partition.index == queue.index)?;
            Some(match ErrorCode(partition.error_code) {
                code if code.is_ok() => Attempt::Acked { base_offset: partition.base_offset },
                code => Attempt::Refused(code),
            })
        };
        request.batches.iter().map(|&(slot, ..)| attempt(slot).unwrap_or(Attempt::NotMentioned)).collect()
    }

    fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(key, Ok(connection)) => {
                let link = match connection.versions().highest::<ProduceRequest>(PRODUCE_VERSION_MAX) {
                    Ok(version) => Link::Ready { connection, version },
                    Err(error) => {
                        tracing::warn!(broker = key.0, %error, "broker takes no records from this client");
                        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
                        Link::Down { until: now + backoff.next(), backoff }
                    }
                };
                self.links.insert(key, link);
            }
            Event::Connected(key, Err(error)) => {
                tracing::debug!(broker = key.0, %error, "cannot connect");
                if let Ok(address) = self.client.broker_address(key.0) {
                    self.client.dialer().forget(&address);
                }
                let mut backoff = match self.links.get(&key) {
                    Some(Link::Connecting { backoff, .. } | Link::Down { backoff, .. }) => *backoff,
                    _ => Backoff::metadata(),
                };
                self.links.insert(key, Link::Down { until: now + backoff.next(), backoff });
            }
            Event::Refreshed(asked_at, result) => {
                self.refresh.under_way = false;
                self.refresh.not_before = Some(now + self.refresh.backoff.next());
                match result {
                    Ok(view) => {
                        self.view = view;
                        for queue in &mut self.queues {
                            queue.refreshed(asked_at);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "no metadata"),
                }
            }
            Event::Identity(result) => {
                self.identity_asked = false;
                match result {
                    Ok((id, epoch)) => {
                        let generation = self.identity.map_or(0, |identity| identity.generation + 1);
                        self.identity = Some(Identity { generation, id, epoch });
                        self.identity_backoff.reset();
                    }
                    Err(error) => {
                        tracing::debug!(%error, "no producer id");
                        self.identity_not_before = Some(now + self.identity_backoff.next());
                    }
                }
            }
        }
    }

    fn ask_metadata(&mut self, now: Instant, findings: &mut Findings) {
        if !findings.wants_metadata {
            // Things go well: the next question is asked without a pause.
            if self.refresh.not_before.is_some_and(|at| at <= now) {
                self.refresh.backoff.reset();
                self.refresh.not_before = None;
            }
            return;
        }
        if self.refresh.under_way {
            return;
        }
        if let Some(at) = self.refresh.not_before.filter(|&at| at > now) {
            findings.look_again(at);
            return;
        }
        self.refresh.under_way = true;
        let topics: Vec<Arc<str>> = self.topics.iter().cloned().collect();
        let (client, events, suspect) = (self.client.clone(), self.events_in.clone(), findings.suspect);
        tokio::spawn(async move {
            let result = client.refresh_avoiding(suspect, Some(&topics)).await;
            let _ = events.send(Event::Refreshed(now, result));
        });
    }

    fn ask_identity(&mut self, now: Instant, findings: &mut Findings) {
        let Some(generation) = findings.wants_identity else {
            return;
        };
        if self.identity_asked || self.identity.is_some_and(|identity| identity.generation >= generation) {
            return;
        }
        if let Some(at) = self.identity_not_before.filter(|&at| at > now) {
            findings.look_again(at);
            return;
        }
        self.identity_asked = true;
        let (client, events) = (self.client.clone(), self.events_in.clone());
        tokio::spawn(async move {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None::<StrBytes>.map(Into::into))
                .with_transaction_timeout_ms(60_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1);
            let result = match client.call_any(&request, 4).await {
                Ok(response) if response.error_code == 0 => Ok((response.producer_id.0, response.producer_epoch)),
                Ok(response) => Err(ErrorCode(response.error_code).to_string()),
                Err(error) => Err(error.to_string()),
            };
            let _ = events.send(Event::Identity(result));
        });
    }

    /// Makes sure that there is a queue for a partition.
    fn queue(&mut self, slot: usize) {
        while self.queues.len() <= slot {
            let (topic, index) = self.accumulator.name(self.queues.len());
            self.topics.insert(topic.clone());
            self.queues.push(Queue::new(
                topic,
                index,
                self.config.idempotence,
                self.config.acks != 0,
                self.config.delivery_timeout,
            ));
        }
    }

    fn report(&mut self, slot: usize, ended: Ended) {
        let Ended { mut batch, outcome, base_offset } = ended;
        for (index, waiter) in batch.waiters.drain(..) {
            let result = match &outcome {
                Outcome::Ok if base_offset < 0 => Ok(Delivered { offset: -1 }),
                Outcome::Ok => Ok(Delivered { offset: base_offset + index as i64 }),
                Outcome::Failed(cause) => Err(ProduceError::Failed(cause.clone())),
                Outcome::Unknown(cause) => Err(ProduceError::Unknown(cause.clone())),
            };
            let _ = waiter.send(result);
        }
        let queue = &self.queues[slot];
        let report = BatchReport {
            topic: queue.topic.clone(),
            partition: queue.index,
            bytes: batch.len(),
            tags: batch.tags,
            base_offset,
            outcome,
            sent_at: batch.first_sent_at.map(Instant::into_std),
            completed_at: Instant::now().into_std(),
            attempts: batch.attempts,
        };
        (self.on_report)(report);
        self.accumulator.release(batch.reserved_bytes);
    }
}

/// Whether a partition is known to have a leader in a later epoch than `epoch`.
fn has_moved(view: &ClusterView, queue: &Queue, epoch: i32) -> bool {
    let topic = view.topics.get(&queue.topic);
    let partition = topic.and_then(|topic| topic.partitions.get(&queue.index));
    partition.is_some_and(|partition| partition.leader_epoch > epoch && partition.leader.is_some())
}
