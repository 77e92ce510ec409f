//! The verdict, for people and for scripts, and the files that a run leaves behind.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use crate::availability::{Gap, percentile};
use crate::check::Finding;
use crate::failover::{self, Summary};
use crate::history::{History, Outcome, Outcomes, Promise};
use crate::recorder::Event;

/// What a run concludes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Conclusion {
    /// Faults were injected, and every check passed.
    Fine,
    /// A check found something.
    Anomaly,
    /// The run tested nothing worth a verdict.
    Invalid,
}

impl Conclusion {
    /// The exit code that goes with it.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Anomaly => 2,
            Self::Invalid => 3,
        }
    }
}

/// Pauses in writing, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pauses {
    /// How many were measured.
    pub count: usize,
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Pauses {
    /// Statistics of some gaps.
    pub fn of<'a>(gaps: impl Iterator<Item = &'a Gap>) -> Self {
        let mut values: Vec<u64> = gaps.map(|gap| gap.gap_us).collect();
        let mut at = |percent| percentile(&mut values, percent).unwrap_or(0) as f64 / 1e3;
        let (p50_ms, p99_ms, max_ms) = (at(50.0), at(99.0), at(100.0));
        Self { count: values.len(), p50_ms, p99_ms, max_ms }
    }
}

/// Pauses by what was done to whom, in words.
pub fn unavailability(gaps: &[Gap]) -> BTreeMap<String, Pauses> {
    let mut classes: BTreeMap<String, Vec<&Gap>> = BTreeMap::new();
    for gap in gaps {
        let whom = match (gap.affected, gap.controller) {
            (true, true) => "leader, also controller",
            (true, false) => "leader",
            (false, true) => "controller, led elsewhere",
            (false, false) => "other broker",
        };
        let when = if gap.alone { "" } else { " while recovering" };
        classes.entry(format!("{} of {whom}{when}", gap.kind)).or_default().push(gap);
    }
    classes.into_iter().map(|(class, gaps)| (class, Pauses::of(gaps.into_iter()))).collect()
}

/// How much of the replicas was compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Partitions.
    pub partitions: usize,
    /// Replicas over all partitions.
    pub replicas: usize,
    /// Batches over all replicas.
    pub batches: usize,
}

/// Everything that a run found out.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The run's name.
    pub run: String,
    /// The conclusion.
    pub conclusion: Conclusion,
    /// Why the run is invalid, if it is.
    pub invalid: Vec<String>,
    /// The seed of the faults.
    pub seed: u64,
    /// Brokers.
    pub brokers: usize,
    /// The flush policy.
    pub flush: String,
    /// What clients and peers talk.
    pub transport: String,
    /// Seconds during which faults were injected.
    pub duration_s: f64,
    /// Writes with acks=all.
    pub durable: Outcomes,
    /// Writes with acks=1.
    pub leader_only: Outcomes,
    /// Writes with acks=1 that were acknowledged and are gone: expected, not an anomaly.
    pub leader_only_lost: u64,
    /// Records that the fresh client read at the end.
    pub read_at_end: u64,
    /// Faults injected, by kind and role.
    pub faults: BTreeMap<String, u32>,
    /// Pauses in writing, by what was done to whom.
    pub unavailability: BTreeMap<String, Pauses>,
    /// Pauses of partitions whose leader was killed while the cluster was whole: the figure to quote.
    pub unavailability_kill: Pauses,
    /// Replicas compared.
    pub compared: Compared,
    /// What the checks found, all of them listed.
    pub findings: Vec<Finding>,
    /// What kills cost, stage by stage; only of the profile failover.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<Summary>,
    /// Where the evidence is.
    pub evidence: Option<String>,
}

impl Verdict {
    /// Occurrences over all checks.
    pub fn anomalies(&self) -> u64 {
        self.findings.iter().map(|finding| finding.count).sum()
    }

