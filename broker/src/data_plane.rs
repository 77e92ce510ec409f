//! The data thread, seen from outside: start, the few things the rest of the broker tells it, stop.
//!
//! One OS thread runs one current_thread runtime. It owns the shard, every client and peer connection, the replica
//! fetchers and the ISR proposals. Nobody else touches them: the control thread publishes images through the
//! [`ControlHandle`], and this handle sends the rest over a channel.
//!
//! Order of a start, as `broker.rs` drives it:
//! 1. [`DataPlane::start`]: bind the listeners (so that their ports are known), open and recover all logs (on the
//!    calling thread, before anything is served), then start the thread. Requests are served from here on;
//!    partitions take no role yet.
//! 2. register with the controller, with [`DataPlane::bound`] in the registration and what
//!    [`DataPlane::recovery`] says about the restart;
//! 3. [`DataPlane::registered`]: now images that carry this registration give partitions their roles.
//!
//! Order of a stop: controlled shutdown first (leaderships move away while requests are still answered), then
//! [`DataPlane::stop`].

use std::net::SocketAddr;
use std::sync::Arc;

use minisr_logic::BrokerEpoch;
use minisr_replica::RecoveryReport;

use crate::config::Settings;
use crate::control_handle::ControlHandle;

/// Where the data listeners ended up; port 0 in the settings is a real port here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The QUIC listener.
    pub quic: Option<SocketAddr>,
    /// The plain TCP listener.
    pub plaintext: Option<SocketAddr>,
    /// The TLS listener.
    pub ssl: Option<SocketAddr>,
}

/// Why the data plane did not start. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StartError { /* Bind{protocol,address,source}, Certificates(..), Logs(..), Thread(io::Error) */ }

/// A running data thread. Dropping it without [`Self::stop`] stops it uncleanly.
pub struct DataPlane { /* .. */ }

impl DataPlane {
    /// Binds, recovers, starts. Blocks until the thread serves; call it from a thread that may block.
    pub fn start(settings: Arc<Settings>, control: ControlHandle) -> Result<Self, StartError>;
    /// Where the listeners are.
    pub fn bound(&self) -> Bound;
    /// What recovery found.
    pub fn recovery(&self) -> &RecoveryReport;
    /// The controller accepted this process's registration.
    pub fn registered(&self, broker_epoch: BrokerEpoch);
    /// Resolves when the data thread ended by itself, which is always an error (a panic or a broken invariant).
    pub async fn failed(&mut self) -> String;
    /// Stops accepting, answers what is under way (bounded), syncs all logs and writes their checkpoints. Blocks.
    /// `Ok` means that every log was closed cleanly, so that the clean-shutdown marker may be written.
    pub fn stop(self) -> Result<(), StopError>;
}
