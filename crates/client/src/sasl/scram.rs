//! SCRAM (RFC 5802) with SHA-256 or SHA-512 (RFC 7677), the client's side, without channel binding.
//!
//! ```text
//! client-first   n,,n=user,r=nonce
//! server-first   r=nonce+more,s=salt,i=iterations
//! client-final   c=biws,r=nonce+more,p=proof          proof = ClientKey XOR HMAC(H(ClientKey), AuthMessage)
//! server-final   v=signature                          signature = HMAC(ServerKey, AuthMessage)
//! ```
//!
//! The server learns that we know the password, and we learn that it does: an exchange without the right signature is
//! not an authentication. The hashes come from *ring*; what is here is the order of the messages.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac, pbkdf2};

/// Bytes of a nonce before they are written in base64.
const NONCE_BYTES: usize = 24;

/// RFC 7677, section 4: fewer rounds make guessing too cheap, and who asks for fewer may be an impostor.
const ITERATIONS_MIN: u32 = 4_096;
/// More would let whoever answers burn our time.
const ITERATIONS_MAX: u32 = 10_000_000;

/// `n,,` in base64: no channel binding, no authorisation identity.
const CHANNEL_BINDING: &str = "biws";

/// The hash of a mechanism.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }

    fn sign(self, key: &[u8], text: &[u8]) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac(), key), text)
    }
}

/// Why the exchange is not an authentication.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The server's message is not one of SCRAM.
    #[error("broker's SCRAM message is not understood: {0}")]
    Malformed(&'static str),
    /// The server says why it refuses (RFC 5802, section 7, `e=`).
    #[error("broker refuses SCRAM: {0}")]
    Refused(String),
    /// The server's nonce does not begin with ours: an answer to somebody else.
    #[error("broker's SCRAM nonce does not continue ours")]
    Nonce,
    /// Too few rounds to be safe, or too many to be meant.
    #[error("broker asks for {0} SCRAM iterations; {ITERATIONS_MIN} to {ITERATIONS_MAX} are accepted")]
    Iterations(u32),
    /// The server does not know the password.
    #[error("broker's SCRAM signature is wrong: it does not know the password")]
    Signature,
    /// The system gives no random numbers.
    #[error("no random numbers from the system")]
    Random,
}

/// A nonce of printable characters without a comma.
pub(super) fn nonce() -> Result<String, ScramError> {
    let mut bytes = [0; NONCE_BYTES];
    ring::rand::SystemRandom::new().fill(&mut bytes).map_err(|_| ScramError::Random)?;
    Ok(BASE64.encode(bytes))
}

/// After the client's first message.
pub(super) struct AwaitsServerFirst<'a> {
    hash: Hash,
    password: &'a str,
    nonce: String,
    client_first_bare: String,
}

/// After the client's last message.
pub(super) struct AwaitsServerFinal {
    signature: Vec<u8>,
}

/// The first message, and what waits for its answer.
pub(super) fn client_first<'a>(
    hash: Hash,
    username: &str,
    password: &'a str,
    nonce: &str,
) -> (String, AwaitsServerFirst<'a>) {
    // RFC 5802, section 5.1: the two characters that would end the name.
    let name = username.replace('=', "=3D").replace(',', "=2C");
    let client_first_bare = format!("n={name},r={nonce}");
    let message = format!("n,,{client_first_bare}");
    (message, AwaitsServerFirst { hash, password, nonce: nonce.to_owned(), client_first_bare })
}

impl AwaitsServerFirst<'_> {
    /// The last message, with the proof.
    pub(super) fn client_final(self, server_first: &[u8]) -> Result<(String, AwaitsServerFinal), ScramError> {
        let server_first = text(server_first)?;
        let (nonce, salt, iterations) = parse_server_first(server_first)?;
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let rounds = NonZeroU32::new(iterations)
            .filter(|rounds| (ITERATIONS_MIN..=ITERATIONS_MAX).contains(&rounds.get()))
            .ok_or(ScramError::Iterations(iterations))?;
        let hash = self.hash;
        let mut salted_password = vec![0; hash.digest().output_len()];
        pbkdf2::derive(hash.pbkdf2(), rounds, &salt, self.password.as_bytes(), &mut salted_password);
        let client_key = hash.sign(&salted_password, b"Client Key");
        let stored_key = digest::digest(hash.digest(), client_key.as_ref());
        let without_proof = format!("c={CHANNEL_BINDING},r={nonce}");
        let auth_message = format!("{},{server_first},{without_proof}", self.client_first_bare);
        let client_signature = hash.sign(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(client_signature.as_ref()).map(|(key, signed)| key ^ signed).collect();
        let server_key = hash.sign(&salted_password, b"Server Key");
        let signature = hash.sign(server_key.as_ref(), auth_message.as_bytes()).as_ref().to_vec();
        Ok((format!("{without_proof},p={}", BASE64.encode(proof)), AwaitsServerFinal { signature }))
    }
}

