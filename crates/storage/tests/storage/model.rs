//! Random histories of a log against a model that is a vector of batches.

use crate::vocabulary::*;
use bytes::Bytes;
use minisr_storage::disk::memory::Survives;
use minisr_storage::{BatchHeader, Disk, Log, LogConfig, MemoryDisk, OpenOptions, RealDisk};
use proptest::prelude::*;
use std::path::Path;

#[derive(Clone, Debug)]
enum Step {
    /// Batches of so many records and bytes each, all in one call.
    Append(Vec<(i32, usize)>),
    NewEpoch,
    /// Cut to this part (of 1,000) of the log.
    Truncate(i64),
    StartAnew(i64),
    Roll,
    Sync,
    SyncRolled,
    /// Raise the start to this part (of 1,000) of the log.
    AdvanceStart(i64),
    /// Read at this part of the log, with a bound and a limit.
    Read(i64, i64, usize),
    /// Kill the process: close without closing, open again.
    Kill,
    CleanRestart,
    /// A power loss that keeps this much (memory disk only; on the real disk a kill).
    PowerLoss(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let part = 0..1100_i64;
    let step = prop_oneof![
        10 => prop::collection::vec((1..5_i32, 0..300_usize), 1..6).prop_map(Step::Append),
        1 => Just(Step::NewEpoch),
        2 => part.clone().prop_map(Step::Truncate),
        1 => (0..50_i64).prop_map(Step::StartAnew),
        1 => Just(Step::Roll),
        3 => Just(Step::Sync),
        1 => Just(Step::SyncRolled),
        1 => (0..600_i64).prop_map(Step::AdvanceStart),
        6 => (part.clone(), part, 0..2000_usize).prop_map(|(from, upper, max)| Step::Read(from, upper, max)),
        1 => Just(Step::Kill),
        1 => Just(Step::CleanRestart),
        2 => any::<u64>().prop_map(Step::PowerLoss),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a power loss does to a disk, if it can happen there.
trait PowerLoss: Disk {
    /// Returns false when this disk cannot lose power. Files are `scale` times as long as usual.
    fn lose_power(&mut self, _seed: u64, _scale: u64) -> bool {
        false
    }
}

impl PowerLoss for RealDisk {}

impl PowerLoss for MemoryDisk {
    fn lose_power(&mut self, mut seed: u64, scale: u64) -> bool {
        self.crash(&mut |_| {
            // SplitMix64: enough to spread one seed over the questions.
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^= mixed >> 27;
            match mixed % 4 {
                0 => Survives::Nothing,
                1 => Survives::Everything,
                2 => Survives::Prefix { operations: (mixed >> 8) as usize % 5, bytes: (mixed >> 16) % 400 * scale },
                _ => {
                    let from = (mixed >> 8) % 900 * scale;
                    Survives::Hole { from, to: from + (mixed >> 24) % 300 * scale }
                }
            }
        });
        true
    }
}

struct Model {
    batches: Vec<Bytes>,
    start: i64,
    end: i64,
    epoch: i32,
    fill: u8,
}

impl Model {
    fn header(batch: &Bytes) -> BatchHeader {
        BatchHeader::parse(batch).expect("the model holds batches")
    }

    fn at(&self, part: i64) -> i64 {
        self.start + (self.end - self.start) * part / 1000
    }

    fn visible(&self) -> Vec<Bytes> {
        self.batches.iter().filter(|batch| Self::header(batch).end_offset() > self.start).cloned().collect()
    }

    fn truncate(&mut self, offset: i64) {
        self.batches.retain(|batch| Self::header(batch).end_offset() <= offset);
        self.end = self.batches.last().map_or(self.start.min(offset), |batch| Self::header(batch).end_offset());
    }
}

fn check<D: Disk>(disk: &mut D, log: &mut Log<D>, model: &Model) {
    assert_eq!((log.start_offset(), log.end_offset()), (model.start, model.end));
    assert!(contents(disk, log) == model.visible(), "log and model hold the same");
    if let Some(last) = model.visible().last() {
        assert_eq!(log.last_epoch(), Some(Model::header(last).leader_epoch));
    }
    assert!(log.flushed_offset() <= log.end_offset());
}

/// Payloads and segments are `scale` times those of [`small`].
fn run<D: PowerLoss>(disk: &mut D, directory: &Path, tail_bytes_max: usize, scale: u32, steps: Vec<Step>) {
    let config = LogConfig { tail_bytes_max, segment_bytes: small().segment_bytes * scale, ..small() };
    let mut model = Model { batches: Vec::new(), start: 0, end: 0, epoch: 0, fill: 0 };
    let (mut log, _) = open_at(disk, directory, config.clone(), UNCLEAN);
    for step in steps {
        match step {
            Step::Append(sizes) => {
                let mut added = Vec::new();
                for (records, payload) in sizes {
                    model.fill = model.fill.wrapping_add(1);
                    let batch =
                        batch_of(model.end, model.epoch, records, model.end, payload * scale as usize, model.fill);
                    model.end += i64::from(records);
                    added.push(batch);
                }
                // Half of the appends arrive as one buffer of several batches, as from a fetch.
                if added.len() % 2 == 0 {
                    log.append(disk, &[added.concat().into()]).unwrap();
                } else {
                    log.append(disk, &added).unwrap();
                }
                model.batches.extend(added);
            }
            Step::NewEpoch => model.epoch += 1,
            Step::Truncate(part) => {
                let offset = model.at(part);
                if offset > model.start && offset < model.end {
                    model.truncate(offset);
                    // A batch across the start was cut as a whole: empty at its start.
                    if model.end < model.start {
                        model.end = model.start;
                        model.batches.clear();
                    }
                    log.truncate_to(disk, offset).unwrap();
                    model.epoch += 1;
                }
            }
            Step::StartAnew(ahead) => {
                let offset = model.end + ahead;
                log.truncate_fully_and_start_at(disk, offset).unwrap();
                model.batches.clear();
                (model.start, model.end) = (offset, offset);
            }
            Step::Roll => log.roll(disk).unwrap(),
            Step::Sync => {
                assert_eq!(log.sync(disk).unwrap(), model.end);
            }
            Step::SyncRolled => {
                if let Some(round) = log.sync_rolled(disk).unwrap() {
                    round.handles.iter().for_each(|handle| disk.sync(handle).unwrap());
                    log.synced(disk, round.target);
                }
            }
            Step::AdvanceStart(part) => {
                let start = model.at(part);
                log.advance_start(disk, start).unwrap();
                model.start = start;
            }
            Step::Read(from, upper, max) => {
                let (from, upper) = (model.at(from).min(model.end), model.at(upper));
                let expected = expected_read(&model, from, upper, max);
                let found = log.read(disk, from, upper, max, true).unwrap();
                assert!(expected.starts_with(&found), "a prefix of what may be returned");
                assert_eq!(found.is_empty(), expected.is_empty(), "at least one batch when there is one");
            }
            Step::Kill => {
                let options =
                    OpenOptions { clean: false, recovery_point: log.flushed_offset(), start_offset: model.start };
                drop(log);
                let recovered;
                (log, recovered) = open_at(disk, directory, config.clone(), options);
                assert_eq!(recovered.cut, None);
            }
            Step::CleanRestart => {
                log.close(disk).unwrap();
                let options = OpenOptions { clean: true, recovery_point: model.end, start_offset: model.start };
                let recovered;
                (log, recovered) = open_at(disk, directory, config.clone(), options);
                assert_eq!(recovered.cut, None);
            }
            Step::PowerLoss(seed) => {
                let flushed = log.flushed_offset();
                let options = OpenOptions { clean: false, recovery_point: flushed, start_offset: model.start };
                if !disk.lose_power(seed, u64::from(scale)) {
                    continue;
                }
                let recovered;
                (log, recovered) = open_at(disk, directory, config.clone(), options);
                assert!(log.end_offset() >= flushed, "what was flushed is there");
                assert!(recovered.cut.is_none_or(|cut| !cut.below_recovery_point));
                after_power_loss(disk, &mut log, &mut model);
                let end = log.end_offset();
                drop(log);
                let again;
                (log, again) = open_at(disk, directory, config.clone(), options);
                assert_eq!((log.end_offset(), again.cut), (end, None), "recovering twice gives the same");
            }
        }
        check(disk, &mut log, &model);
    }
}

/// What is left is a prefix of what was written, or an older state that a lost truncation brought back; either way
/// whole batches. The model follows.
fn after_power_loss<D: Disk>(disk: &mut D, log: &mut Log<D>, model: &mut Model) {
    let flushed = log.flushed_offset();
    let found = contents(disk, log);
    let visible = model.visible();
    let durable = |batch: &&Bytes| Model::header(batch).end_offset() <= flushed;
    assert!(found.iter().filter(durable).eq(visible.iter().filter(durable)), "everything flushed is unchanged");
    model.batches = found;
    (model.start, model.end) = (log.start_offset(), log.end_offset());
    model.epoch = model.epoch.max(log.last_epoch().unwrap_or(0)) + 1;
}

fn expected_read(model: &Model, from: i64, upper: i64, max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for batch in model.visible() {
        let header = Model::header(&batch);
        if header.end_offset() <= from || (!bytes.is_empty() && bytes.len() + batch.len() > max) {
            if header.end_offset() <= from { continue } else { break }
        }
        if header.end_offset() > upper || from >= upper {
            break;
        }
        bytes.extend_from_slice(&batch);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn model_memory_disk_agrees(steps in steps(), tail_bytes_max in prop_oneof![Just(0), Just(700), Just(1 << 20)]) {
        run(&mut fresh_disk(), Path::new(DIRECTORY), tail_bytes_max, 1, steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    #[test]
    fn model_real_disk_agrees(steps in steps(), tail_bytes_max in prop_oneof![Just(0), Just(700)]) {
        let directory = tempfile::tempdir().unwrap();
        run(&mut RealDisk, &directory.path().join("topic-0"), tail_bytes_max, 1, steps);
    }
}

/// So many times as long that segments reserve room and writes go on with zeros.
const PADDED: u32 = 2_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn model_memory_disk_agrees_with_padding(steps in steps(), tail_bytes_max in prop_oneof![Just(0), Just(1 << 20)]) {
        run(&mut fresh_disk(), Path::new(DIRECTORY), tail_bytes_max, PADDED, steps);
    }

    #[test]
    fn model_real_disk_agrees_with_padding(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        run(&mut RealDisk, &directory.path().join("topic-0"), 0, PADDED, steps);
    }
}
