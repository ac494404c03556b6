//! The TLS server configuration of a site.

use std::sync::Arc;

use rustls::Error;
use rustls::crypto::CryptoProvider;
use rustls::server::{ProducesTickets, ResolvesServerCert, ServerConfig};

use super::challenge::{Challenge, Challenges};
use super::sessions::Sessions;
use super::verifier::SiteVerifier;
use crate::crypto::{self, KeyExchange, SharedKeys, TlsPolicy};
use hookgate_core::identity::{CertificateRequest, Identity, Scope};
use hookgate_core::limits::TICKET_BYTES;

/// HTTP/2 in ALPN (RFC 9113, section 3.2).
pub const HTTP_2: &[u8] = b"h2";

/// HTTP/1.1 in ALPN (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// What the sites of one generation share. Every generation makes its own, with a new memory of sessions and new keys of tickets: none can
/// resume a session of another. Keys that hosts share are those of a trust policy: they are the same under the same policy, in whichever
/// generation and on whichever host.
#[derive(Clone)]
pub struct SharedTls {
    provider: Arc<CryptoProvider>,
    policy: TlsPolicy,
    /// What ALPN offers, in our order of preference.
    protocols: &'static [&'static [u8]],
    certificates: Arc<dyn ResolvesServerCert>,
    ticketer: Arc<dyn ProducesTickets>,
    sessions: Arc<Sessions>,
}

impl SharedTls {
    /// With no sessions, and the keys of tickets that hosts share, or without such a new one. Of `groups`, the first is preferred. Peers may
    /// choose HTTP/2 if `http2` says so.
    ///
    /// # Errors
    ///
    /// [`Error`] if the system has no randomness.
    pub fn new(
        certificates: Arc<dyn ResolvesServerCert>,
        policy: TlsPolicy,
        groups: &[KeyExchange],
        tickets: Option<SharedKeys>,
        http2: bool,
    ) -> Result<Self, Error> {
        let provider = Arc::new(crypto::provider_for(policy, groups));
        let protocols: &[&[u8]] = if http2 { &[HTTP_2, HTTP_1_1] } else { &[HTTP_1_1] };
        let (ticketer, sessions) = (ticketer(tickets)?, Arc::new(Sessions::new()));
        Ok(Self { provider, policy, protocols, certificates, ticketer, sessions })
    }

    /// The same for another generation: without sessions, and with keys of tickets as [`SharedTls::new`].
    ///
    /// # Errors
    ///
    /// As [`SharedTls::new`].
    pub fn renewed(&self, tickets: Option<SharedKeys>) -> Result<Self, Error> {
        Ok(Self { ticketer: ticketer(tickets)?, sessions: Arc::new(Sessions::new()), ..self.clone() })
    }

    /// The same for another policy of the same generation: with its sessions, and with its keys of tickets unless hosts share them.
    ///
    /// # Errors
    ///
    /// As [`SharedTls::new`].
    pub fn under(&self, tickets: Option<SharedKeys>) -> Result<Self, Error> {
        let renewed = match tickets {
            Some(shared) => ticketer(Some(shared))?,
            None => Arc::clone(&self.ticketer),
        };
        Ok(Self { ticketer: renewed, ..self.clone() })
    }

    /// The same with other certificates of this server: sessions and keys of tickets stay.
    #[must_use]
    pub fn with_certificates(&self, certificates: Arc<dyn ResolvesServerCert>) -> Self {
        Self { certificates, ..self.clone() }
    }

    /// What handshakes with authorities that verify these names are answered with.
    ///
    /// # Errors
    ///
    /// [`Error`] if a key cannot be used.
    pub fn challenges(&self, challenges: &[Arc<Challenge>]) -> Result<Challenges, Error> {
        Challenges::new(challenges, &self.provider, self.policy)
    }

    /// The configuration of a site whose peers are verified for `scope`: the versions of the policy, a request for a client certificate with the
    /// names of the scope's trust anchors, unless none is asked for, one session ticket per connection (each costs an encryption, and one is enough to resume).
    ///
    /// # Errors
    ///
    /// [`Error`] if the provider supports no cipher suite or group of a protocol version; each policy has some of its versions.
    pub fn server_config(
        &self,
        identity: &Arc<Identity>,
        scope: &Scope,
        request: CertificateRequest,
    ) -> Result<Arc<ServerConfig>, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(self.policy.versions())?;
        let builder = match request {
            CertificateRequest::Never => builder.with_no_client_auth(),
            CertificateRequest::Required | CertificateRequest::Optional => {
                let algorithms = self.provider.signature_verification_algorithms;
                let verifier = SiteVerifier::new(Arc::clone(identity), scope.clone(), request, algorithms);
                builder.with_client_cert_verifier(Arc::new(verifier))
            }
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&self.certificates));
        config.alpn_protocols = self.protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = Arc::clone(&self.ticketer);
        config.session_storage = Arc::<Sessions>::clone(&self.sessions);
        config.send_tls13_tickets = 1;
        Ok(Arc::new(config))
    }
}

fn ticketer(shared: Option<SharedKeys>) -> Result<Arc<dyn ProducesTickets>, Error> {
    Ok(Arc::new(ShortTickets(crypto::ticketer(shared)?)))
}

/// Makes no ticket that the client could not send back: a session contains the client's chain, and a ClientHello is bounded.
#[derive(Debug)]
struct ShortTickets(Arc<dyn ProducesTickets>);

impl ProducesTickets for ShortTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() <= TICKET_BYTES { self.0.encrypt(plain) } else { None }
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_with_a_long_chain_becomes_no_ticket() {
        let tickets = crypto::ticketer(None).map(ShortTickets);
        let opened = |length: usize| {
            let tickets = tickets.as_ref().ok()?;
            tickets.decrypt(&tickets.encrypt(&vec![7; length])?)
        };
        assert_eq!(opened(TICKET_BYTES), Some(vec![7; TICKET_BYTES]));
        assert_eq!(opened(TICKET_BYTES + 1), None);
    }
}