impl AwaitsServerFinal {
    /// Whether the server knows the password too.
    pub(super) fn verify(self, server_final: &[u8]) -> Result<(), ScramError> {
        let first = text(server_final)?.split(',').next().unwrap_or_default();
        if let Some(reason) = first.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        let signature = first.strip_prefix("v=").ok_or(ScramError::Malformed("no signature"))?;
        let signature = BASE64.decode(signature).map_err(|_| ScramError::Malformed("signature is not base64"))?;
        // The server's own value, seen once and never again: nobody can learn from the time this comparison takes.
        if signature == self.signature { Ok(()) } else { Err(ScramError::Signature) }
    }
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("not UTF-8"))
}

/// Nonce, salt and iterations, in this order; extensions may follow.
fn parse_server_first(message: &str) -> Result<(&str, Vec<u8>, u32), ScramError> {
    let mut parts = message.split(',');
    let mut next = |prefix: &str, missing| {
        let part = parts.next().unwrap_or_default();
        if let Some(reason) = part.strip_prefix("e=") {
            return Err(ScramError::Refused(reason.to_owned()));
        }
        part.strip_prefix(prefix).ok_or(ScramError::Malformed(missing))
    };
    // A mandatory extension (`m=`) stands here and is none that we know: it must be refused, and is.
    let nonce = next("r=", "no nonce")?;
    let salt = next("s=", "no salt")?;
    let iterations = next("i=", "no iterations")?;
    let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed("salt is not base64"))?;
    let iterations = iterations.parse().map_err(|_| ScramError::Malformed("iterations are not a number"))?;
    Ok((nonce, salt, iterations))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7677, section 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str =
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn client() -> AwaitsServerFirst<'static> {
        client_first(Hash::Sha256, "user", "pencil", NONCE).1
    }

    #[test]
    fn scram_sha_256_says_what_rfc_7677_says() {
        let (first, client) = client_first(Hash::Sha256, "user", "pencil", NONCE);
        assert_eq!(first, "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (last, server) = client.client_final(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(last, CLIENT_FINAL);
        assert_eq!(server.verify(SERVER_FINAL.as_bytes()), Ok(()));
    }

    #[test]
    fn scram_server_that_does_not_know_the_password_is_not_believed() {
        let (_, server) = client().client_final(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(server.verify(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), Err(ScramError::Signature));
        let (_, server) = client().client_final(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(server.verify(b"e=invalid-proof"), Err(ScramError::Refused("invalid-proof".into())));
    }

    #[test]
    fn scram_answers_to_somebody_else_and_weak_ones_are_refused() {
        let answer = |message: &str| client().client_final(message.as_bytes()).err();
        assert_eq!(answer("r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), Some(ScramError::Nonce));
        assert_eq!(answer("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"), Some(ScramError::Nonce));
        let weak = "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4095";
        assert_eq!(answer(weak), Some(ScramError::Iterations(4095)));
        assert!(matches!(answer("m=x,r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096"), Some(ScramError::Malformed(_))));
        assert!(matches!(answer("r=rOprNGfwEbeRWgbNEkqOx"), Some(ScramError::Malformed(_))));
    }

    #[test]
    fn scram_names_keep_commas_and_equal_signs() {
        let (first, _) = client_first(Hash::Sha512, "a=b,c", "", "n");
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=n");
    }

    #[test]
    fn scram_nonces_differ_and_hold_no_comma() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, other);
        assert!(!one.contains(','));
    }
}
