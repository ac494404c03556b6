//! Challenges of authorities (TLS-ALPN-01, RFC 8737): what a handshake with the protocol `acme-tls/1` alone is answered with.
//!
//! Owns which handshake is one, and its TLS configuration: a certificate that proves the account of the host, no request for a client
//! certificate, no session. Must not make a challenge: `control::acme` does, for the time in which an authority verifies a name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::crypto::{self, TlsPolicy};

/// The protocol that a client offers to verify a name, and then no other (RFC 8737, section 3).
const PROTOCOL: &[u8] = b"acme-tls/1";

/// A name that an authority verifies now.
pub struct Challenge {
    /// In lower case.
    pub domain: Box<str>,
    /// Self-signed, for the domain, with the digest of the key authorization.
    pub certificate: CertificateDer<'static>,
    /// Its key, which is used for nothing else.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Challenge").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// The names that are verified now, each with its configuration. Almost always none.
#[derive(Clone, Debug, Default)]
pub struct Challenges(Arc<BTreeMap<Box<str>, Arc<ServerConfig>>>);

impl Challenges {
    /// The configurations of these challenges, with the versions and suites of `policy`.
    ///
    /// # Errors
    ///
    /// [`rustls::Error`] if a key cannot be used.
    pub fn new(
        challenges: &[Arc<Challenge>],
        provider: &Arc<CryptoProvider>,
        policy: TlsPolicy,
    ) -> Result<Self, rustls::Error> {
        let config = |challenge: &Arc<Challenge>| {
            Ok((challenge.domain.clone(), Arc::new(server_config(challenge, provider, policy)?)))
        };
        Ok(Self(Arc::new(challenges.iter().map(config).collect::<Result<_, rustls::Error>>()?)))
    }

    /// The configuration for a client that verifies one of the names. Costs an ordinary client one comparison.
    pub fn of(&self, hello: &ClientHello<'_>) -> Option<&Arc<ServerConfig>> {
        if self.0.is_empty() {
            return None;
        }
        let mut offered = hello.alpn()?;
        if offered.next() != Some(PROTOCOL) || offered.next().is_some() {
            return None;
        }
        self.0.get(hello.server_name()?.to_ascii_lowercase().as_str())
    }
}

fn server_config(
    challenge: &Challenge,
    provider: &Arc<CryptoProvider>,
    policy: TlsPolicy,
) -> Result<ServerConfig, rustls::Error> {
    let key = crypto::signing_key(&challenge.key)?;
    let certified = CertifiedKey::new(vec![challenge.certificate.clone()], key);
    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(policy.versions())?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    // The default would remember sessions, and the default ticketer makes no ticket.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
