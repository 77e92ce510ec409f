//! What happened in a run, line by line: hashed, so that two runs of a seed can be compared, and the last lines kept,
//! so that a failure can be read.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

/// How many lines a failure report quotes.
const TAIL_LINES_MAX: usize = 60;

/// What becomes of a trace's lines, apart from their hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// The last ones are kept.
    #[default]
    Tail,
    /// All are kept.
    All,
    /// All are printed at once, so that they are there even if the run panics.
    Print,
}

/// Where a run's lines go.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    lines: u64,
    tail: VecDeque<String>,
    keep: Keep,
    all: Vec<String>,
    line: String,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self { hash: FNV_OFFSET, keep, ..Self::default() }
    }

    /// Adds a line.
    pub fn write(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        self.line.clear();
        let _ = write!(self.line, "{now_ms:>7} {what}");
        self.hash = fnv(self.hash, self.line.as_bytes());
        self.lines += 1;
        match self.keep {
            Keep::Tail => {}
            Keep::All => self.all.push(self.line.clone()),
            Keep::Print => println!("{}", self.line),
        }
        let mut kept =
            if self.tail.len() == TAIL_LINES_MAX { self.tail.pop_front().unwrap_or_default() } else { String::new() };
        kept.clone_from(&self.line);
        self.tail.push_back(kept);
    }

    /// The hash of all lines so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    /// Every line, if they were kept.
    #[must_use]
    pub fn all(&self) -> &[String] {
        &self.all
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// Extends a 64-bit FNV-1a hash.
#[must_use]
pub fn fnv(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// The FNV-1a hash of some bytes.
#[must_use]
pub fn fnv_of(bytes: &[u8]) -> u64 {
    fnv(FNV_OFFSET, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_hash_depends_on_every_line_and_its_time() {
        let hash = |lines: &[(u64, &str)]| {
            let mut trace = Trace::new(Keep::Tail);
            lines.iter().for_each(|(now, what)| trace.write(*now, format_args!("{what}")));
            trace.hash()
        };
        assert_eq!(hash(&[(1, "a"), (2, "b")]), hash(&[(1, "a"), (2, "b")]));
        assert_ne!(hash(&[(1, "a"), (2, "b")]), hash(&[(1, "a"), (3, "b")]));
        assert_ne!(hash(&[(1, "a"), (2, "b")]), hash(&[(1, "b"), (2, "a")]));
    }
}
