//! What producer, consumer and admin share: the way to brokers, and what is known of the cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;

use minisr_wire::messages::metadata_request::MetadataRequestTopic;
use minisr_wire::messages::{ApiKey, MetadataRequest, TopicName};
use minisr_wire::protocol::Request;
use minisr_wire::{ErrorCode, StrBytes};

use crate::connection::{ConnectError, Connection, ConnectionConfig, ConnectionError, Unsupported};
use crate::metadata::ClusterView;
use crate::sasl::SaslCredentials;
use crate::transport::{Address, Dialer, TlsError, Transport, tuning};

/// A broker that has not answered a question of metadata after this long is not waited for alone: the next is asked
/// as well.
const HEDGE_AFTER: Duration = Duration::from_millis(100);

/// The same for a request that changes something: two brokers that both carry it out tell one of the callers that it
/// was done already, so this is longer than any change takes on a busy machine.
const HEDGE_CHANGE_AFTER: Duration = Duration::from_secs(2);

/// Time allowed for an answer that the broker can give from what it knows. A killed broker is silent on QUIC, so a
/// longer wait would only delay the next attempt.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(2);

/// As [`QUESTION_TIMEOUT`], where the broker waits for the cluster.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The highest Metadata version in use: 12 has topic ids.
const METADATA_VERSION_MAX: i16 = 12;

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Brokers to ask first.
    pub bootstrap: Vec<Address>,
    /// How brokers are reached.
    pub transport: Transport,
    /// `client.id`.
    pub client_id: String,
    /// Time allowed for connecting and for the exchange of versions.
    pub connect_timeout: Duration,
    /// Time allowed for one answer.
    pub request_timeout: Duration,
    /// Ordered connections to each broker for records; a partition is pinned to one.
    pub streams_per_broker: usize,
    /// Who we are, for brokers that ask (SASL); `None` where nobody does.
    pub sasl: Option<SaslCredentials>,
    /// Where a broker is dialed instead of where it says it listens (`--peer-address`): how a proxy is inserted.
    pub peer_addresses: BTreeMap<i32, Address>,
}

impl ClientConfig {
    /// The defaults.
    #[must_use]
    pub fn new(bootstrap: Vec<Address>, transport: Transport) -> Self {
        Self {
            bootstrap,
            transport,
            client_id: "minisr".into(),
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(30),
            streams_per_broker: tuning::STREAMS_PER_BROKER,
            sasl: None,
            peer_addresses: BTreeMap::new(),
        }
    }
}

/// Why a request to the cluster has no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// The broker cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection ended.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The broker does not speak the API.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// No answer in time.
    #[error("no answer from {address} within {} ms", timeout.as_millis())]
    Timeout {
        /// Who was asked.
        address: Address,
        /// The time allowed.
        timeout: Duration,
    },
    /// A broker with this id is not known.
    #[error("broker {0} is not known")]
    UnknownBroker(i32),
    /// Nobody answered.
    #[error("none of {asked} brokers answered; the last said: {last}")]
    Nobody {
        /// How many were asked.
        asked: usize,
        /// The last error.
        last: String,
    },
    /// The broker refused.
    #[error("{what}: {code}{}", message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// What was refused.
        what: String,
        /// Kafka's code.
        code: ErrorCode,
        /// What the broker says.
        message: Option<String>,
    },
    /// A condition did not come true in time.
    #[error("{what} did not happen within {} ms{}", timeout.as_millis(), last.as_ref().map(|text| format!("; last: {text}")).unwrap_or_default())]
    Deadline {
        /// The condition.
        what: String,
        /// The time allowed.
        timeout: Duration,
        /// What was last seen.
        last: Option<String>,
    },
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    dialer: Dialer,
    view: Mutex<Arc<ClusterView>>,
    /// Connections for questions, not records: one per address, replaced when it ends.
    control: Mutex<BTreeMap<Address, Connection>>,
    /// Where the next question of metadata starts its round.
    rotation: Mutex<usize>,
}

/// A client of one cluster. Cheap to clone; clones share connections and metadata. Use it in one tokio runtime.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

