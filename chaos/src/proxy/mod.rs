//! Links between brokers that can be cut in one direction, in user space: no rights and no kernel module needed.
//!
//! One [`Link`] stands for everything that one broker (*from*) sends to another (*to*) on connections that *from* has
//! opened, and for the answers: a TCP pipe to the CONTROLLER listener, and datagrams to the QUIC listener. Each
//! direction has its own [`Gate`]. A closed gate is a black hole, as a one-way partition is: what was sent is not
//! delivered and nobody is told; TCP bytes are delivered once it opens again, since TCP would have repeated them.
//! Datagrams can also be lost by lot, from a seed.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use minisr_cluster::Cluster;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Whether one direction lets anything through, and how many datagrams in a million it loses.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<Passage>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Passage {
    open: bool,
    loss_ppm: u32,
    /// Counts orders to drop the TCP connections.
    resets: u64,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Passage { open: true, loss_ppm: 0, resets: 0 })))
    }
}

impl Gate {
    /// Opens or closes it.
    pub fn set_open(&self, open: bool) {
        self.0.send_modify(|it| it.open = open);
    }

    /// Loses this many datagrams in a million.
    pub fn set_loss_ppm(&self, loss_ppm: u32) {
        self.0.send_modify(|it| it.loss_ppm = loss_ppm);
    }

    /// Ends the TCP connections through it, as a middlebox does that has forgotten them.
    pub fn reset(&self) {
        self.0.send_modify(|it| it.resets += 1);
    }

    fn passage(&self) -> Passage {
        *self.0.borrow()
    }

    fn watch(&self) -> watch::Receiver<Passage> {
        self.0.subscribe()
    }
}

/// What one broker sends to another and gets back.
#[derive(Debug)]
pub struct Link {
    /// What *from* sends.
    pub forth: Gate,
    /// What *to* answers.
    pub back: Gate,
    /// Where *from* dials instead of *to*'s CONTROLLER listener.
    pub controller: SocketAddr,
    /// Where *from* dials instead of *to*'s QUIC listener.
    pub quic: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Link {
    /// A link to these listeners. `seed` decides which datagrams are lost.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn new(controller: SocketAddr, quic: SocketAddr, seed: u64) -> io::Result<Self> {
        let (forth, back) = (Gate::default(), Gate::default());
        let mut tasks = JoinSet::new();
        let here = SocketAddr::new(controller.ip(), 0);
        let pipe = tcp::Pipe { target: controller, forth: forth.clone(), back: back.clone() };
        let controller = pipe.listen(here, &mut tasks).await?;
        let datagrams = udp::Datagrams { target: quic, forth: forth.clone(), back: back.clone(), seed };
        let quic = datagrams.listen(here, &mut tasks).await?;
        Ok(Self { forth, back, controller, quic, _tasks: tasks })
    }

    /// One-way partition: nothing that *from* sends arrives any more, and the connections that it has are forgotten, so
    /// that it notices. What *to* sends on links of its own is not touched.
    pub fn sever(&self) {
        self.forth.set_open(false);
        self.forth.reset();
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.forth.set_open(true);
        self.back.set_open(true);
    }
}

/// A link from every broker to every other.
#[derive(Debug)]
pub struct Links(BTreeMap<(i32, i32), Link>);

impl Links {
    /// Puts proxies between the brokers of a running cluster, which is restarted for it.
    ///
    /// # Errors
    /// A proxy has no port, or a broker does not come back.
    pub async fn between(cluster: &Cluster, seed: u64) -> anyhow::Result<Self> {
        let quic: BTreeMap<i32, SocketAddr> = cluster.ids().zip(cluster.bootstrap_quic()).collect();
        let mut links = BTreeMap::new();
        for from in cluster.ids() {
            let mut arguments = Vec::new();
            for to in cluster.ids().filter(|to| *to != from) {
                let controller = SocketAddr::new(quic[&to].ip(), cluster.ports(to)?.control);
                let seed = seed ^ ((from as u64) << 32 | to as u64);
                let link = Link::new(controller, quic[&to], seed).await?;
                arguments.push(format!("--controller-address={to}={}", link.controller));
                arguments.push(format!("--peer-address={to}={}", link.quic));
                links.insert((from, to), link);
            }
            cluster.set_arguments(from, arguments)?;
        }
        cluster.stop_all().await?;
        for id in cluster.ids() {
            cluster.start_broker(id).await?;
        }
        for id in cluster.ids() {
            cluster.wait_ready(id).await?;
        }
        Ok(Self(links))
    }

    /// The link that one broker uses to reach another.
    ///
    /// # Panics
    /// There is no such pair of brokers.
    #[must_use]
    pub fn link(&self, from: i32, to: i32) -> &Link {
        &self.0[&(from, to)]
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (i32, i32)> {
        self.0.keys().copied()
    }
}
