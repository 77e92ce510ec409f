//! TLS settings: who trusts whom. TLS 1.3 only, *ring* as the provider, always passed explicitly.
//!
//! A cluster has one CA. Each broker's certificate is valid for `broker-<id>.minisr`, so that dialing a peer under
//! that name proves its id; a server that must check a *claimed* id asks [`certificate_is_of_broker`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::transport::tuning::ALPN;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        what: String,
    },
    /// rustls refuses the combination.
    #[error("TLS settings are refused: {0}")]
    Refused(String),
}

/// A certificate chain and its private key.
#[derive(Debug)]
pub struct Keystore {
    /// The chain, own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the first certificate.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Keystore {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// The files that name a client's or broker's place in the cluster (KIP-651 style PEM).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA (`ssl.truststore.location`).
    pub truststore: PathBuf,
    /// Own certificate chain, then private key (`ssl.keystore.location`); brokers have one, ordinary clients do not.
    pub keystore: Option<PathBuf>,
}

/// The content of [`TlsFiles`].
#[derive(Clone, Debug)]
pub struct TlsIdentity {
    /// Whom we trust.
    pub roots: Arc<RootCertStore>,
    /// Who we are, if anybody.
    pub keystore: Option<Keystore>,
}

impl TlsFiles {
    /// An ordinary client's: the CA only.
    #[must_use]
    pub fn ca_only(truststore: impl Into<PathBuf>) -> Self {
        Self { truststore: truststore.into(), keystore: None }
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One is missing or does not hold what it should.
    pub fn load(&self) -> Result<TlsIdentity, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.truststore)? {
            roots.add(certificate).map_err(|error| TlsError::Pem {
                path: self.truststore.clone(),
                what: format!("not a usable CA certificate ({error})"),
            })?;
        }
        let keystore = match &self.keystore {
            None => None,
            Some(path) => Some(Keystore { chain: certificates(path)?, key: private_key(path)? }),
        };
        Ok(TlsIdentity { roots: Arc::new(roots), keystore })
    }
}

impl TlsIdentity {
    /// The client side: verifies the server against the CA and presents the own certificate, if there is one.
    ///
    /// # Errors
    /// Certificate and key do not fit each other.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_root_certificates(self.roots.clone());
        let mut config = match &self.keystore {
            None => builder.with_no_client_auth(),
            Some(keystore) => {
                builder.with_client_auth_cert(keystore.chain.clone(), keystore.key.clone_key()).map_err(refused)?
            }
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// The server side. Clients may present a certificate of the CA; with `client_certificate_required` they must.
    ///
    /// # Errors
    /// There is no own certificate, or it does not fit its key.
    pub fn server_config(&self, client_certificate_required: bool) -> Result<ServerConfig, TlsError> {
        let Some(keystore) = &self.keystore else {
            return Err(TlsError::Refused("a server needs a keystore".into()));
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots.clone(), provider());
        let verifier = if client_certificate_required { verifier } else { verifier.allow_unauthenticated() };
        let verifier = verifier.build().map_err(|error| TlsError::Refused(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(keystore.chain.clone(), keystore.key.clone_key())
            .map_err(refused)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }
}

/// The crypto provider of everything here.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name in the certificate of a broker.
#[must_use]
pub fn broker_server_name(broker_id: i32) -> String {
    format!("broker-{broker_id}.minisr")
}

/// Whether a peer's verified certificate is that of this broker: for a server that is told a replica id.
#[must_use]
pub fn certificate_is_of_broker(certificate: &CertificateDer<'_>, broker_id: i32) -> bool {
    let Ok(name) = ServerName::try_from(broker_server_name(broker_id)) else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| rustls::client::verify_server_name(&parsed, &name).is_ok())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem { path: path.into(), what: format!("not PEM ({error})") })?;
    if certificates.is_empty() {
        return Err(TlsError::Pem { path: path.into(), what: "holds no certificate".into() });
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?)
        .map_err(|error| TlsError::Pem { path: path.into(), what: format!("holds no usable private key ({error})") })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|reason| TlsError::Read { path: path.into(), reason })
}

fn refused(error: rustls::Error) -> TlsError {
    TlsError::Refused(error.to_string())
}
