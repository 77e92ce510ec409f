//! What the rounds showed, beside what is promised.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::{InSync, Loss};
use crate::cli::{Acks, DurabilityArgs};

/// One choice of victims.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The brokers lost.
    pub victims: Vec<i32>,
    /// Brokers that were down before, so that the in-sync set was minimal.
    pub set_aside: Vec<i32>,
    /// Whether the leader was among the victims.
    pub leader_lost: bool,
    /// Whether a write that began while they were down was acknowledged.
    pub writes_survive: bool,
    /// How long after the losses the first such write was acknowledged.
    pub first_write_ms: Option<u64>,
    /// What writes were refused with meanwhile, by Kafka's names; `no answer` and `no leader` are ours.
    pub refusals: BTreeMap<String, u64>,
    /// Whether a leader served reads.
    pub reads_survive: bool,
    /// The offset up to which it did: the high watermark that it knew.
    pub read_up_to: Option<i64>,
    /// Acknowledged before the losses and not readable while down.
    pub hidden_while_down: Option<u64>,
    /// Whether every replica came back in sync.
    pub healed: bool,
    /// Writes acknowledged in this round.
    pub acked: u64,
    /// Of these, gone after healing (or from every disk, if it did not heal).
    pub committed_lost: u64,
    /// Promises broken, in words.
    pub broken: Vec<String>,
}

/// All rounds of one command.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Replicas of the partition.
    pub replication_factor: i16,
    /// min.insync.replicas.
    pub min_insync_replicas: i16,
    /// acks of the writer: 0, 1 or −1 (all).
    pub acks: i16,
    /// Replicas lost together.
    pub losses: usize,
    /// How they were lost.
    pub loss: Loss,
    /// How many replicas were in sync before.
    pub in_sync: InSync,
    /// Brokers, all of them voters.
    pub brokers: usize,
    /// Whether writing survived in every round.
    pub writes_survive: bool,
    /// Whether reading survived in every round.
    pub reads_survive: bool,
    /// Acknowledged in all rounds.
    pub acked: u64,
    /// Acknowledged and lost in all rounds.
    pub committed_lost: u64,
    /// Whether every round ended with every replica in sync.
    pub healed: bool,
    /// What is promised for these settings.
    pub promised: Promise,
    /// Whether every round kept the promise.
    pub as_promised: bool,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// What is promised: `None` where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Whether writing goes on.
    pub writes_survive: Option<bool>,
    /// Whether reading goes on.
    pub reads_survive: Option<bool>,
    /// Whether nothing acknowledged is lost.
    pub nothing_lost: Option<bool>,
}

impl Promise {
    /// With acks=all writing needs min.insync.replicas survivors in sync, with acks=1 one. With acks=0 nobody answers,
    /// and a write is seen by reading it, below a high watermark that needs as many as acks=all. Reading needs one. Data
    /// that was acknowledged by all survives as long as one copy that counted does.
    #[must_use]
    pub fn of(args: &DurabilityArgs) -> Self {
        let in_sync = match args.in_sync {
            InSync::Full => args.replication_factor,
            InSync::Minimal => args.min_insync_replicas,
        } as usize;
        let left = in_sync.saturating_sub(args.losses);
        let needed = if args.acks == Acks::Leader { 1 } else { args.min_insync_replicas as usize };
        let copy_left = args.loss == Loss::Kill || left >= 1;
        Self {
            writes_survive: Some(left >= needed),
            reads_survive: Some(left >= 1),
            nothing_lost: (args.acks == Acks::All && copy_left || args.losses == 0).then_some(true),
        }
    }

    /// What a round did not keep, in words.
    #[must_use]
    pub fn broken_by(&self, round: &Round) -> Vec<String> {
        let mut broken = Vec::new();
        if self.writes_survive.is_some_and(|promised| promised != round.writes_survive) {
            broken.push(format!("writing {}", if round.writes_survive { "went on" } else { "stopped" }));
        }
        if self.reads_survive.is_some_and(|promised| promised && !round.reads_survive) {
            broken.push("reading stopped".to_owned());
        }
        if self.nothing_lost == Some(true) {
            if round.committed_lost > 0 {
                broken.push(format!("{} acknowledged records are lost", round.committed_lost));
            }
            if !round.healed {
                broken.push("the cluster did not heal".to_owned());
            }
        }
        broken
    }
}

impl Verdict {
    /// No round yet.
    #[must_use]
    pub fn new(args: &DurabilityArgs) -> Self {
        Self {
            replication_factor: args.replication_factor,
            min_insync_replicas: args.min_insync_replicas,
            acks: args.acks.number(),
            losses: args.losses,
            loss: args.loss,
            in_sync: args.in_sync,
            brokers: args.brokers(),
            writes_survive: true,
            reads_survive: true,
            acked: 0,
            committed_lost: 0,
            healed: true,
            promised: Promise::of(args),
            as_promised: true,
            rounds: Vec::new(),
        }
    }

    /// One more round.
    pub fn add(&mut self, round: Round) {
        self.writes_survive &= round.writes_survive;
        self.reads_survive &= round.reads_survive;
        self.acked += round.acked;
        self.committed_lost += round.committed_lost;
        self.healed &= round.healed;
        self.as_promised &= round.broken.is_empty();
        self.rounds.push(round);
    }

