//! What the properties need to remember, and what is checked while it happens: a state does not show what led to it.

use std::collections::BTreeMap;

use minisr_logic::metadata::{Image, check_step};
use minisr_logic::{BrokerId, Epoch, Offset};
use minisr_replica::{AppendError, Appended, Notice, Output, PartitionDescription, RoleName};

use crate::broker::Entry;
use crate::world::World;

/// What was seen on the way to a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// Who appended as leader in which epoch.
    pub leaders: BTreeMap<Epoch, BrokerId>,
    /// What was ever below some leader's high watermark, by offset.
    pub committed: Vec<Entry>,
    /// Records that were acknowledged, and where.
    pub acked: BTreeMap<u8, Offset>,
    /// Records that were refused as being nowhere.
    pub refused: Vec<u8>,
    /// Up to where each follower has reported to each leader that leads, and in which epoch.
    pub reported: BTreeMap<(BrokerId, BrokerId), (Epoch, Offset)>,
    /// Whether a follower has cut its log.
    pub was_cut: bool,
    /// The first violation.
    pub fault: Option<Fault>,
}

/// A violation that was seen as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The name of the invariant.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

impl World {
    /// Notes a violation; the first counts.
    pub(crate) fn fault(&mut self, invariant: &'static str, what: String) {
        self.history.fault.get_or_insert(Fault { invariant, what });
    }

    /// A step of a shard is over.
    pub(crate) fn observe(&mut self, id: BrokerId, before: Option<PartitionDescription>, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::Notice(Notice::BecameLeader { leader_epoch, .. }) => self.became_leader(id, *leader_epoch),
                Output::Notice(Notice::Truncated { from, to, high_watermark, .. }) => {
                    self.history.was_cut |= to < from;
                    if to < high_watermark && !self.broker(id).damaged {
                        self.fault(
                            "NoCutBelowHighWatermark",
                            format!("{id} cuts at {to}, high watermark {high_watermark}"),
                        );
                    }
                }
                Output::Notice(Notice::LogFailed { reason, .. }) => {
                    self.fault("NoAssertionFails", format!("{id} lost its log: {reason}"));
                }
                _ => {}
            }
        }
        let Some(after) = self.broker(id).view().cloned() else { return };
        if let Some(before) = &before {
            self.compare(id, before, &after);
        }
        if after.role == RoleName::Leader {
            self.note_committed(id, before.as_ref(), &after);
        } else {
            self.history.reported.retain(|(leader, _), _| *leader != id);
        }
        for output in outputs {
            if let Output::Appended { ticket, result } = output {
                let record = u8::try_from(ticket.0).expect("tickets of appends are records");
                self.answered(record, *result);
            }
        }
    }

    fn became_leader(&mut self, id: BrokerId, epoch: Epoch) {
        let other = *self.history.leaders.entry(epoch).or_insert(id);
        if other != id {
            self.fault("OneLeaderPerEpoch", format!("{id} and {other} lead in epoch {epoch}"));
        }
        self.history.reported.retain(|(leader, _), _| *leader != id);
        let log = &self.broker(id).log;
        if !log.starts_with(&self.history.committed) {
            let what = format!("{id} leads in epoch {epoch} with {log:?}, committed is {:?}", self.history.committed);
            self.fault("LeaderCompleteness", what);
        }
    }

    fn compare(&mut self, id: BrokerId, before: &PartitionDescription, after: &PartitionDescription) {
        if after.leader_epoch < before.leader_epoch || after.partition_epoch < before.partition_epoch {
            self.fault("EpochsNeverDecrease", format!("{id}: {before:?} became {after:?}"));
        }
        let leads_on = before.role == RoleName::Leader && after.role == RoleName::Leader;
        if leads_on && before.leader_epoch == after.leader_epoch && after.high_watermark < before.high_watermark {
            self.fault(
                "HighWatermarkMonotonic",
                format!("{id}: from {} to {}", before.high_watermark, after.high_watermark),
            );
        }
    }

    /// A leader's high watermark, if it has risen, is checked and remembered.
    fn note_committed(&mut self, id: BrokerId, before: Option<&PartitionDescription>, after: &PartitionDescription) {
        let high_watermark = after.high_watermark;
        if before.is_some_and(|before| before.high_watermark >= high_watermark) {
            return;
        }
        let isr_needed = usize::try_from(self.bounds().min_insync_replicas).expect("1 to 3");
        if after.isr.len() < isr_needed && before.is_some() {
            self.fault("HighWatermarkNeedsMinIsr", format!("{id} raises it to {high_watermark} with {:?}", after.isr));
        }
        let maximal = after.isr.iter().chain(after.proposed_isr.iter().flatten()).filter(|member| **member != id);
        for member in maximal.copied().collect::<Vec<_>>() {
            let reported = self.history.reported.get(&(id, member));
            let is_covered =
                reported.is_some_and(|(epoch, end)| Some(*epoch) == after.leader_epoch && *end >= high_watermark);
            // What a leader brings along from before its epoch was reported to an earlier one.
            if !is_covered && before.is_some_and(|before| before.leader_epoch == after.leader_epoch) {
                let what = format!("{id} raises it to {high_watermark}, {member} reported {reported:?}");
                self.fault("HighWatermarkReported", what);
            }
        }
        let below = usize::try_from(high_watermark.0).expect("not negative");
        let log = self.broker(id).log[..below].to_vec();
        let known = self.history.committed.len().min(below);
        if log[..known] != self.history.committed[..known] {
            let what = format!("{id} commits {log:?} where {:?} was committed", self.history.committed);
            self.fault("LeaderCompleteness", what);
        } else if below > known {
            self.history.committed = log;
        }
    }

    fn answered(&mut self, record: u8, result: Result<Appended, AppendError>) {
        match result {
            Ok(appended) => {
                let at = usize::try_from(appended.base_offset.0).expect("not negative");
                self.history.acked.insert(record, appended.base_offset);
                if self.history.committed.get(at).is_none_or(|entry| entry.record != record) {
                    let committed = &self.history.committed;
                    let what = format!("record {record} is acknowledged at {at}, committed is {committed:?}");
                    self.fault("AckedReadable", what);
                }
                let holders = self.brokers().filter(|it| it.log.get(at).is_some_and(|it| it.record == record)).count();
                if holders < usize::try_from(self.bounds().min_insync_replicas).expect("1 to 3") {
                    self.fault("AckedOnMinIsr", format!("record {record} is acknowledged with {holders} copies"));
                }
            }
            Err(AppendError::NotLeader | AppendError::NotEnoughReplicas { .. } | AppendError::UnknownPartition) => {
                self.history.refused.push(record)
            }
            Err(_) => {}
        }
    }

    /// A command was applied to the metadata.
    pub(crate) fn observe_metadata(&mut self, before: &Image, after: &Image) {
        if let Err(violation) = after.check() {
            self.fault("ImageSound", violation.to_string());
        }
        if let Err(violation) = check_step(before, after) {
            self.fault("EpochsNeverDecrease", violation.to_string());
        }
    }
}
