//! The handle on a cluster: what can be done to its brokers, and how to reach them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::driver::Driver;
use crate::error::ClusterError;
use crate::layout::{BrokerPorts, Description, Layout};
use crate::process::{self, Identity, Life, Usage};
use crate::watchdog::Watchdog;

/// How often a condition of a process is looked at.
const POLL: Duration = Duration::from_millis(10);
/// How long a broker may take to stand still: a thread may wait for the disk.
const STILL_BOUND: Duration = Duration::from_secs(5);
/// A controlled stop moves leaderships away and flushes; longer than this means that it hangs.
const STOP_BOUND: Duration = Duration::from_secs(30);
const KILL_BOUND: Duration = Duration::from_secs(10);

/// What a broker process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BrokerState {
    /// It runs (which does not mean that it is ready).
    Running,
    /// It exists and is stopped by SIGSTOP.
    Paused,
    /// It was killed with SIGKILL by a command.
    Killed,
    /// It was stopped with SIGTERM by a command.
    Stopped,
    /// It ended, and nobody asked it to.
    Died,
}

impl std::fmt::Display for BrokerState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Killed => "killed",
            Self::Stopped => "stopped",
            Self::Died => "died",
        })
    }
}

/// A local cluster of broker processes. All methods take `&self`, so that it can be shared in an `Arc`.
///
/// Dropping an embedded cluster kills its brokers and removes a temporary directory (kept when the thread panics, or
/// with [`keep_dir`](crate::ClusterOptions::keep_dir)). A cluster that was detached or opened is left alone by drop.
pub struct Cluster {
    pub(crate) layout: Layout,
    pub(crate) description: Mutex<Description>,
    pub(crate) ready_timeout: Duration,
    pub(crate) brokers: Mutex<Vec<Slot>>,
    pub(crate) ownership: Mutex<Ownership>,
    /// Further arguments of the brokers' processes, by id.
    pub(crate) arguments: Mutex<BTreeMap<i32, Vec<String>>>,
}

/// What drop has to do.
pub(crate) struct Ownership {
    /// Present when the brokers must not outlive us.
    pub watchdog: Option<Watchdog>,
    pub remove_dir: bool,
}

#[derive(Default)]
pub(crate) struct Slot {
    identity: Option<Identity>,
    /// Present when we are its parent and must reap it.
    child: Option<Child>,
}

impl Slot {
    fn life(&mut self) -> Life {
        if let Some(child) = &mut self.child
            && matches!(child.try_wait(), Ok(Some(_)))
        {
            self.child = None;
        }
        match self.identity.map_or(Life::Gone, Identity::life) {
            // Its first thread has ended; as long as others have not, its files are still locked.
            Life::Gone if self.child.is_some() => Life::Running,
            life => life,
        }
    }
}

