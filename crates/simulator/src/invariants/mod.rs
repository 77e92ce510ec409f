//! What must hold after every step: one file each, numbered as in the semantics reference (§7).
//!
//! Each check keeps what it needs from earlier steps, and looks only at what a step changed. Each has a unit test in
//! which a doctored state violates it: a check that has never failed proves nothing.

mod acked_on_min_isr;
mod acked_readable;
mod batch_epochs_ordered;
mod commands_checked;
mod consumers_below_high_watermark;
mod converged;
mod current_replies;
mod cursors_ordered;
mod eligible_members;
mod empty_isr_without_leader;
mod epochs_ascend;
mod epochs_never_decrease;
mod equal_images;
mod follower_bytes_equal;
mod healthy_members_stay;
mod high_watermark_monotonic;
mod high_watermark_needs_min_isr;
mod high_watermark_reported;
mod ids_unique;
mod isr_among_replicas;
mod latest_never_falls;
mod leader_completeness;
mod log_matching;
mod no_cut_below_high_watermark;
mod offsets_without_gaps;
mod one_leader_per_epoch;
mod producer_state;
mod reads_agree;
mod recovery_keeps;
mod refused_absent;
mod robbed;
mod sequences_contiguous;
mod strong_isr;

#[cfg(test)]
mod doctor;

use std::fmt;

use crate::state::{State, Step};

/// One invariant.
pub trait Invariant {
    /// Its number in the semantics reference; 0 for what follows from several.
    fn number(&self) -> u8;
    /// Its name, the same in every report and document.
    fn name(&self) -> &'static str;
    /// Looks at one step; the error says what is wrong.
    fn check(&mut self, step: &Step<'_>) -> Result<(), String>;
    /// Looks at the healed, quiet cluster at the end of a run.
    fn check_end(&mut self, _state: &State) -> Result<(), String> {
        Ok(())
    }
}

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// What is wrong.
    pub what: String,
}

impl Violation {
    /// The name under which failed assertions of the code under test are reported.
    pub const ASSERTION: &'static str = "Assertion";

    /// Whether another violation is of the same kind: the same invariant, or the same assertion.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let place = |it: &Self| it.what.split(' ').next().map(str::to_owned);
        self.name == other.name && (self.name != Self::ASSERTION || place(self) == place(other))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} ({}): {}", self.number, self.name, self.what)
    }
}

/// All invariants, with what they remember of one run.
pub struct Invariants(Vec<Box<dyn Invariant>>);

impl Default for Invariants {
    fn default() -> Self {
        Self(vec![
            Box::<one_leader_per_epoch::OneLeaderPerEpoch>::default(),
            Box::<epochs_never_decrease::EpochsNeverDecrease>::default(),
            Box::<cursors_ordered::CursorsOrdered>::default(),
            Box::<high_watermark_monotonic::HighWatermarkMonotonic>::default(),
            Box::<latest_never_falls::LatestNeverFalls>::default(),
            Box::<log_matching::LogMatching>::default(),
            Box::<leader_completeness::LeaderCompleteness>::default(),
            Box::<acked_readable::AckedReadable>::default(),
            Box::<acked_on_min_isr::AckedOnMinIsr>::default(),
            Box::<refused_absent::RefusedAbsent>::default(),
            Box::<consumers_below_high_watermark::ConsumersBelowHighWatermark>::default(),
            Box::<isr_among_replicas::IsrAmongReplicas>::default(),
            Box::<empty_isr_without_leader::EmptyIsrWithoutLeader>::default(),
            Box::<strong_isr::StrongIsr>::default(),
            Box::<eligible_members::EligibleMembers>::default(),
            Box::<high_watermark_reported::HighWatermarkReported>::default(),
            Box::<high_watermark_needs_min_isr::HighWatermarkNeedsMinIsr>::default(),
            Box::<no_cut_below_high_watermark::NoCutBelowHighWatermark>::default(),
            Box::<batch_epochs_ordered::BatchEpochsOrdered>::default(),
            Box::<offsets_without_gaps::OffsetsWithoutGaps>::default(),
            Box::<epochs_ascend::EpochsAscend>::default(),
            Box::<follower_bytes_equal::FollowerBytesEqual>::default(),
            Box::<current_replies::CurrentReplies>::default(),
            Box::<sequences_contiguous::SequencesContiguous>::default(),
            Box::<producer_state::ProducerState>::default(),
            Box::<equal_images::EqualImages>::default(),
            Box::<commands_checked::CommandsChecked>::default(),
            Box::<ids_unique::IdsUnique>::default(),
            Box::<healthy_members_stay::HealthyMembersStay>::default(),
            Box::<recovery_keeps::RecoveryKeeps>::default(),
            Box::<reads_agree::ReadsAgree>::default(),
            Box::<converged::Converged>::default(),
        ])
    }
}

impl Invariants {
    /// Checks one step against all of them; the first violation is returned.
    pub fn check(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        self.each(|it| it.check(step))
    }

    /// Checks the healed, quiet cluster.
    pub fn check_end(&mut self, state: &State) -> Result<(), Violation> {
        self.each(|it| it.check_end(state))
    }

    fn each(&mut self, mut check: impl FnMut(&mut dyn Invariant) -> Result<(), String>) -> Result<(), Violation> {
        for it in &mut self.0 {
            if let Err(what) = check(it.as_mut()) {
                return Err(Violation { number: it.number(), name: it.name(), what });
            }
        }
        Ok(())
    }

    /// Number and name of each, for lists.
    pub fn names(&self) -> impl Iterator<Item = (u8, &'static str)> {
        self.0.iter().map(|it| (it.number(), it.name()))
    }
}

impl fmt::Debug for Invariants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

pub use converged::unfinished;
