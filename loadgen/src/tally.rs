//! Counts and histograms of one phase of one cell.
//!
//! Four times come from the one schedule: *schedule delay* (planned → handed to the client), *service* (handed over →
//! acknowledged), *response* (planned → acknowledged) and *end-to-end* (planned → read by a consumer). *Error* is
//! planned → refused. They are recorded separately, because percentiles do not add; they merge, because histograms do.
//!
//! Only records planned within the measured window count. What is too long for a histogram is counted and recorded at
//! its upper end, never dropped.

use hdrhistogram::Histogram;

/// Longest time a histogram tells apart: ten minutes.
pub const VALUE_NS_MAX: u64 = 600_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What is timed. The names are the tags in `latency.hlog`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    /// Planned → acknowledged.
    Response,
    /// Handed to the client → acknowledged.
    Service,
    /// Planned → handed to the client.
    Schedule,
    /// Planned → read by a consumer.
    EndToEnd,
    /// Planned → refused.
    Error,
}

impl Series {
    /// Every series, in the order of the columns.
    pub const ALL: [Series; 5] = [Series::Response, Series::Service, Series::Schedule, Series::EndToEnd, Series::Error];

    /// Tag and column prefix.
    pub fn name(self) -> &'static str {
        match self {
            Series::Response => "response",
            Series::Service => "service",
            Series::Schedule => "schedule",
            Series::EndToEnd => "e2e",
            Series::Error => "error",
        }
    }
}

/// Why a record was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No answer in time.
    Timeout,
    /// Fewer in-sync replicas than min.insync.replicas.
    NotEnoughReplicas,
    /// The broker asked did not lead the partition.
    NotLeader,
    /// Anything else.
    Other,
}

/// How many records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Planned within the window.
    pub scheduled: u64,
    /// Handed to the client.
    pub sent: u64,
    /// Acknowledged.
    pub acked: u64,
    /// Failed with a timeout.
    pub err_timeout: u64,
    /// Failed for want of in-sync replicas.
    pub err_not_enough_replicas: u64,
    /// Failed at a broker that did not lead.
    pub err_not_leader: u64,
    /// Failed otherwise.
    pub err_other: u64,
    /// Left without an answer to wait for (acks=0).
    pub left: u64,
    /// Neither acknowledged nor refused when the drain ended.
    pub unresolved: u64,
    /// Times a batch was sent again.
    pub retries: u64,
}

impl Counts {
    /// Records that failed.
    pub fn failed(&self) -> u64 {
        self.err_timeout + self.err_not_enough_replicas + self.err_not_leader + self.err_other
    }
}

/// One second of the measured window, by the time of the event (not of the plan).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Second {
    /// Records handed over.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records that failed.
    pub failed: u64,
    /// Records a consumer read.
    pub read: u64,
    /// Records planned (in a closed loop: handed over) until the end of this second and not finished then.
    pub backlog: u64,
}

/// The measured window in planned time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First instant measured.
    pub begin_ns: u64,
    /// First instant not measured any more.
    pub end_ns: u64,
}

impl Window {
    /// Whether a planned instant is measured.
    pub fn contains(&self, instant_ns: u64) -> bool {
        (self.begin_ns..self.end_ns).contains(&instant_ns)
    }
}

/// Histogram of a whole phase and of each of its seconds.
#[derive(Debug, Clone)]
pub struct SeriesTally {
    /// All values, in nanoseconds.
    pub total: Histogram<u64>,
    /// By the second in which the event happened.
    pub seconds: Vec<Histogram<u64>>,
}

/// Everything counted and timed in one phase of one cell.
#[derive(Debug, Clone)]
pub struct Tally {
    window: Window,
    series: Vec<SeriesTally>,
    /// Records.
    pub counts: Counts,
    /// By second.
    pub seconds: Vec<Second>,
    backlog_seconds: usize,
    /// Batches acknowledged or sent, and the records in them.
    pub batches: u64,
    /// Records in those batches.
    pub batched_records: u64,
    /// Values above [`VALUE_NS_MAX`].
    pub histogram_overflow: u64,
    /// End-to-end times below zero: a fault of the clock, counted instead of hidden.
    pub e2e_negative: u64,
}

fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, VALUE_NS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are constants")
}

impl Tally {
    /// An empty tally of a window.
    pub fn new(window: Window) -> Tally {
        let series = Series::ALL.map(|_| SeriesTally { total: empty_histogram(), seconds: Vec::new() });
        Tally {
            window,
            series: series.into(),
            counts: Counts::default(),
            seconds: Vec::new(),
            backlog_seconds: 0,
            batches: 0,
            batched_records: 0,
            histogram_overflow: 0,
            e2e_negative: 0,
        }
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// Ends the window early: a closed loop stops at its disk budget.
    pub fn end_window(&mut self, end_ns: u64) {
        self.window.end_ns = end_ns.clamp(self.window.begin_ns, self.window.end_ns);
    }

    /// The values of one series.
    pub fn series(&self, series: Series) -> &SeriesTally {
        &self.series[series as usize]
    }

    /// A record was handed to the client.
    pub fn sent(&mut self, planned_ns: u64, sent_ns: u64) {
        if !self.window.contains(planned_ns) {
            return;
        }
        self.counts.sent += 1;
        self.second(sent_ns).sent += 1;
        self.record(Series::Schedule, sent_ns, sent_ns.saturating_sub(planned_ns), 1);
    }

    /// A record was acknowledged.
    pub fn acked(&mut self, planned_ns: u64, sent_ns: u64, acked_ns: u64) {
        if !self.window.contains(planned_ns) {
            return;
        }
        self.counts.acked += 1;
        self.second(acked_ns).acked += 1;
        self.record(Series::Response, acked_ns, acked_ns.saturating_sub(planned_ns), 1);
        self.record(Series::Service, acked_ns, acked_ns.saturating_sub(sent_ns), 1);
    }

    /// A record left, and no answer will come.
    pub fn left(&mut self, planned_ns: u64) {
        if self.window.contains(planned_ns) {
            self.counts.left += 1;
        }
    }

    /// A batch of a closed loop, where nothing is planned, was acknowledged.
    pub fn acked_closed_loop(&mut self, sent_ns: u64, acked_ns: u64, records: u64) {
        if !self.window.contains(acked_ns) {
            return;
        }
        self.counts.sent += records;
        self.counts.acked += records;
        let second = self.second(acked_ns);
        second.sent += records;
        second.acked += records;
        self.record(Series::Service, acked_ns, acked_ns.saturating_sub(sent_ns), records);
    }

    /// Records of a closed loop left, and no answer will come.
    pub fn left_closed_loop(&mut self, left_ns: u64, records: u64) {
        if self.window.contains(left_ns) {
            self.counts.sent += records;
            self.counts.left += records;
            self.second(left_ns).sent += records;
        }
    }

    /// A batch was completed, whatever became of it.
    pub fn batch(&mut self, done_ns: u64, records: u64, retries: u64) {
        if self.window.contains(done_ns) {
            self.batches += 1;
            self.batched_records += records;
            self.counts.retries += retries;
        }
    }

    /// A record failed.
    pub fn failed(&mut self, planned_ns: u64, failed_ns: u64, failure: Failure) {
        if !self.window.contains(planned_ns) {
            return;
        }
        match failure {
            Failure::Timeout => self.counts.err_timeout += 1,
            Failure::NotEnoughReplicas => self.counts.err_not_enough_replicas += 1,
            Failure::NotLeader => self.counts.err_not_leader += 1,
            Failure::Other => self.counts.err_other += 1,
        }
        self.second(failed_ns).failed += 1;
        self.record(Series::Error, failed_ns, failed_ns.saturating_sub(planned_ns), 1);
    }

    /// Notes the backlog of every whole second of the window that has ended by `now_ns` and is not noted yet. Called
    /// before what happened at `now_ns` is counted, so that between two calls nothing was finished. `open_at` says how
    /// many records were open at an instant.
    pub fn note_backlog(&mut self, now_ns: u64, open_at: impl Fn(u64) -> u64) {
        loop {
            let end_ns = self.window.begin_ns + (self.backlog_seconds as u64 + 1) * 1_000_000_000;
            if end_ns > now_ns.min(self.window.end_ns) {
                return;
            }
            self.second(end_ns - 1).backlog = open_at(end_ns);
            self.backlog_seconds += 1;
        }
    }

    /// Seconds whose backlog is known.
    pub fn backlog_seconds(&self) -> usize {
        self.backlog_seconds
    }

    /// A consumer read a record.
    pub fn read(&mut self, planned_ns: u64, read_ns: u64) {
        if !self.window.contains(planned_ns) {
            return;
        }
        self.second(read_ns).read += 1;
        match read_ns.checked_sub(planned_ns) {
            Some(elapsed_ns) => self.record(Series::EndToEnd, read_ns, elapsed_ns, 1),
            None => self.e2e_negative += 1,
        }
    }

    fn second_index(&self, instant_ns: u64) -> usize {
        usize::try_from(instant_ns.saturating_sub(self.window.begin_ns) / 1_000_000_000).expect("a run has few seconds")
    }

    fn second(&mut self, instant_ns: u64) -> &mut Second {
        let index = self.second_index(instant_ns);
        if self.seconds.len() <= index {
            self.seconds.resize(index + 1, Second::default());
        }
        &mut self.seconds[index]
    }

    fn record(&mut self, series: Series, at_ns: u64, value_ns: u64, count: u64) {
        if value_ns > VALUE_NS_MAX {
            self.histogram_overflow += count;
        }
        let index = self.second_index(at_ns);
        let tally = &mut self.series[series as usize];
        tally.total.saturating_record_n(value_ns, count);
        while tally.seconds.len() <= index {
            tally.seconds.push(empty_histogram());
        }
        tally.seconds[index].saturating_record_n(value_ns, count);
    }

    /// Adds another tally of the same window. Counts add, histograms merge; no percentile is touched.
    pub fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in self.series.iter_mut().zip(&other.series) {
            mine.total.add(&theirs.total).expect("all histograms have the same bounds");
            while mine.seconds.len() < theirs.seconds.len() {
                mine.seconds.push(empty_histogram());
            }
            for (mine, theirs) in mine.seconds.iter_mut().zip(&theirs.seconds) {
                mine.add(theirs).expect("all histograms have the same bounds");
            }
        }
        if self.seconds.len() < other.seconds.len() {
            self.seconds.resize(other.seconds.len(), Second::default());
        }
        for (mine, theirs) in self.seconds.iter_mut().zip(&other.seconds) {
            mine.sent += theirs.sent;
            mine.acked += theirs.acked;
            mine.failed += theirs.failed;
            mine.read += theirs.read;
            mine.backlog += theirs.backlog;
        }
        self.backlog_seconds = self.backlog_seconds.max(other.backlog_seconds);
        let (mine, theirs) = (&mut self.counts, &other.counts);
        mine.scheduled += theirs.scheduled;
        mine.sent += theirs.sent;
        mine.acked += theirs.acked;
        mine.err_timeout += theirs.err_timeout;
        mine.err_not_enough_replicas += theirs.err_not_enough_replicas;
        mine.err_not_leader += theirs.err_not_leader;
        mine.err_other += theirs.err_other;
        mine.left += theirs.left;
        mine.unresolved += theirs.unresolved;
        mine.retries += theirs.retries;
        self.batches += other.batches;
        self.batched_records += other.batched_records;
        self.histogram_overflow += other.histogram_overflow;
        self.e2e_negative += other.e2e_negative;
    }
}

