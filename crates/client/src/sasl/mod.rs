//! SASL, as Kafka carries it (KIP-43, KIP-152): SaslHandshake names the mechanism, then SaslAuthenticate carries its
//! messages, before any other request.
//!
//! PLAIN is RFC 4616 and sends the password itself, so it belongs under TLS; SCRAM is RFC 5802 with the hashes of
//! RFC 7677 and sends proofs only. User names and passwords are taken as they are, without SASLprep, as Kafka takes them.
//! A session's lifetime (KIP-368) is not renewed: a broker that sets `connections.max.reauth.ms` closes the connection
//! when it is over, and the next one authenticates anew.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use minisr_wire::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use minisr_wire::{ErrorCode, StrBytes};

use crate::connection::{Connection, ConnectionError, Unsupported};

mod scram;

pub use scram::ScramError;

/// The highest SaslHandshake version in use: from 1 on SaslAuthenticate carries the rest.
const HANDSHAKE_VERSION_MAX: i16 = 1;
/// The highest SaslAuthenticate version in use.
const AUTHENTICATE_VERSION_MAX: i16 = 2;

/// How we prove who we are; names follow Kafka's `sasl.mechanism`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    /// `PLAIN`.
    Plain,
    /// `SCRAM-SHA-256`.
    ScramSha256,
    /// `SCRAM-SHA-512`.
    ScramSha512,
}

impl SaslMechanism {
    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SaslMechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Plain, Self::ScramSha256, Self::ScramSha512];
        let found = known.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("the SASL mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, not {text}"))
    }
}

/// A secret that does not show in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes the text as it is.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaslCredentials {
    /// How it is proved.
    pub mechanism: SaslMechanism,
    /// The name.
    pub username: String,
    /// The secret.
    pub password: Password,
}

/// Why a connection could not be authenticated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The broker does not offer the mechanism.
    #[error("broker does not offer the SASL mechanism {mechanism}, only {offered}")]
    Mechanism {
        /// What was asked for.
        mechanism: SaslMechanism,
        /// What there is.
        offered: String,
    },
    /// The broker does not accept the credentials.
    #[error("SASL authentication as '{username}' failed: {code}{}", message.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Refused {
        /// Who we said we are.
        username: String,
        /// Kafka's code.
        code: ErrorCode,
        /// What the broker says.
        message: Option<String>,
    },
    /// The broker broke the rules of SCRAM, or does not know the password itself.
    #[error(transparent)]
    Scram(#[from] ScramError),
    /// The listener does not speak SASL.
    #[error("broker does not speak SASL on this port: {0}")]
    Unsupported(#[from] Unsupported),
    /// The connection ended meanwhile.
    #[error("connection ended during the SASL exchange: {0}")]
    Connection(#[from] ConnectionError),
}

/// Proves who we are on a connection whose versions are negotiated and that has carried nothing else.
///
/// # Errors
/// The broker does not accept it, or does not know the password.
pub(crate) async fn authenticate(connection: &Connection, credentials: &SaslCredentials) -> Result<(), SaslError> {
    let mechanism = credentials.mechanism;
    let version = connection.versions().highest::<SaslHandshakeRequest>(HANDSHAKE_VERSION_MAX)?;
    let handshake =
        SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(credentials.mechanism.name()));
    let response = connection.call(&handshake, version).await?;
    match ErrorCode(response.error_code) {
        code if code.is_ok() => {}
        ErrorCode::UNSUPPORTED_SASL_MECHANISM => {
            let offered = response.mechanisms.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(SaslError::Mechanism { mechanism, offered });
        }
        code => return Err(refused(credentials, code, None)),
    }
    let hash = match mechanism {
        SaslMechanism::Plain => {
            exchange(connection, credentials, plain(credentials)).await?;
            return Ok(());
        }
        SaslMechanism::ScramSha256 => scram::Hash::Sha256,
        SaslMechanism::ScramSha512 => scram::Hash::Sha512,
    };
    let nonce = scram::nonce()?;
    let (first, client) = scram::client_first(hash, &credentials.username, &credentials.password.0, &nonce);
    let server_first = exchange(connection, credentials, first).await?;
    let (last, server) = client.client_final(&server_first)?;
    let server_final = exchange(connection, credentials, last).await?;
    Ok(server.verify(&server_final)?)
}

/// RFC 4616, section 2: no authorisation identity, then name and password.
fn plain(credentials: &SaslCredentials) -> String {
    format!("\0{}\0{}", credentials.username, credentials.password.0)
}

async fn exchange(connection: &Connection, credentials: &SaslCredentials, message: String) -> Result<Bytes, SaslError> {
    let version = connection.versions().highest::<SaslAuthenticateRequest>(AUTHENTICATE_VERSION_MAX)?;
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let response = connection.call(&request, version).await?;
    let code = ErrorCode(response.error_code);
    if !code.is_ok() {
        return Err(refused(credentials, code, response.error_message.as_ref()));
    }
    Ok(response.auth_bytes)
}

fn refused(credentials: &SaslCredentials, code: ErrorCode, message: Option<&StrBytes>) -> SaslError {
    let message = message.map(|text| text.to_string()).filter(|text| !text.is_empty());
    SaslError::Refused { username: credentials.username.clone(), code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sasl_mechanisms_are_read_by_kafkas_names() {
        assert_eq!("scram-sha-512".parse(), Ok(SaslMechanism::ScramSha512));
        assert_eq!("PLAIN".parse(), Ok(SaslMechanism::Plain));
        assert!("GSSAPI".parse::<SaslMechanism>().unwrap_err().contains("SCRAM-SHA-256"));
    }

    #[test]
    fn sasl_password_does_not_show() {
        let password = Password::new("secret");
        let username = "alice".to_owned();
        let credentials = SaslCredentials { mechanism: SaslMechanism::Plain, username, password };
        assert!(!format!("{credentials:?}").contains("secret"));
        assert_eq!(plain(&credentials), "\0alice\0secret");
    }
}
