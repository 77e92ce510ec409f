//! Who keeps up with a leader and who does not: the rules, and the names of what they find.
//!
//! One rule is Kafka's: **time**. A follower is in step when it holds everything, or did so within
//! `replica.lag.time.max.ms`. The other is the rule that Kafka dropped in 0.9, **messages**: a follower that lacks too
//! many records is out of step at once. It is off unless asked for, and is here so that its flaw can be shown: one
//! batch larger than the limit puts healthy followers out of step the moment it is appended, and their next fetch
//! brings them back. It is looked at right after each append, before any fetch is served; on a timer a window of a
//! millisecond is never seen.
//!
//! The rule only ever takes members *out* by a proposal that the controller must commit, so it cannot lose anything:
//! until then they count, as in every other shrink.

use std::fmt;

/// When a follower lacks too many records, `replica.lag.max.messages.comparison`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LagComparison {
    /// `lag > N`, as old Kafka had it.
    Greater,
    /// `lag ≥ N`.
    GreaterOrEqual,
}

/// The legacy rule by number of records, `replica.lag.max.messages`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LagMaxMessages {
    /// N.
    pub limit: u64,
    /// What is compared with it.
    pub comparison: LagComparison,
}

impl LagMaxMessages {
    /// Whether a follower that lacks `records` is out of step.
    #[must_use]
    pub fn exceeded_by(&self, records: i64) -> bool {
        let records = u64::try_from(records).unwrap_or(0);
        match self.comparison {
            LagComparison::Greater => records > self.limit,
            LagComparison::GreaterOrEqual => records >= self.limit,
        }
    }
}

/// How a follower is behind, by the three names of Kafka's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LagKind {
    /// Has sent no fetch for the lag time; or is outside the ISR and fenced or stopping.
    Stuck,
    /// Fetches, but has not reached the log end for the lag time.
    Slow,
    /// Outside the ISR and fetching: new, restarted or reassigned, or slow before; it catches up.
    Bootstrapping,
}

impl LagKind {
    /// The name in logs and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Slow => "slow",
            Self::Bootstrapping => "bootstrapping",
        }
    }
}

/// Why a replica left the ISR, or joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IsrReason {
    /// Left: it had sent no fetch for `replica.lag.time.max.ms`.
    Stuck,
    /// Left: it fetched, but had not reached the leader's log end for `replica.lag.time.max.ms`.
    Slow,
    /// Left: it lacked too many records (`replica.lag.max.messages`).
    Messages,
    /// Left: the controller fenced its broker, or its registration is gone.
    Fenced,
    /// Left: its broker is stopping in order.
    ShuttingDown,
    /// Left: it is no replica of the partition any more.
    Unassigned,
    /// Left or joined by a change that this leader neither proposed nor can explain.
    Controller,
    /// Joined: it holds everything that may be committed.
    CaughtUp,
}

impl IsrReason {
    /// All of them; the place is the number on the wire.
    pub const ALL: [Self; 8] = [
        Self::Stuck,
        Self::Slow,
        Self::Messages,
        Self::Fenced,
        Self::ShuttingDown,
        Self::Unassigned,
        Self::Controller,
        Self::CaughtUp,
    ];

    /// The name in logs and files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Slow => "slow",
            Self::Messages => "lag-messages",
            Self::Fenced => "fenced",
            Self::ShuttingDown => "shutting-down",
            Self::Unassigned => "unassigned",
            Self::Controller => "controller",
            Self::CaughtUp => "caught-up",
        }
    }
}

impl fmt::Display for LagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IsrReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_by_messages_differs_between_the_comparisons_at_the_limit_only() {
        let out_of_step = |comparison| {
            let rule = LagMaxMessages { limit: 4, comparison };
            [0, 3, 4, 5].map(|records| rule.exceeded_by(records))
        };
        assert_eq!(out_of_step(LagComparison::Greater), [false, false, false, true]);
        assert_eq!(out_of_step(LagComparison::GreaterOrEqual), [false, false, true, true]);
    }
}
