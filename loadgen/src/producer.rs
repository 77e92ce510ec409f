//! The two ways of producing: at a planned rate whatever happens (open loop), and as fast as answers come (closed loop).

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::clock::{Clock, Pacer, Schedule};
use crate::driver::{BatchReport, Driver, Outcome};
use crate::record::{self, RecordBuilder};
use crate::tally::{Tally, Window};
use crate::verify::Ledger;

/// How long answers are waited for after the last record.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// How far a phase is, for those who watch from another thread.
#[derive(Debug, Default)]
pub struct Live {
    /// Records handed over.
    pub sent: AtomicU64,
    /// Records finished.
    pub done: AtomicU64,
}

/// What a phase left behind.
pub struct Produced {
    /// Counts and times.
    pub tally: Tally,
    /// What was acknowledged.
    pub ledger: Ledger,
    /// Records handed over, those of the warm-up included.
    pub records: u64,
    /// Records handed over or planned, and not finished at the end of the window.
    pub backlog_end: u64,
    /// How long the window really was: a closed loop may end early, at its disk budget.
    pub measured_s: f64,
}

/// An open loop.
#[derive(Debug, Clone, Copy)]
pub struct RatePlan {
    /// Records per second.
    pub rate_records_s: f64,
    /// Seconds before the window.
    pub warmup_s: f64,
    /// Seconds of the window.
    pub duration_s: f64,
    /// Partitions, taken in turn.
    pub partitions: u32,
    /// Bytes of a value.
    pub record_size_bytes: u32,
    /// Seed of the contents.
    pub seed: u64,
}

impl RatePlan {
    /// The schedule from `start_ns` on, and the window in it.
    pub fn schedule(&self, start_ns: u64) -> (Schedule, Window) {
        let begin_ns = start_ns + (self.warmup_s * 1e9) as u64;
        let window = Window { begin_ns, end_ns: begin_ns + (self.duration_s * 1e9) as u64 };
        (Schedule::new(start_ns, self.rate_records_s), window)
    }
}

/// Produces at the planned rate. Each record's time is its planned instant, whether or not it could be sent then;
/// a record that is late is sent as soon as possible, none is left out.
pub async fn produce_at_rate<D: Driver>(
    driver: &D,
    clock: Clock,
    start_ns: u64,
    plan: RatePlan,
    live: &Live,
) -> Result<Produced> {
    let (schedule, window) = plan.schedule(start_ns);
    let records = schedule.records_within(plan.warmup_s + plan.duration_s);
    let tally = RefCell::new(Tally::new(window));
    tally.borrow_mut().counts.scheduled =
        (0..records).filter(|index| window.contains(schedule.planned_ns(*index))).count() as u64;
    let ledger = RefCell::new(Ledger::new(plan.partitions));
    let (sent, done) = (Cell::new(0u64), Cell::new(0u64));
    let backlog_end = Cell::new(None);

    let send = async {
        let pacer = Pacer::new(clock, schedule.interval_ns())?;
        let mut builder = RecordBuilder::new(plan.record_size_bytes, plan.seed);
        for index in 0..records {
            let planned_ns = schedule.planned_ns(index);
            pacer.wait_until(planned_ns).await?;
            // Taken before the driver may make us wait: waiting for it belongs to the record's service time.
            let sent_ns = clock.now_ns();
            tally.borrow_mut().sent(planned_ns, sent_ns);
            let partition = (index % u64::from(plan.partitions)) as u32;
            let tag = record::tag(index, sent_ns - planned_ns);
            driver.send(partition, builder.build(planned_ns, index), sent_ns, tag).await?;
            sent.set(index + 1);
            live.sent.store(index + 1, Ordering::Relaxed);
        }
        pacer.wait_until(window.end_ns).await?;
        backlog_end.set(Some(records - done.get()));
        driver.flush().await?;
        anyhow::Ok(())
    };
    let receive = async {
        while done.get() < records {
            let report = driver.next_report().await?;
            tally
                .borrow_mut()
                .note_backlog(report.done_ns, |at_ns| schedule.planned_before(at_ns).min(records) - done.get());
            done.set(done.get() + report.tags.len() as u64);
            live.done.store(done.get(), Ordering::Relaxed);
            let mut tally = tally.borrow_mut();
            tally.batch(report.done_ns, report.tags.len() as u64, u64::from(report.retries));
            for tag in &report.tags {
                let (index, lateness_ns) = record::untag(*tag);
                let planned_ns = schedule.planned_ns(index);
                match report.outcome {
                    Outcome::Acked { .. } => tally.acked(planned_ns, planned_ns + lateness_ns, report.done_ns),
                    Outcome::Sent => tally.left(planned_ns),
                    Outcome::Failed(failure) | Outcome::Unknown(failure) => {
                        tally.failed(planned_ns, report.done_ns, failure);
                    }
                }
            }
            note_acked(&mut ledger.borrow_mut(), &report);
        }
        anyhow::Ok(())
    };
    let planned_end = Duration::from_nanos(window.end_ns.saturating_sub(clock.now_ns()));
    let both = async { tokio::try_join!(send, receive) };
    match tokio::time::timeout(planned_end + DRAIN_LIMIT, both).await {
        Ok(outcome) => {
            outcome?;
        }
        // What is still open when the drain ends is counted below, not waited for.
        Err(_elapsed) => {}
    }
    let mut tally = tally.into_inner();
    // Nothing more was finished.
    tally.note_backlog(window.end_ns, |at_ns| schedule.planned_before(at_ns).min(records) - done.get());
    let counts = &mut tally.counts;
    counts.unresolved = counts.scheduled - counts.acked - counts.failed() - counts.left;
    let backlog_end = backlog_end.get().unwrap_or(records - done.get());
    Ok(Produced { tally, ledger: ledger.into_inner(), records: sent.get(), backlog_end, measured_s: plan.duration_s })
}

