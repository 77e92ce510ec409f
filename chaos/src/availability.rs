//! How long each partition took no writes around each fault, from the acknowledgements alone.

use crate::history::{History, Outcome, Slot};
use crate::plan::FaultKind;

/// When one fault was injected and lifted, as the analysis needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultWindow {
    /// Its number, from 1.
    pub number: u32,
    /// What was done.
    pub kind: FaultKind,
    /// Whether a victim was the active controller.
    pub controller: bool,
    /// The brokers hit.
    pub victims: Vec<i32>,
    /// When it was injected.
    pub at_us: u64,
    /// When its cause was lifted: the process was started again or continued.
    pub lifted_us: u64,
    /// The partitions that a victim led at that moment.
    pub led: Vec<Slot>,
    /// Whether it found the cluster whole (all brokers up, every in-sync set full) and left enough to go on writing.
    pub alone: bool,
}

/// The longest pause in one partition's acknowledgements around one fault.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Gap {
    /// The fault's number.
    pub fault: u32,
    /// What was done.
    pub kind: FaultKind,
    /// Whether a victim was the active controller.
    pub controller: bool,
    /// The partition's name.
    pub partition: String,
    /// Whether a victim led it.
    pub affected: bool,
    /// Whether the fault found the cluster whole and left enough to go on writing.
    pub alone: bool,
    /// From the last acknowledgement before the pause to the first one after it.
    pub gap_us: u64,
    /// From the injection to that first one after it.
    pub resumed_us: u64,
}

/// The gaps of every durable partition around every fault. `end_us` is when the workload ended.
///
/// A pause counts for a fault when it ends after the injection and begins before the fault was lifted or the next one
/// injected. (The moment of the injection alone would not do: acknowledgements already under way still arrive.)
pub fn gaps(history: &History, faults: &[FaultWindow], end_us: u64) -> Vec<Gap> {
    let mut acks: Vec<Vec<u64>> = vec![Vec::new(); history.slots.len()];
    for send in &history.sends {
        if matches!(send.outcome, Outcome::Ok { .. }) {
            acks[usize::from(send.slot)].push(send.done_us);
        }
    }
    acks.iter_mut().for_each(|times| times.sort_unstable());
    let mut gaps = Vec::new();
    for (index, fault) in faults.iter().enumerate() {
        let next = faults.get(index + 1).map_or(end_us, |next| next.at_us);
        let horizon = fault.lifted_us.min(next);
        for (slot, times) in acks.iter().enumerate().filter(|(slot, _)| history.durable(*slot as Slot)) {
            let (gap_us, resumed_us) = longest(times, fault.at_us, horizon, end_us);
            gaps.push(Gap {
                fault: fault.number,
                kind: fault.kind,
                controller: fault.controller,
                partition: history.name(slot as Slot).to_owned(),
                affected: fault.led.contains(&(slot as Slot)),
                alone: fault.alone,
                gap_us,
                resumed_us,
            });
        }
    }
    gaps
}

/// The longest pause, and how long after the fault it ended.
fn longest(times: &[u64], at_us: u64, horizon: u64, end_us: u64) -> (u64, u64) {
    let first_after = times.partition_point(|time| *time <= at_us);
    let mut before = if first_after == 0 { 0 } else { times[first_after - 1] };
    let mut longest = (0, 0);
    for time in times[first_after..].iter().copied().chain(std::iter::once(end_us)) {
        if before >= horizon {
            break;
        }
        longest = longest.max((time.saturating_sub(before), time.saturating_sub(at_us)));
        before = time;
    }
    longest
}

/// Nearest-rank percentile; `None` of nothing.
pub fn percentile(values: &mut [u64], percent: f64) -> Option<u64> {
    values.sort_unstable();
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Promise, Send, Value};

    fn history(acks: impl IntoIterator<Item = u64>) -> History {
        let send = |(count, done_us): (usize, u64)| Send {
            value: Value::new(1, count as u64),
            slot: 0,
            sent_us: done_us.saturating_sub(1),
            done_us,
            outcome: Outcome::Ok { offset: count as i64 },
        };
        History {
            slots: vec![("durable-0".into(), Promise::Durable)],
            sends: acks.into_iter().enumerate().map(send).collect(),
            ..History::default()
        }
    }

    fn fault(at_us: u64, lifted_us: u64) -> FaultWindow {
        FaultWindow {
            number: 1,
            kind: FaultKind::Kill,
            controller: false,
            victims: vec![1],
            at_us,
            lifted_us,
            led: vec![0],
            alone: true,
        }
    }

    #[test]
    fn availability_gap_runs_from_last_ack_before_to_first_after() {
        let acks = (0..100).map(|n| n * 10).chain((300..400).map(|n| n * 10));
        let gaps = gaps(&history(acks), &[fault(985, 2_000)], 4_000);
        assert_eq!((gaps[0].gap_us, gaps[0].resumed_us), (3_000 - 990, 3_000 - 985));
    }

    #[test]
    fn availability_ack_under_way_at_the_injection_does_not_hide_the_gap() {
        let acks = (0..100).map(|n| n * 10).chain([1_001]).chain((300..400).map(|n| n * 10));
        assert_eq!(gaps(&history(acks), &[fault(985, 2_000)], 4_000)[0].gap_us, 3_000 - 1_001);
    }

    #[test]
    fn availability_partition_that_never_resumes_has_a_gap_to_the_end() {
        assert_eq!(gaps(&history((0..100).map(|n| n * 10)), &[fault(995, 2_000)], 9_000)[0].gap_us, 9_000 - 990);
    }

    #[test]
    fn availability_pause_after_the_fault_was_lifted_is_not_its_own() {
        let acks = (0..200).map(|n| n * 10).chain([8_000]);
        assert_eq!(gaps(&history(acks), &[fault(1_000, 1_500)], 9_000)[0].gap_us, 10);
    }

    #[test]
    fn availability_percentile_is_nearest_rank() {
        assert_eq!(percentile(&mut [], 50.0), None);
        assert_eq!(percentile(&mut [30, 10, 20], 50.0), Some(20));
        assert_eq!(percentile(&mut [30, 10, 20], 99.0), Some(30));
    }
}
