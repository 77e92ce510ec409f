//! The bug zoo: historical bugs, planted one at a time in the code under test, that the invariants must catch.
//!
//! The list of bugs is [`minisr_logic::zoo`]. Here is how each is looked for: seed after seed, from several starting
//! seeds, until an invariant (or an assertion of the code itself) rings. The same seeds must be silent on the code
//! without a planted bug. Only builds with the feature `zoo` contain any of this.

mod mix;
mod report;
mod search;

pub use mix::Mix;
pub use report::{Row, csv, table};
pub use search::{Catch, Clean, Search, clean, search, shrunk, with_planted};
