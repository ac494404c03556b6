//! One fetch of a key set: HTTPS, bounded in time and size, without redirects.
//!
//! Owns the client and its bounds, the request, and the reading of `Cache-Control`. Must not decide when to fetch: `jwks` does.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::header::{ACCEPT, AGE, CACHE_CONTROL, CONTENT_ENCODING, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::lookup_host;
use tokio::time::timeout;
use tower_service::Service;

use crate::crypto;
use hookgate_core::auth::KeySet;
use hookgate_core::auth::token_keys::KeySetError;

pub use crate::config::{FetchLimits, KeyUrl};

/// How long keys are fresh if the issuer does not say.
const DEFAULT_FRESH: Duration = Duration::from_secs(3600);

/// Most addresses of each family that are tried. They share the time for connecting equally: 1.9 s each at the default time-out of
/// 10 s. An issuer can publish a dozen and more, and less time each would exclude slow paths.
const ADDRESSES_PER_FAMILY: usize = 4;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It took too long.
    #[error("no complete answer within {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// No connection.
    #[error("cannot connect to {host}: {}", cause(error))]
    Connect {
        /// Host and port.
        host: String,
        /// Why.
        error: legacy::Error,
    },
    /// The server's certificate is not trusted, or TLS failed otherwise.
    #[error("TLS with {host}: {}", cause(error))]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        error: legacy::Error,
    },
    /// Not HTTP, or broken off.
    #[error("HTTP: {}", cause(.0))]
    Http(legacy::Error),
    /// The body broke off.
    #[error("the answer cannot be read: {0}")]
    Body(String),
    /// A redirect, which could lead anywhere.
    #[error(
        "the answer is a redirect ({status}) to {location}; redirects are not followed, so configure the final URL"
    )]
    Redirect {
        /// Which.
        status: StatusCode,
        /// Where to, printable ASCII and at most 200 bytes of it.
        location: String,
    },
    /// Another status than 200.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// Compressed, though that was not asked for.
    #[error("the answer has a Content-Encoding, which was not asked for")]
    ContentEncoding,
    /// Too large.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: usize,
    },
    /// Not a usable key set.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

impl FetchError {
    /// A label for metrics, of a closed set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TimedOut(_) => "timed_out",
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Http(_) | Self::Body(_) => "http",
            Self::Redirect { .. } => "redirect",
            Self::Status(_) => "status",
            Self::ContentEncoding => "content_encoding",
            Self::TooLarge { .. } => "too_large",
            Self::KeySet(_) => "key_set",
        }
    }
}

/// Keys as fetched.
#[derive(Debug)]
pub struct Fetched {
    /// The keys.
    pub set: KeySet,
    /// How long the issuer says they are fresh, within the limits.
    pub fresh_for: Duration,
}

/// Fetches one key set.
#[derive(Clone, Debug)]
pub struct Fetcher {
    url: KeyUrl,
    client: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>,
    limits: FetchLimits,
}

/// TLS settings for fetching keys: servers whose certificate `roots` vouch for, TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
///
/// Where rustls and its provider do not fit together.
pub fn tls_settings(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The roots that this host trusts, as its distribution installed them (or `SSL_CERT_FILE` and `SSL_CERT_DIR` say). Reads files.
///
/// # Errors
///
/// Where there are none.
pub fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = found.errors.first().map_or_else(|| "none are installed".to_owned(), ToString::to_string);
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("this host has no trusted roots (package ca-certificates): {why}"),
    ))
}

impl Fetcher {
    /// A fetcher of the keys at `url`.
    #[must_use]
    pub fn new(url: KeyUrl, tls: Arc<ClientConfig>, limits: FetchLimits) -> Self {
        let mut connector = HttpsConnector::from((connector(Resolver, limits.timeout), tls));
        connector.enforce_https();
        let client = legacy::Client::builder(TokioExecutor::new())
            // A connection ends with its fetch, however that ends.
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .http1_max_buf_size(64 * 1024)
            .http1_max_headers(100)
            .build(connector);
        Self { url, client, limits }
    }

    /// The bounds.
    #[must_use]
    pub fn limits(&self) -> &FetchLimits {
        &self.limits
    }

    /// Fetches the keys once.
    ///
    /// # Errors
    ///
    /// Where anything is not as it should be; the keys that there are then stay.
    pub async fn fetch(&self) -> Result<Fetched, FetchError> {
        timeout(self.limits.timeout, self.exchange()).await.unwrap_or(Err(FetchError::TimedOut(self.limits.timeout)))
    }

