//! Certificates: this broker's own, the cluster's authority, and the question whose certificate a peer holds.
//!
//! A cluster has one certificate authority. A broker's certificate carries the DNS name `broker-<id>.minisr`; who
//! dials a peer uses that name as the server name, and who is dialed checks the id that the peer claims against the
//! names in the certificate it presented. TLS 1.3 only, and rustls with ring, passed explicitly.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use minisr_logic::BrokerId;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a broker needs to prove who it is and to check who others are.
#[derive(Debug)]
pub struct Identity {
    /// This broker's certificate, then the rest of its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key of the first certificate.
    pub key: PrivateKeyDer<'static>,
    /// The authority that signs brokers' certificates.
    pub authority: Arc<RootCertStore>,
}

/// Why the certificates cannot be used. Each reads as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM section of the kind that is needed.
    #[error("setting {setting}: cannot read {what} from {path}: {reason}", path = path.display())]
    File {
        /// The setting that names the file.
        setting: &'static str,
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// The certificate is for another broker.
    #[error("the certificate in {path} is not for {name}: it was made for another broker", path = path.display())]
    WrongName {
        /// The file.
        path: PathBuf,
        /// The name that it should carry.
        name: String,
    },
    /// rustls refuses the certificate or the key.
    #[error("the certificate in {path} cannot be used: {reason}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What rustls says.
        reason: String,
    },
}

/// The DNS name in a broker's certificate.
#[must_use]
pub fn broker_dns_name(id: BrokerId) -> String {
    format!("broker-{id}.minisr")
}

/// The server name to ask for when dialing a broker, so that its certificate must be that broker's.
#[must_use]
pub fn broker_server_name(id: BrokerId) -> ServerName<'static> {
    ServerName::try_from(broker_dns_name(id)).expect("digits and letters make a DNS name")
}

/// Whether `certificate` (already verified against the authority) was issued to broker `id`.
#[must_use]
pub fn is_certificate_of(certificate: &CertificateDer<'_>, id: BrokerId) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &broker_server_name(id)).is_ok())
}

/// The cryptography everything in this broker uses.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

impl Identity {
    /// Reads `ssl.keystore.location` and `ssl.truststore.location` and checks that the certificate is `id`'s.
    ///
    /// # Errors
    /// One sentence about the first file that cannot be used.
    pub fn load(keystore: &Path, truststore: &Path, id: BrokerId) -> Result<Self, TlsError> {
        let keystore_error = |what, reason: String| TlsError::File {
            setting: "ssl.keystore.location",
            what,
            path: keystore.to_path_buf(),
            reason,
        };
        let chain = certificates(keystore).map_err(|reason| keystore_error("a certificate chain", reason))?;
        let key =
            PrivateKeyDer::from_pem_file(keystore).map_err(|e| keystore_error("a private key", plain_reason(&e)))?;
        let mut authority = RootCertStore::empty();
        let truststore_error = |reason: String| TlsError::File {
            setting: "ssl.truststore.location",
            what: "a certificate authority",
            path: truststore.to_path_buf(),
            reason,
        };
        for certificate in certificates(truststore).map_err(truststore_error)? {
            authority.add(certificate).map_err(|e| truststore_error(e.to_string()))?;
        }
        if !is_certificate_of(&chain[0], id) {
            return Err(TlsError::WrongName { path: keystore.to_path_buf(), name: broker_dns_name(id) });
        }
        let identity = Self { chain, key, authority: Arc::new(authority) };
        // Building both configurations once tells at the start whether key and certificate belong together.
        let unusable = |e: rustls::Error| TlsError::Unusable { path: keystore.to_path_buf(), reason: e.to_string() };
        identity.peer_server_config().map_err(unusable)?;
        identity.peer_client_config().map_err(unusable)?;
        Ok(identity)
    }

    /// For a server that only brokers may talk to: a client certificate is required.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn peer_server_config(&self) -> Result<ServerConfig, rustls::Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.authority), provider())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?;
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
    }

    /// For dialing another broker, presenting this broker's certificate.
    ///
    /// # Errors
    /// When rustls refuses the certificate.
    pub fn peer_client_config(&self) -> Result<ClientConfig, rustls::Error> {
        ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(Arc::clone(&self.authority))
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|e| plain_reason(&e))
        .and_then(|all| all.map(|one| one.map_err(|e| plain_reason(&e))).collect::<Result<Vec<_>, _>>());
    match read {
        Ok(all) if all.is_empty() => Err("there is no PEM certificate in it".to_owned()),
        other => other,
    }
}

fn plain_reason(error: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(source) => source.to_string(),
        Error::NoItemsFound => "there is no such PEM section in it".to_owned(),
        other => format!("it is not valid PEM ({other:?})"),
    }
}
