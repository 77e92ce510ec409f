//! What runs beside the faults: writers, readers, and those who only ask.

pub mod consume;
pub mod latest;
pub mod produce;
pub mod read_back;
pub mod watch;
