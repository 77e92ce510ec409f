//! The cluster's certificate authority and the brokers' certificates.
//!
//! A broker's certificate carries `broker-<id>.minisr`, which is how peers check the id that it claims, and the names
//! and addresses by which ordinary clients dial it.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::error::ClusterError;
use crate::layout::{Layout, write_private};

/// Clocks of machines that share a cluster may differ by this much.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
const VALID_FOR: Duration = Duration::from_secs(5 * 365 * 24 * 3600);

/// A certificate authority whose key is in memory.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority and writes `ca.pem` and `ca.key.pem`.
    pub(crate) fn create(layout: &Layout) -> Result<Self, ClusterError> {
        let key = KeyPair::generate()?;
        let params = authority_params()?;
        let certificate = params.self_signed(&key)?;
        let ca = layout.ca();
        std::fs::write(&ca, certificate.pem()).map_err(ClusterError::file("write", &ca))?;
        write_private(&layout.ca_key(), &key.serialize_pem())?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// The authority of a cluster that was made earlier.
    pub(crate) fn open(layout: &Layout) -> Result<Self, ClusterError> {
        let path = layout.ca_key();
        let pem = std::fs::read_to_string(&path).map_err(ClusterError::file("read", &path))?;
        Ok(Self { issuer: Issuer::new(authority_params()?, KeyPair::from_pem(&pem)?) })
    }

    /// Writes the keystore of a broker: its certificate, then its private key.
    pub(crate) fn issue(&self, id: i32, host: IpAddr, keystore: &Path) -> Result<(), ClusterError> {
        let mut names =
            vec![format!("broker-{id}.minisr"), "localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !host.is_loopback() && !host.is_unspecified() {
            names.push(host.to_string());
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named(&format!("minisr broker {id}"));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A broker is a server to its clients and a client to its peers.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        valid(&mut params);
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_private(keystore, &format!("{}{}", certificate.pem(), key.serialize_pem()))
    }
}

fn authority_params() -> Result<CertificateParams, ClusterError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = named("minisr cluster CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params);
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn valid(params: &mut CertificateParams) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + VALID_FOR;
}
