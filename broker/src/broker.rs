//! Start order and stop order of a broker.
//!
//! Start: data directory (locked, checked) → certificates → CONTROLLER port → control thread (Raft) → data thread
//! (listeners, recovery) → registration → broker epoch on disk → heartbeats that ask to be unfenced → `ready`.
//!
//! Stop (SIGTERM): hand over leaderships while requests are still answered → data thread closes connections, flushes,
//! writes the clean marker → fence this broker → Raft stops. A second SIGTERM ends the process at once.

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;

use minisr_logic::metadata::{Image, Listener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::config::{HostPort, Protocol, Settings};
use crate::control_handle;
use crate::controller::registration::Announcement;
use crate::controller::{self, Controller};
use crate::data_directory::{DataDirectory, DirectoryError};
use crate::data_plane::{self, DataPlane};
use crate::tls::{Identity, TlsError};

/// Why the broker did not start or did not go on. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port.
    #[error("cannot listen on {protocol}://{address}: {reason}")]
    Bind {
        /// What would be spoken there.
        protocol: &'static str,
        /// Where.
        address: HostPort,
        /// Why not.
        reason: String,
    },
    /// The control thread.
    #[error(transparent)]
    Control(#[from] controller::StartError),
    /// The data thread.
    #[error(transparent)]
    Data(#[from] data_plane::StartError),
    /// The system failed.
    #[error("cannot start: {0}")]
    System(io::Error),
    /// A thread ended while the broker was running.
    #[error("stopped: {0}")]
    Failed(String),
}

/// Runs a broker until it is told to stop.
///
/// # Errors
/// See [`BrokerError`].
pub fn run(settings: Settings) -> Result<(), BrokerError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BrokerError::System)?;
    let result = runtime.block_on(run_until_stopped(Arc::new(settings)));
    runtime.shutdown_background();
    result
}

async fn run_until_stopped(settings: Arc<Settings>) -> Result<(), BrokerError> {
    let mut signals = Signals::new().map_err(BrokerError::System)?;
    let directory = DataDirectory::open(&settings.log_dir, settings.node_id, &settings.cluster_id)?;
    let identity =
        Arc::new(Identity::load(&settings.ssl_keystore_location, &settings.ssl_truststore_location, settings.node_id)?);
    let listener = bind_controller(&settings)?;
    let incarnation = uuid::Uuid::new_v4().as_u128();
    let (handle, port) = control_handle::channel(Arc::new(Image::new()));
    info!(
        broker = %settings.node_id,
        cluster = %settings.cluster_id,
        incarnation = format_args!("{incarnation:032x}"),
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let controller = Controller::start(controller::Start {
        settings: Arc::clone(&settings),
        identity,
        listener,
        directory: controller::raft_directory(directory.path()),
        incarnation,
        port,
    })?;
    let data_plane = {
        let (settings, handle) = (Arc::clone(&settings), handle.clone());
        let starting = tokio::task::spawn_blocking(move || DataPlane::start(settings, handle));
        tokio::select! {
            started = starting => started.map_err(|e| BrokerError::Failed(format!("the data thread failed: {e}")))??,
            // Recovery only reads and cuts what a next start would cut again.
            () = signals.stop() => at_once(),
        }
    };
    let bound = data_plane.bound();
    let listeners = announced(&settings, |protocol| {
        let bound = match protocol {
            Protocol::Quic => bound.quic,
            Protocol::Plaintext => bound.plaintext,
            Protocol::Ssl => bound.ssl,
            Protocol::Controller => None,
        };
        bound.map_or_else(|| settings.listener(protocol).map_or(0, |address| address.port), |bound| bound.port())
    });
    let recovery = data_plane.recovery();
    info!(partitions = recovery.partitions, clean = recovery.clean_for_data, reason = recovery.reason, "logs opened");
    for (partition, reason) in &recovery.failed {
        warn!(?partition, reason, "log offline");
    }
    let announcement = Announcement {
        listeners: listeners.clone(),
        clean_for_data: recovery.clean_for_data,
        previous_broker_epoch: recovery.previous_broker_epoch,
    };
    let mut ready = handle.watch_ready();
    let serving = async {
        if let Some(epoch) = controller.register(announcement).await {
            data_plane.registered(epoch).await;
            controller.serve(epoch);
        }
        if ready.wait_for(|ready| *ready).await.is_ok() {
            println!("{}", ready_line(&settings, &listeners));
        }
        pending::<()>().await;
    };
    tokio::select! {
        () = serving => unreachable!("it never ends"),
        () = signals.stop() => {}
        // Nothing can be handed over or closed in order any more; the next start recovers.
        why = data_plane.ended() => return Err(BrokerError::Failed(why)),
        why = controller.failed() => return Err(BrokerError::Failed(why)),
    };
    let handing_over = async {
        info!("stopping");
        controller.hand_over().await;
    };
    tokio::select! {
        () = handing_over => {}
        () = signals.stop() => at_once(),
    }
    let closing = tokio::task::spawn_blocking(move || data_plane.stop());
    tokio::select! {
        closed = closing => match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the next start will recover"),
            Err(error) => warn!(%error, "the next start will recover"),
        },
        () = signals.stop() => at_once(),
    }
    tokio::select! {
        () = controller.stop() => {}
        () = signals.stop() => at_once(),
    }
    info!("stopped");
    Ok(())
}

/// The CONTROLLER port is bound before anything else happens, so that a port in use is told at once.
fn bind_controller(settings: &Settings) -> Result<TcpListener, BrokerError> {
    let address = settings.listener(Protocol::Controller).expect("the settings were checked").clone();
    let bind = || -> io::Result<TcpListener> {
        let resolved: Vec<SocketAddr> = (address.host.as_str(), address.port).to_socket_addrs()?.collect();
        let listener = TcpListener::bind(resolved.as_slice())?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    bind().map_err(|error| BrokerError::Bind {
        protocol: Protocol::Controller.name(),
        address: address.clone(),
        reason: match error.kind() {
            io::ErrorKind::AddrInUse => "the port is in use".to_owned(),
            _ => error.to_string(),
        },
    })
}

/// The listeners as others are told about them; `bound_port` knows what became of port 0.
fn announced(settings: &Settings, bound_port: impl Fn(Protocol) -> u16) -> Vec<Listener> {
    let advertised = |protocol: Protocol| settings.advertised(protocol, bound_port(protocol));
    settings
        .listeners
        .iter()
        .filter_map(|listener| {
            let HostPort { host, port } = advertised(listener.protocol)?;
            Some(Listener { name: listener.protocol.name().to_owned(), host, port })
        })
        .collect()
}

/// The line by which whoever started this process knows that it may be used.
fn ready_line(settings: &Settings, listeners: &[Listener]) -> String {
    let mut line = format!("ready id={}", settings.node_id);
    for (name, protocol) in [("quic", Protocol::Quic), ("tcp", Protocol::Plaintext), ("ssl", Protocol::Ssl)] {
        if let Some(listener) = listeners.iter().find(|listener| listener.name == protocol.name()) {
            let address = HostPort { host: listener.host.clone(), port: listener.port };
            line += &format!(" {name}={address}");
        }
    }
    line
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next request to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The second request to stop: no hand-over, no flush. The next start finds out what that cost.
fn at_once() -> ! {
    warn!("told to stop twice: stopping at once");
    std::process::exit(1);
}
