//! What one phase of one cell gave, whether it is valid, and the row it becomes.

use std::time::SystemTime;

use crate::environment::{self, Environment};
use crate::plan::{Acks, Cell, Phase};
use crate::producer::Produced;
use crate::report::csv::{Row, decimals, micros};
use crate::settings::Settings;
use crate::tally::{Series, Tally, percentile_ns};
use crate::usage::Used;
use crate::verify::Verdict;
use crate::watch::{Event, Leaders};

/// Part of the target rate that must be reached.
const RATE_REACHED_MIN: f64 = 0.99;

/// Everything known about one phase of one cell.
pub struct Outcome {
    /// The cell.
    pub cell: Cell,
    /// The phase.
    pub phase: Phase,
    /// First is 1.
    pub repeat: u32,
    /// Beginning of the window.
    pub window_begin: SystemTime,
    /// Counts, times, what was acknowledged.
    pub produced: Produced,
    /// This process within the window.
    pub client: Option<Used>,
    /// All brokers within the window.
    pub brokers: Option<Used>,
    /// Elections and ISR changes within the phase.
    pub events: Vec<Event>,
    /// Smallest ISR of any partition that was seen.
    pub isr_min: Option<usize>,
    /// Records by which the logs grew within the window: what acks=0 achieves.
    pub log_growth_records: Option<u64>,
    /// How many partitions each broker leads, whenever that changed.
    pub leaders: Vec<(SystemTime, Leaders)>,
    /// Records in the leaders' logs and not committed, whenever they were looked at.
    pub high_watermark_lags: Vec<(SystemTime, u64)>,
    /// Reading back; absent when there was nothing acknowledged to look for.
    pub verdict: Option<Verdict>,
    /// Most records in the leaders' logs and not committed that were seen at once.
    pub high_watermark_lag_max_records: Option<u64>,
    /// A sentence when the phase could not be finished.
    pub broken: Option<String>,
}

/// What all rows of a run have in common.
pub struct RunFacts<'a> {
    /// Name of the run.
    pub run_id: &'a str,
    /// What was asked for.
    pub settings: &'a Settings,
    /// Machine and build.
    pub environment: &'a Environment,
    /// Brokers of the cluster.
    pub brokers: u32,
    /// Connections of producer and consumer together.
    pub connections: Option<u32>,
}

/// Whether the generator's delay is at most a tenth of what was measured: a response counts from the plan, so the delay
/// is in it, and so is a system that takes the processors away from the client beside it.
fn is_small_beside(delay_ns: u64, tally: &Tally) -> bool {
    percentile_ns(&tally.series(Series::Response).total, 99.0).is_some_and(|response_ns| delay_ns <= response_ns / 10)
}

impl Outcome {
    /// Records that count as achieved per second: acknowledged ones, or with acks=0 the growth of the logs.
    pub fn achieved_records_s(&self) -> Option<f64> {
        let seconds = self.produced.measured_s;
        if seconds <= 0.0 {
            return None;
        }
        match self.cell.acks {
            Acks::None => self.log_growth_records.map(|records| records as f64 / seconds),
            _ => Some(self.produced.tally.counts.acked as f64 / seconds),
        }
    }

    /// Records this phase lost after acknowledging them.
    pub fn acked_lost(&self) -> u64 {
        self.verdict.map_or(0, |verdict| verdict.acked_lost)
    }

