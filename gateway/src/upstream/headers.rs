//! The fields of a request for a handler: which of the peer's are copied, and which hookgate sets.
//!
//! Pure. A field that hookgate sets is never copied from the peer, under any spelling that a handler could take for it: CGI-like
//! interfaces map both `-` and `_` to `_`, so `X_Hookgate_Provider` would look genuine.

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Uri, Version};

use hookgate_core::auth::AuthenticatedRequest;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// RFC 9440, section 2.2.
pub const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
/// RFC 9440, section 2.3.
pub const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
/// The peer's address.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Always `https`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the peer asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The request id, which the peer gets too.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The configured name of the provider that was proven.
pub const X_HOOKGATE_PROVIDER: HeaderName = HeaderName::from_static("x-hookgate-provider");
/// The subject of the client certificate, RFC 4514.
pub const X_HOOKGATE_SUBJECT: HeaderName = HeaderName::from_static("x-hookgate-subject");

/// What was proven: `certificate`, and the other proofs.
pub const X_HOOKGATE_PROOF: HeaderName = HeaderName::from_static("x-hookgate-proof");
/// The `iss` of the token that was verified.
pub const X_HOOKGATE_TOKEN_ISSUER: HeaderName = HeaderName::from_static("x-hookgate-token-issuer");
/// The expected audience that the token has.
pub const X_HOOKGATE_TOKEN_AUDIENCE: HeaderName = HeaderName::from_static("x-hookgate-token-audience");
/// The `sub` of the token.
pub const X_HOOKGATE_TOKEN_SUBJECT: HeaderName = HeaderName::from_static("x-hookgate-token-subject");
/// The verified `email` of the token.
pub const X_HOOKGATE_TOKEN_EMAIL: HeaderName = HeaderName::from_static("x-hookgate-token-email");

/// Connection-specific fields (RFC 9110, section 7.6.1), and those of the framing, which hyper writes itself.
static CONNECTION_FIELDS: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
];

/// Names, in lower case with `-`, that only hookgate may set: exact ones, and prefixes that end with `-`.
const RESERVED: [&str; 7] =
    ["client-cert", "client-cert-chain", "forwarded", "x-forwarded-", "x-hookgate-", "x-real-ip", "x-request-id"];

/// The most fields that [`outgoing`] sets, so that the map grows once.
const MOST_FIELDS_SET: usize = 15;

/// What hookgate adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The peer's address, as text.
    pub address: &'a HeaderValue,
    /// The request id.
    pub request_id: &'a HeaderValue,
    /// The configured name of the provider.
    pub provider: &'a HeaderValue,
    /// Whether the route forwards `Client-Cert-Chain`.
    pub chain: bool,
}

/// Removes the connection-specific fields: the listed ones, and those that `Connection` names.
pub fn strip_connection_fields(headers: &mut HeaderMap) {
    let named = named_by_connection(headers);
    // One pass over the fields that are there is cheaper than a look-up of each that may be.
    let listed: Vec<HeaderName> = headers.keys().filter(|name| CONNECTION_FIELDS.contains(name)).cloned().collect();
    for name in listed.iter().chain(&named) {
        headers.remove(name);
    }
}

/// The fields that `Connection` names (RFC 9110, section 7.6.1).
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A peer must not have the framing or the host removed.
        .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
        .collect()
}

/// A copy of the end-to-end fields of `received`, with room for what [`outgoing`] sets. Content-Length and Host are left out: both are
/// set anew.
fn end_to_end(received: &HeaderMap) -> HeaderMap {
    let named = named_by_connection(received);
    let is_ours = |name: &HeaderName| {
        *name == CONTENT_LENGTH || *name == HOST || CONNECTION_FIELDS.contains(name) || is_reserved(name.as_str())
    };
    let mut headers = HeaderMap::with_capacity(received.keys_len() + MOST_FIELDS_SET);
    for (name, value) in received {
        if !is_ours(name) && !named.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn is_reserved(name: &str) -> bool {
    let matches = |reserved: &&str| {
        let same = |(ours, theirs): (u8, u8)| ours == theirs || (ours == b'-' && theirs == b'_');
        let long_enough =
            if reserved.ends_with('-') { name.len() >= reserved.len() } else { name.len() == reserved.len() };
        long_enough && reserved.bytes().zip(name.bytes()).all(same)
    };
    RESERVED.iter().any(matches)
}

/// The request as the handler gets it.
pub fn outgoing(request: &AuthenticatedRequest, forwarded: &Forwarded<'_>) -> Request<Full<Bytes>> {
    let (head, body, proven) = (request.head(), request.body(), request.proven());
    let chain = request.peer().chain();
    let mut headers = end_to_end(&head.headers);
    // The body was read whole, so its length is known. hyper sends the length of a body, but not of an absent one, which a method
    // that gives a body a meaning should send too (RFC 9110, section 8.6).
    if body.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(&head.method) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let host = host(&head.uri, &head.headers);
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    set(CLIENT_CERT, chain.client_cert_field().cloned());
    if forwarded.chain {
        set(CLIENT_CERT_CHAIN, client_cert_chain(chain.certificates()));
    }
    set(X_FORWARDED_FOR, Some(forwarded.address.clone()));
    set(X_FORWARDED_PROTO, Some(HeaderValue::from_static("https")));
    set(X_FORWARDED_HOST, host.clone());
    set(X_REQUEST_ID, Some(forwarded.request_id.clone()));
    set(X_HOOKGATE_PROVIDER, Some(forwarded.provider.clone()));
    set(X_HOOKGATE_SUBJECT, chain.subject_field().cloned());
    set(X_HOOKGATE_PROOF, Some(HeaderValue::from_static(proven.labels())));
    if let Some(claims) = proven.claims() {
        set(X_HOOKGATE_TOKEN_ISSUER, Some(claims.issuer.clone()));
        set(X_HOOKGATE_TOKEN_AUDIENCE, Some(claims.audience.clone()));
        set(X_HOOKGATE_TOKEN_SUBJECT, claims.subject.clone());
        set(X_HOOKGATE_TOKEN_EMAIL, claims.email.clone());
    }
    set(HOST, host);
    let mut outgoing = Request::new(Full::new(body.clone()));
    *outgoing.method_mut() = head.method.clone();
    *outgoing.uri_mut() = origin_form(&head.uri);
    *outgoing.version_mut() = Version::HTTP_11;
    *outgoing.headers_mut() = headers;
    outgoing
}

/// The requested host: an absolute-form target takes precedence over the field (RFC 9112, section 3.2.2).
fn host(uri: &Uri, headers: &HeaderMap) -> Option<HeaderValue> {
    match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => headers.get(HOST).cloned(),
    }
}

fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query().map_or_else(|| Uri::from_static("/"), |target| Uri::from(target.clone()))
}

