//! The datagrams of a link. Each address that sends here gets a socket of its own towards the target, so that answers
//! find their way back.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Gate;

/// The largest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// What a socket may hold: QUIC sends in bursts.
const BUFFER_BYTES: usize = 4 << 20;

/// How they go on.
#[derive(Debug, Clone)]
pub(super) struct Datagrams {
    /// Where to.
    pub target: SocketAddr,
    /// Towards it.
    pub forth: Gate,
    /// From it.
    pub back: Gate,
    /// Decides which are lost.
    pub seed: u64,
}

impl Datagrams {
    /// Listens, and returns where.
    pub async fn listen(self, here: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
        let near = Arc::new(bind(here).await?);
        let address = near.local_addr()?;
        tasks.spawn(async move {
            let mut random = ChaCha8Rng::seed_from_u64(self.seed);
            let mut far: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
            let mut answers = JoinSet::new();
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                // Errors are about earlier datagrams (nobody listened there); QUIC finds out by itself.
                let Ok((count, from)) = near.recv_from(&mut buffer).await else { continue };
                if let Entry::Vacant(place) = far.entry(from) {
                    let Ok(socket) = bind(SocketAddr::new(here.ip(), 0)).await else { continue };
                    let socket = Arc::new(socket);
                    if socket.connect(self.target).await.is_err() {
                        continue;
                    }
                    let seed = self.seed ^ 1 << 63 ^ u64::from(from.port());
                    answers.spawn(answer(Arc::clone(&socket), Arc::clone(&near), from, self.back.clone(), seed));
                    place.insert(socket);
                }
                if passes(&self.forth, &mut random) {
                    let _ = far[&from].send(&buffer[..count]).await;
                }
            }
        });
        Ok(address)
    }
}

async fn answer(far: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, back: Gate, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(count) = far.recv(&mut buffer).await else {
            // The target's port is closed: its process is down. A moment later it may be back.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        if passes(&back, &mut random) {
            let _ = near.send_to(&buffer[..count], to).await;
        }
    }
}

fn passes(gate: &Gate, random: &mut ChaCha8Rng) -> bool {
    let passage = gate.passage();
    passage.open && (passage.loss_ppm == 0 || random.random_range(0..1_000_000) >= passage.loss_ppm)
}

async fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address).await?;
    let raw = socket2::SockRef::from(&socket);
    // As much as the system allows.
    let _ = (raw.set_recv_buffer_size(BUFFER_BYTES), raw.set_send_buffer_size(BUFFER_BYTES));
    Ok(socket)
}
