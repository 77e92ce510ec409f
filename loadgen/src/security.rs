//! How a cluster given by `--bootstrap` is reached over TCP: in the clear or under TLS, with or without SASL. The names
//! are those of Kafka's clients. A password comes from a file or from the environment, never from the command line,
//! which every user of the machine can read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use minisr_client::{Password, SaslCredentials, SaslMechanism};
use serde::{Deserialize, Serialize};

/// Where the password is looked for without `--sasl-password-file`.
pub const PASSWORD_VARIABLE: &str = "MINISR_SASL_PASSWORD";

/// Kafka's `security.protocol`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SecurityProtocol {
    /// In the clear, nobody asks who we are.
    #[default]
    Plaintext,
    /// Under TLS.
    Ssl,
    /// In the clear, with SASL.
    SaslPlaintext,
    /// Under TLS, with SASL.
    SaslSsl,
}

impl SecurityProtocol {
    const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    fn of(tls: bool, sasl: bool) -> Self {
        match (tls, sasl) {
            (false, false) => Self::Plaintext,
            (true, false) => Self::Ssl,
            (false, true) => Self::SaslPlaintext,
            (true, true) => Self::SaslSsl,
        }
    }

    /// Whether the bytes are encrypted.
    pub fn tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    fn sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

impl FromStr for SecurityProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|protocol| protocol.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("the security protocol is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, not {text}"))
    }
}

/// Flags, and names in the TOML file, of a cluster that is reached over TCP.
#[derive(Debug, Clone, Default, Args)]
pub struct SecurityArguments {
    /// PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, over TCP [default: what --ca and --sasl-username suggest]
    #[arg(long, value_name = "PROTOCOL")]
    pub security_protocol: Option<SecurityProtocol>,
    /// PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512
    #[arg(long, value_name = "MECHANISM")]
    pub sasl_mechanism: Option<SaslMechanism>,
    /// Name by which the cluster knows us
    #[arg(long, value_name = "NAME")]
    pub sasl_username: Option<String>,
    /// File with the password [default: the environment variable MINISR_SASL_PASSWORD]
    #[arg(long, value_name = "FILE")]
    pub sasl_password_file: Option<PathBuf>,
}

/// How a cluster is reached, resolved.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Security {
    /// Over TCP.
    pub protocol: SecurityProtocol,
    /// Who we are. The manifest says how it is proved, and nothing of the secret.
    #[serde(serialize_with = "mechanism_only", rename = "sasl_mechanism")]
    pub sasl: Option<SaslCredentials>,
}

fn mechanism_only<S: serde::Serializer>(sasl: &Option<SaslCredentials>, serializer: S) -> Result<S::Ok, S::Error> {
    sasl.as_ref().map(|credentials| credentials.mechanism.name()).serialize(serializer)
}

impl SecurityArguments {
    /// These, and those of `file` where these are silent.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            security_protocol: self.security_protocol.or(file.security_protocol),
            sasl_mechanism: self.sasl_mechanism.or(file.sasl_mechanism),
            sasl_username: self.sasl_username.or(file.sasl_username),
            sasl_password_file: self.sasl_password_file.or(file.sasl_password_file),
        }
    }

    /// Whether anything is asked for.
    pub fn is_given(&self) -> bool {
        self.security_protocol.is_some() || self.asks_for_sasl()
    }

    fn asks_for_sasl(&self) -> bool {
        self.sasl_mechanism.is_some() || self.sasl_username.is_some() || self.sasl_password_file.is_some()
    }

    /// Over TCP, with this certificate authority. Refuses what contradicts itself.
    pub fn resolve(&self, ca: Option<&Path>) -> Result<Security> {
        let suggested = SecurityProtocol::of(ca.is_some(), self.asks_for_sasl());
        let protocol = self.security_protocol.unwrap_or(suggested);
        match (protocol.tls(), ca) {
            (true, None) => {
                bail!("--security-protocol {protocol} needs --ca FILE, the cluster's certificate authority")
            }
            (false, Some(_)) => bail!("--ca is for TLS, and --security-protocol {protocol} has none"),
            _ => {}
        }
        if !protocol.sasl() {
            ensure!(
                !self.asks_for_sasl(),
                "--sasl-… flags say who we are, and --security-protocol {protocol} does not ask"
            );
            return Ok(Security { protocol, sasl: None });
        }
        let (Some(mechanism), Some(username)) = (self.sasl_mechanism, self.sasl_username.clone()) else {
            bail!("{protocol} needs --sasl-mechanism and --sasl-username");
        };
        let password = match (&self.sasl_password_file, std::env::var(PASSWORD_VARIABLE)) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("the password file {} cannot be read", path.display()))?;
                // An editor's line end is not part of it.
                text.strip_suffix('\n').map_or(text.clone(), |line| line.trim_end_matches('\r').to_owned())
            }
            (None, Ok(password)) => password,
            (None, Err(_)) => {
                bail!(
                    "{protocol} needs a password: --sasl-password-file FILE, or the environment variable {PASSWORD_VARIABLE}"
                )
            }
        };
        let password = Password::new(password);
        Ok(Security { protocol, sasl: Some(SaslCredentials { mechanism, username, password }) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sasl(password_file: Option<PathBuf>) -> SecurityArguments {
        SecurityArguments {
            security_protocol: None,
            sasl_mechanism: Some(SaslMechanism::ScramSha256),
            sasl_username: Some("alice".to_owned()),
            sasl_password_file: password_file,
        }
    }

    #[test]
    fn security_protocol_is_what_the_other_flags_suggest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        let ca = Path::new("ca.pem");
        let none = SecurityArguments::default();
        assert_eq!(none.resolve(None).unwrap().protocol, SecurityProtocol::Plaintext);
        assert_eq!(none.resolve(Some(ca)).unwrap().protocol, SecurityProtocol::Ssl);
        assert_eq!(sasl(Some(file.clone())).resolve(None).unwrap().protocol, SecurityProtocol::SaslPlaintext);
        let both = sasl(Some(file)).resolve(Some(ca)).unwrap();
        assert_eq!(both.protocol, SecurityProtocol::SaslSsl);
        assert_eq!(both.sasl.as_ref().unwrap().password, Password::new("secret"), "without the line end");
        let manifest = serde_json::to_string(&both).unwrap();
        assert_eq!(manifest, r#"{"protocol":"SASL_SSL","sasl_mechanism":"SCRAM-SHA-256"}"#);
    }

    #[test]
    fn security_contradictions_are_refused_with_a_sentence() {
        let protocol = |protocol| SecurityArguments { security_protocol: Some(protocol), ..Default::default() };
        let refused = [
            protocol(SecurityProtocol::Ssl).resolve(None),
            protocol(SecurityProtocol::Plaintext).resolve(Some(Path::new("ca.pem"))),
            protocol(SecurityProtocol::SaslPlaintext).resolve(None),
            SecurityArguments { security_protocol: Some(SecurityProtocol::Plaintext), ..sasl(None) }.resolve(None),
            sasl(Some(PathBuf::from("nowhere/password"))).resolve(None),
        ];
        for refused in refused {
            assert_eq!(format!("{:#}", refused.unwrap_err()).lines().count(), 1);
        }
        assert_eq!("sasl_ssl".parse(), Ok(SecurityProtocol::SaslSsl));
        assert!("TLS".parse::<SecurityProtocol>().is_err());
    }
}
