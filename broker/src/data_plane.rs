//! The data thread, seen from outside: start, the few things the rest of the broker tells it, stop.
//!
//! One OS thread runs one current_thread runtime. It owns the shard, every client and peer connection, the replica
//! fetchers and the ISR proposals. Nobody else touches them: the control thread publishes images through the
//! [`ControlHandle`], and this handle sends the rest over a channel.
//!
//! Order of a start, as `broker.rs` drives it:
//! 1. [`DataPlane::start`]: bind the listeners (so that their ports are known), open and recover all logs (before
//!    anything is served), serve. Partitions take no role yet.
//! 2. register with the controller, with [`DataPlane::bound`] in the registration and what
//!    [`DataPlane::recovery`] says about the restart;
//! 3. [`DataPlane::registered`]: now images that carry this registration give partitions their roles.
//!
//! Order of a stop: controlled shutdown first (leaderships move away while requests are still answered), then
//! [`DataPlane::stop`].

use std::io;
use std::net::{SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use minisr_client::transport::{Dialer, TlsFiles, TlsIdentity, Transport, quic as client_quic};
use minisr_logic::{BrokerEpoch, Millis};
use minisr_replica::{
    Config, FlushPolicy as ReplicaFlushPolicy, LagMaxMessages, OpenError, RecoveryReport, Shard, TopicDefaults,
};
use minisr_storage::RealDisk;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::api::{Context, Sessions};
use crate::config::{FlushPolicy, HostPort, InterBrokerTransport, Protocol, Settings};
use crate::control_handle::ControlHandle;
use crate::limits;
use crate::metrics::Metrics;
use crate::peer::PeerLinks;
use crate::shard::{ShardHandle, SyncCounts};
use crate::transport::{Acceptor, quic, tcp};

/// How long a replica fetch may take to connect to its leader.
const PEER_CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Why the thread is gone, when it could not say.
const ENDED: &str = "the data thread has ended";

/// How long a stop waits for QUIC peers to take note.
const QUIC_CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// TCP connections that may wait to be accepted.
const TCP_BACKLOG: i32 = 1024;

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
pub enum StartError {
    /// A listener's address cannot be used.
    #[error("cannot listen on {protocol}://{address}: {source}", protocol = protocol.name())]
    Bind {
        /// The listener.
        protocol: Protocol,
        /// Its address in the settings.
        address: HostPort,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] minisr_client::transport::TlsError),
    /// The data directory cannot be used.
    #[error("cannot open the logs: {0}")]
    Logs(#[from] OpenError),
    /// The system gives no thread or no runtime.
    #[error("cannot start the data thread: {0}")]
    Thread(io::Error),
    /// The thread ended before it served.
    #[error("the data thread ended while it started")]
    Ended,
}

/// Why a stop was not clean. The next start recovers the logs.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A log or checkpoint could not be written.
    #[error("cannot close the logs: {0}")]
    Logs(OpenError),
    /// The thread ended before it was told to.
    #[error("the data thread had ended before")]
    Ended,
}

enum Order {
    Registered { broker_epoch: BrokerEpoch, noted: oneshot::Sender<()> },
    Stop(oneshot::Sender<Result<(), OpenError>>),
}

/// A running data thread. Dropping it without [`Self::stop`] leaves the logs to be recovered.
#[derive(Debug)]
pub struct DataPlane {
    bound: Bound,
    recovery: RecoveryReport,
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<String>>,
    thread: JoinHandle<()>,
}

struct Started {
    bound: Bound,
    recovery: RecoveryReport,
}