    async fn exchange(&self) -> Result<Fetched, FetchError> {
        let response = self.client.request(self.request()).await.map_err(|error| self.failure(error))?;
        let (head, body) = response.into_parts();
        check_head(head.status, &head.headers)?;
        let document = Limited::new(body, self.limits.max_bytes).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge { limit: self.limits.max_bytes }
            } else {
                FetchError::Body(error.to_string())
            }
        })?;
        let set = KeySet::parse(&document.to_bytes())?;
        let fresh_for = freshness(&head.headers).clamp(self.limits.min_fresh, self.limits.max_fresh);
        Ok(Fetched { set, fresh_for })
    }

    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.url.uri().clone();
        let fixed = HeaderValue::from_static;
        request.headers_mut().insert(ACCEPT, fixed("application/jwk-set+json, application/json"));
        request.headers_mut().insert(USER_AGENT, fixed(concat!("hookgate/", env!("CARGO_PKG_VERSION"))));
        request
    }

    fn failure(&self, error: legacy::Error) -> FetchError {
        if !error.is_connect() {
            return FetchError::Http(error);
        }
        let host = format!("{}:{}", self.url.uri().host().unwrap_or_default(), self.url.port());
        // Of hyper-rustls' two steps, TCP fails with the error of hyper-util's connector and TLS with one of I/O.
        if error.source().is_some_and(|step| step.is::<io::Error>()) {
            FetchError::Tls { host, error }
        } else {
            FetchError::Connect { host, error }
        }
    }
}

/// What lies at the bottom of an error. The layers above it only say which step failed.
fn cause(error: &legacy::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<io::Error>() {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => cause.to_string(),
    }
}

/// Connects to the addresses that `resolver` finds within three quarters of `fetch_timeout`: the rest is for TLS and the answer.
/// If the family of the first address does not answer within 300 ms, the other family is tried at the same time (RFC 6555).
fn connector<R>(resolver: R, fetch_timeout: Duration) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(fetch_timeout * 3 / 4));
    connector
}

/// The resolver of this host, reduced to the first [`ADDRESSES_PER_FAMILY`] addresses of each family.
#[derive(Clone, Copy, Debug)]
struct Resolver;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        // The connector sets the port.
        Box::pin(async move { Ok(first_of_each_family(lookup_host((name.as_str(), 0)).await?).into_iter()) })
    }
}

fn first_of_each_family(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut v4, mut v6) = (0, 0);
    let first = |address: &SocketAddr| {
        let seen = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        *seen += 1;
        *seen <= ADDRESSES_PER_FAMILY
    };
    found.filter(first).collect()
}

fn check_head(status: StatusCode, headers: &HeaderMap) -> Result<(), FetchError> {
    if status.is_redirection() {
        let location = headers.get(LOCATION).map_or(&b"nowhere"[..], |location| location.as_bytes());
        let location = location[..location.len().min(200)].escape_ascii().to_string();
        return Err(FetchError::Redirect { status, location });
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::ContentEncoding);
    }
    Ok(())
}

/// How long an answer is fresh (RFC 9111, sections 4.2 and 5.2.2): `max-age` less `Age`; nothing at all under `no-cache` and
/// `no-store`, which the limits then make a minimum of.
fn freshness(headers: &HeaderMap) -> Duration {
    let mut max_age = None;
    for value in headers.get_all(CACHE_CONTROL) {
        for directive in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let (name, argument) = match directive.iter().position(|&byte| byte == b'=') {
                Some(equals) => (&directive[..equals], &directive[equals + 1..]),
                None => (directive, &b""[..]),
            };
            if name.eq_ignore_ascii_case(b"no-cache") || name.eq_ignore_ascii_case(b"no-store") {
                return Duration::ZERO;
            }
            if name.eq_ignore_ascii_case(b"max-age") {
                let argument =
                    argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument);
                // RFC 9111, section 4.2.1: of several, the first or the shortest; and one that is no number is stale.
                let seconds = seconds(argument).unwrap_or(0);
                max_age = Some(max_age.map_or(seconds, |before: u64| before.min(seconds)));
            }
        }
    }
    let age = headers.get(AGE).and_then(|age| seconds(age.as_bytes())).unwrap_or(0);
    max_age.map_or(DEFAULT_FRESH, |max_age| Duration::from_secs(max_age.saturating_sub(age)))
}

/// RFC 9111, section 1.2.2: digits; a number too large to hold counts as very large.
fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(std::str::from_utf8(digits).ok()?.parse().unwrap_or(u64::from(u32::MAX)))
}

#[cfg(test)]
mod tests;
