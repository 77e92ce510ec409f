//! Allocations per request on the produce and fetch paths, compared with `allocations.csv`, and proof that they do
//! not grow with the size of a batch.
//!
//! What a path allocates is what it does besides moving records: a copy of a batch shows in the allocated bytes, a
//! buffer that grows, or anything done per record, in the number. Both are counted in one thread by an allocator
//! that counts, so they are the same in every run.
//!
//! Exit codes: 0 fine, 2 worse than committed or growing, 1 nothing could be compared.

mod broker;
mod client;
mod counted;
#[path = "../../../crates/client/tests/support/mod.rs"]
mod fakes;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use minisr_benches::gate::compare::{Comparison, Tolerance};
use minisr_benches::gate::growth::growing;
use minisr_benches::gate::record::{self, Allocations};
use minisr_benches::gate::{EXIT_WORSE, conclude};

use counted::Average;

/// The committed counts.
const COUNTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/allocations.csv");

/// One allocation more per ten requests is worse already: it is one more on some branch.
const ALLOCATIONS: Tolerance = Tolerance { share: 0.0, absolute: 0.1 };

/// Sizes of small buffers may move a little; a copy of a batch is far more.
const BYTES: Tolerance = Tolerance { share: 0.03, absolute: 64.0 };

const BATCH_BYTES: [usize; 4] = [1 << 10, 16 << 10, 64 << 10, 512 << 10];

#[derive(Parser)]
#[command(about = "Allocations per request, compared with the committed counts")]
struct Options {
    /// Commit the counts of this run: write them into allocations.csv
    #[arg(long)]
    bless: bool,
    /// Passed by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let counted = count_all();
    let growing = growing(&counted, ALLOCATIONS.absolute);
    for sentence in &growing {
        println!("{sentence}");
    }
    if options.bless {
        record::save(Path::new(COUNTS), &counted)?;
        println!("{} counts written to {COUNTS}", counted.len());
    }
    let committed: Vec<Allocations> = record::load(Path::new(COUNTS))?;
    let of = |title: &str, count: fn(&Allocations) -> f64, tolerance| {
        Comparison::new(title, &by_name(&committed, count), &by_name(&counted, count), tolerance)
    };
    let tables = [
        of("allocations per request", |row| row.allocations, ALLOCATIONS),
        of("bytes allocated per request", |row| row.allocated_bytes, BYTES),
    ];
    let concluded = conclude(&tables);
    Ok(if growing.is_empty() { concluded } else { ExitCode::from(EXIT_WORSE) })
}

fn by_name(rows: &[Allocations], count: fn(&Allocations) -> f64) -> BTreeMap<String, f64> {
    rows.iter().map(|row| (format!("{}/{:>3} KiB", row.path, row.batch_bytes >> 10), count(row))).collect()
}

fn count_all() -> Vec<Allocations> {
    let mut counted = Vec::new();
    for batch_bytes in BATCH_BYTES {
        let mut add = |path: &str, average: Average| {
            let Average { allocations, bytes } = average;
            counted.push(Allocations { path: path.to_owned(), batch_bytes, allocations, allocated_bytes: bytes });
        };
        let (produce, replica_fetch) = broker::replicated(batch_bytes);
        let (consumer_fetch, cold_fetch) = broker::consumed(batch_bytes);
        add("broker.produce", produce);
        add("broker.produce through a connection", broker::through_connection(batch_bytes));
        add("broker.replica_fetch", replica_fetch);
        add("broker.consumer_fetch", consumer_fetch);
        add("broker.consumer_fetch from disk", cold_fetch);
        add("client.produce", client::produced(batch_bytes));
    }
    counted
}