/// A percentile, or nothing when fewer than 100 values lie beyond it: it would be the story of a few accidents.
pub fn percentile_ns(histogram: &Histogram<u64>, percentile: f64) -> Option<u64> {
    let beyond = histogram.len() as f64 * (1.0 - percentile / 100.0);
    // A hair of tolerance: 10,000 samples have exactly 100 beyond p99, which floating point makes 99.99….
    (beyond >= 100.0 - 1e-6).then(|| histogram.value_at_percentile(percentile))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const WINDOW: Window = Window { begin_ns: SECOND, end_ns: 3 * SECOND };

    #[test]
    fn tally_counts_only_what_was_planned_within_the_window() {
        let mut tally = Tally::new(WINDOW);
        for planned_ns in [0, SECOND - 1, SECOND, 3 * SECOND - 1, 3 * SECOND] {
            tally.sent(planned_ns, planned_ns + 10);
            tally.acked(planned_ns, planned_ns + 10, planned_ns + 1_000);
        }
        assert_eq!((tally.counts.sent, tally.counts.acked), (2, 2));
        assert_eq!(tally.seconds.len(), 3, "the last was acknowledged in the second after the window");
    }

    #[test]
    fn tally_response_is_measured_from_the_plan_and_service_from_the_send() {
        let mut tally = Tally::new(WINDOW);
        tally.acked(SECOND, SECOND + 400_000, SECOND + 500_000);
        assert!(tally.series(Series::Response).total.equivalent(tally.series(Series::Response).total.max(), 500_000));
        assert!(tally.series(Series::Service).total.equivalent(tally.series(Series::Service).total.max(), 100_000));
    }

    #[test]
    fn tally_too_long_a_time_is_counted_and_kept() {
        let mut tally = Tally::new(WINDOW);
        tally.acked(SECOND, SECOND, SECOND + 2 * VALUE_NS_MAX);
        assert_eq!(tally.histogram_overflow, 2, "response and service both");
        assert_eq!(tally.series(Series::Response).total.len(), 1);
        assert!(tally.series(Series::Response).total.max() >= VALUE_NS_MAX);
    }

    #[test]
    fn tally_negative_end_to_end_time_is_counted() {
        let mut tally = Tally::new(WINDOW);
        tally.read(SECOND + 5, SECOND + 4);
        tally.read(SECOND + 5, SECOND + 6);
        assert_eq!((tally.e2e_negative, tally.series(Series::EndToEnd).total.len()), (1, 1));
    }

    #[test]
    fn tally_merging_equals_having_recorded_everything_in_one() {
        let (mut left, mut right, mut whole) = (Tally::new(WINDOW), Tally::new(WINDOW), Tally::new(WINDOW));
        for index in 0..2_000u64 {
            let planned_ns = SECOND + index * 1_000_000;
            let acked_ns = planned_ns + (index * 7919) % 5_000_000;
            let half = if index % 2 == 0 { &mut left } else { &mut right };
            for tally in [half, &mut whole] {
                tally.sent(planned_ns, planned_ns);
                tally.acked(planned_ns, planned_ns, acked_ns);
            }
        }
        left.merge(&right);
        assert_eq!(left.counts, whole.counts);
        assert_eq!(left.seconds, whole.seconds);
        for series in Series::ALL {
            assert_eq!(left.series(series).total, whole.series(series).total);
        }
    }

    #[test]
    fn percentile_without_a_hundred_values_beyond_it_is_left_out() {
        let mut histogram = empty_histogram();
        histogram.record_n(1_000, 9_999).unwrap();
        assert_eq!(percentile_ns(&histogram, 99.0), None);
        histogram.record_n(1_000, 1).unwrap();
        assert_eq!(percentile_ns(&histogram, 99.0), Some(1_000));
        assert_eq!(percentile_ns(&histogram, 99.9), None);
    }
}