impl Cluster {
    /// Finds a detached cluster again.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, ClusterError> {
        let layout = Layout::new(dir);
        let description = layout.read_description()?;
        let brokers = (1..=description.ports.len() as i32)
            .map(|id| Slot { identity: Identity::read(&layout.pid(id)), child: None })
            .collect();
        Ok(Self {
            layout,
            ready_timeout: description.driver.ready_timeout(),
            description: Mutex::new(description),
            brokers: Mutex::new(brokers),
            ownership: Mutex::new(Ownership { watchdog: None, remove_dir: false }),
            arguments: Mutex::default(),
        })
    }

    /// Lets the brokers outlive this process; returns the directory by which they are found again.
    pub fn detach(self) -> PathBuf {
        let mut ownership = lock(&self.ownership);
        ownership.remove_dir = false;
        if let Some(watchdog) = ownership.watchdog.take() {
            watchdog.forget();
        }
        drop(ownership);
        self.layout.dir().to_path_buf()
    }

    /// Leaves the directory in place when the cluster is dropped: it has become evidence.
    pub fn keep_dir(&self) {
        lock(&self.ownership).remove_dir = false;
    }

    /// Kills every broker and removes what [`Cluster::start`] made: the whole directory if it made that too.
    pub async fn destroy(self) -> Result<(), ClusterError> {
        self.kill_all()?;
        for id in self.ids() {
            self.wait_gone(id, KILL_BOUND).await?;
        }
        let mut ownership = lock(&self.ownership);
        ownership.remove_dir = false;
        if let Some(watchdog) = ownership.watchdog.take() {
            watchdog.forget();
        }
        drop(ownership);
        self.layout.remove()
    }

    /// The paths of everything in the cluster's directory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The cluster's directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The ids of the brokers, ascending.
    pub fn ids(&self) -> std::vec::IntoIter<i32> {
        lock(&self.description).ids().into_iter()
    }

    /// What the brokers are.
    pub fn driver(&self) -> Driver {
        lock(&self.description).driver
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> String {
        lock(&self.description).cluster_id.clone()
    }

    /// The ports of a broker.
    pub fn ports(&self, id: i32) -> Result<BrokerPorts, ClusterError> {
        self.check(id)?;
        Ok(lock(&self.description).ports[id as usize - 1])
    }

    /// The QUIC addresses of all brokers.
    pub fn bootstrap_quic(&self) -> Vec<SocketAddr> {
        self.addresses(|ports| ports.quic)
    }

    /// The TCP addresses of all brokers.
    pub fn bootstrap_tcp(&self) -> Vec<SocketAddr> {
        self.addresses(|ports| ports.tcp)
    }

    fn addresses(&self, port: impl Fn(&BrokerPorts) -> u16) -> Vec<SocketAddr> {
        let description = lock(&self.description);
        let address = |id: i32| SocketAddr::new(description.host, port(&description.ports[id as usize - 1]));
        description.ids().into_iter().map(address).collect()
    }

    /// The certificate authority that clients must trust, PEM.
    pub fn ca_path(&self) -> PathBuf {
        self.layout.ca()
    }

    /// A broker's `log.dirs`.
    pub fn data_dir(&self, id: i32) -> PathBuf {
        self.layout.data(id)
    }

    /// A broker's log.
    pub fn log_path(&self, id: i32) -> PathBuf {
        self.layout.log(id)
    }

    /// Process ids of the brokers that exist.
    pub fn pids(&self) -> Vec<(i32, i32)> {
        self.ids().filter_map(|id| Some((id, self.pid(id)?))).collect()
    }

    /// Process id of a broker, if the process exists.
    pub fn pid(&self, id: i32) -> Option<i32> {
        let mut brokers = lock(&self.brokers);
        let slot = brokers.get_mut(usize::try_from(id).ok()?.checked_sub(1)?)?;
        (slot.life() != Life::Gone).then(|| slot.identity.expect("a living broker has an identity").pid)
    }

    /// What a broker's process has used; `None` when it does not exist.
    pub fn usage(&self, id: i32) -> Option<Usage> {
        lock(&self.brokers).get(usize::try_from(id).ok()?.checked_sub(1)?)?.identity?.usage()
    }

    /// What a broker is doing.
    pub fn state(&self, id: i32) -> Result<BrokerState, ClusterError> {
        self.check(id)?;
        Ok(match self.life(id) {
            Life::Running => BrokerState::Running,
            Life::Paused => BrokerState::Paused,
            Life::Gone => match fs::read_to_string(self.layout.ended(id)).as_deref().map(str::trim) {
                Ok("killed") => BrokerState::Killed,
                Ok("stopped") => BrokerState::Stopped,
                _ => BrokerState::Died,
            },
        })
    }

    /// Whether a running broker has said, in its present life, that it is registered and unfenced.
    pub fn is_ready(&self, id: i32) -> bool {
        let out = fs::read_to_string(self.layout.out(id)).unwrap_or_default();
        self.life(id) != Life::Gone && lock(&self.description).driver.is_ready(&out)
    }

    /// SIGKILL. Returns at once; the process is gone within moments.
    pub fn kill(&self, id: i32) -> Result<(), ClusterError> {
        self.demand(id, &[BrokerState::Running, BrokerState::Paused], "killed")?;
        self.note_end(id, "killed")?;
        self.signal(id, Signal::SIGKILL)
    }

    /// SIGTERM, then waits until the process has gone.
    pub async fn stop(&self, id: i32) -> Result<(), ClusterError> {
        self.begin_stop(id)?;
        self.wait_gone(id, STOP_BOUND).await
    }

    /// SIGTERM to all brokers at once, then waits for each of them. Brokers that are down already are left alone.
    pub async fn stop_all(&self) -> Result<(), ClusterError> {
        let alive: Vec<i32> = self.ids().filter(|id| self.life(*id) != Life::Gone).collect();
        for id in &alive {
            self.begin_stop(*id)?;
        }
        for id in alive {
            self.wait_gone(id, STOP_BOUND).await?;
        }
        Ok(())
    }

    /// SIGKILL to all brokers that exist.
    pub fn kill_all(&self) -> Result<(), ClusterError> {
        for id in self.ids() {
            if self.life(id) != Life::Gone {
                self.kill(id)?;
            }
        }
        Ok(())
    }

    /// SIGSTOP: the process stays, silent. Returns when all its threads stand still.
    pub async fn pause(&self, id: i32) -> Result<(), ClusterError> {
        self.demand(id, &[BrokerState::Running], "paused")?;
        self.signal(id, Signal::SIGSTOP)?;
        let identity = lock(&self.brokers)[id as usize - 1].identity;
        match identity {
            Some(identity) => {
                identity.wait_still(STILL_BOUND).await.map_err(|reason| ClusterError::Signal { id, reason })
            }
            None => Ok(()),
        }
    }

    /// SIGCONT after a pause.
    pub fn resume(&self, id: i32) -> Result<(), ClusterError> {
        self.demand(id, &[BrokerState::Paused], "resumed")?;
        self.signal(id, Signal::SIGCONT)
    }

    /// Starts a broker that is down, with the ports, settings and data it had. Returns when the process exists;
    /// [`wait_ready`](Self::wait_ready) waits for more.
    pub async fn start_broker(&self, id: i32) -> Result<(), ClusterError> {
        self.check(id)?;
        if self.life(id) != Life::Gone && self.layout.ended(id).exists() {
            // It was told to go a moment ago.
            self.wait_gone(id, STOP_BOUND).await?;
        }
        self.demand(id, &[BrokerState::Killed, BrokerState::Stopped, BrokerState::Died], "started")?;
        let description = lock(&self.description).clone();
        description.driver.prepare(&self.layout, &description, id).await?;
        self.launch(id)
    }

    /// [`start_broker`](Self::start_broker), then waits until it is ready.
    pub async fn restart(&self, id: i32) -> Result<(), ClusterError> {
        if self.life(id) != Life::Gone && !self.layout.ended(id).exists() {
            self.kill(id)?;
        }
        self.start_broker(id).await?;
        self.wait_ready(id).await
    }

    /// Gives a broker's process these further arguments from its next start on, as long as this handle lives: how a
    /// proxy is put between brokers whose ports are known only once they exist.
    pub fn set_arguments(&self, id: i32, arguments: Vec<String>) -> Result<(), ClusterError> {
        self.check(id)?;
        lock(&self.arguments).insert(id, arguments);
        Ok(())
    }

    /// Removes the data of a broker that is down: its disk is replaced by an empty one.
    pub fn wipe(&self, id: i32) -> Result<(), ClusterError> {
        self.demand(id, &[BrokerState::Killed, BrokerState::Stopped, BrokerState::Died], "wiped")?;
        let data = self.layout.data(id);
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(ClusterError::file("remove", &data)(error))
            }
            _ => fs::create_dir_all(&data).map_err(ClusterError::file("create", &data)),
        }
    }

    /// Waits until a broker has said that it is registered and unfenced; its early end is an error at once.
    pub async fn wait_ready(&self, id: i32) -> Result<(), ClusterError> {
        self.check(id)?;
        self.wait_ready_until(id, Instant::now() + self.ready_timeout).await
    }

    pub(crate) async fn wait_ready_until(&self, id: i32, deadline: Instant) -> Result<(), ClusterError> {
        loop {
            if self.is_ready(id) {
                return Ok(());
            }
            let what = match self.life(id) {
                Life::Gone => "ended instead of becoming ready".to_owned(),
                _ if Instant::now() >= deadline => {
                    format!("did not become ready within {} s", self.ready_timeout.as_secs_f64())
                }
                _ => {
                    tokio::time::sleep(POLL).await;
                    continue;
                }
            };
            let log = self.layout.log(id);
            return Err(ClusterError::NotReady { id, what, tail: process::tail(&log, 8), log });
        }
    }

    /// Waits until a broker that was killed has gone.
    pub async fn wait_killed(&self, id: i32) -> Result<(), ClusterError> {
        self.check(id)?;
        self.wait_gone(id, KILL_BOUND).await
    }

    async fn wait_gone(&self, id: i32, bound: Duration) -> Result<(), ClusterError> {
        let deadline = Instant::now() + bound;
        while self.life(id) != Life::Gone {
            if Instant::now() >= deadline {
                return Err(ClusterError::NotStopped { id, seconds: bound.as_secs(), log: self.layout.log(id) });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(crate) fn launch(&self, id: i32) -> Result<(), ClusterError> {
        let layout = &self.layout;
        let description = lock(&self.description).clone();
        let _ = fs::remove_file(layout.ended(id));
        let mut arguments = description.driver.arguments(layout, &description, id);
        arguments.extend(lock(&self.arguments).get(&id).into_iter().flatten().map(Into::into));
        let watched_by = lock(&self.ownership).watchdog.as_ref().and_then(Watchdog::inbox);
        let child = process::spawn(
            &description.binary,
            &arguments,
            &description.environment,
            &layout.out(id),
            &layout.log(id),
            watched_by,
        )?;
        let identity = Identity::of(child.id() as i32);
        lock(&self.brokers)[id as usize - 1] = Slot { identity, child: Some(child) };
        if let Some(identity) = identity {
            identity.write(&layout.pid(id))?;
        }
        Ok(())
    }

    fn begin_stop(&self, id: i32) -> Result<(), ClusterError> {
        self.demand(id, &[BrokerState::Running, BrokerState::Paused], "stopped")?;
        self.note_end(id, "stopped")?;
        self.signal(id, Signal::SIGTERM)?;
        // A paused process would only see it once continued.
        self.signal(id, Signal::SIGCONT)
    }

    fn note_end(&self, id: i32, how: &str) -> Result<(), ClusterError> {
        let path = self.layout.ended(id);
        fs::write(&path, how).map_err(ClusterError::file("write", &path))
    }

    fn life(&self, id: i32) -> Life {
        let mut brokers = lock(&self.brokers);
        let slot = &mut brokers[id as usize - 1];
        let was_child = slot.child.is_some();
        let life = slot.life();
        if was_child && slot.child.is_none() {
            let pid = slot.identity.map(|identity| identity.pid);
            drop(brokers);
            if let (Some(watchdog), Some(pid)) = (&mut lock(&self.ownership).watchdog, pid) {
                watchdog.remove(pid);
            }
        }
        life
    }

    fn signal(&self, id: i32, signal: Signal) -> Result<(), ClusterError> {
        match lock(&self.brokers)[id as usize - 1].identity {
            Some(identity) => identity.signal(signal).map_err(|reason| ClusterError::Signal { id, reason }),
            None => Ok(()),
        }
    }

    fn check(&self, id: i32) -> Result<(), ClusterError> {
        if self.ids().any(|known| known == id) {
            return Ok(());
        }
        let known: Vec<String> = self.ids().map(|id| id.to_string()).collect();
        Err(ClusterError::NoSuchBroker { id, brokers: known.join(", ") })
    }

    fn demand(&self, id: i32, allowed: &[BrokerState], wanted: &'static str) -> Result<(), ClusterError> {
        let state = self.state(id)?;
        if allowed.contains(&state) {
            return Ok(());
        }
        Err(ClusterError::WrongState { id, state: state.to_string(), wanted })
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Cluster").field("dir", &self.dir()).field("pids", &self.pids()).finish()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let ownership = self.ownership.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(watchdog) = ownership.watchdog.take() else { return };
        for slot in self.brokers.get_mut().unwrap_or_else(PoisonError::into_inner) {
            if let Some(identity) = slot.identity {
                let _ = identity.signal(Signal::SIGKILL);
            }
            if let Some(child) = &mut slot.child {
                let _ = child.wait();
            }
        }
        watchdog.forget();
        if !ownership.remove_dir {
            return;
        }
        if std::thread::panicking() {
            eprintln!("the cluster's directory is kept: {}", self.layout.dir().display());
        } else {
            let _ = self.layout.remove();
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