impl DataPlane {
    /// Binds, recovers, starts. Blocks until the thread serves; call it where blocking is allowed.
    ///
    /// # Errors
    /// The first thing that cannot be used, as one sentence.
    pub fn start(settings: Arc<Settings>, control: ControlHandle) -> Result<Self, StartError> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (outcome, started) = std::sync::mpsc::channel();
        let (still_runs, ended) = watch::channel(None);
        let thread = std::thread::Builder::new()
            .name("data".to_owned())
            .spawn(move || {
                let why = run(settings, control, inbox, &outcome);
                still_runs.send_replace(Some(why.unwrap_or_else(|| ENDED.to_owned())));
            })
            .map_err(StartError::Thread)?;
        let Started { bound, recovery } = started.recv().unwrap_or(Err(StartError::Ended))?;
        Ok(Self { bound, recovery, orders, ended, thread })
    }

    /// Where the listeners are.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// What recovery found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// The controller accepted this process's registration. Returns when that is on disk, so that the next life will
    /// know it.
    pub async fn registered(&self, broker_epoch: BrokerEpoch) {
        let (noted, is_noted) = oneshot::channel();
        // Were the thread gone, `ended` would tell.
        let _ = self.orders.send(Order::Registered { broker_epoch, noted });
        let _ = is_noted.await;
    }

    /// Resolves when the data thread ended without having been told to, with the reason: a log failed.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        // Without one the thread panicked and dropped the sender.
        why.unwrap_or_else(|| ENDED.to_owned())
    }

    /// Stops accepting, answers what is under way (for a bounded time), syncs all logs and writes their checkpoints
    /// and the clean-shutdown marker. Blocks.
    ///
    /// # Errors
    /// Some log was not closed cleanly.
    pub fn stop(self) -> Result<(), StopError> {
        let (reply, closed) = oneshot::channel();
        self.orders.send(Order::Stop(reply)).map_err(|_| StopError::Ended)?;
        let result = closed.blocking_recv().map_err(|_| StopError::Ended)?.map_err(StopError::Logs);
        self.thread.join().map_err(|_| StopError::Ended)?;
        result
    }
}

/// Returns why it cannot go on; nothing when it was told to stop or did not start.
fn run(
    settings: Arc<Settings>,
    control: ControlHandle,
    inbox: mpsc::UnboundedReceiver<Order>,
    outcome: &std::sync::mpsc::Sender<Result<Started, StartError>>,
) -> Option<String> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(outcome.send(Err(StartError::Thread(error))));
            return None;
        }
    };
    let why = tokio::task::LocalSet::new().block_on(&runtime, async {
        match Listening::open(&settings) {
            Err(error) => {
                drop(outcome.send(Err(error)));
                None
            }
            Ok(listening) => serve(settings, control, inbox, listening, outcome).await,
        }
    });
    // Tasks that wait for peers are dropped, not waited for.
    runtime.shutdown_background();
    why
}

async fn serve(
    settings: Arc<Settings>,
    control: ControlHandle,
    mut inbox: mpsc::UnboundedReceiver<Order>,
    listening: Listening,
    outcome: &std::sync::mpsc::Sender<Result<Started, StartError>>,
) -> Option<String> {
    let origin = Instant::now();
    // Blocks this thread, which has nothing else to do yet.
    let opened = Shard::open(&mut RealDisk, &settings.log_dir, shard_config(&settings), Millis(0));
    let started = opened.map_err(StartError::from).and_then(|(shard, recovery)| {
        let dialer = dialer(&settings, &listening.identity)?;
        let peers = PeerLinks::new(&settings, dialer, control.clone());
        let shard = ShardHandle::start(shard, origin, control.image(), Box::new(peers)).map_err(StartError::Thread)?;
        Ok((shard, recovery))
    });
    let (shard, recovery) = match started {
        Ok(started) => started,
        Err(error) => {
            drop(outcome.send(Err(error)));
            return None;
        }
    };
    let metrics = Rc::new(Metrics::default());
    let context = Rc::new(Context::new(Arc::clone(&settings), shard.clone(), control.clone(), Rc::clone(&metrics)));
    let (stop, stopping) = watch::channel(false);
    let acceptor = Acceptor::new(Sessions(Rc::clone(&context)), &settings, Rc::clone(&metrics), stopping);
    let bound = listening.bound;
    let endpoint = listening.accept(&Rc::new(acceptor));
    tokio::task::spawn_local(feed_images(control, shard.clone()));
    drop(outcome.send(Ok(Started { bound, recovery })));

    loop {
        let order = tokio::select! {
            order = inbox.recv() => order,
            // One directory is all this broker has: it stops, and with it its leaderships move, as Kafka does it.
            why = shard.failed() => return Some(why),
        };
        // When every sender is gone the broker was dropped rather than stopped, and nothing is closed cleanly.
        match order? {
            Order::Registered { broker_epoch, noted } => {
                context.broker_epoch.set(Some(broker_epoch));
                shard.registered(broker_epoch);
                let _ = noted.send(());
            }
            Order::Stop(reply) => {
                stop.send_replace(true);
                drain(&metrics).await;
                let closed = shard.close();
                if let Some(endpoint) = endpoint {
                    endpoint.close(quic::BROKER_STOPPING, b"stopping");
                    let _ = tokio::time::timeout(QUIC_CLOSE_TIME_MAX, endpoint.wait_idle()).await;
                }
                let SyncCounts { rounds: sync_rounds, files: synced_files } = shard.sync_counts();
                tracing::info!(counters = %metrics, sync_rounds, synced_files, "data plane stopped");
                let _ = reply.send(closed);
                return None;
            }
        }
    }
}

