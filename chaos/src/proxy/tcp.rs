//! The byte pipe of a link.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Gate;

/// How it goes on.
#[derive(Debug, Clone)]
pub(super) struct Pipe {
    /// Where to.
    pub target: SocketAddr,
    /// Towards it.
    pub forth: Gate,
    /// From it.
    pub back: Gate,
}

impl Pipe {
    /// Listens, and returns where.
    pub async fn listen(self, here: SocketAddr, tasks: &mut JoinSet<()>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(here).await?;
        let address = listener.local_addr()?;
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(self.clone().carry(stream));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(address)
    }

    async fn carry(self, stream: TcpStream) {
        let mut passage = self.forth.watch();
        let resets = passage.borrow_and_update().resets;
        // A connection attempt does not get through a closed gate either; the caller waits for an answer.
        let _ = passage.wait_for(|it| it.open || it.resets != resets).await;
        if !passage.borrow().open {
            return;
        }
        let Ok(target) = TcpStream::connect(self.target).await else { return };
        let _ = (stream.set_nodelay(true), target.set_nodelay(true));
        let (from_near, to_near) = stream.into_split();
        let (from_far, to_far) = target.into_split();
        let mut resets_seen = self.forth.watch();
        tokio::select! {
            () = copy(from_near, to_far, self.forth.clone()) => {}
            () = copy(from_far, to_near, self.back) => {}
            _ = resets_seen.wait_for(|it| it.resets != resets) => {}
        }
    }
}

/// Copies while the gate is open, and waits while it is not. One direction that ends ends both: nobody here half-closes.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, gate: Gate) {
    let mut passage = gate.watch();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return };
        // The end of a connection is a message like any other.
        if passage.wait_for(|it| it.open).await.is_err() || count == 0 {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