    /// 0 as promised, 2 a promise was broken, 3 nothing was tested.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.as_promised, self.rounds.is_empty()) {
            (_, true) => 3,
            (true, false) => 0,
            (false, false) => 2,
        }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> String {
        let acks = if self.acks == -1 { "all".to_owned() } else { self.acks.to_string() };
        let yes = |is: bool| if is { "yes" } else { "no" };
        let mut text = format!(
            "durability: replication factor {}, min.insync.replicas {}, acks={acks}, {} of {} in-sync replicas lost \
             ({}), {} brokers\n",
            self.replication_factor,
            self.min_insync_replicas,
            self.losses,
            match self.in_sync {
                InSync::Full => self.replication_factor,
                InSync::Minimal => self.min_insync_replicas,
            },
            match self.loss {
                Loss::Kill => "killed, started again",
                Loss::Wipe => "killed, disks emptied",
            },
            self.brokers
        );
        for round in &self.rounds {
            writeln!(text, "{}", round.line()).expect("writing to a string");
        }
        write!(
            text,
            "  writing survives: {}   reading survives: {}   acknowledged: {}   lost: {}   healed: {}   {}",
            yes(self.writes_survive),
            yes(self.reads_survive),
            self.acked,
            self.committed_lost,
            yes(self.healed),
            if self.as_promised { "as promised" } else { "NOT AS PROMISED" }
        )
        .expect("writing to a string");
        text
    }
}

impl Round {
    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut text =
            format!("  lost {:?}{}: ", self.victims, if self.leader_lost { " (leader among them)" } else { "" });
        match self.first_write_ms {
            Some(ms) => write!(text, "writing resumed after {ms} ms").expect("writing to a string"),
            None if self.writes_survive => text += "writes arrived",
            None => text += "no write was acknowledged",
        }
        for (what, count) in &self.refusals {
            write!(text, ", {count} × {what}").expect("writing to a string");
        }
        match (self.read_up_to, self.hidden_while_down) {
            (Some(end), Some(hidden)) => {
                write!(text, "; readable up to offset {end}, {hidden} acknowledged records not visible")
                    .expect("a string");
            }
            _ => text += "; nothing readable",
        }
        write!(text, "; {} of {} lost", self.committed_lost, self.acked).expect("writing to a string");
        if !self.healed {
            text += "; NOT HEALED";
        }
        for broken in &self.broken {
            write!(text, "; BROKEN PROMISE: {broken}").expect("writing to a string");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn args(line: &str) -> DurabilityArgs {
        match Cli::try_parse_from(["minisr-chaos", "durability"].into_iter().chain(line.split_whitespace())) {
            Ok(Cli { command: Command::Durability(args) }) => args,
            other => panic!("{other:?}"),
        }
    }

    fn round() -> Round {
        Round {
            victims: vec![1, 2],
            set_aside: Vec::new(),
            leader_lost: true,
            writes_survive: false,
            first_write_ms: None,
            refusals: BTreeMap::from([("NOT_ENOUGH_REPLICAS".to_owned(), 7)]),
            reads_survive: true,
            read_up_to: Some(10),
            hidden_while_down: Some(1),
            healed: true,
            acked: 11,
            committed_lost: 0,
            broken: Vec::new(),
        }
    }

    #[test]
    fn durability_promise_two_of_three_lost_with_min_isr_three_stops_writing_and_keeps_data() {
        let args = args("--replication-factor 3 --min-insync-replicas 3 --acks all --losses 2");
        let promise = Promise::of(&args);
        assert_eq!(
            promise,
            Promise { writes_survive: Some(false), reads_survive: Some(true), nothing_lost: Some(true) }
        );
        assert_eq!(promise.broken_by(&round()), Vec::<String>::new());
        assert_eq!(args.brokers(), 5);
    }

    #[test]
    fn durability_promise_is_broken_by_a_lost_record_and_by_a_write_that_should_be_refused() {
        let promise = Promise::of(&args("--replication-factor 3 --min-insync-replicas 3 --acks all --losses 2"));
        assert_eq!(promise.broken_by(&Round { committed_lost: 1, ..round() }).len(), 1);
        assert_eq!(promise.broken_by(&Round { writes_survive: true, ..round() }), ["writing went on"]);
        assert_eq!(promise.broken_by(&Round { reads_survive: false, ..round() }), ["reading stopped"]);
    }

    #[test]
    fn durability_promise_worst_case_is_min_isr_minus_one() {
        let line = "--replication-factor 3 --min-insync-replicas 2 --acks all --loss wipe --in-sync minimal --losses";
        assert_eq!(Promise::of(&args(&format!("{line} 1"))).nothing_lost, Some(true));
        assert_eq!(Promise::of(&args(&format!("{line} 2"))).nothing_lost, None);
    }

    #[test]
    fn durability_promise_acks_1_keeps_nothing_but_writes_on() {
        let promise = Promise::of(&args("--replication-factor 3 --min-insync-replicas 2 --acks 1 --losses 2"));
        assert_eq!(promise, Promise { writes_survive: Some(true), reads_survive: Some(true), nothing_lost: None });
    }
}