    /// Acknowledged records lost: the number that must be 0.
    pub fn lost(&self) -> u64 {
        let count = |check| self.findings.iter().find(|finding| finding.check == check).map_or(0, |found| found.count);
        count("unseen").max(count("lost-write"))
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<46} {value}").expect("writing to a string");
        let counts = |outcomes: Outcomes| {
            let Outcomes { sent, acked, failed, unknown } = outcomes;
            format!("{sent} sent, {acked} acked, {failed} failed, {unknown} unknown")
        };
        let pauses = |pauses: Pauses| match pauses.count {
            0 => "none measured".to_owned(),
            count => format!(
                "p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms ({count} partition pauses)",
                pauses.p50_ms, pauses.p99_ms, pauses.max_ms
            ),
        };
        line("records, acks=all", counts(self.durable));
        line("records, acks=1", format!("{}; {} lost, as may be", counts(self.leader_only), self.leader_only_lost));
        line("read back by a fresh client", self.read_at_end.to_string());
        let faults: Vec<String> = self.faults.iter().map(|(what, count)| format!("{count} × {what}")).collect();
        line("faults", format!("{} ({})", self.faults.values().sum::<u32>(), faults.join(", ")));
        line("unavailable after kill of leader", pauses(self.unavailability_kill));
        for (what, figures) in &self.unavailability {
            line(&format!("  {what}"), pauses(*figures));
        }
        let Compared { partitions, replicas, batches } = self.compared;
        line("replicas compared at rest", format!("{batches} batches, {replicas} replicas of {partitions} partitions"));
        line("committed records lost", format!("{} {}", self.lost(), if self.lost() == 0 { "" } else { "  <<<" }));
        for finding in &self.findings {
            let mark = if finding.count == 0 { "ok".to_owned() } else { format!("{}  <<<", finding.count) };
            line(&format!("  {}", finding.check), format!("{mark:<8} {}", finding.meaning));
        }
        for finding in self.findings.iter().filter(|finding| finding.count > 0) {
            writeln!(text, "\n{}:", finding.check).expect("writing to a string");
            for example in &finding.examples {
                writeln!(text, "    {example}").expect("writing to a string");
            }
        }
        if !self.failover.is_empty() {
            text += failover::table(&self.failover).trim_start_matches('\n');
        }
        let conclusion = match self.conclusion {
            Conclusion::Fine => "fine: no anomaly".to_owned(),
            Conclusion::Anomaly => format!("ANOMALY: {} found", self.anomalies()),
            Conclusion::Invalid => format!("INVALID: {}", self.invalid.join("; ")),
        };
        let head =
            format!("chaos {}, seed {}, {:.0} s of faults: {conclusion}\n", self.run, self.seed, self.duration_s);
        head + text.trim_end_matches('\n')
    }
}

/// Writes `verdict.json`, `summary.csv`, `events.csv`, `unavailability.csv` and `history.jsonl`.
pub fn write_files(
    dir: &Path,
    verdict: &Verdict,
    history: &History,
    events: &[Event],
    gaps: &[Gap],
) -> anyhow::Result<()> {
    let mut file = File::create(dir.join("verdict.json"))?;
    serde_json::to_writer_pretty(&mut file, verdict)?;
    file.write_all(b"\n")?;
    summary(&dir.join("summary.csv"), verdict)?;
    let mut table = csv::Writer::from_path(dir.join("events.csv"))?;
    for event in events {
        table.serialize(event)?;
    }
    table.flush()?;
    let mut table = csv::Writer::from_path(dir.join("unavailability.csv"))?;
    for gap in gaps {
        table.serialize(gap)?;
    }
    table.flush()?;
    let mut out = BufWriter::new(File::create(dir.join("history.jsonl"))?);
    write_history(&mut out, history)?;
    out.flush()?;
    Ok(())
}

/// One row for the run.
fn summary(path: &Path, verdict: &Verdict) -> anyhow::Result<()> {
    let mut table = csv::Writer::from_path(path)?;
    let mut names: Vec<String> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    let mut column = |name: &str, value: String| {
        names.push(name.to_owned());
        values.push(value);
    };
    column("run", verdict.run.clone());
    column("conclusion", format!("{:?}", verdict.conclusion).to_lowercase());
    column("seed", verdict.seed.to_string());
    column("brokers", verdict.brokers.to_string());
    column("flush", verdict.flush.clone());
    column("transport", verdict.transport.clone());
    column("duration_s", format!("{:.1}", verdict.duration_s));
    for (name, outcomes) in [("acks_all", verdict.durable), ("acks_1", verdict.leader_only)] {
        column(&format!("{name}_sent"), outcomes.sent.to_string());
        column(&format!("{name}_acked"), outcomes.acked.to_string());
        column(&format!("{name}_failed"), outcomes.failed.to_string());
        column(&format!("{name}_unknown"), outcomes.unknown.to_string());
    }
    column("acks_1_lost", verdict.leader_only_lost.to_string());
    column("committed_lost", verdict.lost().to_string());
    column("anomalies", verdict.anomalies().to_string());
    column("faults", verdict.faults.values().sum::<u32>().to_string());
    column("unavailability_kill_pauses", verdict.unavailability_kill.count.to_string());
    column("unavailability_kill_p50_ms", format!("{:.1}", verdict.unavailability_kill.p50_ms));
    column("unavailability_kill_p99_ms", format!("{:.1}", verdict.unavailability_kill.p99_ms));
    column("unavailability_kill_max_ms", format!("{:.1}", verdict.unavailability_kill.max_ms));
    column("replicas_compared", verdict.compared.replicas.to_string());
    column("batches_compared", verdict.compared.batches.to_string());
    table.write_record(&names)?;
    table.write_record(&values)?;
    table.flush()?;
    Ok(())
}

