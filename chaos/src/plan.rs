//! Which faults come in which order: a pure function of the seed, so that a run can be repeated as closely as real
//! processes allow.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What is done to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// SIGKILL, and a start after a while.
    Kill,
    /// SIGSTOP, and SIGCONT after a while: sometimes shorter, sometimes longer than the session timeout.
    Pause,
    /// SIGTERM, and a start after a while.
    Stop,
    /// SIGKILL, the data directory replaced by an empty one, and a start after a while: a disk was exchanged. Only
    /// ever done to one broker of a whole cluster, since it destroys a copy.
    Wipe,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Stop => "stop",
            Self::Wipe => "wipe",
        })
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kill" => Ok(Self::Kill),
            "pause" => Ok(Self::Pause),
            "stop" => Ok(Self::Stop),
            "wipe" => Ok(Self::Wipe),
            _ => Err(format!("`{text}` is not a fault (kill, pause, stop or wipe)")),
        }
    }
}

/// How the victim is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The leader of a partition drawn by lot.
    Leader,
    /// A follower of a partition drawn by lot, if possible not the controller.
    Follower,
    /// The active controller.
    Controller,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Leader, Self::Follower, Self::Controller];
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Controller => "controller",
        })
    }
}

/// One fault to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFault {
    /// From 1.
    pub number: u32,
    /// What to do.
    pub kind: FaultKind,
    /// To whom.
    pub role: Role,
    /// How many further brokers, drawn by lot, suffer the same at the same moment.
    pub others: usize,
    /// The lot that chooses the partition and the further brokers.
    pub lot: u64,
    /// Steady time before it.
    pub steady: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// Whether to wait for every in-sync set to be full before the steady time begins. Impatient faults hit a cluster
    /// that is still catching up.
    pub patient: bool,
}

/// The endless seeded sequence of faults.
#[derive(Debug)]
pub struct Plan {
    random: ChaCha8Rng,
    kinds: Vec<FaultKind>,
    others_max: usize,
    number: u32,
    /// Roles still to come before each has had its turn.
    bag: Vec<Role>,
    profile: Profile,
}

/// What the faults are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// To break things: every role in turn, some faults on a cluster that is still recovering.
    #[default]
    Mixed,
    /// To time failovers: leaders and controllers alternate, every kill finds a whole cluster, victims stay down for
    /// two seconds.
    Failover,
}

impl Plan {
    /// A plan over some kinds of faults with at most `victims_max` brokers hit at once.
    pub fn new(seed: u64, kinds: &[FaultKind], victims_max: usize) -> Self {
        assert!(!kinds.is_empty() && victims_max > 0, "the command line demands both");
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            kinds: kinds.to_vec(),
            others_max: victims_max - 1,
            number: 0,
            bag: Vec::new(),
            profile: Profile::Mixed,
        }
    }

    /// The same for another purpose.
    #[must_use]
    pub fn with_profile(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}

impl Iterator for Plan {
    type Item = PlannedFault;

    fn next(&mut self) -> Option<PlannedFault> {
        if self.bag.is_empty() {
            self.bag = match self.profile {
                Profile::Mixed => Role::ALL.to_vec(),
                Profile::Failover => vec![Role::Leader, Role::Controller],
            };
            self.bag.shuffle(&mut self.random);
        }
        self.number += 1;
        let random = &mut self.random;
        let kind = *self.kinds.choose(random).expect("there is a kind");
        let lasts_ms = match kind {
            FaultKind::Pause if random.random_bool(0.5) => random.random_range(10_000..14_000),
            FaultKind::Pause => random.random_range(200..3_000),
            FaultKind::Kill | FaultKind::Stop | FaultKind::Wipe => random.random_range(500..5_000),
        };
        if self.profile == Profile::Failover {
            return Some(PlannedFault {
                number: self.number,
                kind,
                role: self.bag.pop().expect("filled above"),
                others: 0,
                lot: random.random(),
                steady: Duration::from_millis(random.random_range(500..1_000)),
                lasts: Duration::from_millis(random.random_range(1_500..2_500)),
                patient: true,
            });
        }
        let others = if self.others_max == 0 { 0 } else { random.random_range(0..=self.others_max) };
        Some(PlannedFault {
            number: self.number,
            kind,
            role: self.bag.pop().expect("filled above"),
            others: if kind == FaultKind::Wipe { 0 } else { others },
            lot: random.random(),
            steady: Duration::from_millis(random.random_range(1_000..3_000)),
            lasts: Duration::from_millis(lasts_ms),
            // The first fault always finds a whole cluster.
            patient: random.random_bool(0.75) || self.number == 1 || kind == FaultKind::Wipe,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_same_seed_gives_same_faults() {
        let plan = |seed| Plan::new(seed, &[FaultKind::Kill, FaultKind::Pause], 1).take(50).collect::<Vec<_>>();
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn plan_every_three_faults_hit_each_role_once() {
        let faults: Vec<PlannedFault> = Plan::new(3, &[FaultKind::Kill], 1).take(30).collect();
        for three in faults.chunks(3) {
            let mut roles: Vec<Role> = three.iter().map(|fault| fault.role).collect();
            roles.sort();
            assert_eq!(roles, Role::ALL);
        }
        assert!(faults.iter().all(|fault| fault.others == 0));
    }

    #[test]
    fn plan_failover_kills_leaders_and_controllers_of_whole_clusters() {
        let plan = Plan::new(5, &[FaultKind::Kill], 1).with_profile(Profile::Failover);
        let faults: Vec<PlannedFault> = plan.take(10).collect();
        assert_eq!(faults.iter().filter(|fault| fault.role == Role::Controller).count(), 5);
        assert!(faults.iter().all(|fault| fault.patient && fault.others == 0 && fault.role != Role::Follower));
    }

    #[test]
    fn plan_wipe_destroys_one_copy_of_a_whole_cluster_at_most() {
        let mut wipes =
            Plan::new(3, &[FaultKind::Kill, FaultKind::Wipe], 3).take(50).filter(|f| f.kind == FaultKind::Wipe);
        assert!(wipes.all(|fault| fault.others == 0 && fault.patient));
    }

    #[test]
    fn plan_more_victims_only_when_asked() {
        let faults: Vec<PlannedFault> = Plan::new(3, &[FaultKind::Kill], 3).take(50).collect();
        assert!(faults.iter().any(|fault| fault.others == 2));
        assert!(faults.iter().all(|fault| fault.others <= 2));
    }
}
