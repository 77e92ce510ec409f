//! What is under way between brokers, and between a leader and the controller. Any of it may arrive next.

use std::fmt;
use std::hash::{Hash, Hasher};

use minisr_logic::BrokerId;
use minisr_logic::metadata::Command;
use minisr_replica::{AlterPartitionError, FetchReply, FetchRequest, FetcherId, IsrCommitted};

/// Which life of which broker.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    /// The broker.
    pub broker: BrokerId,
    /// Counts its processes.
    pub life: u8,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A follower asks its leader.
    Fetch {
        /// Who asks.
        from: Process,
        /// Its fetch loop, which names the leader.
        fetcher: FetcherId,
        /// Tells its answers apart.
        correlation: u64,
        /// What it asks.
        request: FetchRequest,
    },
    /// The leader's answer.
    Fetched {
        /// Who asked.
        to: Process,
        /// Its fetch loop.
        fetcher: FetcherId,
        /// As asked.
        correlation: u64,
        /// The answer.
        reply: FetchReply,
    },
    /// A leader proposes an ISR to the controller.
    AlterPartition {
        /// The leader.
        from: Process,
        /// Tells its answers apart.
        correlation: u64,
        /// The command that is applied when this arrives.
        command: Command,
    },
    /// The controller's answer.
    AlterPartitionAnswer {
        /// The leader.
        to: Process,
        /// As proposed.
        correlation: u64,
        /// What became of it.
        result: Result<IsrCommitted, AlterPartitionError>,
    },
}

impl Message {
    /// Feeds all but the correlations of fetches, which only tell answers apart, into `state`.
    pub fn fingerprint(&self, state: &mut impl Hasher) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Fetch { from, fetcher, correlation: _, request } => (from, fetcher, request).hash(state),
            Self::Fetched { to, fetcher, correlation: _, reply } => (to, fetcher, reply).hash(state),
            Self::AlterPartition { from, correlation, command } => (from, correlation, command).hash(state),
            Self::AlterPartitionAnswer { to, correlation, result } => (to, correlation, result).hash(state),
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.broker)?;
        if self.life > 1 { write!(f, " (life {})", self.life) } else { Ok(()) }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetch { from, fetcher, request, .. } => {
                let asked = &request.partitions[0];
                let (offset, epoch) = (asked.fetch_offset, asked.current_leader_epoch.map_or(-1, |it| it.0));
                write!(f, "fetch of {from:?} from {} at {offset} in epoch {epoch}", fetcher.leader)
            }
            Self::Fetched { to, fetcher, reply, .. } => {
                write!(f, "answer of {} to {to:?}: ", fetcher.leader)?;
                let Some(answer) = reply.partitions.first() else { return write!(f, "nothing new") };
                match &answer.result {
                    Ok(fetched) => match fetched.diverging {
                        Some(end) => write!(f, "diverges, epoch {} ends at {}", end.epoch, end.end_offset),
                        None => {
                            let bytes: usize = fetched.records.iter().map(bytes::Bytes::len).sum();
                            write!(f, "{bytes} bytes, high watermark {}", fetched.high_watermark)
                        }
                    },
                    Err(error) => write!(f, "{error:?}"),
                }
            }
            Self::AlterPartition { from, command, .. } => match command {
                Command::AlterPartition { new_isr, partition_epoch, .. } => {
                    let isr: Vec<_> = new_isr.iter().map(|member| member.broker.0).collect();
                    write!(f, "proposal of {from:?}: ISR {isr:?} over partition epoch {partition_epoch}")
                }
                other => write!(f, "{other:?}"),
            },
            Self::AlterPartitionAnswer { to, result, .. } => match result {
                Ok(committed) => write!(f, "answer of the controller to {to:?}: {:?}", committed.isr),
                Err(error) => write!(f, "answer of the controller to {to:?}: {error:?}"),
            },
        }
    }
}