/// One line for each write; reads as runs of consecutive offsets, since there are several readers.
fn write_history(out: &mut impl Write, history: &History) -> io::Result<()> {
    for send in &history.sends {
        let acks = if history.durable(send.slot) { "all" } else { "1" };
        let (outcome, offset) = match send.outcome {
            Outcome::Ok { offset } => ("ok", offset.to_string()),
            Outcome::Failed => ("failed", "null".to_owned()),
            Outcome::Unknown | Outcome::Pending => ("unknown", "null".to_owned()),
        };
        writeln!(
            out,
            r#"{{"op":"send","value":"{}","partition":"{}","acks":"{acks}","sent_us":{},"done_us":{},"outcome":"{outcome}","offset":{offset}}}"#,
            send.value,
            history.name(send.slot),
            send.sent_us,
            send.done_us
        )?;
    }
    for reader in history.readers() {
        let runs = reader.reads.chunk_by(|one, next| one.slot == next.slot && next.offset == one.offset + 1);
        for run in runs.flat_map(|run| run.chunks(1_000)) {
            let values: Vec<String> = run.iter().map(|read| format!("\"{}\"", read.value)).collect();
            writeln!(
                out,
                r#"{{"op":"read","reader":"{}","partition":"{}","offset":{},"values":[{}]}}"#,
                reader.name,
                history.name(run[0].slot),
                run[0].offset,
                values.join(",")
            )?;
        }
    }
    let latest = history.latest.iter().map(|latest| ("latest", latest));
    for (op, latest) in latest.chain(history.marks.iter().map(|mark| ("high_watermark", mark))) {
        writeln!(
            out,
            r#"{{"op":"{op}","partition":"{}","at_us":{},"leader_epoch":{},"offset":{}}}"#,
            history.name(latest.slot),
            latest.at_us,
            latest.leader_epoch,
            latest.offset
        )?;
    }
    Ok(())
}

/// Acknowledged with acks=1, and gone.
pub fn leader_only_lost(history: &History) -> u64 {
    let last: std::collections::BTreeSet<_> = history.last.reads.iter().map(|read| read.value).collect();
    let lost = history.sends.iter().filter(|send| {
        history.slots[usize::from(send.slot)].1 == Promise::LeaderOnly
            && matches!(send.outcome, Outcome::Ok { .. })
            && !last.contains(&send.value)
    });
    lost.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Read, Reader, Send, Value};

    fn history() -> History {
        let send =
            Send { value: Value::new(1, 0), slot: 0, sent_us: 5, done_us: 9, outcome: Outcome::Ok { offset: 0 } };
        History {
            slots: vec![("chaos-0".into(), Promise::Durable), ("chaos-acks1-0".into(), Promise::LeaderOnly)],
            sends: vec![send, Send { value: Value::new(2, 0), slot: 1, ..send }],
            last: Reader { name: "last".into(), reads: vec![Read { slot: 0, offset: 0, value: Value::new(1, 0) }] },
            ..History::default()
        }
    }

    #[test]
    fn report_history_lines_are_json() {
        let mut out = Vec::new();
        write_history(&mut out, &history()).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 3);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
    }

    #[test]
    fn report_acks_1_loss_is_counted_apart() {
        assert_eq!(leader_only_lost(&history()), 1);
        assert_eq!(crate::check::unseen::check(&history()).count, 0);
    }
}
