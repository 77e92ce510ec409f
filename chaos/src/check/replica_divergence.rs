//! **replica divergence**: two replicas' logs differ below the lower of their high watermarks, or hold different bytes
//! under the same offset and leader epoch; or a log is not one: a gap, a falling epoch, a wrong CRC.

use super::Finding;
use crate::replica_log::{Batch, ReplicaLog};

/// `partitions` holds, for each partition, the logs of all its replicas, read at rest after the cluster had healed.
pub fn check(partitions: &[(String, Vec<ReplicaLog>)]) -> Finding {
    let mut finding = Finding::new("replica-divergence", "replicas differ where they must agree");
    for (partition, logs) in partitions {
        for log in logs {
            for problem in &log.problems {
                finding.add(|| format!("{partition} on broker {}: {problem}", log.broker));
            }
            order(&mut finding, partition, log);
        }
        for (index, one) in logs.iter().enumerate() {
            for other in &logs[index + 1..] {
                compare(&mut finding, partition, one, other);
            }
        }
    }
    finding
}

fn order(finding: &mut Finding, partition: &str, log: &ReplicaLog) {
    for pair in log.batches.windows(2) {
        let (one, next) = (&pair[0], &pair[1]);
        if next.base_offset != one.next_offset || next.leader_epoch < one.leader_epoch {
            finding.add(|| {
                format!(
                    "{partition} on broker {}: offset {} in epoch {} follows a batch that ends at {} in epoch {}",
                    log.broker, next.base_offset, next.leader_epoch, one.next_offset, one.leader_epoch
                )
            });
        }
    }
}

fn compare(finding: &mut Finding, partition: &str, one: &ReplicaLog, other: &ReplicaLog) {
    let common_start = one.start().max(other.start());
    let lower = one.high_watermark.min(other.high_watermark);
    let from = |log: &ReplicaLog| {
        let first = log.batches.partition_point(|batch| batch.base_offset < common_start);
        log.batches[first..].to_vec()
    };
    let (left, right) = (from(one), from(other));
    for (a, b) in left.iter().zip(&right) {
        if a == b {
            continue;
        }
        let below = a.base_offset.min(b.base_offset) < lower;
        let same_origin = (a.base_offset, a.leader_epoch) == (b.base_offset, b.leader_epoch);
        if below || same_origin {
            let describe =
                |batch: &Batch| format!("offset {} epoch {} {:08x}", batch.base_offset, batch.leader_epoch, batch.sum);
            finding.add(|| {
                format!(
                    "{partition}: broker {} has {}, broker {} has {} (lower high watermark {lower})",
                    one.broker,
                    describe(a),
                    other.broker,
                    describe(b)
                )
            });
        }
        // What follows the first difference differs as well and says nothing new.
        return;
    }
    for log in [one, other] {
        if log.end() < lower {
            finding.add(|| {
                let (broker, end) = (log.broker, log.end());
                format!("{partition}: broker {broker} ends at {end}, below the lower high watermark {lower}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(broker: i32) -> ReplicaLog {
        let batch = |index: i64| Batch {
            base_offset: index * 2,
            next_offset: index * 2 + 2,
            leader_epoch: (index / 3) as i32,
            sum: index as u32,
        };
        ReplicaLog { broker, high_watermark: 16, batches: (0..10).map(batch).collect(), problems: Vec::new() }
    }

    fn judge(logs: Vec<ReplicaLog>) -> u64 {
        check(&[("durable-0".into(), logs)]).count
    }

    #[test]
    fn replica_divergence_equal_replicas_pass_whatever_their_tails() {
        let mut short = log(3);
        short.batches.truncate(8);
        assert_eq!(judge(vec![log(1), log(2), short]), 0);
    }

    #[test]
    fn replica_divergence_below_the_high_watermark_is_found() {
        let mut other = log(2);
        other.batches[5].sum = 99;
        other.batches[5].leader_epoch = 2;
        assert!(judge(vec![log(1), other]) > 0);
    }

    #[test]
    fn replica_divergence_above_the_high_watermark_is_legal_unless_the_epoch_is_the_same() {
        let mut other = log(2);
        other.batches[9].sum = 99;
        assert_eq!(judge(vec![log(1), other.clone()]), 1, "log matching");
        other.batches[9].leader_epoch = 9;
        assert_eq!(judge(vec![log(1), other]), 0);
    }

    #[test]
    fn replica_divergence_missing_below_the_high_watermark_is_found() {
        let mut short = log(2);
        short.batches.truncate(6);
        assert_eq!(judge(vec![log(1), short]), 1);
    }

    #[test]
    fn replica_divergence_gap_or_falling_epoch_or_bad_crc_is_found() {
        let mut gap = log(1);
        gap.batches.remove(4);
        assert_eq!(judge(vec![gap]), 1);
        let mut epoch = log(1);
        epoch.batches[9].leader_epoch = 0;
        assert_eq!(judge(vec![epoch]), 1);
        let mut bad = log(1);
        bad.problems.push("CRC does not match at offset 4".into());
        assert_eq!(judge(vec![bad]), 1);
    }
}
