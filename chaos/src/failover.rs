//! What a kill cost, stage by stage: when the survivors noticed, elected, fenced and led, as their own logs say, and
//! when writes were acknowledged again, as the writers saw it. All on one machine, so on one clock.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::availability::{FaultWindow, Gap, percentile};
use crate::report::Pauses;

/// What the brokers must log for [`Row::leading_ms`]: the moment at which a partition takes the leader's role.
pub const LOG_FILTER: &str = "info,minisr_broker::shard::driver=debug";

/// One line of a survivor's log that tells of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// When, in microseconds since the run began.
    pub at_us: u64,
    /// Whose log.
    pub broker: i32,
    /// What.
    pub stage: Stage,
}

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The liveness connection to this broker ended.
    Noticed(i32),
    /// It stands for election.
    Stood,
    /// It is the active controller.
    Elected,
    /// It has fenced this broker.
    Fenced(i32),
    /// It leads some partition.
    Leads,
}

/// One kill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The fault's number.
    pub kill: u32,
    /// The broker killed.
    pub victim: i32,
    /// `leader`, or `leader and controller`.
    pub role: &'static str,
    /// Partitions (written with acks=all) that it led.
    pub partitions: usize,
    /// Whether the cluster was whole.
    pub alone: bool,
    /// From the kill until the first survivor noticed.
    pub noticed_ms: Option<f64>,
    /// Until another controller was active; only when the controller was killed.
    pub elected_ms: Option<f64>,
    /// Until the controller had fenced it, which elects the partitions' leaders.
    pub fenced_ms: Option<f64>,
    /// Until the last partition was led by a survivor.
    pub leading_ms: Option<f64>,
    /// Until writes to half of the partitions were acknowledged again.
    pub resumed_p50_ms: f64,
    /// Until writes to all of them were.
    pub resumed_max_ms: f64,
    /// The longest pause of a partition, from its last acknowledgement before to its first one after.
    pub pause_max_ms: f64,
    /// How often a survivor stood for election until the victim was started again.
    pub candidacies: usize,
    /// How many controllers there were after it until then.
    pub controllers: usize,
    /// Whether there was an election more than the kill called for.
    pub second_election: bool,
}

/// The stages in a broker's log. `began` is the run's beginning; lines before it are left out.
pub fn read_log(path: &Path, broker: i32, began: SystemTime) -> std::io::Result<Vec<Noted>> {
    let text = fs::read_to_string(path)?;
    Ok(text.lines().filter_map(|line| parse(line, broker, began)).collect())
}

fn parse(line: &str, broker: i32, began: SystemTime) -> Option<Noted> {
    let (time, rest) = line.split_once(' ')?;
    let subject = |name: &str| {
        let (_, value) = rest.split_once(name)?;
        value.split_whitespace().next()?.parse::<i32>().ok()
    };
    let stage = if rest.contains(": the liveness connection ended") {
        Stage::Noticed(subject("peer=")?)
    } else if rest.contains(": standing for election") {
        Stage::Stood
    } else if rest.contains(": this broker is the active controller") {
        Stage::Elected
    } else if rest.contains(": fenced ") {
        Stage::Fenced(subject("broker=")?)
    } else if rest.contains("BecameLeader") {
        Stage::Leads
    } else {
        return None;
    };
    let at: SystemTime = OffsetDateTime::parse(time, &Rfc3339).ok()?.into();
    let at_us = at.duration_since(began).ok()?.as_micros() as u64;
    Some(Noted { at_us, broker, stage })
}

/// One row for each kill of a leader.
pub fn rows(windows: &[FaultWindow], gaps: &[Gap], noted: &[Noted]) -> Vec<Row> {
    windows.iter().filter_map(|window| row(window, gaps, noted)).collect()
}

