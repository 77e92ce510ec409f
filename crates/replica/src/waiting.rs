//! Fetches that wait for data: found by partition when something moves there, by time when their wait is over, and by
//! replica when the same follower asks again.
//!
//! A follower's newer fetch ends its older one: the follower asks again before it has an answer only when the older
//! question is out of date (it follows another partition now, or has flushed more), and since answers leave in the
//! order of requests, the older answer must not hold the newer one up.

use std::collections::{BTreeMap, BTreeSet};

use minisr_logic::{BrokerId, Millis, TopicPartition};

use crate::event::{FetchRequest, Reader, Ticket};

/// A fetch that waits.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Waiting {
    pub(crate) request: FetchRequest,
    deadline: Millis,
}

/// All of them.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct WaitingFetches {
    by_ticket: BTreeMap<Ticket, Waiting>,
    by_partition: BTreeMap<TopicPartition, BTreeSet<Ticket>>,
    by_deadline: BTreeSet<(Millis, Ticket)>,
    by_replica: BTreeMap<BrokerId, BTreeSet<Ticket>>,
}

impl WaitingFetches {
    /// Parks a fetch until `deadline` at the latest.
    pub(crate) fn park(&mut self, deadline: Millis, ticket: Ticket, request: FetchRequest) {
        for entry in &request.partitions {
            self.by_partition.entry(entry.partition).or_default().insert(ticket);
        }
        if let Reader::Replica { id, .. } = request.reader {
            self.by_replica.entry(id).or_default().insert(ticket);
        }
        self.by_deadline.insert((deadline, ticket));
        let clash = self.by_ticket.insert(ticket, Waiting { request, deadline });
        assert!(clash.is_none(), "tickets of unanswered fetches are unique: {ticket:?}");
    }

    /// Lets a waiting fetch wait no longer than until `deadline`.
    pub(crate) fn hasten(&mut self, ticket: Ticket, deadline: Millis) {
        let Some(waiting) = self.by_ticket.get_mut(&ticket).filter(|waiting| waiting.deadline > deadline) else {
            return;
        };
        self.by_deadline.remove(&(waiting.deadline, ticket));
        self.by_deadline.insert((deadline, ticket));
        waiting.deadline = deadline;
    }

    /// Takes a fetch out.
    pub(crate) fn take(&mut self, ticket: Ticket) -> Option<FetchRequest> {
        let Waiting { request, deadline } = self.by_ticket.remove(&ticket)?;
        self.by_deadline.remove(&(deadline, ticket));
        for entry in &request.partitions {
            if let Some(tickets) = self.by_partition.get_mut(&entry.partition) {
                tickets.remove(&ticket);
                if tickets.is_empty() {
                    self.by_partition.remove(&entry.partition);
                }
            }
        }
        if let Reader::Replica { id, .. } = request.reader
            && let Some(tickets) = self.by_replica.get_mut(&id)
        {
            tickets.remove(&ticket);
        }
        Some(request)
    }

    /// A waiting fetch.
    pub(crate) fn get(&self, ticket: Ticket) -> Option<&FetchRequest> {
        self.by_ticket.get(&ticket).map(|waiting| &waiting.request)
    }

    /// Who waits for this partition.
    pub(crate) fn at(&self, partition: TopicPartition) -> impl Iterator<Item = Ticket> + '_ {
        self.by_partition.get(&partition).into_iter().flatten().copied()
    }

    /// Waiting fetches of this follower that ask for something the new one asks for too.
    pub(crate) fn superseded_by(&self, request: &FetchRequest) -> Vec<Ticket> {
        let Reader::Replica { id, .. } = request.reader else { return Vec::new() };
        let Some(tickets) = self.by_replica.get(&id).filter(|tickets| !tickets.is_empty()) else { return Vec::new() };
        let asked: BTreeSet<_> = request.partitions.iter().map(|entry| entry.partition).collect();
        let overlaps = |ticket: &Ticket| {
            self.get(*ticket).is_some_and(|older| older.partitions.iter().any(|entry| asked.contains(&entry.partition)))
        };
        tickets.iter().copied().filter(overlaps).collect()
    }

    /// The next one whose wait is over.
    pub(crate) fn expired(&self, now: Millis) -> Option<Ticket> {
        self.by_deadline.first().filter(|(deadline, _)| *deadline <= now).map(|&(_, ticket)| ticket)
    }

    /// When [`Self::expired`] will next find one.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.by_deadline.first().map(|&(deadline, _)| deadline)
    }
}
