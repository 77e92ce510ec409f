//! What is measured: a cluster of our own, or one that is there already.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use minisr_client::transport::TlsIdentity;
use minisr_client::{Address, Admin, Client, ClientConfig, SaslCredentials, TlsFiles, Transport};
use minisr_cluster::{Cluster, ClusterOptions, Driver, FlushPolicy};

use crate::settings::{Flush, Settings, TargetKind, TransportKind};

/// How long a deleted topic's files are waited for. Whoever removes them later keeps their pages a little longer.
const REMOVAL_LIMIT: Duration = Duration::from_secs(5);

/// A reachable cluster.
pub struct Target {
    cluster: Option<Cluster>,
    transport: Transport,
    sasl: Option<SaslCredentials>,
    bootstrap: Vec<Address>,
    streams: usize,
    /// Brokers it has.
    pub brokers: u32,
}

impl Target {
    /// Starts a cluster, or finds the one that the settings name.
    pub async fn start(settings: &Settings) -> Result<Target> {
        match &settings.bootstrap {
            Some(bootstrap) => Target::find(settings, bootstrap).await,
            None => Target::embed(settings).await,
        }
    }

    async fn embed(settings: &Settings) -> Result<Target> {
        let cluster = start_cluster(settings).await?;
        let (transport, addresses) = match settings.transport {
            TransportKind::Quic => (quic(&cluster.ca_path())?, cluster.bootstrap_quic()),
            TransportKind::Tcp => (Transport::Tcp, cluster.bootstrap_tcp()),
        };
        let bootstrap = addresses.iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
        let brokers = u32::try_from(cluster.ids().count())?;
        let streams = settings.streams as usize;
        Ok(Target { cluster: Some(cluster), transport, sasl: None, bootstrap, streams, brokers })
    }

    async fn find(settings: &Settings, bootstrap: &[String]) -> Result<Target> {
        let bootstrap = bootstrap
            .iter()
            .map(|text| text.parse::<Address>().with_context(|| format!("{text:?} is not HOST:PORT")))
            .collect::<Result<Vec<_>>>()?;
        let transport = match (settings.transport, &settings.ca) {
            (TransportKind::Tcp, Some(ca)) if settings.security.protocol.tls() => Transport::TcpTls(identity(ca)?),
            (TransportKind::Tcp, _) => Transport::Tcp,
            (TransportKind::Quic, Some(ca)) => quic(ca)?,
            (TransportKind::Quic, None) => bail!("--transport quic with --bootstrap needs --ca FILE"),
        };
        let (sasl, streams) = (settings.security.sasl.clone(), settings.streams as usize);
        let mut target = Target { cluster: None, transport, sasl, bootstrap, streams, brokers: 0 };
        let view = target.admin()?.metadata().await.context("the cluster given by --bootstrap does not answer")?;
        target.brokers = u32::try_from(view.brokers.len())?;
        let needed = settings.cells.iter().map(|cell| cell.replication_factor).max().unwrap_or(1);
        if u32::from(needed) > target.brokers {
            bail!("replication factor {needed} needs as many brokers, and the cluster has {}", target.brokers);
        }
        Ok(target)
    }

    /// A client; it belongs to the runtime in which it is first used.
    pub fn client(&self) -> Result<Client> {
        self.connector().connect()
    }

    /// What another thread needs to make a client of its own.
    pub fn connector(&self) -> Connector {
        let mut config = ClientConfig::new(self.bootstrap.clone(), self.transport.clone());
        config.client_id = "minisr-loadgen".into();
        config.sasl.clone_from(&self.sasl);
        config.streams_per_broker = self.streams;
        config.request_timeout = Duration::from_secs(10);
        Connector { config }
    }

    /// Topics and offsets.
    pub fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(self.client()?))
    }

    /// The embedded cluster, for what is done to its processes and files.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// Process ids of the brokers of an embedded cluster.
    pub fn broker_pids(&self) -> Vec<u32> {
        let pids = self.cluster.iter().flat_map(|cluster| cluster.pids());
        pids.filter_map(|(_, pid)| u32::try_from(pid).ok()).collect()
    }

    /// Waits until the brokers of an embedded cluster have removed a deleted topic's files and closed them, since only
    /// then do others get what they held. As far as that can be seen: another cluster is believed.
    pub async fn wait_until_removed(&self, topic: &str) {
        let Some(cluster) = &self.cluster else { return };
        let directories: Vec<_> = cluster.ids().map(|id| cluster.data_dir(id)).collect();
        let prefix = format!("{topic}-");
        let is_left = |directory: &std::path::PathBuf| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(&prefix))
        };
        let deadline = tokio::time::Instant::now() + REMOVAL_LIMIT;
        let is_open = |pid: &u32| {
            let handles = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut files = handles.filter_map(|handle| std::fs::read_link(handle.path()).ok());
            files.any(|file| file.to_string_lossy().contains(&format!("/{prefix}")))
        };
        let pids = self.broker_pids();
        let is_waited_for = || directories.iter().any(is_left) || pids.iter().any(is_open);
        while tokio::time::Instant::now() < deadline && is_waited_for() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends an embedded cluster and removes what it wrote.
    pub async fn end(self) -> Result<()> {
        match self.cluster {
            Some(cluster) => cluster.destroy().await.context("the embedded cluster could not be removed"),
            None => Ok(()),
        }
    }
}

/// Makes clients.
#[derive(Clone)]
pub struct Connector {
    config: ClientConfig,
}

impl Connector {
    /// A client for the current runtime.
    pub fn connect(&self) -> Result<Client> {
        Ok(Client::new(self.config.clone())?)
    }
}

/// Starts a cluster of the kind that the settings name, in a temporary directory.
async fn start_cluster(settings: &Settings) -> Result<Cluster> {
    let mut options = ClusterOptions::new(usize::from(settings.brokers));
    options.driver = match settings.target {
        TargetKind::Kafka => Driver::Kafka,
        TargetKind::Minisr | TargetKind::Other => Driver::Minisr,
    };
    options.flush = Some(match settings.flush {
        Flush::Never => FlushPolicy::Never,
        Flush::Interval => FlushPolicy::Interval,
        Flush::Commit => FlushPolicy::Commit,
    });
    // Like is compared with like: a ceiling over TCP is plaintext on every hop, and so is Kafka by default.
    options.insecure_peers = options.driver == Driver::Minisr && settings.transport == TransportKind::Tcp;
    for (name, value) in &settings.set {
        options = options.set(name, value);
    }
    Cluster::start(options).await.context("the embedded cluster did not start")
}

fn identity(ca: &std::path::Path) -> Result<TlsIdentity> {
    TlsFiles::ca_only(ca).load().with_context(|| format!("the certificate authority {}", ca.display()))
}

fn quic(ca: &std::path::Path) -> Result<Transport> {
    Ok(Transport::Quic(identity(ca)?))
}