    /// Why the result must not be used; empty when it may.
    pub fn invalid_reasons(&self, settings: &Settings) -> Vec<String> {
        let mut reasons: Vec<String> = self.broken.iter().cloned().collect();
        let tally = &self.produced.tally;
        let counts = &tally.counts;
        if self.achieved_records_s().is_none_or(|rate| rate <= 0.0) {
            reasons.push(match self.cell.acks {
                Acks::None => "the growth of the logs could not be learnt".to_owned(),
                _ => "nothing was acknowledged within the window".to_owned(),
            });
            return reasons;
        }
        if self.phase == Phase::Max {
            if self.produced.measured_s < 0.5 {
                reasons.push("the disk budget ended the window after less than half a second".to_owned());
            }
            return reasons;
        }
        let schedule = &tally.series(Series::Schedule).total;
        let limit_us = settings.schedule_delay_limit_us;
        match percentile_ns(schedule, 99.0) {
            None => reasons
                .push("too few records for a 99th percentile: 10000 are needed, so measure longer or faster".into()),
            Some(delay_ns) if delay_ns > limit_us * 1_000 && !is_small_beside(delay_ns, tally) => reasons.push(format!(
                "the generator was late: schedule delay p99 is {} us, above {limit_us} us and a tenth of the response p99",
                delay_ns / 1_000
            )),
            Some(_) => {}
        }
        let target = settings.rate_records_s;
        let share = |records: f64| records / self.produced.measured_s / target;
        let offered = share(counts.sent as f64);
        let achieved = self.achieved_records_s().expect("checked above") / target;
        if offered < RATE_REACHED_MIN {
            reasons.push(format!("only {:.1} % of the target rate was offered", offered * 100.0));
        }
        if achieved < RATE_REACHED_MIN {
            reasons.push(format!("only {:.1} % of the target rate was achieved", achieved * 100.0));
        }
        if self.cell.acks != Acks::None
            && percentile_ns(&tally.series(Series::Response).total, 99.0).is_none()
            && percentile_ns(schedule, 99.0).is_some()
        {
            reasons.push("too few acknowledged records for a 99th percentile".to_owned());
        }
        reasons
    }

