//! What is measured: a cluster of our own, or one that is there already.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use minisr_client::transport::TlsIdentity;
use minisr_client::{Address, Admin, Client, ClientConfig, SaslCredentials, TlsFiles, Transport};
use minisr_cluster::{Cluster, ClusterOptions, Driver, FlushPolicy};

use crate::settings::{Flush, Settings, TargetKind, TransportKind};

/// A reachable cluster.
pub struct Target {
    /// Shared where one cluster is reached in two ways.
    cluster: Option<Arc<Cluster>>,
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
        let cluster = Arc::new(start_cluster(settings).await?);
        Target::of(cluster, settings.transport, settings.streams)
    }

    /// One way to a cluster of our own.
    pub fn of(cluster: Arc<Cluster>, transport: TransportKind, streams: u32) -> Result<Target> {
        let (transport, addresses) = match transport {
            TransportKind::Quic => (quic(&cluster.ca_path())?, cluster.bootstrap_quic()),
            TransportKind::Tcp => (Transport::Tcp, cluster.bootstrap_tcp()),
        };
        let bootstrap = addresses.iter().map(|at| Address::new(at.ip().to_string(), at.port())).collect();
        let brokers = u32::try_from(cluster.ids().count())?;
        Ok(Target { cluster: Some(cluster), transport, sasl: None, bootstrap, streams: streams as usize, brokers })
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

    /// Process ids of the brokers of an embedded cluster.
    pub fn broker_pids(&self) -> Vec<u32> {
        let pids = self.cluster.iter().flat_map(|cluster| cluster.pids());
        pids.filter_map(|(_, pid)| u32::try_from(pid).ok()).collect()
    }

    /// Ends an embedded cluster and removes what it wrote, unless another target shares it.
    pub async fn end(self) -> Result<()> {
        match self.cluster.and_then(Arc::into_inner) {
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
pub async fn start_cluster(settings: &Settings) -> Result<Cluster> {
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
