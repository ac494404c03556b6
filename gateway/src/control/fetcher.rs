//! One fetch of what is published: bounded in time, size and redirects, from public addresses; over HTTPS, unless the document is signed.
//!
//! Owns the client and its bounds, the request, and what the head of an answer says. Must not decide when to fetch, nor what a document
//! says: `published` does.

mod address;
mod error;
mod freshness;

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    USER_AGENT,
};
use hyper::{Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::client::WantsClientCert;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tower_service::Service;

use crate::config::{Feed, FeedUrl, FetchLimits};
use crate::crypto;

pub(super) use self::address::check_literal;
use self::address::{NoPublicAddress, is_public};
pub use self::error::FetchError;
pub(super) use self::error::failure;
use self::freshness::freshness;

/// Most addresses of each family that are tried. They share the time for connecting equally: 1.9 s each at the default time-out of
/// 10 s. An issuer can publish a dozen and more, and less time each would exclude slow paths.
const ADDRESSES_PER_FAMILY: usize = 4;

/// The most bytes of a validator that is kept (ETag, Last-Modified). Servers use some ten.
const MAXIMUM_VALIDATOR_BYTES: usize = 256;

/// What a server said about the version of a document, to be sent back with the next request (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`
    pub etag: Option<String>,
    /// `Last-Modified`
    pub last_modified: Option<String>,
}

/// What hookgate says it is.
pub(super) const AGENT: &str = concat!("hookgate/", env!("CARGO_PKG_VERSION"));

/// Reads a body of at most `limit` bytes.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, FetchError> {
    let read = Limited::new(body, limit).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
        true => FetchError::TooLarge { limit },
        false => FetchError::Body(error.to_string()),
    })?;
    Ok(read.to_bytes())
}

/// The error of a redirection that is not followed.
pub(super) fn redirected(status: StatusCode, headers: &HeaderMap) -> FetchError {
    let location = headers.get(LOCATION).map_or(&b"nowhere"[..], |location| location.as_bytes());
    FetchError::Redirect { status, location: shown(location) }
}

/// A location as messages show it.
fn shown(location: &[u8]) -> String {
    location[..location.len().min(200)].escape_ascii().to_string()
}

/// The answer to one request.
#[derive(Debug)]
pub enum Answer {
    /// A document.
    Document {
        /// Its bytes.
        bytes: Bytes,
        /// Its version.
        validators: Validators,
        /// How long it is fresh, within the limits.
        fresh_for: Duration,
    },
    /// The version that the request named is still the current one.
    NotModified {
        /// How long it is fresh, within the limits.
        fresh_for: Duration,
    },
}

/// An HTTP client that connects to what it may fetch from, and keeps no connection.
pub(super) type FetchClient<B> = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, B>;

/// A client within these limits. With `allow_plain`, what it asks for may come over plain HTTP.
pub(super) fn client<B>(tls: Arc<ClientConfig>, limits: &FetchLimits, allow_plain: bool) -> FetchClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let resolver = Resolver { allow_private: limits.allow_private };
    let mut connector = HttpsConnector::from((connector(resolver, limits.timeout), tls));
    if !allow_plain {
        connector.enforce_https();
    }
    legacy::Client::builder(TokioExecutor::new())
        // A connection ends with its fetch, however that ends.
        .pool_max_idle_per_host(0)
        .retry_canceled_requests(false)
        .http1_max_buf_size(64 * 1024)
        .http1_max_headers(100)
        .build(connector)
}

/// Fetches one document.
#[derive(Clone, Debug)]
pub struct Fetcher {
    url: FeedUrl,
    client: FetchClient<Empty<Bytes>>,
    limits: FetchLimits,
    accept: &'static str,
    /// Whether the document is signed, so that it may come without TLS.
    is_signed: bool,
}

/// TLS settings for fetching: servers whose certificate `roots` vouch for, TLS 1.2 and 1.3, HTTP/1.1.
///
/// # Errors
///
/// Where rustls and its provider do not fit together.
pub fn tls_settings(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = tls_builder(roots)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS 1.2 and 1.3 to servers whose certificate `roots` vouch for; the caller says as which client.
///
/// # Errors
///
/// Where rustls and its provider do not fit together.
pub fn tls_builder(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots))
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

/// The roots of a `ca_file`.
pub fn configured_roots(certificates: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    roots
}

impl Fetcher {
    /// A fetcher of what is published at `feed`, as one of the media types `accept`. A document that `is_signed` may come over plain HTTP.
    #[must_use]
    pub fn new(feed: &Feed, tls: Arc<ClientConfig>, accept: &'static str, is_signed: bool) -> Self {
        let (url, limits) = (feed.url.clone(), feed.limits);
        let client = client(tls, &limits, is_signed);
        Self { url, client, limits, accept, is_signed }
    }

