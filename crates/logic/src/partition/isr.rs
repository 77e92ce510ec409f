//! The in-sync replicas as a leader knows them: what the controller has committed, and what the leader has proposed.
//!
//! ```text
//!             propose                         reply: committed, or newer metadata
//!  Settled ───────────► Proposed(sent) ─────────────────────────────────────────► Settled (new set)
//!     ▲                   │   ▲   │
//!     │ 107, 55           │   └───┘ no answer, unknown outcome: the very same proposal again, after a pause
//!     └───────────────────┘
//! ```
//!
//! One proposal is outstanding at a time. Until it is known **not** to have been applied, commitment is computed
//! over the *maximal* ISR, settled ∪ proposed: an expansion may already count at the controller, a shrink may not
//! (traps 7 and 8). The compare-and-set is on the partition epoch, so as soon as a higher partition epoch is seen
//! the proposal is either in it or void.

use std::collections::BTreeSet;

use crate::zoo::{self, Bug};
use crate::{BrokerId, Epoch, Millis, PartitionEpoch, metadata};

/// Why an AlterPartition was not applied, by what the leader may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlterPartitionError {
    /// 107: a proposed member is fenced, shutting down, or of another broker epoch. Certainly not applied: the leader
    /// goes back to the committed ISR.
    IneligibleReplica,
    /// 55: certainly not attempted: the same.
    OperationNotAttempted,
    /// 3, 42, 74, 95, 100, 108: the leader's view is behind. The proposal stays pending until metadata arrives.
    MetadataBehind,
    /// Everything else, no answer included: it may have been applied. The same proposal is sent again.
    Unknown,
}

impl From<&metadata::AlterPartitionError> for AlterPartitionError {
    /// What the controller's refusal means to the leader that proposed.
    fn from(refusal: &metadata::AlterPartitionError) -> Self {
        use metadata::AlterPartitionError as Refusal;
        match refusal {
            Refusal::IneligibleReplica { .. } => Self::IneligibleReplica,
            Refusal::UnknownTopicId { .. }
            | Refusal::UnknownPartition { .. }
            | Refusal::FencedLeaderEpoch { .. }
            | Refusal::NotLeader { .. }
            | Refusal::InvalidUpdateVersion { .. }
            | Refusal::NotReplica { .. }
            | Refusal::LeaderMissing => Self::MetadataBehind,
            Refusal::BrokerEpoch(_) | Refusal::AheadOfController { .. } => Self::Unknown,
        }
    }
}

/// What the controller committed in answer to an AlterPartition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IsrCommitted {
    /// The partition's leader epoch there.
    pub leader_epoch: Epoch,
    /// The partition's new epoch.
    pub partition_epoch: PartitionEpoch,
    /// The committed ISR.
    pub isr: Vec<BrokerId>,
}

/// A change of ISR that the controller has been asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Distinguishes answers.
    pub correlation: u64,
    /// The proposed members.
    pub isr: BTreeSet<BrokerId>,
    /// When to send the same again if nothing was heard.
    retry_at: Millis,
}

/// Settled and proposed ISR.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Isr {
    settled: BTreeSet<BrokerId>,
    partition_epoch: PartitionEpoch,
    proposal: Option<Proposal>,
    proposals: u64,
    /// After a refusal there is a pause, or a follower's every fetch would bring the same proposal again.
    refused_until: Option<Millis>,
}

impl Isr {
    /// The committed set as of `partition_epoch`.
    #[must_use]
    pub fn settled_at(settled: BTreeSet<BrokerId>, partition_epoch: PartitionEpoch) -> Self {
        Self { settled, partition_epoch, proposal: None, proposals: 0, refused_until: None }
    }

    /// Numbers proposals from `first` on, so that an answer to an earlier leadership's proposal fits none of these.
    #[must_use]
    pub fn numbered_from(self, first: u64) -> Self {
        Self { proposals: first, ..self }
    }

    /// The members that the controller has committed.
    #[must_use]
    pub fn settled(&self) -> &BTreeSet<BrokerId> {
        &self.settled
    }

    /// The partition epoch of the committed set.
    #[must_use]
    pub fn partition_epoch(&self) -> PartitionEpoch {
        self.partition_epoch
    }

    /// The outstanding proposal.
    #[must_use]
    pub fn proposal(&self) -> Option<&Proposal> {
        self.proposal.as_ref()
    }

    /// Whether `broker` is in the maximal ISR: settled or proposed.
    #[must_use]
    pub fn maximal_contains(&self, broker: BrokerId) -> bool {
        self.settled.contains(&broker) || self.proposal.as_ref().is_some_and(|it| it.isr.contains(&broker))
    }

    /// Size of the maximal ISR.
    #[must_use]
    pub fn maximal_len(&self) -> usize {
        self.proposal.as_ref().map_or(self.settled.len(), |it| self.settled.union(&it.isr).count())
    }

    /// Whether a set may be proposed now: none is outstanding, and the last was not refused a moment ago.
    #[must_use]
    pub fn may_propose(&self, now: Millis) -> bool {
        self.proposal.is_none() && self.refused_until.is_none_or(|until| until <= now)
    }