fn row(window: &FaultWindow, gaps: &[Gap], noted: &[Noted]) -> Option<Row> {
    let [victim] = window.victims[..] else { return None };
    let mine: Vec<&Gap> = gaps.iter().filter(|gap| gap.fault == window.number && gap.affected).collect();
    let ms = |us: u64| us as f64 / 1e3;
    let mut resumed: Vec<u64> = mine.iter().map(|gap| gap.resumed_us).collect();
    let resumed_max = *resumed.iter().max()?;
    // What a survivor says until the victim is started again, and at least until writes have resumed.
    let until = window.lifted_us.max(window.at_us + resumed_max);
    let said: Vec<&Noted> =
        noted.iter().filter(|it| it.broker != victim && (window.at_us..=until).contains(&it.at_us)).collect();
    let times = |wanted: &dyn Fn(Stage) -> bool| -> Vec<u64> {
        said.iter().filter(|it| wanted(it.stage)).map(|it| it.at_us - window.at_us).collect()
    };
    let first = |times: Vec<u64>| times.into_iter().min().map(ms);
    let elected = times(&|stage| stage == Stage::Elected);
    let candidacies = times(&|stage| stage == Stage::Stood).len();
    let expected = usize::from(window.controller);
    Some(Row {
        kill: window.number,
        victim,
        role: if window.controller { "leader and controller" } else { "leader" },
        partitions: mine.len(),
        alone: window.alone,
        noticed_ms: first(times(&|stage| stage == Stage::Noticed(victim))),
        controllers: elected.len(),
        second_election: candidacies > expected || elected.len() > expected,
        elected_ms: first(elected),
        fenced_ms: first(times(&|stage| stage == Stage::Fenced(victim))),
        leading_ms: times(&|stage| stage == Stage::Leads).into_iter().max().map(ms),
        resumed_p50_ms: ms(percentile(&mut resumed, 50.0)?),
        resumed_max_ms: ms(resumed_max),
        pause_max_ms: ms(mine.iter().map(|gap| gap.gap_us).max()?),
        candidacies,
    })
}

/// All kills of one kind together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Which kills.
    pub victims: &'static str,
    /// How many.
    pub kills: usize,
    /// Of them, how many were followed by an election more than needed.
    pub second_elections: usize,
    /// Medians of the stages.
    pub noticed_p50_ms: Option<f64>,
    /// See [`Row::elected_ms`].
    pub elected_p50_ms: Option<f64>,
    /// See [`Row::fenced_ms`].
    pub fenced_p50_ms: Option<f64>,
    /// See [`Row::leading_ms`].
    pub leading_p50_ms: Option<f64>,
    /// Median over kills of the time until every partition took writes again.
    pub resumed_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub resumed_p99_ms: Option<f64>,
    /// The longest.
    pub resumed_max_ms: Option<f64>,
    /// Pauses of single partitions.
    pub pauses: usize,
    /// Their median.
    pub pause_p50_ms: f64,
    /// Their 99th percentile.
    pub pause_p99_ms: f64,
    /// The longest.
    pub pause_max_ms: f64,
}

/// Kills of plain leaders, of controllers, and all of them.
pub fn summaries(rows: &[Row], gaps: &[Gap]) -> Vec<Summary> {
    let of = |victims: &'static str, chosen: &dyn Fn(bool) -> bool| {
        let rows: Vec<&Row> = rows.iter().filter(|row| chosen(row.role != "leader")).collect();
        let at = |percent: f64, value: &dyn Fn(&Row) -> Option<f64>| {
            let mut values: Vec<u64> = rows.iter().filter_map(|row| value(row)).map(|ms| (ms * 1e3) as u64).collect();
            percentile(&mut values, percent).map(|us| us as f64 / 1e3)
        };
        let kills: Vec<u32> = rows.iter().map(|row| row.kill).collect();
        let pauses = Pauses::of(gaps.iter().filter(|gap| gap.affected && kills.contains(&gap.fault)));
        Summary {
            victims,
            kills: rows.len(),
            second_elections: rows.iter().filter(|row| row.second_election).count(),
            noticed_p50_ms: at(50.0, &|row| row.noticed_ms),
            elected_p50_ms: at(50.0, &|row| row.elected_ms),
            fenced_p50_ms: at(50.0, &|row| row.fenced_ms),
            leading_p50_ms: at(50.0, &|row| row.leading_ms),
            resumed_p50_ms: at(50.0, &|row| Some(row.resumed_max_ms)),
            resumed_p99_ms: at(99.0, &|row| Some(row.resumed_max_ms)),
            resumed_max_ms: at(100.0, &|row| Some(row.resumed_max_ms)),
            pauses: pauses.count,
            pause_p50_ms: pauses.p50_ms,
            pause_p99_ms: pauses.p99_ms,
            pause_max_ms: pauses.max_ms,
        }
    };
    vec![
        of("leader", &|controller| !controller),
        of("leader and controller", &|controller| controller),
        of("all", &|_| true),
    ]
}

