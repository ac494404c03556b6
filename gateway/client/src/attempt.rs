//! One connection to a receiver as a sender makes it, and one request on it.
//!
//! Owns the steps and their time-outs. Must not judge what came of them: `probe` and `send` do.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use serde::Serialize;
use tokio::time::timeout;

use crate::exchange::{Answer, Connection, ExchangeError, Request, milliseconds};
use crate::pki::Identity;
use crate::sender::Facts;
use crate::suite::{self, TlsVersion};
use crate::target::Target;
use crate::tls::{Offer, Shown, TlsFailure};

/// How long a TCP connection or a handshake may take. Both take a round trip or two.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A handshake, to print.
#[derive(Clone, Debug, Serialize)]
pub struct Handshake {
    /// The version: `1.2` or `1.3`.
    pub tls_version: &'static str,
    /// The suite, by its name at IANA.
    pub cipher_suite: String,
    /// From the start of the TCP connection.
    #[serde(rename = "connected_ms", serialize_with = "milliseconds")]
    pub connected: Duration,
    /// From then to the end of the handshake.
    #[serde(rename = "handshake_ms", serialize_with = "milliseconds")]
    pub handshake: Duration,
}

/// What came of an attempt, as far as it got.
#[derive(Debug, Default)]
pub struct Attempt {
    /// Why there is no TCP connection.
    pub no_connection: Option<io::Error>,
    /// What the server showed.
    pub shown: Shown,
    /// The handshake, if it completed.
    pub handshake: Option<Handshake>,
    /// The answer, or why there is none; `None` if there is no TCP connection.
    pub outcome: Option<Result<Answer, ExchangeError>>,
}

/// An open connection, and its handshake.
#[derive(Debug)]
pub struct Open {
    /// For requests.
    pub connection: Connection,
    /// How it came about.
    pub handshake: Handshake,
}

/// What a sender with these `facts` offers, with `identity` as its certificate. Everything that rustls has where the facts say nothing.
#[must_use]
pub fn offer(facts: &Facts, identity: Option<Arc<CertifiedKey>>) -> Offer {
    let versions = match facts.tls_versions.is_empty() {
        true => TlsVersion::ALL.to_vec(),
        false => facts.tls_versions.clone(),
    };
    let suites = (!facts.cipher_suites.is_empty()).then(|| facts.cipher_suites.clone());
    Offer { versions, suites, identity }
}

/// The key of `identity`, ready to sign.
///
/// # Errors
///
/// The key is of a kind that `provider` does not know.
pub fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, rustls::Error> {
    let key = provider.key_provider.load_private_key(identity.key.clone_key())?;
    Ok(Arc::new(CertifiedKey::new(identity.chain.clone(), key)))
}

/// Opens a connection. What the server showed is in `shown`, however it ends.
///
/// # Errors
///
/// The attempt, if there is no connection or the handshake fails.
pub async fn open(target: &Target, offer: &Offer, provider: &CryptoProvider) -> Result<(Shown, Open), Box<Attempt>> {
    let start = Instant::now();
    let stream = match target.connect(CONNECT_LIMIT).await {
        Ok(stream) => stream,
        Err(error) => return Err(Box::new(Attempt { no_connection: Some(error), ..Attempt::default() })),
    };
    let connected = start.elapsed();
    let handshake = timeout(CONNECT_LIMIT, offer.connect(provider, target.server_name.clone(), stream)).await;
    let (shown, outcome) = handshake.unwrap_or_else(|_| (Shown::default(), Err(TlsFailure::TimedOut)));
    let failed = |shown, error| Box::new(Attempt { shown, outcome: Some(Err(error)), ..Attempt::default() });
    match outcome {
        Err(failure) => Err(failed(shown, failure.into())),
        Ok(tls) => {
            let handshake = Handshake {
                tls_version: tls.version,
                cipher_suite: suite::name(tls.suite),
                connected,
                handshake: start.elapsed() - connected,
            };
            match Connection::new(tls.stream).await {
                Ok(connection) => Ok((shown, Open { connection, handshake })),
                Err(error) => Err(failed(shown, error)),
            }
        }
    }
}

/// Opens a connection and sends `request`. `limit` is for the first byte of the answer, and for its rest each.
pub async fn attempt(
    target: &Target,
    offer: &Offer,
    provider: &CryptoProvider,
    request: &Request,
    limit: Duration,
) -> Attempt {
    match open(target, offer, provider).await {
        Err(attempt) => *attempt,
        Ok((shown, mut open)) => {
            let outcome = open.connection.send(request, limit).await;
            Attempt { no_connection: None, shown, handshake: Some(open.handshake), outcome: Some(outcome) }
        }
    }
}
