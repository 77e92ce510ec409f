//! What the criterion benches share: how long they measure.

use criterion::Criterion;
use std::time::Duration;

/// Short enough that all benches together take about a minute; `--measurement-time` overrides it.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .without_plots()
        .configure_from_args()
}