    /// Proposes a set. None may be outstanding.
    pub fn propose(&mut self, now: Millis, isr: BTreeSet<BrokerId>, retry_ms: u64) -> &Proposal {
        assert!(self.proposal.is_none(), "one AlterPartition in flight");
        assert_ne!(isr, self.settled, "a proposal changes something");
        self.proposals += 1;
        self.proposal.insert(Proposal { correlation: self.proposals, isr, retry_at: now.plus(retry_ms) })
    }

    /// The same proposal again, if its time has come.
    pub fn resend_due(&mut self, now: Millis, retry_ms: u64) -> Option<&Proposal> {
        let proposal = self.proposal.as_mut().filter(|it| it.retry_at <= now)?;
        proposal.retry_at = now.plus(retry_ms);
        Some(proposal)
    }

    /// When [`Self::resend_due`] will have something.
    #[must_use]
    pub fn resend_at(&self) -> Option<Millis> {
        self.proposal.as_ref().map(|it| it.retry_at)
    }

    /// The controller refused. Goes back to the settled set only where the proposal certainly was not applied.
    /// Returns whether it did.
    pub fn refused(&mut self, now: Millis, correlation: u64, error: AlterPartitionError, retry_ms: u64) -> bool {
        let Some(proposal) = self.proposal.as_mut().filter(|it| it.correlation == correlation) else { return false };
        let reverts =
            matches!(error, AlterPartitionError::IneligibleReplica | AlterPartitionError::OperationNotAttempted);
        match error {
            _ if reverts || zoo::planted(Bug::UnansweredProposalReverted) => {
                self.proposal = None;
                self.refused_until = Some(now.plus(retry_ms));
                true
            }
            // Metadata will tell. Should it not (a refusal without a change), asking again later is harmless: the
            // proposal names the partition epoch it is based on.
            AlterPartitionError::MetadataBehind => {
                proposal.retry_at = now.plus(retry_ms.saturating_mul(10));
                false
            }
            _ => {
                proposal.retry_at = now.plus(retry_ms);
                false
            }
        }
    }

    /// A committed set arrived, by metadata or as an answer. Ignored unless newer. Returns the set before if it changed
    /// anything.
    pub fn settle(
        &mut self,
        settled: BTreeSet<BrokerId>,
        partition_epoch: PartitionEpoch,
    ) -> Option<BTreeSet<BrokerId>> {
        if partition_epoch <= self.partition_epoch {
            return None;
        }
        self.partition_epoch = partition_epoch;
        // Based on an older partition epoch, so either applied (and this is it) or refused for ever.
        self.proposal = None;
        Some(std::mem::replace(&mut self.settled, settled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[i32]) -> BTreeSet<BrokerId> {
        ids.iter().map(|&id| BrokerId(id)).collect()
    }

    #[test]
    fn isr_shrink_in_flight_removes_nobody_from_the_maximal_set() {
        let mut isr = Isr::settled_at(set(&[1, 2, 3]), PartitionEpoch(4));
        isr.propose(Millis(0), set(&[1, 2]), 100);
        assert!(isr.maximal_contains(BrokerId(3)));
        assert_eq!(isr.maximal_len(), 3);
    }

    #[test]
    fn isr_expansion_in_flight_counts_the_joiner_already() {
        let mut isr = Isr::settled_at(set(&[1]), PartitionEpoch(4));
        isr.propose(Millis(0), set(&[1, 2]), 100);
        assert!(isr.maximal_contains(BrokerId(2)));
        assert_eq!((isr.settled().len(), isr.maximal_len()), (1, 2));
    }

    #[test]
    fn isr_unanswered_proposal_is_sent_again_unchanged_and_never_reverted() {
        let mut isr = Isr::settled_at(set(&[1]), PartitionEpoch(4));
        let sent = isr.propose(Millis(0), set(&[1, 2]), 100).clone();
        assert!(!isr.refused(Millis(10), sent.correlation, AlterPartitionError::Unknown, 100));
        assert!(!isr.refused(Millis(10), sent.correlation, AlterPartitionError::MetadataBehind, 100));
        assert!(isr.maximal_contains(BrokerId(2)), "the expansion may have been applied");
        assert!(isr.resend_due(Millis(11), 100).is_none());
        let again = isr.resend_due(Millis(1_010), 100).expect("due").clone();
        assert_eq!((again.correlation, again.isr), (sent.correlation, sent.isr));
    }

    #[test]
    fn isr_only_certain_refusals_revert() {
        for error in [AlterPartitionError::IneligibleReplica, AlterPartitionError::OperationNotAttempted] {
            let mut isr = Isr::settled_at(set(&[1]), PartitionEpoch(4));
            let correlation = isr.propose(Millis(0), set(&[1, 2]), 100).correlation;
            assert!(!isr.refused(Millis(1), correlation + 1, error, 100), "an answer to another proposal");
            assert!(isr.refused(Millis(1), correlation, error, 100));
            assert!(!isr.maximal_contains(BrokerId(2)));
        }
    }

    #[test]
    fn isr_older_metadata_never_undoes_newer() {
        let mut isr = Isr::settled_at(set(&[1, 2]), PartitionEpoch(4));
        assert_eq!(isr.settle(set(&[1]), PartitionEpoch(5)), Some(set(&[1, 2])));
        assert_eq!(isr.settle(set(&[1, 2]), PartitionEpoch(4)), None);
        assert_eq!(isr.settle(set(&[1, 2]), PartitionEpoch(5)), None);
        assert_eq!(isr.settled(), &set(&[1]));
    }
}
