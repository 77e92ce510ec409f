//! Which cells are measured, and what makes a combination impossible.
//!
//! A *cell* is acks × replication factor × min.insync.replicas. With acks 0 and 1 a leader does not look at
//! min.insync.replicas, so those cells have it at 1; asking for another value is refused, not ignored.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many replicas a produce request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Acks {
    /// The producer does not wait.
    None,
    /// The leader has it.
    Leader,
    /// Every in-sync replica has it.
    All,
}

impl Acks {
    /// The number in a produce request.
    pub fn wire_value(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

impl fmt::Display for Acks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Acks::None => "0",
            Acks::Leader => "1",
            Acks::All => "all",
        })
    }
}

impl FromStr for Acks {
    type Err = String;

    fn from_str(text: &str) -> Result<Acks, String> {
        match text {
            "0" => Ok(Acks::None),
            "1" => Ok(Acks::Leader),
            "all" | "-1" => Ok(Acks::All),
            _ => Err(format!("acks is 0, 1 or all, not {text}")),
        }
    }
}

impl<'de> Deserialize<'de> for Acks {
    /// In TOML both `acks = [0, 1, "all"]` and strings throughout are natural.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Acks, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(i64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Acks {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is measured of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Latency at a constant rate that does not depend on the answers (open loop).
    Rate,
    /// Throughput with a fixed number of batches in flight (closed loop).
    Max,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Rate => "rate",
            Phase::Max => "max",
        })
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        match text {
            "rate" => Ok(Phase::Rate),
            "max" => Ok(Phase::Max),
            _ => Err(format!("a phase is rate or max, not {text}")),
        }
    }
}

/// One combination of the three settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// Acknowledgements waited for.
    pub acks: Acks,
    /// Replicas of each partition.
    pub replication_factor: u16,
    /// In-sync replicas below which acks=all is refused.
    pub min_insync_replicas: u16,
}

impl Cell {
    /// Name in file names and rows.
    pub fn id(&self) -> String {
        match self.acks {
            Acks::All => {
                format!("acks-all-rf{}-min{}", self.replication_factor, self.min_insync_replicas)
            }
            acks => format!("acks-{acks}-rf{}", self.replication_factor),
        }
    }

    /// Name for people.
    pub fn title(&self) -> String {
        match self.acks {
            Acks::All => format!("acks=all RF {} min ISR {}", self.replication_factor, self.min_insync_replicas),
            acks => format!("acks={acks} RF {}", self.replication_factor),
        }
    }

    /// What an acknowledged record survives, in a few words. Replicas are what counts here: with flush=never a power
    /// failure of all brokers at once is a different matter.
    pub fn durability(&self) -> String {
        let Cell { replication_factor, min_insync_replicas, .. } = *self;
        match self.acks {
            Acks::None => "nothing: a loss is not even noticed".to_owned(),
            Acks::Leader if replication_factor == 1 => "no loss of its only broker".to_owned(),
            Acks::Leader => "no loss of the leader before it is copied".to_owned(),
            Acks::All if replication_factor == 1 => "no loss of its only broker".to_owned(),
            Acks::All if min_insync_replicas == 1 => "brokers lost, unless the ISR was the leader alone".to_owned(),
            Acks::All => {
                let lost = min_insync_replicas - 1;
                let down = replication_factor - min_insync_replicas;
                let brokers =
                    if lost == 1 { "any 1 broker lost".to_owned() } else { format!("any {lost} brokers lost") };
                match down {
                    0 => format!("{brokers}; no write with 1 down"),
                    _ => format!("{brokers}; writes with {down} down"),
                }
            }
        }
    }
}

/// A combination that was asked for and cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// More replicas than brokers.
    #[error("replication factor {replication_factor} needs as many brokers, and the cluster has {brokers}")]
    TooFewBrokers {
        /// Asked for.
        replication_factor: u16,
        /// There are.
        brokers: u16,
    },
    /// A minimum that can never be met.
    #[error(
        "min.insync.replicas {min_insync_replicas} can never be met with replication factor {replication_factor}: no \
         acks=all record would be accepted"
    )]
    MinAboveReplicas {
        /// Asked for.
        min_insync_replicas: u16,
        /// Asked for.
        replication_factor: u16,
    },
    /// A minimum that nobody would look at.
    #[error(
        "min.insync.replicas {min_insync_replicas} has no effect with acks={acks}: only acks=all looks at it; ask for it \
         with acks=all, or leave it out"
    )]
    MinWithoutAll {
        /// Asked for.
        min_insync_replicas: u16,
        /// Asked for.
        acks: Acks,
    },
    /// Not a number of replicas.
    #[error("{name} must be at least 1")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// Nothing to do.
    #[error("{name} lists nothing, so there is no cell to measure")]
    Empty {
        /// The setting.
        name: &'static str,
    },
}

