//! Faults, workload and checks: a cluster of real processes is hurt while it is written to, healed, and judged.
//!
//! Reading order: [`run`] (one run from start to verdict), [`plan`] (which faults, from a seed), [`history`] (what is recorded), [`check`] (one file per
//! anomaly), [`availability`] (how long writes paused), [`replica_log`] (replicas at rest).

pub mod availability;
pub mod check;
pub mod cli;
pub mod display;
pub mod durability;
pub mod failover;
pub mod history;
pub mod injector;
pub mod leaders;
pub mod observer;
pub mod plan;
pub mod proxy;
pub mod recorder;
pub mod replica_log;
pub mod report;
pub mod run;
pub mod workload;
