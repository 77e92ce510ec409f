//! What bounds minisr and what keeps it fast: the *ceiling* programs, which move the bytes of a replicated produce
//! through the same number of hops and do nothing else, and the *gate*, which compares counts of allocations and
//! instructions with the committed ones. The benches themselves stand in `benches/`: criterion's of the single parts,
//! and the two that the gate runs.

pub mod ceiling;
pub mod gate;
pub mod samples;
