//! Which kind of schedule a bug is looked for with. Some bugs need a rare coincidence, which drawing every fault at
//! once seldom gives; such a bug names a mix that favours it. The clean code runs every mix too.

use minisr_logic::zoo::Bug;

use crate::plan::Plan;

/// A kind of schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mix {
    /// What the seed draws.
    Swarm,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Swarm];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
        }
    }

    /// The mix that a bug is looked for with.
    #[must_use]
    pub const fn of(bug: Bug) -> Self {
        let _ = bug;
        Self::Swarm
    }

    /// The plan of a seed.
    #[must_use]
    pub fn plan(self, seed: u64) -> Plan {
        let plan = Plan::draw(seed);
        match self {
            Self::Swarm => plan,
        }
    }
}