/// Every cell that the lists ask for, in the order a reader expects.
///
/// `min_insync_replicas` absent means 1..=RF for acks=all. Given, every combination of the lists must be possible.
pub fn cells(
    acks: &[Acks],
    replication_factors: &[u16],
    min_insync_replicas: Option<&[u16]>,
    brokers: u16,
) -> Result<Vec<Cell>, PlanError> {
    if acks.is_empty() {
        return Err(PlanError::Empty { name: "acks" });
    }
    if replication_factors.is_empty() {
        return Err(PlanError::Empty { name: "replication_factor" });
    }
    if min_insync_replicas.is_some_and(<[u16]>::is_empty) {
        return Err(PlanError::Empty { name: "min_insync_replicas" });
    }
    let mut cells = Vec::new();
    for &acks in acks {
        for &replication_factor in replication_factors {
            if replication_factor == 0 {
                return Err(PlanError::Zero { name: "replication_factor" });
            }
            if replication_factor > brokers {
                return Err(PlanError::TooFewBrokers { replication_factor, brokers });
            }
            let minimums: Vec<u16> = match (min_insync_replicas, acks) {
                (None, Acks::All) => (1..=replication_factor).collect(),
                (None, _) => vec![1],
                (Some(list), _) => list.to_vec(),
            };
            for min_insync_replicas in minimums {
                match min_insync_replicas {
                    0 => return Err(PlanError::Zero { name: "min_insync_replicas" }),
                    1 => {}
                    _ if acks != Acks::All => return Err(PlanError::MinWithoutAll { min_insync_replicas, acks }),
                    _ if min_insync_replicas > replication_factor => {
                        return Err(PlanError::MinAboveReplicas { min_insync_replicas, replication_factor });
                    }
                    _ => {}
                }
                let cell = Cell { acks, replication_factor, min_insync_replicas };
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_ACKS: [Acks; 3] = [Acks::None, Acks::Leader, Acks::All];

    #[test]
    fn plan_by_default_has_twelve_cells() {
        let cells = cells(&EVERY_ACKS, &[1, 2, 3], None, 3).unwrap();
        assert_eq!(cells.len(), 12);
        let ids: Vec<String> = cells.iter().map(Cell::id).collect();
        assert_eq!(ids[0], "acks-0-rf1");
        assert_eq!(ids[11], "acks-all-rf3-min3");
        let mut unique = ids.clone();
        unique.dedup();
        assert_eq!(unique, ids);
    }

    #[test]
    fn plan_refuses_impossible_combinations_with_a_sentence() {
        let too_few = cells(&[Acks::All], &[3], None, 2).unwrap_err();
        assert_eq!(too_few, PlanError::TooFewBrokers { replication_factor: 3, brokers: 2 });
        let never_met = cells(&[Acks::All], &[2], Some(&[3]), 3).unwrap_err();
        assert!(never_met.to_string().contains("can never be met"));
        let no_effect = cells(&EVERY_ACKS, &[3], Some(&[2]), 3).unwrap_err();
        assert!(no_effect.to_string().contains("no effect with acks=0"));
        assert!(cells(&[Acks::All], &[0], None, 3).is_err());
        assert!(cells(&[], &[1], None, 3).is_err());
    }

    #[test]
    fn plan_says_what_a_cell_survives() {
        let cell =
            |acks, replication_factor, min_insync_replicas| Cell { acks, replication_factor, min_insync_replicas };
        assert_eq!(cell(Acks::All, 3, 2).durability(), "any 1 broker lost; writes with 1 down");
        assert_eq!(cell(Acks::All, 3, 3).durability(), "any 2 brokers lost; no write with 1 down");
        assert!(cell(Acks::None, 3, 1).durability().starts_with("nothing"));
    }

    #[test]
    fn acks_are_read_as_kafka_writes_them() {
        assert_eq!("-1".parse::<Acks>(), Ok(Acks::All));
        assert_eq!("all".parse::<Acks>().map(Acks::wire_value), Ok(-1));
        assert!("2".parse::<Acks>().is_err());
    }
}