    /// The row of `summary.csv`.
    pub fn summary_row(&self, facts: &RunFacts<'_>) -> Row {
        let RunFacts { settings, environment, .. } = facts;
        let tally = &self.produced.tally;
        let counts = &tally.counts;
        let mut row = self.row_head(facts);
        row.set("schema_version", "1");
        let reasons = self.invalid_reasons(settings);
        row.set("valid", reasons.is_empty());
        row.set("invalid_reason", (!reasons.is_empty()).then(|| reasons.join("; ")));
        row.set("started_at_utc", environment::utc(self.window_begin));
        row.set("driver", "minisr-client");
        row.set("driver_version", environment.version);
        row.set("git_sha", environment.git_sha.as_deref());
        row.set("host_id", environment.host_id.as_deref());
        row.set("transport", settings.transport.to_string());
        row.set("brokers", facts.brokers);
        row.set("topics", 1u32);
        row.set("partitions", settings.partitions);
        row.set("replication_factor", self.cell.replication_factor);
        row.set("acks", self.cell.acks.to_string());
        row.set("min_insync_replicas", self.cell.min_insync_replicas);
        row.set("flush", settings.bootstrap.is_none().then_some(settings.flush));
        row.set("producers", 1u32);
        row.set("consumers", u32::from(self.phase == Phase::Rate));
        row.set("connections", facts.connections);
        row.set("record_size_bytes", settings.record_size_bytes);
        row.set("compression", "none");
        row.set("key_distribution", "none");
        let linger_us = if self.phase == Phase::Rate { settings.linger_us } else { settings.max_linger_us };
        row.set("linger_us", (self.phase == Phase::Rate || linger_us > 0).then_some(linger_us));
        row.set("batch_max_bytes", settings.batch_bytes);
        let mean = (tally.batches > 0).then(|| decimals(tally.batched_records as f64 / tally.batches as f64, 2));
        row.set("batch_records_mean", mean);
        row.set("max_in_flight", settings.max_in_flight);
        row.set("arrival", if self.phase == Phase::Rate { "constant" } else { "closed" });
        row.set("seed", settings.seed);
        let seconds = self.produced.measured_s;
        let per_second = |records: u64| (seconds > 0.0).then(|| decimals(records as f64 / seconds, 1));
        row.set("target_rate_records_s", (self.phase == Phase::Rate).then(|| decimals(settings.rate_records_s, 1)));
        row.set("offered_rate_records_s", per_second(counts.sent));
        let achieved = self.achieved_records_s();
        row.set("acked_rate_records_s", achieved.map(|rate| decimals(rate, 1)));
        row.set("acked_mib_s", achieved.map(|rate| decimals(self.mib_s(rate, settings), 3)));
        row.set("duration_s", decimals(seconds, 3));
        row.set("warmup_s", decimals(settings.warmup_s, 3));
        row.set("scheduled", (self.phase == Phase::Rate).then_some(counts.scheduled));
        row.set("sent", counts.sent);
        row.set("acked", (self.cell.acks != Acks::None).then_some(counts.acked));
        row.set("err_timeout", counts.err_timeout);
        row.set("err_not_enough_replicas", counts.err_not_enough_replicas);
        row.set("err_not_leader", counts.err_not_leader);
        row.set("err_other", counts.err_other);
        row.set("unresolved", counts.unresolved);
        row.set("retries", counts.retries);
        row.set("backlog_end", self.produced.backlog_end);
        for series in [Series::Response, Series::Service, Series::Schedule, Series::EndToEnd] {
            let histogram = &tally.series(series).total;
            if histogram.is_empty() {
                continue;
            }
            let name = |statistic: &str| format!("{}_{statistic}_us", series.name());
            row.set(&name("min"), micros(histogram.min()));
            row.set(&name("mean"), decimals(histogram.mean() / 1_000.0, 1));
            row.set(&name("max"), micros(histogram.max()));
            for (statistic, percentile) in
                [("p50", 50.0), ("p90", 90.0), ("p95", 95.0), ("p99", 99.0), ("p999", 99.9), ("p9999", 99.99)]
            {
                row.set(&name(statistic), percentile_ns(histogram, percentile).map(micros));
            }
        }
        row.set("e2e_negative", (self.phase == Phase::Rate).then_some(tally.e2e_negative));
        row.set("histogram_overflow", tally.histogram_overflow);
        row.set("client_cpu_pct", self.client.map(|used| decimals(used.cpu_pct, 1)));
        row.set("client_rss_bytes", self.client.map(|used| used.rss_bytes));
        row.set("broker_cpu_pct_sum", self.brokers.map(|used| decimals(used.cpu_pct, 1)));
        row.set("broker_rss_bytes_sum", self.brokers.map(|used| used.rss_bytes));
        row.set("broker_disk_write_bytes", self.brokers.map(|used| used.disk_write_bytes));
        row.set("isr_min", self.isr_min);
        row.set("isr_shrinks", self.isr_min.map(|_| self.count_events("isr_shrink")));
        row.set("leader_changes", self.isr_min.map(|_| self.count_events("leader_change")));
        row.set("high_watermark_lag_max_records", self.high_watermark_lag_max_records);
        row.set("verified_records", self.verdict.map(|verdict| verdict.verified_records));
        row.set("acked_lost", self.verdict.map(|verdict| verdict.acked_lost));
        row.set("target", settings.target.to_string());
        row
    }

