//! Links between brokers.

pub mod liveness;
