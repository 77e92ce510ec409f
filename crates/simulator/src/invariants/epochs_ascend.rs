//! 20: a replica's leader-epoch cache rises strictly in epoch and start, ends within the log, and says of every batch
//! in the log which epoch it is of. (What a rebuild may lose are epochs without records.)

use minisr_logic::{Epoch, Offset};

use super::Invariant;
use crate::state::{Replica, Step};

/// Looks at every replica whose view changed.
#[derive(Debug, Default)]
pub struct EpochsAscend;

impl Invariant for EpochsAscend {
    fn number(&self) -> u8 {
        20
    }

    fn name(&self) -> &'static str {
        "EpochsAscend"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<(), String> {
        for (place, ..) in step.views() {
            let replica = &step.state.replicas[&place];
            check(replica).map_err(|what| format!("{place:?}: {what}: {:?}", replica.bookkeeping.epochs))?;
        }
        Ok(())
    }
}

fn check(replica: &Replica) -> Result<(), String> {
    let epochs = &replica.bookkeeping.epochs;
    let end = replica.end();
    if let Some(pair) = epochs.windows(2).find(|pair| pair[0].0 >= pair[1].0 || pair[0].1 >= pair[1].1) {
        return Err(format!("{:?} is followed by {:?}", pair[0], pair[1]));
    }
    if let Some((epoch, start)) = epochs.last().filter(|it| it.1 > end) {
        return Err(format!("epoch {epoch} begins at {start}, past the log's end {end}"));
    }
    let first = epochs.first().map_or(end, |it| it.1);
    if let Some(before) = replica.log.first().filter(|it| it.base < first) {
        return Err(format!("no epoch is known of the batch at {}", before.base));
    }
    // Epochs do not fall along a log (18), so the first and the last batch speak for those between them.
    for (index, (epoch, start)) in epochs.iter().enumerate() {
        let until = epochs.get(index + 1).map_or(end, |it| it.1);
        let other = |offset: Offset, of: Epoch| format!("the batch at {offset} is of epoch {of}, not of {epoch}");
        let from = replica.log.partition_point(|it| it.base < *start);
        let to = replica.log.partition_point(|it| it.base < until);
        let batches = &replica.log[from..to];
        if let Some(odd) = batches.first().into_iter().chain(batches.last()).find(|it| it.epoch != *epoch) {
            return Err(other(odd.base, odd.epoch));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::doctor::{Doctored, must_pass, must_ring};
    use super::*;

    fn with(cluster: &mut Doctored, epochs: &[(i32, i64)]) {
        cluster.append(2, 3);
        cluster.replica(2).bookkeeping.epochs = epochs.iter().map(|(e, s)| (Epoch(*e), Offset(*s))).collect();
    }

    #[test]
    fn epochs_ascend_rings_for_falling_starts_and_for_a_start_past_the_end() {
        must_pass(EpochsAscend, |cluster| with(cluster, &[(0, 0), (3, 3), (4, 4)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 0), (3, 3), (3, 4)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 0), (3, 3), (4, 3)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 0), (3, 3), (4, 5)]));
    }

    #[test]
    fn epochs_ascend_rings_when_a_batch_lies_in_another_epoch() {
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 0)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 0), (3, 2)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[(0, 1), (3, 3)]));
        must_ring(EpochsAscend, |cluster| with(cluster, &[]));
    }
}