    /// Fetches the document once, unless it is still the version of `validators`.
    ///
    /// # Errors
    ///
    /// Where anything is not as it should be; the document that there is then stays.
    pub async fn get(&self, validators: &Validators) -> Result<Answer, FetchError> {
        let limit = self.limits.timeout;
        timeout(limit, self.exchange(validators)).await.unwrap_or(Err(FetchError::TimedOut(limit)))
    }

    async fn exchange(&self, validators: &Validators) -> Result<Answer, FetchError> {
        let mut url = self.url.clone();
        let mut redirects = self.limits.redirects;
        let (head, body) = loop {
            check_literal(&url, self.limits.allow_private)?;
            let request = self.request(&url, validators);
            let response = self.client.request(request).await.map_err(|error| failure(&url, error))?;
            let (head, body) = response.into_parts();
            let may_follow = self.limits.redirects > 0 && is_to_elsewhere(head.status);
            if !may_follow {
                break (head, body);
            }
            url = follow(&url, head.status, &head.headers, redirects, self.is_signed)?;
            redirects -= 1;
        };
        let fresh_for = freshness(&head.headers).clamp(self.limits.min_fresh, self.limits.max_fresh);
        if head.status == StatusCode::NOT_MODIFIED && *validators != Validators::default() {
            return Ok(Answer::NotModified { fresh_for });
        }
        check_head(head.status, &head.headers)?;
        let bytes = read(body, self.limits.max_bytes).await?;
        Ok(Answer::Document { bytes, validators: Validators::of(&head.headers), fresh_for })
    }

    fn request(&self, url: &FeedUrl, validators: &Validators) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = url.uri().clone();
        let fixed = HeaderValue::from_static;
        request.headers_mut().insert(ACCEPT, fixed(self.accept));
        request.headers_mut().insert(USER_AGENT, fixed(AGENT));
        for (name, value) in [(IF_NONE_MATCH, &validators.etag), (IF_MODIFIED_SINCE, &validators.last_modified)] {
            if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_str(value).ok()) {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value: &HeaderValue = headers.get(name)?;
            value.to_str().ok().filter(|text| text.len() <= MAXIMUM_VALIDATOR_BYTES).map(str::to_owned)
        };
        Self { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }
}

fn is_to_elsewhere(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The URL that a redirect of `from` leads to, with at least one redirect `left`: https, and http only from http to a document that
/// `is_signed`.
fn follow(
    from: &FeedUrl,
    status: StatusCode,
    headers: &HeaderMap,
    left: usize,
    is_signed: bool,
) -> Result<FeedUrl, FetchError> {
    let location = headers.get(LOCATION).map_or(&b""[..], |location| location.as_bytes());
    let shown = shown(location);
    let refused = |reason: String| FetchError::RedirectRefused { status, location: shown.clone(), reason };
    if left == 0 {
        return Err(refused("there were too many redirects before it".to_owned()));
    }
    let text = std::str::from_utf8(location).map_err(|error| refused(error.to_string()))?;
    let authority = from.uri().authority().map_or("", |authority| authority.as_str());
    let absolute = match text.strip_prefix('/') {
        Some(path) if !path.starts_with('/') => {
            let scheme = if from.is_https() { "https" } else { "http" };
            format!("{scheme}://{authority}{text}")
        }
        _ => text.to_owned(),
    };
    // A fragment is for the reader of the document.
    let absolute = absolute.split('#').next().unwrap_or_default();
    let parse = if is_signed && !from.is_https() { FeedUrl::parse_signed } else { FeedUrl::parse };
    parse(absolute).map_err(|error| refused(error.to_string()))
}

/// Connects to the addresses that `resolver` finds within three quarters of `fetch_timeout`: the rest is for TLS and the answer.
/// If the family of the first address does not answer within 300 ms, the other family is tried at the same time (RFC 6555).
fn connector<R>(resolver: R, fetch_timeout: Duration) -> HttpConnector<R> {
    let mut connector = HttpConnector::new_with_resolver(resolver);
    connector.enforce_http(false);
    connector.set_connect_timeout(Some(fetch_timeout * 3 / 4));
    connector
}

/// The resolver of this host, reduced to the first [`ADDRESSES_PER_FAMILY`] addresses of each family, and to public ones. What it finds is
/// what is connected to, so a name cannot resolve to another address in between.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    allow_private: bool,
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        #[cfg(test)]
        if name.as_str() == server::PUBLIC_NAME {
            return Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))].into_iter()) });
        }
        // The connector sets the port.
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let found = first_of_each_family(found.filter(|address| allow_private || is_public(address.ip())));
            if found.is_empty() { Err(io::Error::other(NoPublicAddress)) } else { Ok(found.into_iter()) }
        })
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
        return Err(redirected(status, headers));
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    if headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchError::ContentEncoding);
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::control) mod server;
#[cfg(test)]
mod tests;
