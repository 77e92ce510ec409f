//! **no progress**: with a majority of controllers and min.insync.replicas replicas alive no write succeeds within the
//! stated bound, or the cluster does not converge after healing.

use super::Finding;
use crate::availability::Gap;

/// `gaps` are the longest pauses of each partition around each fault; only those of faults that left the cluster able
/// to write are judged. `unhealed` says what broke or did not converge.
pub fn check(gaps: &[Gap], bound_us: u64, unhealed: &[String]) -> Finding {
    let mut finding = Finding::new("no-progress", "writes or healing did not resume in time");
    for gap in gaps.iter().filter(|gap| gap.alone && gap.gap_us > bound_us) {
        finding.add(|| {
            format!(
                "{} took no writes for {:.3} s after fault {} (bound {:.1} s)",
                gap.partition,
                gap.gap_us as f64 / 1e6,
                gap.fault,
                bound_us as f64 / 1e6
            )
        });
    }
    for what in unhealed {
        finding.add(|| what.clone());
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FaultKind;

    fn gap(gap_us: u64, alone: bool) -> Gap {
        Gap {
            fault: 1,
            kind: FaultKind::Kill,
            controller: false,
            partition: "durable-0".into(),
            affected: true,
            alone,
            gap_us,
            resumed_us: gap_us,
        }
    }

    #[test]
    fn no_progress_gap_beyond_the_bound_is_found() {
        assert_eq!(check(&[gap(2_000_000, true)], 1_000_000, &[]).count, 1);
        assert_eq!(check(&[gap(999_999, true)], 1_000_000, &[]).count, 0);
    }

    #[test]
    fn no_progress_while_faults_overlap_is_not_judged() {
        assert_eq!(check(&[gap(2_000_000, false)], 1_000_000, &[]).count, 0);
    }

    #[test]
    fn no_progress_cluster_that_does_not_heal_is_found() {
        assert_eq!(check(&[], 1_000_000, &["durable-0 is missing replica 2".into()]).count, 1);
    }
}