impl Client {
    /// A client; connects when first used.
    ///
    /// # Errors
    /// The TLS settings do not fit together.
    pub fn new(config: ClientConfig) -> Result<Self, TlsError> {
        let dialer = Dialer::new(&config.transport, config.connect_timeout)?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                dialer,
                view: Mutex::default(),
                control: Mutex::default(),
                rotation: Mutex::default(),
            }),
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.inner.config
    }

    /// The way to brokers.
    #[must_use]
    pub fn dialer(&self) -> &Dialer {
        &self.inner.dialer
    }

    /// What is known of the cluster now.
    #[must_use]
    pub fn view(&self) -> Arc<ClusterView> {
        self.inner.view.lock().expect("no holder of this lock panics").clone()
    }

    /// Settings of this client's connections.
    #[must_use]
    pub fn connection_config(&self) -> ConnectionConfig {
        let named = ConnectionConfig::named(self.inner.config.client_id.clone());
        ConnectionConfig { sasl: self.inner.config.sasl.clone(), ..named }
    }

    /// Where a broker is dialed.
    ///
    /// # Errors
    /// It is not known.
    pub fn broker_address(&self, broker_id: i32) -> Result<Address, ClientError> {
        let overridden = self.inner.config.peer_addresses.get(&broker_id).cloned();
        overridden.or_else(|| self.view().brokers.get(&broker_id).cloned()).ok_or(ClientError::UnknownBroker(broker_id))
    }

    /// Opens a connection of its own to a broker.
    ///
    /// # Errors
    /// It is not known or cannot be reached.
    pub async fn connect(&self, broker_id: i32) -> Result<Connection, ClientError> {
        let address = self.broker_address(broker_id)?;
        Ok(Connection::open(&self.inner.dialer, &address, self.connection_config()).await?)
    }

    /// Asks one broker, on the connection for questions.
    ///
    /// # Errors
    /// There is no answer in time.
    pub async fn call_broker<R: Request>(
        &self,
        broker_id: i32,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError> {
        let address = self.broker_address(broker_id)?;
        self.call_address(&address, request, version_max).await
    }

    /// Asks the broker at an address, on the connection for questions.
    ///
    /// # Errors
    /// There is no answer in time.
    pub async fn call_address<R: Request>(
        &self,
        address: &Address,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError> {
        let connection = self.control(address).await?;
        let version = connection.versions().highest::<R>(version_max)?;
        let timeout = match ApiKey::try_from(R::KEY) {
            // The broker waits for the cluster here.
            Ok(ApiKey::CreateTopics | ApiKey::DeleteTopics) => self.inner.config.request_timeout.min(CHANGE_TIMEOUT),
            _ => self.inner.config.request_timeout.min(QUESTION_TIMEOUT),
        };
        match tokio::time::timeout(timeout, connection.call(request, version)).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                self.abandon(address, "no answer in time");
                Err(ClientError::Timeout { address: address.clone(), timeout })
            }
        }
    }

    /// Asks brokers, one after the other and each a little later than the one before, until one answers. Only for
    /// requests that may be carried out more than once.
    ///
    /// # Errors
    /// None did.
    pub async fn call_any<R>(&self, request: &R, version_max: i16) -> Result<R::Response, ClientError>
    where
        R: Request + Clone + Send + Sync + 'static,
        R::Response: Send,
    {
        self.call_any_but(None, request, version_max).await
    }

    async fn call_any_but<R>(
        &self,
        avoid: Option<i32>,
        request: &R,
        version_max: i16,
    ) -> Result<R::Response, ClientError>
    where
        R: Request + Clone + Send + Sync + 'static,
        R::Response: Send,
    {
        let candidates = self.candidates(avoid);
        let asked = candidates.len();
        let mut last = "there is nobody to ask".to_owned();
        let mut candidates = candidates.into_iter().peekable();
        let mut calls = JoinSet::new();
        let hedge_after = match ApiKey::try_from(R::KEY) {
            Ok(ApiKey::CreateTopics | ApiKey::DeleteTopics) => HEDGE_CHANGE_AFTER,
            _ => HEDGE_AFTER,
        };
        while candidates.peek().is_some() || !calls.is_empty() {
            if let Some(address) = candidates.next() {
                let (client, request) = (self.clone(), request.clone());
                calls.spawn(async move {
                    let result = client.call_address(&address, &request, version_max).await;
                    if result.is_err() {
                        // Whatever is wrong with it, the next question starts afresh.
                        client.abandon(&address, "a question failed");
                    }
                    result
                });
            }
            loop {
                let next = if candidates.peek().is_some() {
                    // A failure means: ask the next at once. Silence means: ask the next as well.
                    tokio::time::timeout(hedge_after, calls.join_next()).await
                } else {
                    Ok(calls.join_next().await)
                };
                match next {
                    Ok(Some(Ok(Ok(response)))) => return Ok(response),
                    Ok(Some(Ok(Err(error)))) => last = error.to_string(),
                    Ok(Some(Err(error))) => last = error.to_string(),
                    Ok(None) | Err(_) => break,
                }
            }
        }
        Err(ClientError::Nobody { asked, last })
    }

    /// Whom to ask: every known broker and bootstrap address once, starting elsewhere each time; a broker to avoid
    /// comes last.
    fn candidates(&self, avoid: Option<i32>) -> Vec<Address> {
        let view = self.view();
        let mut candidates: Vec<Address> = Vec::new();
        let brokers = view.brokers.keys().filter_map(|&id| Some((id, self.broker_address(id).ok()?)));
        let mut avoided = None;
        for (id, address) in brokers {
            if Some(id) == avoid {
                avoided = Some(address);
            } else if !candidates.contains(&address) {
                candidates.push(address);
            }
        }
        if !candidates.is_empty() {
            let mut rotation = self.inner.rotation.lock().expect("no holder of this lock panics");
            *rotation = rotation.wrapping_add(1);
            let start = *rotation % candidates.len();
            candidates.rotate_left(start);
        }
        // Bootstrap addresses come after those that brokers advertise: a proxy put before a broker is not bypassed
        // as long as it lets anything through.
        for address in &self.inner.config.bootstrap {
            if Some(address) != avoided.as_ref() && !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates.extend(avoided);
        candidates
    }

    /// Refreshes what is known of these topics (of all, if `None`), and of the brokers.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn refresh(&self, topics: Option<&[Arc<str>]>) -> Result<Arc<ClusterView>, ClientError> {
        self.refresh_avoiding(None, topics).await
    }

    /// As [`Self::refresh`], asking `avoid` last: it is suspected to be dead.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn refresh_avoiding(
        &self,
        avoid: Option<i32>,
        topics: Option<&[Arc<str>]>,
    ) -> Result<Arc<ClusterView>, ClientError> {
        let topics = topics.map(|topics| {
            let name = |topic: &Arc<str>| TopicName(StrBytes::from_string(topic.to_string()));
            topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        let response = self.call_any_but(avoid, &request, METADATA_VERSION_MAX).await?;
        let before = self.view();
        let now = {
            let mut view = self.inner.view.lock().expect("no holder of this lock panics");
            Arc::make_mut(&mut view).update(&response);
            view.clone()
        };
        // A broker that the cluster has fenced is dead, or soon another incarnation. On QUIC its connection looks
        // open until the idle timeout, and once it is back new streams would hang on it. Its address is known only
        // from the metadata, so this is the last moment to forget it.
        for (_, address) in before.brokers.iter().filter(|(id, address)| now.brokers.get(id) != Some(address)) {
            self.abandon(address, "the cluster has fenced this broker");
        }
        Ok(now)
    }

    /// The connection for questions to an address.
    async fn control(&self, address: &Address) -> Result<Connection, ClientError> {
        if let Some(connection) = self.known_control(address) {
            return Ok(connection);
        }
        let connection = Connection::open(&self.inner.dialer, address, self.connection_config()).await?;
        let mut control = self.inner.control.lock().expect("no holder of this lock panics");
        control.insert(address.clone(), connection.clone());
        Ok(connection)
    }

    fn known_control(&self, address: &Address) -> Option<Connection> {
        let control = self.inner.control.lock().expect("no holder of this lock panics");
        control.get(address).filter(|connection| !connection.is_closed()).cloned()
    }

    /// Gives up the connection for questions to an address, and the QUIC connection under it for new streams.
    pub fn abandon(&self, address: &Address, why: &str) {
        let connection = self.inner.control.lock().expect("no holder of this lock panics").remove(address);
        if let Some(connection) = connection {
            connection.close(why);
        }
        self.inner.dialer.forget(address);
    }
}
