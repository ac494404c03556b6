//! The fields of a request for a handler: which of the peer's are copied, and which hookgate sets.
//!
//! Pure. A field that hookgate sets is never copied from the peer, under any spelling that a handler could take for it. CGI-like
//! interfaces turn a name into a variable, and `-` into `_`; many turn every byte but letters and digits into `_`, so that
//! `X_Hookgate_Provider` and `X.Hookgate.Provider` look genuine. Names are compared as those interfaces see them ([`fold`]).

use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Full;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Method, Request, Uri, Version};

use hookgate_core::auth::AuthenticatedRequest;
use hookgate_core::route::{ClientCert, StripPrefix};

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
/// The begin of the path that the request had, and the target does not.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// The request id, which the peer gets too.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The configured name of the provider that was proven.
pub const X_HOOKGATE_PROVIDER: HeaderName = HeaderName::from_static("x-hookgate-provider");
/// The subject of the client certificate, RFC 4514.
pub const X_HOOKGATE_SUBJECT: HeaderName = HeaderName::from_static("x-hookgate-subject");

/// What was proven: `certificate`, unless the provider demands none, and the other proofs.
pub const X_HOOKGATE_PROOF: HeaderName = HeaderName::from_static("x-hookgate-proof");
/// The `iss` of the token that was verified.
pub const X_HOOKGATE_TOKEN_ISSUER: HeaderName = HeaderName::from_static("x-hookgate-token-issuer");
/// The expected audience that the token has.
pub const X_HOOKGATE_TOKEN_AUDIENCE: HeaderName = HeaderName::from_static("x-hookgate-token-audience");
/// The `sub` of the token.
pub const X_HOOKGATE_TOKEN_SUBJECT: HeaderName = HeaderName::from_static("x-hookgate-token-subject");
/// The verified `email` of the token.
pub const X_HOOKGATE_TOKEN_EMAIL: HeaderName = HeaderName::from_static("x-hookgate-token-email");

/// The id of a stored delivery: that of the sender's request, the same in every attempt.
pub const X_HOOKGATE_DELIVERY: HeaderName = HeaderName::from_static("x-hookgate-delivery");
/// The number of an attempt to hand a stored delivery over, from 1.
pub const X_HOOKGATE_ATTEMPT: HeaderName = HeaderName::from_static("x-hookgate-attempt");

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

/// Names, in lower case with `-`, that a peer may not set: exact ones, and prefixes that end with `-`.
///
/// hookgate sets some of them, or a gateway like it does. With the others, a peer could undo what hookgate decided: frameworks take path
/// and method from them in place of the routed ones, and CGI takes `Proxy` for the variable `HTTP_PROXY`, the proxy of the handler's
/// own requests.
const RESERVED: [&str; 13] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "proxy",
    "x-forwarded-",
    "x-hookgate-",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

/// The most fields that [`outgoing`] sets, so that the map grows once.
const MOST_FIELDS_SET: usize = 16;

