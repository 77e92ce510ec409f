//! The links to other brokers' CONTROLLER listeners, one per peer, shared by everything on the control thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use minisr_logic::BrokerId;
use minisr_logic::metadata::Image;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::rpc::client::{Dialer, Link, RpcError};
use super::rpc::{Request, Response};
use crate::config::{HostPort, Protocol};

/// A refusal comes at once or not at all.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(250);

/// Every peer's link, made when it is first asked for.
#[derive(Clone)]
pub struct Peers {
    dialer: Dialer,
    voters: Arc<BTreeMap<BrokerId, HostPort>>,
    /// `--controller-address`: how a proxy is inserted.
    overrides: Arc<BTreeMap<BrokerId, HostPort>>,
    image: watch::Receiver<Arc<Image>>,
    links: Arc<Mutex<BTreeMap<BrokerId, Link>>>,
}

impl Peers {
    /// No links yet.
    #[must_use]
    pub fn new(
        dialer: Dialer,
        voters: Arc<BTreeMap<BrokerId, HostPort>>,
        overrides: Arc<BTreeMap<BrokerId, HostPort>>,
        image: watch::Receiver<Arc<Image>>,
    ) -> Self {
        Self { dialer, voters, overrides, image, links: Arc::default() }
    }

    /// Where a broker's CONTROLLER listener is: as the command line says, as the settings say for voters, as it
    /// registered for others.
    #[must_use]
    pub fn address(&self, broker: BrokerId) -> Option<HostPort> {
        if let Some(address) = self.overrides.get(&broker).or_else(|| self.voters.get(&broker)) {
            return Some(address.clone());
        }
        let image = self.image.borrow();
        let listener = image.broker(broker)?.listener(Protocol::Controller.name())?;
        Some(HostPort { host: listener.host.clone(), port: listener.port })
    }

    /// Asks a broker something over its shared link.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn ask(&self, broker: BrokerId, request: Request) -> Result<Response, RpcError> {
        match self.address(broker) {
            Some(address) => self.ask_at(broker, &address, request).await,
            None => Err(unknown(broker)),
        }
    }

    /// Like [`Self::ask`], at an address that the caller knows.
    ///
    /// # Errors
    /// See [`RpcError`].
    pub async fn ask_at(&self, broker: BrokerId, address: &HostPort, request: Request) -> Result<Response, RpcError> {
        let link = {
            let mut links = self.links.lock().expect("no panic while it is held");
            match links.get(&broker).filter(|link| link.address() == address) {
                Some(link) => link.clone(),
                None => {
                    let link = Link::new(self.dialer.clone(), broker, address.clone());
                    links.insert(broker, link.clone());
                    link
                }
            }
        };
        link.ask(request).await
    }

    /// Whether the process that is registered as `broker` answers on a connection of its own: the probe.
    pub async fn probe(&self, broker: BrokerId, incarnation: u128, bound: Duration, attempts: u32) -> Probed {
        let Some(address) = self.address(broker) else {
            return Probed::Silent;
        };
        for _ in 0..attempts {
            match tokio::time::timeout(bound, self.dialer.ask_once(broker, &address, Request::Probe)).await {
                Ok(Ok(Response::Alive { incarnation: found })) if found == incarnation => return Probed::Alive,
                Ok(Ok(Response::Alive { .. })) => return Probed::Replaced,
                Ok(Err(RpcError::Unreachable { refused: true, .. })) => return Probed::Refused,
                Ok(Ok(_) | Err(_)) | Err(_) => {}
            }
        }
        Probed::Silent
    }

    /// Whether a broker's machine says that nobody listens at its CONTROLLER address.
    pub async fn is_refused(&self, broker: BrokerId) -> bool {
        let Some(HostPort { host, port }) = self.address(broker) else {
            return false;
        };
        match tokio::time::timeout(REFUSAL_TIMEOUT, TcpStream::connect((host.as_str(), port))).await {
            Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
            Ok(Ok(_)) | Err(_) => false,
        }
    }

    /// For connections that are not shared.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }
}

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// The process meant answers.
    Alive,
    /// Another process of the same broker answers, so the one meant is gone.
    Replaced,
    /// The machine says that nobody listens there.
    Refused,
    /// No attempt was answered in time.
    Silent,
}

fn unknown(broker: BrokerId) -> RpcError {
    RpcError::Unreachable {
        peer: broker,
        address: HostPort { host: "nowhere".to_owned(), port: 0 },
        reason: "its address is not known".to_owned(),
        refused: false,
    }
}