/// Writes `failover.csv` (a row for each kill) and `failover-summary.csv`.
pub fn write_files(dir: &Path, rows: &[Row], summaries: &[Summary]) -> anyhow::Result<()> {
    let mut table = csv::Writer::from_path(dir.join("failover.csv"))?;
    for row in rows {
        table.serialize(row)?;
    }
    table.flush()?;
    let mut table = csv::Writer::from_path(dir.join("failover-summary.csv"))?;
    for summary in summaries {
        table.serialize(summary)?;
    }
    table.flush()?;
    Ok(())
}

/// The summary for people.
pub fn table(summaries: &[Summary]) -> String {
    let mut text = String::from(
        "\n  milliseconds from the kill (medians)             noticed  elected   fenced  leading  writes resumed: p50    p99    max",
    );
    for it in summaries {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"));
        text += &format!(
            "\n  {:<22} {:>3} kills, {:>2} second elections {:>8} {:>8} {:>8} {:>8} {:>20} {:>6} {:>6}",
            it.victims,
            it.kills,
            it.second_elections,
            ms(it.noticed_p50_ms),
            ms(it.elected_p50_ms),
            ms(it.fenced_p50_ms),
            ms(it.leading_p50_ms),
            ms(it.resumed_p50_ms),
            ms(it.resumed_p99_ms),
            ms(it.resumed_max_ms),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::plan::FaultKind;

    fn began() -> SystemTime {
        // 2026-11-21T06:44:30Z
        UNIX_EPOCH + Duration::from_secs(1_795_243_470)
    }

    #[test]
    fn failover_lines_of_a_log_tell_the_stages() {
        let line = |rest: &str| parse(&format!("2026-11-21T06:44:30.250000Z  INFO minisr_broker::{rest}"), 3, began());
        let noted = |stage| Some(Noted { at_us: 250_000, broker: 3, stage });
        assert_eq!(line("peer::liveness: the liveness connection ended peer=2"), noted(Stage::Noticed(2)));
        assert_eq!(line("controller::control: fenced broker=2 epoch=12"), noted(Stage::Fenced(2)));
        assert_eq!(
            line("controller::election: standing for election silence_ms=421 is_dead=true"),
            noted(Stage::Stood)
        );
        assert_eq!(
            line("controller::duties: this broker is the active controller leader_before=Some(BrokerId(1))"),
            noted(Stage::Elected)
        );
        assert_eq!(line("controller::control: fencing a broker that does not answer broker=2"), None);
        assert_eq!(line("controller::duties: this broker is not the active controller any more"), None);
    }

    #[test]
    fn failover_second_election_is_one_more_than_the_kill_calls_for() {
        let window = FaultWindow {
            number: 1,
            kind: FaultKind::Kill,
            controller: true,
            at_us: 1_000_000,
            lifted_us: 3_000_000,
            victims: vec![1],
            led: vec![0],
            alone: true,
        };
        let gap = Gap {
            fault: 1,
            kind: FaultKind::Kill,
            controller: true,
            partition: "chaos-0".into(),
            affected: true,
            alone: true,
            gap_us: 480_000,
            resumed_us: 470_000,
        };
        let noted = |at_us, broker, stage| Noted { at_us, broker, stage };
        let mut log = vec![
            noted(1_010_000, 2, Stage::Noticed(1)),
            noted(1_012_000, 3, Stage::Noticed(1)),
            noted(1_410_000, 2, Stage::Stood),
            noted(1_420_000, 2, Stage::Elected),
            noted(1_430_000, 2, Stage::Fenced(1)),
            noted(1_440_000, 3, Stage::Leads),
        ];
        let rows_of = |log: &[Noted]| rows(std::slice::from_ref(&window), std::slice::from_ref(&gap), log);
        let calm = rows_of(&log);
        assert!(!calm[0].second_election);
        let stages = (calm[0].noticed_ms, calm[0].elected_ms, calm[0].fenced_ms, calm[0].leading_ms);
        assert_eq!(stages, (Some(10.0), Some(420.0), Some(430.0), Some(440.0)));
        assert_eq!((calm[0].resumed_max_ms, calm[0].pause_max_ms), (470.0, 480.0));
        log.push(noted(1_660_000, 3, Stage::Stood));
        assert!(rows_of(&log)[0].second_election);
        let summary = summaries(&rows_of(&log), std::slice::from_ref(&gap));
        assert_eq!((summary[1].kills, summary[1].second_elections, summary[0].kills), (1, 1, 0));
    }
}