/// A structured-field list of byte sequences (RFC 9440, section 2.3): the issuers, without the end entity.
fn client_cert_chain(certificates: &[rustls_pki_types::CertificateDer<'_>]) -> Option<HeaderValue> {
    let items: Vec<String> = certificates.iter().skip(1).map(|issuer| format!(":{}:", BASE64.encode(issuer))).collect();
    if items.is_empty() { None } else { HeaderValue::from_str(&items.join(", ")).ok() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn connection_fields_and_those_they_name_are_stripped() {
        let mut headers = headers(&[
            ("Connection", "close, X-Mine"),
            ("Connection", "x-other , host, content-length"),
            ("X-Mine", "1"),
            ("X-Other", "1"),
            ("Host", "h"),
            ("Content-Length", "3"),
            ("Keep-Alive", "timeout=5"),
            ("TE", "trailers"),
            ("Trailer", "x"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("Proxy-Authorization", "Basic eDp5"),
            ("Proxy-Connection", "close"),
            ("Expect", "100-continue"),
            ("Authorization", "Bearer x"),
        ]);
        strip_connection_fields(&mut headers);
        assert_eq!(names(&headers), ["authorization", "content-length", "host"]);
    }

    #[test]
    fn every_spelling_of_our_fields_is_stripped() {
        let headers = end_to_end(&headers(&[
            ("X-Hookgate-Provider", "forged"),
            ("x_hookgate_provider", "forged"),
            ("X-Hookgate_Anything", "forged"),
            ("Client-Cert", "forged"),
            ("client_cert_chain", "forged"),
            ("X-Forwarded-For", "forged"),
            ("X-Forwarded_Port", "forged"),
            ("Forwarded", "for=forged"),
            ("X-Request-ID", "forged"),
            ("X-Real-IP", "forged"),
            ("X-PagerDuty-Signature", "v1=00"),
            ("Client-Certificate", "other"),
            ("X-Hook", "other"),
        ]));
        assert_eq!(names(&headers), ["client-certificate", "x-hook", "x-pagerduty-signature"]);
    }

    #[test]
    fn what_is_for_the_handler_is_copied_and_nothing_else() {
        let received = headers(&[
            ("Connection", "close, X-Mine"),
            ("X-Mine", "1"),
            ("Host", "h"),
            ("Content-Length", "3"),
            ("Transfer-Encoding", "chunked"),
            ("X-Tag", "one"),
            ("Accept", "*/*"),
            ("X-Tag", "two"),
        ]);
        let copy = end_to_end(&received);
        assert_eq!(names(&copy), ["accept", "x-tag"]);
        let tags: Vec<_> = copy.get_all("x-tag").iter().collect();
        assert_eq!(tags, ["one", "two"], "each of them, in their order");
        assert!(copy.capacity() >= copy.keys_len() + MOST_FIELDS_SET);
    }

    #[test]
    fn absolute_form_targets_become_origin_form_and_name_the_host() {
        let uri: Uri = "https://hooks.example.com:8443/a/b?c=d".parse().unwrap();
        assert_eq!(origin_form(&uri), "/a/b?c=d");
        assert_eq!(host(&uri, &headers(&[("Host", "other")])).unwrap(), "hooks.example.com:8443");
        assert_eq!(host(&"/a".parse().unwrap(), &headers(&[("Host", "other")])).unwrap(), "other");
    }
}
