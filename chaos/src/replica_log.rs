//! The logs of a partition's replicas, read from the data directories of brokers that have stopped.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use minisr_wire::batch;

use crate::leaders::decode_value;

/// What one batch is, as far as replicas must agree on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base_offset: i64,
    /// The offset after its last record.
    pub next_offset: i64,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// Its CRC-32C, checked against its bytes.
    pub sum: u32,
}

/// One replica's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaLog {
    /// The broker.
    pub broker: i32,
    /// From the checkpoint that the broker wrote as it stopped.
    pub high_watermark: i64,
    /// All batches, in file order.
    pub batches: Vec<Batch>,
    /// What is wrong with the files themselves.
    pub problems: Vec<String>,
}

impl ReplicaLog {
    /// First offset.
    pub fn start(&self) -> i64 {
        self.batches.first().map_or(0, |batch| batch.base_offset)
    }

    /// The offset after the last record.
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.next_offset)
    }

    /// Reads the log of `topic`-`partition` in the data directory of a broker. `None` when it has no such directory.
    pub fn read(data: &Path, broker: i32, topic: &str, partition: i32) -> io::Result<Option<Self>> {
        let dir = data.join(format!("{topic}-{partition}"));
        if !dir.is_dir() {
            return Ok(None);
        }
        let mut segments: Vec<_> = fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()?;
        segments.retain(|entry| entry.path().extension().is_some_and(|extension| extension == "log"));
        segments.sort_by_key(fs::DirEntry::file_name);
        let marks = high_watermarks(data)?;
        let high_watermark = marks.get(&(topic.to_owned(), partition)).copied().unwrap_or(0);
        let mut log = Self { broker, high_watermark, batches: Vec::new(), problems: Vec::new() };
        for segment in segments {
            let bytes = fs::read(segment.path())?;
            log.segment(&segment.file_name().to_string_lossy(), &bytes);
        }
        if log.end() < log.high_watermark {
            let problem = format!("ends at {}, below its own high watermark {}", log.end(), log.high_watermark);
            log.problems.push(problem);
        }
        Ok(Some(log))
    }

    /// The values of all records in the log of `topic`-`partition`, as far as they can be decoded.
    pub fn values(data: &Path, topic: &str, partition: i32) -> io::Result<Vec<u64>> {
        let dir = data.join(format!("{topic}-{partition}"));
        let mut values = Vec::new();
        if !dir.is_dir() {
            return Ok(values);
        }
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let bytes = fs::read(&path)?;
            for view in batch::iter(&bytes).map_while(Result::ok) {
                let records = batch::records(&view).into_iter().flatten().map_while(Result::ok);
                values.extend(records.map(|record| decode_value(record.value).0));
            }
        }
        Ok(values)
    }

    fn segment(&mut self, file: &str, bytes: &[u8]) {
        let mut read = 0;
        for item in batch::iter(bytes) {
            let view = match item {
                Ok(view) => view,
                // A segment that was growing when its broker was killed has zeros behind its batches.
                Err(_) if bytes[read..].iter().all(|byte| *byte == 0) => return,
                Err(error) => {
                    self.problems.push(format!("{file} after offset {}: {error}", self.end()));
                    return;
                }
            };
            if let Err(error) = view.check_crc() {
                self.problems.push(format!("{file} offset {}: {error}", view.base_offset()));
            }
            read += view.bytes().len();
            self.batches.push(Batch {
                base_offset: view.base_offset(),
                next_offset: view.next_offset(),
                leader_epoch: view.leader_epoch(),
                sum: view.crc(),
            });
        }
    }
}

/// `replication-offset-checkpoint` in Kafka's format: a version, a count, then `topic partition offset` lines.
fn high_watermarks(data: &Path) -> io::Result<BTreeMap<(String, i32), i64>> {
    let text = match fs::read_to_string(data.join("replication-offset-checkpoint")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        Some(((topic.to_owned(), partition.parse().ok()?), offset.parse().ok()?))
    };
    Ok(text.lines().skip(2).filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use minisr_wire::batch::{BatchBuilder, Producer};

    use super::*;

    fn batch(base_offset: i64, leader_epoch: i32, value: &str) -> Vec<u8> {
        let mut builder = BatchBuilder::new(256);
        builder.append(1, None, Some(value.as_bytes()), &[]);
        let mut bytes = builder.finish(Producer::NONE).to_vec();
        batch::stamp(&mut bytes, base_offset, leader_epoch);
        bytes
    }

    fn write(data: &Path, segments: &[(&str, Vec<u8>)], high_watermark: i64) {
        let dir = data.join("orders-0");
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in segments {
            fs::write(dir.join(name), bytes).unwrap();
        }
        let checkpoint = format!("0\n1\norders 0 {high_watermark}\n");
        fs::write(data.join("replication-offset-checkpoint"), checkpoint).unwrap();
    }

    #[test]
    fn replica_log_two_segments_are_read_in_order() {
        let data = tempfile::tempdir().unwrap();
        let first = [batch(0, 0, "a"), batch(1, 0, "b")].concat();
        write(data.path(), &[("00000000000000000002.log", batch(2, 1, "c")), ("00000000000000000000.log", first)], 3);
        let log = ReplicaLog::read(data.path(), 1, "orders", 0).unwrap().unwrap();
        assert_eq!(log.problems, Vec::<String>::new());
        assert_eq!((log.start(), log.end(), log.high_watermark), (0, 3, 3));
        assert_eq!(log.batches.iter().map(|batch| batch.leader_epoch).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn replica_log_flipped_bit_and_torn_tail_are_problems() {
        let data = tempfile::tempdir().unwrap();
        let mut bytes = [batch(0, 0, "a"), batch(1, 0, "b"), batch(2, 0, "c")].concat();
        let last = bytes.len() - 2;
        bytes.truncate(last);
        bytes[65] ^= 1;
        write(data.path(), &[("00000000000000000000.log", bytes)], 3);
        let log = ReplicaLog::read(data.path(), 1, "orders", 0).unwrap().unwrap();
        assert_eq!(log.problems.len(), 3, "{:?}", log.problems);
    }

    #[test]
    fn replica_log_of_a_killed_broker_may_have_zeros_behind_its_batches() {
        let data = tempfile::tempdir().unwrap();
        let whole = batch(0, 0, "a");
        let (padded, torn) = ([&whole[..], &[0; 4000]].concat(), [&whole[..], &[0; 4000], &[1]].concat());
        for (bytes, problems) in [(padded, 0), (torn, 1)] {
            write(data.path(), &[("00000000000000000000.log", bytes)], 1);
            let log = ReplicaLog::read(data.path(), 1, "orders", 0).unwrap().unwrap();
            assert_eq!((log.end(), log.problems.len()), (1, problems), "{:?}", log.problems);
        }
    }

    #[test]
    fn replica_log_absent_partition_is_none() {
        let data = tempfile::tempdir().unwrap();
        assert!(ReplicaLog::read(data.path(), 1, "orders", 0).unwrap().is_none());
    }
}
