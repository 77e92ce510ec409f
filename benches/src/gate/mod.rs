//! `just bench-gate`: counts instead of times. Times need a quiet machine and many repeats; the number of allocations
//! and of instructions is the same in every run, so a regression of a few percent shows in a single one, on any
//! machine.
//!
//! | File | What it is for |
//! |---|---|
//! | `compare.rs` | counts against the committed ones: what fails, what asks to be renewed, the table |
//! | `growth.rs` | whether allocations grow with the size of a batch |
//! | `record.rs` | the committed counts as CSV files |
//! | `callgrind.rs` | runs a function under Valgrind's callgrind and reads what it counted |
//!
//! Rules that both benches keep: what has no committed count fails, as does a committed count of what is gone, so
//! nothing is left out in silence; exit code 2 means *worse than committed*, 1 that nothing could be compared.

pub mod callgrind;
pub mod compare;
pub mod growth;
pub mod record;

use std::process::ExitCode;

use compare::Comparison;

/// Exit code of a gate that found something worse than what is committed.
pub const EXIT_WORSE: u8 = 2;

/// Prints the tables and what to do about them; the exit code of the gate.
#[must_use]
pub fn conclude(tables: &[Comparison]) -> ExitCode {
    for table in tables {
        println!("{table}");
    }
    if tables.iter().any(Comparison::fails) {
        println!("Something is worse than committed. If it has to be, write the counts with `just bench-gate --bless`");
        println!("and say in the commit what they buy.");
        return ExitCode::from(EXIT_WORSE);
    }
    if tables.iter().any(Comparison::has_improved) {
        println!("Something is better than committed. Keep it: `just bench-gate --bless`, and commit the counts.");
    }
    ExitCode::SUCCESS
}

/// The one place where callgrind counts: a bench wraps in it what it wants counted, and nothing of what it prepares.
///
/// Its name is found in the program by [`callgrind::run`].
#[inline(never)]
pub fn minisr_measured<R>(work: impl FnOnce() -> R) -> R {
    let result = work();
    // Also keeps the call above from becoming a jump, which would look like the end of this function.
    std::hint::black_box(&result);
    result
}