    /// The rows of `intervals.csv`.
    pub fn interval_rows(&self, facts: &RunFacts<'_>) -> Vec<Row> {
        let tally = &self.produced.tally;
        // What was planned in the window may be answered after it; those seconds have answers but no plan.
        let within = (self.produced.measured_s - 1e-9).max(0.0).floor() as usize + 1;
        let mut rows = Vec::new();
        for (index, second) in tally.seconds.iter().enumerate().take(within) {
            let mut row = self.row_head(facts);
            row.set("second", index);
            let begin = self.window_begin + std::time::Duration::from_secs(index as u64);
            row.set("at_utc", environment::utc(begin));
            // The last second of a window that ended early is shorter.
            let length_s = (self.produced.measured_s - index as f64).clamp(1e-3, 1.0);
            let rate = |records: u64| decimals(records as f64 / length_s, 1);
            row.set("sent_records_s", rate(second.sent));
            let acked = (self.cell.acks != Acks::None).then_some(second.acked as f64 / length_s);
            row.set("acked_records_s", acked.map(|rate| decimals(rate, 1)));
            row.set("acked_mib_s", acked.map(|rate| decimals(self.mib_s(rate, facts.settings), 3)));
            row.set("failed_records_s", rate(second.failed));
            row.set("read_records_s", (self.phase == Phase::Rate).then(|| rate(second.read)));
            let is_whole = index < tally.backlog_seconds();
            row.set("backlog_records", if is_whole { second.backlog } else { self.produced.backlog_end });
            for series in Series::ALL {
                let Some(histogram) = tally.series(series).seconds.get(index).filter(|one| !one.is_empty()) else {
                    continue;
                };
                let name = |statistic: &str| format!("{}_{statistic}_us", series.name());
                let percentiles: &[(&str, f64)] = match series {
                    Series::Response | Series::Service => &[("p50", 50.0), ("p90", 90.0), ("p99", 99.0)],
                    Series::EndToEnd => &[("p50", 50.0), ("p90", 90.0)],
                    Series::Schedule => &[],
                    Series::Error => continue,
                };
                for (statistic, percentile) in percentiles {
                    row.set(&name(statistic), percentile_ns(histogram, *percentile).map(micros));
                }
                row.set(&name("max"), micros(histogram.max()));
            }
            let end = begin + std::time::Duration::from_secs(1);
            let so_far: Vec<&Event> = self.events.iter().filter(|event| event.at < end).collect();
            let here = |kind: &str| so_far.iter().filter(|event| event.kind == kind && event.at >= begin).count();
            row.set("isr_min", self.isr_min.map(|_| self.isr_min_at(&so_far)));
            row.set("leaders", self.leaders_at(end));
            row.set("high_watermark_lag_records", self.high_watermark_lag_between(begin, end));
            row.set("leader_changes", self.isr_min.map(|_| here("leader_change")));
            row.set("isr_shrinks", self.isr_min.map(|_| here("isr_shrink")));
            rows.push(row);
        }
        rows
    }

    /// The rows of `events.csv`.
    pub fn event_rows(&self, facts: &RunFacts<'_>) -> Vec<Row> {
        self.events
            .iter()
            .map(|event| {
                let mut row = self.row_head(facts);
                row.set("at_utc", environment::utc(event.at));
                row.set("event", event.kind);
                row.set("partition", event.partition);
                row.set("detail", event.detail.as_str());
                row
            })
            .collect()
    }

    fn row_head(&self, facts: &RunFacts<'_>) -> Row {
        let mut row = Row::default();
        row.set("run_id", facts.run_id);
        row.set("cell_id", self.cell.id());
        row.set("repeat", self.repeat);
        row.set("mode", self.phase.to_string());
        row
    }

    fn mib_s(&self, records_s: f64, settings: &Settings) -> f64 {
        records_s * f64::from(settings.record_size_bytes) / f64::from(1 << 20)
    }

    fn count_events(&self, kind: &str) -> usize {
        self.events.iter().filter(|event| event.kind == kind).count()
    }

    /// Who led how many partitions at an instant: `1:6 2:5 3:5`, `none:1` for partitions without a leader.
    fn leaders_at(&self, instant: SystemTime) -> Option<String> {
        let (_, leaders) = self.leaders.iter().rfind(|(at, _)| *at < instant)?;
        let name = |leader: &Option<i32>| leader.map_or("none".to_owned(), |id| id.to_string());
        let each: Vec<String> = leaders.iter().map(|(id, partitions)| format!("{}:{partitions}", name(id))).collect();
        Some(each.join(" "))
    }

    /// The largest that was seen between two instants; nothing when nobody looked.
    fn high_watermark_lag_between(&self, begin: SystemTime, end: SystemTime) -> Option<u64> {
        self.high_watermark_lags.iter().filter(|(at, _)| (begin..end).contains(at)).map(|(_, lag)| *lag).max()
    }

    /// Smallest ISR after these events: each ISR event carries the new size.
    fn isr_min_at(&self, events: &[&Event]) -> usize {
        let mut sizes = std::collections::BTreeMap::new();
        for event in events {
            if let Some(size) = event.isr_size {
                sizes.insert(event.partition, size);
            }
        }
        sizes.into_values().min().unwrap_or(usize::from(self.cell.replication_factor))
    }
}