/// Waits until every connection has answered what it owes, or long enough.
async fn drain(metrics: &Metrics) {
    let deadline = Instant::now() + limits::DRAIN_TIME_MAX;
    while metrics.connections_open.get() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn feed_images(control: ControlHandle, shard: ShardHandle) {
    let mut images = control.watch_image();
    // An error means that the control thread ended; the last image stays in force until this thread is stopped too.
    while images.changed().await.is_ok() {
        let image = Arc::clone(&images.borrow_and_update());
        shard.publish(image);
    }
}

/// The bound listeners, not served yet.
struct Listening {
    bound: Bound,
    identity: TlsIdentity,
    quic: Option<quinn::Endpoint>,
    plaintext: Option<TcpListener>,
    ssl: Option<(TcpListener, tokio_rustls::TlsAcceptor)>,
}

impl Listening {
    fn open(settings: &Settings) -> Result<Self, StartError> {
        let files = TlsFiles {
            truststore: settings.ssl_truststore_location.clone(),
            keystore: Some(settings.ssl_keystore_location.clone()),
        };
        let identity = files.load()?;
        let mut listening = Self { bound: Bound::default(), identity, quic: None, plaintext: None, ssl: None };
        for listener in &settings.listeners {
            let (protocol, address) = (listener.protocol, &listener.address);
            let failed = |source| StartError::Bind { protocol, address: address.clone(), source };
            match protocol {
                Protocol::Quic => {
                    let tls = listening.identity.server_config(false)?;
                    let endpoint = client_quic::listen(resolve(address).map_err(failed)?, tls).map_err(failed)?;
                    listening.bound.quic = Some(endpoint.local_addr().map_err(failed)?);
                    listening.quic = Some(endpoint);
                }
                Protocol::Plaintext => {
                    let socket = listen_tcp(address).map_err(failed)?;
                    listening.bound.plaintext = Some(socket.local_addr().map_err(failed)?);
                    listening.plaintext = Some(socket);
                }
                Protocol::Ssl => {
                    let mut tls = listening.identity.server_config(false)?;
                    // Kafka's TCP clients negotiate no application protocol.
                    tls.alpn_protocols.clear();
                    let socket = listen_tcp(address).map_err(failed)?;
                    listening.bound.ssl = Some(socket.local_addr().map_err(failed)?);
                    listening.ssl = Some((socket, Arc::new(tls).into()));
                }
                // The control thread's.
                Protocol::Controller => {}
            }
        }
        Ok(listening)
    }

    fn accept(self, acceptor: &Rc<Acceptor<Sessions>>) -> Option<quinn::Endpoint> {
        if let Some(socket) = self.plaintext {
            tokio::task::spawn_local(tcp::accept_plaintext(socket, Rc::clone(acceptor)));
        }
        if let Some((socket, tls)) = self.ssl {
            tokio::task::spawn_local(tcp::accept_tls(socket, tls, Rc::clone(acceptor)));
        }
        if let Some(endpoint) = &self.quic {
            tokio::task::spawn_local(quic::accept(endpoint.clone(), Rc::clone(acceptor)));
        }
        self.quic
    }
}

fn resolve(address: &HostPort) -> io::Result<SocketAddr> {
    let mut resolved = (address.host.as_str(), address.port).to_socket_addrs()?;
    resolved.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn listen_tcp(address: &HostPort) -> io::Result<TcpListener> {
    let address = resolve(address)?;
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A restart must not wait for the connections of the process before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(StdTcpListener::from(socket))
}

fn dialer(settings: &Settings, identity: &TlsIdentity) -> Result<Dialer, StartError> {
    let transport = match settings.inter_broker_transport {
        InterBrokerTransport::Quic => Transport::Quic(identity.clone()),
        InterBrokerTransport::Tcp if settings.insecure_peers => Transport::Tcp,
        InterBrokerTransport::Tcp => Transport::TcpTls(identity.clone()),
    };
    Ok(Dialer::new(&transport, PEER_CONNECT_TIME_MAX)?)
}

/// The settings as the shard wants them.
pub(crate) fn shard_config(settings: &Settings) -> Config {
    let bytes = |value: i32| usize::try_from(value).expect("checked when the settings were read");
    Config {
        flush: match settings.log_flush_policy {
            FlushPolicy::Never => ReplicaFlushPolicy::Never,
            FlushPolicy::Interval => ReplicaFlushPolicy::Interval { interval_ms: settings.log_flush_interval_ms },
            FlushPolicy::Commit => ReplicaFlushPolicy::Commit,
        },
        replica_lag_time_max_ms: settings.replica_lag_time_max_ms,
        replica_lag_max_messages: (settings.replica_lag_max_messages > 0).then_some(LagMaxMessages {
            limit: settings.replica_lag_max_messages,
            comparison: settings.replica_lag_max_messages_comparison,
        }),
        replica_fetch_wait_max_ms: settings.replica_fetch_wait_max_ms,
        replica_fetch_min_bytes: bytes(settings.replica_fetch_min_bytes),
        replica_fetch_max_bytes: bytes(settings.replica_fetch_max_bytes),
        replica_fetch_response_max_bytes: bytes(settings.replica_fetch_response_max_bytes),
        replica_fetch_backoff_ms: settings.replica_fetch_backoff_ms,
        num_replica_fetchers: settings.num_replica_fetchers,
        replica_socket_timeout_ms: settings.replica_socket_timeout_ms,
        replica_high_watermark_delay_max_ms: settings.replica_high_watermark_delay_max_ms,
        high_watermark_checkpoint_interval_ms: settings.replica_high_watermark_checkpoint_interval_ms,
        recovery_point_checkpoint_interval_ms: settings.log_flush_offset_checkpoint_interval_ms,
        retention_check_interval_ms: settings.log_retention_check_interval_ms,
        producer_id_expiration_ms: settings.producer_id_expiration_ms,
        topic: TopicDefaults {
            min_insync_replicas: u32::try_from(settings.min_insync_replicas).expect("at least 1"),
            segment_bytes: settings.log_segment_bytes,
            segment_ms: settings.log_roll_ms,
            index_interval_bytes: u64::from(settings.log_index_interval_bytes),
            segment_index_bytes: settings.log_index_size_max_bytes,
            preallocate: settings.log_preallocate,
            retention_ms: u64::try_from(settings.log_retention_ms).ok(),
            retention_bytes: u64::try_from(settings.log_retention_bytes).ok(),
            max_message_bytes: bytes(settings.message_max_bytes),
        },
        replica_selector: settings.replica_selector_class,
        ..Config::new(settings.node_id)
    }
}
