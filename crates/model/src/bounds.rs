//! How much may happen in a checked world.

use std::fmt;

/// The bounds of one check. Everything within them is tried in every order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// `min.insync.replicas` of the one partition with three replicas.
    pub min_insync_replicas: i32,
    /// Records produced with acks=all, each a batch of its own, to any broker that believes it leads.
    pub records: u8,
    /// Processes that die (kill -9) and may come back.
    pub kills: u8,
    /// Machines that lose power, with un-flushed data, and may come back.
    pub power_losses: u8,
    /// Brokers that the controller fences, dead or alive; a fenced leader is replaced.
    pub fencings: u8,
    /// Times that a leader's clock runs on by more than `replica.lag.time.max.ms`.
    pub lags: u8,
    /// ISR proposals, or answers to them, that get lost.
    pub losses: u8,
    /// Which brokers may be killed, lose power or be fenced.
    pub victims: Victims,
    /// Whether only flushed data counts (`log.flush.policy=commit`).
    pub flush_commit: bool,
    /// A bug planted in what surrounds the core, to prove that it would be found.
    pub doctored: Option<Doctored>,
}

/// Which brokers things may happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Victims {
    /// The first leader only, which may come back as a follower, and stay what it believes to be.
    FirstLeader,
    /// Each of them.
    Any,
}

/// Bugs of history that can be planted outside the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Doctored {
    /// Followers do not say of which epoch their last record is, so leaders cannot see that logs diverge: Kafka
    /// before KIP-101.
    NoDivergenceCheck,
    /// A leader takes an ISR proposal that was not answered for refused.
    RevertsUnanswered,
}

impl Bounds {
    /// A leader is killed and replaced, and comes back as a follower, around one record: what `just test` tries.
    pub const SMALL: Self = Self {
        min_insync_replicas: 2,
        records: 1,
        kills: 1,
        power_losses: 0,
        fencings: 1,
        lags: 0,
        losses: 0,
        victims: Victims::FirstLeader,
        flush_commit: false,
        doctored: None,
    };

    /// The checks of `just model`, by name.
    pub const PRESETS: [(&'static str, Self); 5] = [
        ("small", Self::SMALL),
        // Followers fall behind, leave the ISR and come back, while what is said about it gets lost.
        ("isr", Self { records: 2, kills: 0, fencings: 0, lags: 1, losses: 1, ..Self::SMALL }),
        // A live leader is deposed and goes on writing.
        ("deposed", Self { records: 2, kills: 0, ..Self::SMALL }),
        // What was not flushed is lost with the power.
        ("power", Self { kills: 0, power_losses: 1, ..Self::SMALL }),
        // Two records, a crash, an election, ISR changes.
        ("failover", Self { records: 2, ..Self::SMALL }),
    ];

    /// The preset of this name.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        Self::PRESETS.iter().find(|(known, _)| *known == name).map(|(_, bounds)| *bounds)
    }

    /// What must be in them for the check to mean anything.
    pub fn check(&self) -> Result<(), &'static str> {
        if !(1..=3).contains(&self.min_insync_replicas) {
            return Err("min.insync.replicas is 1 to 3, there are three replicas");
        }
        if !self.flush_commit && i32::from(self.power_losses) >= self.min_insync_replicas {
            return Err("as many power losses as min.insync.replicas may destroy every copy of a committed record");
        }
        Ok(())
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "3 replicas, min.insync.replicas {}, flush {}; at most {} records, {} kills, {} power losses, \
             {} fencings{}, {} lags, {} lost ISR messages",
            self.min_insync_replicas,
            if self.flush_commit { "commit" } else { "never" },
            self.records,
            self.kills,
            self.power_losses,
            self.fencings,
            if self.victims == Victims::Any { "" } else { " (of the first leader only)" },
            self.lags,
            self.losses
        )?;
        self.doctored.map_or(Ok(()), |doctored| write!(f, "; planted: {doctored:?}"))
    }
}
