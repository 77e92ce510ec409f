//! What bounds minisr: the *ceiling* programs, which move the bytes of a replicated produce through the same number of
//! hops and do nothing else. The criterion benches of the single parts stand in `benches/`.

pub mod ceiling;
