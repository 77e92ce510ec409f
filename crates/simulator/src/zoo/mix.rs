//! Which kind of schedule a bug is looked for with. Some bugs need a rare coincidence, which drawing every fault at
//! once seldom gives; such a bug names a mix that favours it. The clean code runs every mix too.

use minisr_logic::zoo::Bug;
use minisr_replica::FlushPolicy;

use crate::plan::Plan;

/// A kind of schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mix {
    /// What the seed draws: every fault in some of the seeds.
    Swarm,
    /// Followers that lose power while their return to the ISR is on its way to the controller.
    Rejoin,
    /// Leaderships that go away and come back before the leader hears of it.
    Handback,
    /// Disks that fail a sync, under flush=commit.
    Disk,
    /// Leaderships that change so fast that some leaders write nothing, with few records in between.
    Elections,
}

impl Mix {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Swarm, Self::Rejoin, Self::Handback, Self::Disk, Self::Elections];

    /// Name for reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Rejoin => "rejoin",
            Self::Handback => "handback",
            Self::Disk => "disk",
            Self::Elections => "elections",
        }
    }

    /// The mix of a name.
    pub fn named(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|it| it.name() == name).ok_or_else(|| format!("there is no mix {name}"))
    }

    /// The mix that a bug is looked for with.
    #[must_use]
    pub const fn of(bug: Bug) -> Self {
        match bug {
            Bug::StaleAlterPartition | Bug::RemoveAndReAdd => Self::Rejoin,
            Bug::MetadataSkipped => Self::Handback,
            Bug::AppendAfterError => Self::Disk,
            Bug::EpochCacheLate | Bug::RefusedCopyAccepted => Self::Elections,
            _ => Self::Swarm,
        }
    }

    /// The plan of a seed.
    #[must_use]
    pub fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::draw(seed);
        let weights: &[(&'static str, u64)] = match self {
            Self::Swarm => return plan,
            Self::Rejoin => &[("stale-rejoin", 10), ("kill-process", 1)],
            Self::Handback => &[("unheard-handback", 10), ("kill-process", 6)],
            Self::Disk => &[("disk-error", 10), ("kill-process", 1)],
            Self::Elections => &[
                ("false-fence", 10),
                ("preferred-election", 6),
                ("kill-process", 4),
                ("cut-one-way", 4),
                ("controller-change", 1),
            ],
        };
        plan.rates.weights = weights.iter().copied().collect();
        plan.replication_factor = plan.replication_factor.max(2);
        plan.rates.fault_pause_ms = plan.rates.fault_pause_ms.clamp(150, 600);
        match self {
            Self::Swarm => {}
            // Leader, preferred leader, and a third.
            Self::Handback => plan.replication_factor = plan.replication_factor.max(3),
            Self::Rejoin => plan.flush = FlushPolicy::Never,
            Self::Disk => plan.flush = FlushPolicy::Commit,
            Self::Elections => {
                plan.replication_factor = plan.replication_factor.max(3);
                plan.rates.fault_pause_ms = plan.rates.fault_pause_ms.clamp(60, 150);
                plan.rates.produce_pause_ms = plan.rates.produce_pause_ms.max(150);
            }
        }
        plan
    }
}