/// What hookgate adds to a request.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// The peer's address, as text.
    pub address: &'a HeaderValue,
    /// The request id.
    pub request_id: &'a HeaderValue,
    /// The configured name of the provider.
    pub provider: &'a HeaderValue,
    /// What the route forwards of the client's certificates.
    pub client_cert: ClientCert,
    /// What the route takes away from the begin of the path.
    pub strip_prefix: Option<&'a StripPrefix>,
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
        is_framing(name)
            || is_reserved(name.as_str())
            || is_odd(name.as_str()) && is_other_name_of_another(name, received)
    };
    let mut headers = HeaderMap::with_capacity(received.keys_len() + MOST_FIELDS_SET);
    for (name, value) in received {
        if !is_ours(name) && !named.contains(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == HOST || CONNECTION_FIELDS.contains(name)
}

/// The bytes of names as an interface like CGI sees them: all but letters and digits are one. Names are in lower case already.
static FOLDED: [u8; 256] = {
    let mut folded = [b'-'; 256];
    let mut byte = 0;
    while byte < folded.len() {
        if (byte as u8).is_ascii_alphanumeric() {
            folded[byte] = byte as u8;
        }
        byte += 1;
    }
    folded
};

fn fold(byte: u8) -> u8 {
    FOLDED[usize::from(byte)]
}

fn is_reserved(name: &str) -> bool {
    let name = name.as_bytes();
    // No reserved name begins with another byte, and most names of requests do.
    if !matches!(name, [b'c' | b'f' | b'p' | b'x', ..]) {
        return false;
    }
    RESERVED.iter().any(|reserved| match reserved.as_bytes() {
        prefix @ [.., b'-'] => folds_to(name, prefix),
        whole => name.len() == whole.len() && folds_to(name, whole),
    })
}

/// Whether `name` folds to something that begins with `folded`. A plain loop: every name of every request comes here.
fn folds_to(name: &[u8], folded: &[u8]) -> bool {
    if name.len() < folded.len() {
        return false;
    }
    let mut at = 0;
    while at < folded.len() && fold(name[at]) == folded[at] {
        at += 1;
    }
    at == folded.len()
}

/// Whether a name has a byte beside letters, digits and `-`, so that other names fold to the same.
fn is_odd(name: &str) -> bool {
    !folds_to(name.as_bytes(), name.as_bytes())
}

/// Whether a handler could take `name` for a field of the framing, or for another field of the request. hookgate may have checked that
/// other field, and the handler must not get a second value for it.
fn is_other_name_of_another(name: &HeaderName, received: &HeaderMap) -> bool {
    let is_alike = |other: &HeaderName| {
        let (name, other) = (name.as_str().as_bytes(), other.as_str().as_bytes());
        name != other
            && name.len() == other.len()
            && name.iter().zip(other).all(|(one, other)| fold(*one) == fold(*other))
    };
    CONNECTION_FIELDS.iter().chain([&CONTENT_LENGTH, &HOST]).chain(received.keys()).any(is_alike)
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
    if let Some(chain) = chain {
        if forwarded.client_cert != ClientCert::Withheld {
            set(CLIENT_CERT, chain.client_cert_field().cloned());
        }
        if forwarded.client_cert == ClientCert::Chain {
            set(CLIENT_CERT_CHAIN, client_cert_chain(chain.certificates()));
        }
        set(X_HOOKGATE_SUBJECT, chain.subject_field().cloned());
    }
    set(X_FORWARDED_FOR, Some(forwarded.address.clone()));
    set(X_FORWARDED_PROTO, Some(HeaderValue::from_static("https")));
    set(X_FORWARDED_HOST, host.clone());
    set(X_FORWARDED_PREFIX, forwarded.strip_prefix.map(|prefix| prefix.field().clone()));
    set(X_REQUEST_ID, Some(forwarded.request_id.clone()));
    set(X_HOOKGATE_PROVIDER, Some(forwarded.provider.clone()));
    set(X_HOOKGATE_PROOF, Some(HeaderValue::from_static(request.proof())));
    if let Some(claims) = proven.claims() {
        set(X_HOOKGATE_TOKEN_ISSUER, Some(claims.issuer.clone()));
        set(X_HOOKGATE_TOKEN_AUDIENCE, Some(claims.audience.clone()));
        set(X_HOOKGATE_TOKEN_SUBJECT, claims.subject.clone());
        set(X_HOOKGATE_TOKEN_EMAIL, claims.email.clone());
    }
    set(HOST, host);
    let mut outgoing = Request::new(Full::new(body.clone()));
    *outgoing.method_mut() = head.method.clone();
    *outgoing.uri_mut() = target(&head.uri, forwarded.strip_prefix);
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

/// Path and query, without the prefix that the handler does not get.
fn target(uri: &Uri, strip_prefix: Option<&StripPrefix>) -> Uri {
    match (uri.path_and_query(), strip_prefix) {
        (None, _) => Uri::from_static("/"),
        (Some(target), None) => Uri::from(target.clone()),
        (Some(target), Some(prefix)) => Uri::from(prefix.strip(target)),
    }
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
            ("X.Forwarded-Prefix", "/forged"),
            ("Forwarded", "for=forged"),
            ("X-Request-ID", "forged"),
            ("X-Real-IP", "forged"),
            ("X-PagerDuty-Signature", "v1=00"),
            ("Client-Certificate", "other"),
            ("X-Hook", "other"),
        ]));
        assert_eq!(names(&headers), ["client-certificate", "x-hook", "x-pagerduty-signature"]);
    }

    /// Every byte of a token (RFC 9110, section 5.6.2) that is neither a letter nor a digit.
    const FOLDED: &str = "!#$%&'*+-.^_`|~";

    #[test]
    fn every_byte_that_an_interface_folds_is_folded() {
        for reserved in RESERVED {
            let whole = if reserved.ends_with('-') { format!("{reserved}provider") } else { reserved.to_owned() };
            for folded in FOLDED.chars() {
                let name = whole.replace('-', &folded.to_string());
                let copy = end_to_end(&headers(&[(&name, "forged"), ("X-Hook", "other")]));
                assert_eq!(names(&copy), ["x-hook"], "{name}");
            }
            let longer = format!("{whole}x");
            let kept = reserved.ends_with('-') || RESERVED.contains(&&*longer);
            assert_eq!(end_to_end(&headers(&[(&longer, "other")])).is_empty(), kept, "{longer}");
        }
    }

    #[test]
    fn a_field_that_can_be_taken_for_another_one_is_stripped() {
        let check = |received: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(names(&end_to_end(&headers(received))), expected, "{received:?}");
        };
        check(&[("X-Webhook-Id", "checked"), ("X_Webhook.Id", "forged")], &["x-webhook-id"]);
        check(&[("x_webhook_id", "forged"), ("x-webhook-id", "checked")], &["x-webhook-id"]);
        check(&[("Content_Length", "1"), ("Transfer_Encoding", "chunked"), ("Proxy.Authorization", "x")], &[]);
        check(&[("X_One", "1"), ("X.One", "2"), ("X-Two", "3")], &["x-two"]);
        check(&[("X_Alone", "1"), ("X.Other", "2")], &["x.other", "x_alone"]);
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
        assert_eq!(target(&uri, None), "/a/b?c=d");
        assert_eq!(target(&uri, Some(&StripPrefix::new("/a").unwrap())), "/b?c=d");
        assert_eq!(host(&uri, &headers(&[("Host", "other")])).unwrap(), "hooks.example.com:8443");
        assert_eq!(host(&"/a".parse().unwrap(), &headers(&[("Host", "other")])).unwrap(), "other");
    }
}