/// A closed loop.
#[derive(Debug, Clone, Copy)]
pub struct MaxPlan {
    /// Seconds before the window.
    pub warmup_s: f64,
    /// Seconds of the window, unless the budget ends it.
    pub duration_s: f64,
    /// Partitions.
    pub partitions: u32,
    /// Bytes of a value.
    pub record_size_bytes: u32,
    /// Seed of the contents.
    pub seed: u64,
    /// Records of a batch.
    pub batch_records: u64,
    /// Batches in flight for each partition.
    pub batches_in_flight: u32,
    /// Batches in flight over all partitions, at most. When it is less than one for each, partitions take turns.
    pub batches_in_flight_total: u32,
    /// Records after which the phase ends, so that it does not fill the disk.
    pub records_max: u64,
}

/// Produces as fast as answers come: each answered batch is replaced by as many records.
pub async fn produce_at_maximum<D: Driver>(driver: &D, clock: Clock, plan: MaxPlan, live: &Live) -> Result<Produced> {
    let begin_ns = clock.now_ns() + (plan.warmup_s * 1e9) as u64;
    let window = Window { begin_ns, end_ns: begin_ns + (plan.duration_s * 1e9) as u64 };
    let mut tally = Tally::new(window);
    let mut ledger = Ledger::new(plan.partitions);
    let mut builder = RecordBuilder::new(plan.record_size_bytes, plan.seed);
    let (mut sent, mut done) = (0u64, 0u64);
    // An answered batch is replaced in its own partition, unless there are more partitions than batches.
    let is_spread = plan.batches_in_flight_total < plan.partitions;
    let first_batches = (plan.partitions * plan.batches_in_flight).min(plan.batches_in_flight_total);
    let mut next_partition = 0;
    for _ in 0..first_batches {
        let now_ns = clock.now_ns();
        driver.send_run(next_partition, &mut builder, now_ns, sent..sent + plan.batch_records).await?;
        sent += plan.batch_records;
        next_partition = (next_partition + 1) % plan.partitions;
    }
    let mut ended = false;
    let drain_end = Duration::from_nanos(window.end_ns.saturating_sub(clock.now_ns())) + DRAIN_LIMIT;
    let loop_of_answers = async {
        while done < sent {
            let report = driver.next_report().await?;
            tally.note_backlog(report.done_ns, |_| sent - done);
            let records = report.tags.len() as u64;
            done += records;
            live.done.store(done, Ordering::Relaxed);
            tally.batch(report.done_ns, records, u64::from(report.retries));
            match report.outcome {
                Outcome::Acked { .. } => tally.acked_closed_loop(report.sent_ns, report.done_ns, records),
                Outcome::Sent => tally.left_closed_loop(report.done_ns, records),
                Outcome::Failed(failure) | Outcome::Unknown(failure) => {
                    // The plan of a closed loop is the moment of sending.
                    (0..records).for_each(|_| tally.failed(report.sent_ns, report.done_ns, failure));
                }
            }
            note_acked(&mut ledger, &report);
            let now_ns = clock.now_ns();
            if !ended && (now_ns >= window.end_ns || sent + records > plan.records_max) {
                ended = true;
                tally.end_window(now_ns);
            }
            if !ended {
                let partition = if is_spread { next_partition } else { report.partition };
                next_partition = (next_partition + 1) % plan.partitions;
                driver.send_run(partition, &mut builder, now_ns, sent..sent + records).await?;
                sent += records;
                live.sent.store(sent, Ordering::Relaxed);
            }
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(drain_end, loop_of_answers).await {
        Ok(outcome) => outcome?,
        // What is still open when the drain ends is counted below, not waited for.
        Err(_elapsed) => {}
    }
    // Nothing more was finished.
    tally.note_backlog(tally.window().end_ns, |_| sent - done);
    tally.counts.unresolved = sent - done;
    tally.counts.scheduled = tally.counts.sent;
    let measured = tally.window();
    let measured_s = (measured.end_ns - measured.begin_ns) as f64 / 1e9;
    Ok(Produced { tally, ledger, records: sent, backlog_end: sent - done, measured_s })
}

fn note_acked(ledger: &mut Ledger, report: &BatchReport) {
    if let Outcome::Acked { base_offset } = report.outcome {
        ledger.acked(report.partition, base_offset, report.tags.iter().map(|tag| record::untag(*tag).0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::null::{NullDriver, Stall};
    use crate::tally::Series;

    const PLAN: RatePlan = RatePlan {
        rate_records_s: 2_000.0,
        warmup_s: 0.1,
        duration_s: 1.0,
        partitions: 4,
        record_size_bytes: 64,
        seed: 1,
    };

    fn run_at_rate(stall_ms: Option<(u64, u64)>) -> Produced {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clock = Clock::start();
            let stall =
                stall_ms.map(|(begin_ms, end_ms)| Stall { begin_ns: begin_ms * 1_000_000, end_ns: end_ms * 1_000_000 });
            let driver = NullDriver::new(clock, PLAN.partitions, 200_000, stall).unwrap();
            produce_at_rate(&driver, clock, 0, PLAN, &Live::default()).await.unwrap()
        })
    }

    #[test]
    fn producer_rate_stall_shows_in_the_response_percentiles() {
        let produced = run_at_rate(Some((500, 800)));
        let counts = produced.tally.counts;
        assert_eq!(
            (counts.scheduled, counts.acked, counts.unresolved),
            (2_000, 2_000, 0),
            "no planned record is skipped"
        );
        let response = &produced.tally.series(Series::Response).total;
        // 600 of 2,000 records were planned within the 300 ms; those of its first 200 ms waited 100 ms and more.
        let slow = response.count_between(100_000_000, u64::MAX / 2);
        assert!((350..=600).contains(&slow), "{slow} records took 100 ms or more from their planned instant");
        assert!(response.value_at_quantile(0.99) > 250_000_000);
        // What a closed loop would have reported: nearly every record is quick once it is sent.
        let service = &produced.tally.series(Series::Service).total;
        assert!(service.count_between(100_000_000, u64::MAX / 2) < 10);
        // The rest of the wait is the schedule delay, so nothing hides the cause either.
        assert!(produced.tally.series(Series::Schedule).total.value_at_quantile(0.99) > 200_000_000);
    }

    #[test]
    fn producer_rate_without_a_stall_reaches_its_rate() {
        let produced = run_at_rate(None);
        assert_eq!(produced.tally.counts.acked, 2_000);
        assert_eq!(produced.tally.backlog_seconds(), 1);
        assert_eq!(produced.ledger.acked_records(), 2_200, "the ledger has the warm-up too");
        assert!(produced.tally.series(Series::Response).total.value_at_quantile(0.5) >= 200_000);
    }

    #[test]
    fn producer_maximum_stops_at_its_budget_and_says_how_long_it_took() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let produced = runtime.block_on(async {
            let clock = Clock::start();
            let driver = NullDriver::new(clock, 2, 10_000, None).unwrap();
            let plan = MaxPlan {
                warmup_s: 0.0,
                duration_s: 5.0,
                partitions: 2,
                record_size_bytes: 64,
                seed: 1,
                batch_records: 5,
                batches_in_flight: 2,
                batches_in_flight_total: u32::MAX,
                records_max: 500,
            };
            produce_at_maximum(&driver, clock, plan, &Live::default()).await.unwrap()
        });
        assert!(produced.measured_s < 4.0);
        assert!(produced.ledger.acked_records() <= 500);
        assert_eq!(produced.backlog_end, 0);
    }

    #[test]
    fn producer_maximum_with_fewer_batches_than_partitions_takes_them_in_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (partitions, records_max) = (8, 160);
        let mut ledger = runtime.block_on(async {
            let clock = Clock::start();
            let driver = NullDriver::new(clock, partitions, 10_000, None).unwrap();
            let plan = MaxPlan {
                warmup_s: 0.0,
                duration_s: 60.0,
                partitions,
                record_size_bytes: 64,
                seed: 1,
                batch_records: 1,
                batches_in_flight: 5,
                batches_in_flight_total: 3,
                records_max,
            };
            produce_at_maximum(&driver, clock, plan, &Live::default()).await.unwrap().ledger
        });
        ledger.seal();
        for partition in 0..partitions {
            assert_eq!(ledger.end_offset(partition), 20, "partition {partition} has its share");
        }
    }
}
