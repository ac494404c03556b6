//! Every reason for which hookgate refuses: one closed enum, one table.
//!
//! Owns the mapping from a reason to its HTTP status, its TLS alert, its metric label and its title. Must not decide
//! anything: the stages decide, and name the reason here. To add a reason, add a row; nothing else maps reasons.

use std::fmt;
use std::sync::Arc;

use rustls::AlertDescription;

/// Which side has to act on a refusal. Operators group their graphs by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer: its certificate, its bytes or its request is wrong.
    Peer,
    /// A local handler: it failed or was too slow.
    Handler,
    /// hookgate or its configuration.
    Gateway,
}

impl Blame {
    /// The value of the `blame` metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Handler => "handler",
            Self::Gateway => "gateway",
        }
    }
}

/// What the problem document, the alert, the metric and the log say about one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable code: the `reason` of a problem document, of a metric label and of a log line. Never renamed.
    pub reason: &'static str,
    /// HTTP status (RFC 9110) of the problem document.
    pub status: u16,
    /// TLS alert (RFC 8446, section 6.2), if the handshake is aborted instead.
    pub alert: AlertDescription,
    /// Which side has to act.
    pub blame: Blame,
    /// The `title` of the problem document (RFC 9457, section 3.1.4): the same for every occurrence.
    pub title: &'static str,
    /// The `detail` of the problem document, where [`Refusal::detail`] is for the operator: it may name sockets, limits and errors of
    /// this host, of which the peer learns nothing. `None` where it is about what the peer sent.
    pub peer_detail: Option<&'static str>,
    /// What happened; then, behind `Peer:` and `Operator:`, what the sender and the operator can do.
    help: &'static str,
}

impl Row {
    /// What happened.
    pub fn meaning(&self) -> &'static str {
        self.help.split(PEER).next().and_then(|text| text.split(OPERATOR).next()).unwrap_or_default().trim()
    }

    /// What the sender can do, if it can do something.
    pub fn for_peer(&self) -> Option<&'static str> {
        Some(self.help.split_once(PEER)?.1.split(OPERATOR).next()?.trim())
    }

    /// What the operator of this receiver can do, if there is something to be done.
    pub fn for_operator(&self) -> Option<&'static str> {
        Some(self.help.split_once(OPERATOR)?.1.split(PEER).next()?.trim())
    }
}

/// What the sender can do, in the documentation of a reason.
const PEER: &str = " Peer: ";
/// What the operator can do.
const OPERATOR: &str = " Operator: ";

/// The stage at which a reason refuses. See ARCHITECTURE.md, "The way of a request".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Before a byte was read.
    Accept,
    /// In the header of a proxy before the receiver.
    Proxy,
    /// In the handshake.
    Tls,
    /// About the client certificate: with an answer or with an alert, as `on_failure` says.
    Identity,
    /// Whether the route admits this sender.
    Admission,
    /// The form of the request.
    Http,
    /// The choice of the route.
    Route,
    /// The request's own proof.
    Auth,
    /// The handler, or the host.
    Upstream,
}

impl Stage {
    /// Every stage, in the order of a connection's way.
    pub const ALL: [Self; 9] = [
        Self::Accept,
        Self::Proxy,
        Self::Tls,
        Self::Identity,
        Self::Admission,
        Self::Http,
        Self::Route,
        Self::Auth,
        Self::Upstream,
    ];

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::Admission => "admission",
            Self::Http => "http",
            Self::Route => "route",
            Self::Auth => "auth",
            Self::Upstream => "upstream",
        }
    }
}

impl Reject {
    /// The reason with this code.
    pub fn of_reason(reason: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reject| reject.row().reason == reason)
    }

    /// The stage that refuses for this reason.
    pub fn stage(self) -> Stage {
        // The rows are in the order of the stages.
        let lasts = [
            (Self::UnadmittedLimit, Stage::Accept),
            (Self::ProxyHeaderUnexpected, Stage::Proxy),
            (Self::CertificateAwaited, Stage::Tls),
            (Self::IdentityMismatch, Stage::Identity),
            (Self::RangesUnavailable, Stage::Admission),
            (Self::Misdirected, Stage::Http),
            (Self::MethodNotAllowed, Stage::Route),
            (Self::StateUnavailable, Stage::Auth),
        ];
        let found = lasts.into_iter().find(|(last, _)| self as usize <= *last as usize);
        found.map_or(Stage::Upstream, |(_, stage)| stage)
    }
}

/// The last column of a row: `detail` if the peer may read the sentence about the occurrence, otherwise the sentence for the peer.
macro_rules! peer_detail {
    (detail) => {
        None
    };
    ($sentence:literal) => {
        Some($sentence)
    };
}

macro_rules! rejects {
    ($($(#[doc = $doc:literal])+ $name:ident => $reason:literal, $status:literal, $alert:ident, $blame:ident, $title:literal, $peer_detail:tt;)+) => {
        /// Why a connection or a request is refused. Has no fields: [`Refusal::detail`] describes the single occurrence.
        ///
        /// The doc of each reason says what happened, and what the sender or the operator can do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reject { $($(#[doc = $doc])+ $name,)+ }

        impl Reject {
            /// Every reason, in the order of the stages.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The row of this reason.
            pub fn row(self) -> &'static Row {
                match self {
                    $(Self::$name => const { &Row {
                        reason: $reason, status: $status, alert: AlertDescription::$alert,
                        blame: Blame::$blame, title: $title, peer_detail: peer_detail!($peer_detail),
                        help: concat!($($doc,)+),
                    } },)+
                }
            }
        }
    };
}

// One macro makes the enum and the table from the same rows, so that no variant lacks a row.
rejects! {
    // accept
    /// Every connection slot is in use: either no connection could be closed to make room, or this one was, because it was not admitted
    /// and was the oldest such. Operator: raise `max_connections`, or find the peer that holds the connections.
    ConnectionLimit => "connection_limit", 503, InternalError, Gateway, "Too many connections",
        "The receiver has too many connections; connect again later.";
    /// Connections that are not admitted hold `max_unadmitted_bytes`, and this one was the oldest. Peer: connect again. Operator: find out
    /// who opens so many connections; raise the limit if they are legitimate.
    UnadmittedLimit => "unadmitted_limit", 503, InternalError, Gateway, "Too many connections without an admitted certificate",
        "The receiver has too many connections; connect again later.";
    // proxy
    /// The connection comes from a range of `proxy_protocol` and begins with no header of the PROXY protocol. Operator: turn the protocol on at
    /// the proxy (`send-proxy-v2` of HAProxy), for its health checks too; or take out of `from` what is no proxy.
    ProxyHeaderMissing => "proxy_header_missing", 400, UnexpectedMessage, Gateway, "The header of the PROXY protocol is missing",
        "The proxy before the receiver did not send the header that the receiver expects.";
    /// The header of the PROXY protocol is malformed, too long (4,096 bytes, or 107 of version 1), or conveys no TCP address: UNIX sockets and
    /// datagrams are refused. Operator: see what the log says of it, and correct the proxy.
    ProxyHeaderInvalid => "proxy_header_invalid", 400, UnexpectedMessage, Gateway, "The header of the PROXY protocol is invalid",
        "The proxy before the receiver sent a header that the receiver does not take.";
    /// There is a header of the PROXY protocol, and the source is in no range of `proxy_protocol`; or there is a second header. Such a source
    /// could name any address. Peer: connect without a header. Operator: if it is your proxy, add its address to `from` of `proxy_protocol`; if
    /// one proxy is behind another, let one of them send a header.
    ProxyHeaderUnexpected => "proxy_header_unexpected", 400, UnexpectedMessage, Peer, "A header of the PROXY protocol is not accepted", detail;
    // tls
    /// The handshake was not complete after `handshake_timeout_ms`. Peer: connect again. Operator: if it recurs, look for a
    /// slow network or an overloaded host.
    HandshakeTimeout => "handshake_timeout", 408, UserCanceled, Peer, "The TLS handshake timed out", detail;
    /// The peer's bytes are not a TLS handshake that hookgate accepts. Peer: use TLS 1.2 or 1.3 with a common cipher suite, and
    /// the private key of the presented certificate.
    HandshakeFailed => "handshake_failed", 400, HandshakeFailure, Peer, "The TLS handshake failed",
        "The TLS handshake failed.";
    /// The peer speaks plain HTTP. It gets an HTTP answer that says so. Peer: use an https URL.
    PlainHttp => "plain_http", 400, UnexpectedMessage, Peer, "This port speaks TLS", detail;
    /// The peer offers no version of TLS that is served: 1.2 and 1.3, or one of them under `policy` in `[tls]`. Peer: use a newer TLS library.
    /// Operator: if it cannot, and `policy` excludes its version, choose another.
    TlsVersion => "tls_version", 400, ProtocolVersion, Peer, "No version of TLS in common", detail;
    /// The peer ended the handshake because it does not accept the certificate of this server. Operator: check that the chain is complete, in
    /// order and not expired, that it has the name that the peer uses, and that the peer trusts its root.
    ServerCertificateRefused => "server_certificate_refused", 400, HandshakeFailure, Gateway,
        "The peer does not accept the certificate of this server", "The peer did not accept the certificate of the receiver.";
    /// The ClientHello is longer than 18 KiB. Peer: send fewer extensions, or connect without a session ticket.
    HelloTooLarge => "hello_too_large", 400, IllegalParameter, Peer, "The ClientHello is too large", detail;
    /// The server name (SNI) belongs to no route. Peer: correct the host of the webhook URL. Operator: add a route with this
    /// host.
    UnknownServerName => "unknown_server_name", 421, UnrecognisedName, Peer, "No route has this server name", detail;
    /// There is no certificate for the server name yet: hookgate has asked an authority for it (`acme`). Peer: connect again later. Operator: see
    /// what the log says of the certificate, and `hookgate_acme_attempts_total`.
    CertificateAwaited => "certificate_awaited", 503, UnrecognisedName, Gateway, "There is no certificate for this server name yet", "The receiver waits for its certificate; connect again later.";
    // identity
    /// The peer presented no client certificate. A host of senders with and without one answers so too if no route has the path and method:
    /// a peer without a certificate does not learn which routes need one. `hookgate explain` tells the operator which of the two it was.
    /// Peer: present the certificate of a provider and its intermediates. If the sender has no certificate, correct the path and the method of the webhook.
    /// Operator: a sender without certificates needs a route whose `providers` ask for none; do not take the demand from another sender.
    NoCertificate => "no_certificate", 403, CertificateRequired, Peer, "A client certificate is required", detail;
    /// The chain (or the rest of the handshake with it) exceeds `max_presented_certificates` or `max_presented_bytes`, has too many DER elements (names, extensions), or its
    /// certificates form too many paths to verify. Peer: present only the end entity and the intermediates of one path. Operator: raise
    /// the limit if the chain is legitimate.
    ChainTooLarge => "chain_too_large", 403, BadCertificate, Peer, "The presented certificate chain is too large", detail;
    /// A presented certificate is not well-formed X.509. Peer: obtain a certificate that follows RFC 5280.
    CertificateMalformed => "certificate_malformed", 403, BadCertificate, Peer, "A certificate is malformed", detail;
    /// A certificate is past its notAfter. Peer: renew it. Operator: check the clock of this host if the date is in the future.
    CertificateExpired => "certificate_expired", 403, CertificateExpired, Peer, "A certificate has expired", detail;
    /// The notBefore of a certificate is in the future. Peer: wait for it, or use another certificate. Operator: check the
    /// clock of this host.
    CertificateNotYetValid => "certificate_not_yet_valid", 403, CertificateExpired, Peer, "A certificate is not valid yet", detail;
    /// No path leads from the end entity to a trust anchor of a provider in scope. Peer: present all intermediates. Operator: if
    /// the provider changed its authority, add the new trust anchor.
    UnknownIssuer => "unknown_issuer", 403, UnknownCA, Peer, "The issuer of a certificate is not trusted", detail;
    /// A signature in the chain does not verify, or its algorithm is not accepted. After too many failed signatures, other paths are not
    /// tried. Peer: present the intermediate that issued the certificate, or obtain a certificate with an accepted algorithm.
    BadSignature => "bad_signature", 403, DecryptError, Peer, "The signature of a certificate is not accepted", detail;
    /// A path exists, but its trust anchor is deeper than the profile's `verify_depth`. Operator: raise `verify_depth` if the
    /// provider documents the longer path.
    PathTooLong => "path_too_long", 403, UnknownCA, Peer, "The certificate path is too long", detail;
    /// The extended key usage extension of a certificate does not allow client authentication. Peer: obtain a certificate for
    /// client authentication. Operator: `extended_key_usage` selects what is required.
    ExtendedKeyUsage => "extended_key_usage", 403, UnsupportedCertificate, Peer, "The certificate is not for client authentication", detail;
    /// The path violates another constraint of RFC 5280 (basic constraints, key usage, name constraints, critical extensions), or the key
    /// of the end entity is of a kind that is not accepted, or its key usage does not allow it to sign a handshake. Peer: obtain a
    /// certificate that respects it.
    PathConstraint => "path_constraint", 403, BadCertificate, Peer, "A certificate on the path violates a constraint", detail;
    /// A certificate on the path is on a revocation list. Peer: use another certificate.
    CertificateRevoked => "certificate_revoked", 403, CertificateRevoked, Peer, "A certificate has been revoked", detail;
    /// No usable revocation list covers a certificate that needs one. Operator: add the list of its issuer to `crls`. An intermediate
    /// needs none with `crl_scope = "end-entity"`; the end entity needs one in any case.
    RevocationUnknown => "revocation_unknown", 403, CertificateUnknown, Gateway, "The revocation status is unknown", detail;
    /// A revocation list is past its nextUpdate. The status makes senders retry, since the operator has to act. Operator: install
    /// the current list; `crl_urls` fetches it.
    RevocationListExpired => "revocation_list_expired", 503, CertificateUnknown, Gateway, "A revocation list has expired", detail;
    /// A revocation list that is fetched has not come yet. The status makes senders retry. Operator: check that this host can reach the
    /// URLs of `crl_urls`, or those that the certificates name.
    RevocationListUnavailable => "revocation_list_unavailable", 503, CertificateUnknown, Gateway, "A revocation list is unavailable",
        "The receiver does not have the revocation list of a certificate yet; send the webhook again later.";
    /// The path is valid, but no identity rule of a provider in scope matches the end entity. Peer: use the certificate that
    /// the provider documents. Operator: correct `identity` if the provider changed its name.
    IdentityMismatch => "identity_mismatch", 403, AccessDenied, Peer, "The certificate matches no identity rule", detail;
    /// The certificate proves a provider, but the route does not admit that provider. Peer: use another URL. Operator: add the
    /// provider to the `providers` of the route.
    ProviderNotAdmitted => "provider_not_admitted", 403, AccessDenied, Peer, "This route does not admit the provider", detail;
    /// The source address is in none of the ranges of the provider. Operator: update the ranges if the provider has new ones.
    SourceNotInRanges => "source_not_in_ranges", 403, AccessDenied, Peer, "The source address is outside the provider's ranges", detail;
    /// The ranges of the provider were never fetched, so its address cannot be judged. The status makes senders retry. Operator: check that
    /// this host can reach the URLs of `source_range_urls`.
    RangesUnavailable => "ranges_unavailable", 503, InternalError, Gateway, "The provider's ranges are unavailable",
        "The receiver does not know the sender's addresses yet; send the webhook again later.";
    // http
    /// The request is not well-formed HTTP. Peer: correct the request.
    MalformedRequest => "malformed_request", 400, InternalError, Peer, "The request is malformed", detail;
    /// The body has a transfer coding other than `chunked` (RFC 9112, section 6.1). Peer: send it with a Content-Length, or in chunks.
    TransferCodingUnknown => "transfer_coding_unknown", 501, InternalError, Peer, "The transfer coding of the request is unknown", detail;
    /// The head was not complete after `request_head_timeout_ms`, or the body after `request_timeout_ms`. Peer: send again.
    RequestTimeout => "request_timeout", 408, UserCanceled, Peer, "The request did not arrive in time", detail;
    /// The peer took too little of an answer for `response_timeout_ms`, and the connection was cut. Peer: read faster.
    ResponseTimeout => "response_timeout", 408, UserCanceled, Peer, "The answer was not read in time", detail;
    /// The body is longer than `max_body_bytes`. Peer: send less. Operator: raise the limit.
    BodyTooLarge => "body_too_large", 413, InternalError, Peer, "The request body is too large", detail;
    /// The head is longer than `max_head_bytes` or has more than `max_headers` fields. Peer: send less. Operator: raise the
    /// limit.
    HeadTooLarge => "head_too_large", 431, InternalError, Peer, "The request head is too large", detail;
    /// HTTP/2: the peer opened more streams at once than the settings of the connection say, and this one was reset (`REFUSED_STREAM`). Peer: wait
    /// for the settings before the second request, and send the refused one again.
    StreamLimit => "stream_limit", 429, InternalError, Peer, "Too many streams at once", detail;
    /// HTTP/2: the peer sent too many frames that are no request (pings, settings, resets), and was sent away (`ENHANCE_YOUR_CALM`). Peer: cancel
    /// fewer requests, and ping less often.
    FrameFlood => "frame_flood", 429, InternalError, Peer, "Too many frames that are no request", detail;
    /// The host of the request is not the server name of the connection. Peer: open a connection for each host.
    Misdirected => "misdirected", 421, UnrecognisedName, Peer, "The host is not the server name of this connection", detail;
    // route
    /// No route has this host and path. Peer: correct the webhook URL. Operator: add a route.
    NoRoute => "no_route", 404, AccessDenied, Peer, "No route has this host and path", detail;
    /// A route has this host and path, but not this method. Peer: use a method of the `Allow` field. Operator: add the method
    /// to the `methods` of the route.
    MethodNotAllowed => "method_not_allowed", 405, AccessDenied, Peer, "This route does not allow the method", detail;
    // auth
    /// The request has no bearer token, and the route demands one. Peer: send `Authorization: Bearer`.
    TokenMissing => "token_missing", 401, AccessDenied, Peer, "A bearer token is required", detail;
    /// The bearer token is not a JSON Web Token that hookgate can verify. Peer: send a signed JWT.
    TokenMalformed => "token_malformed", 401, AccessDenied, Peer, "The token is malformed", detail;
    /// The bearer token is an OAuth access token, but the route demands an ID token. Peer: select ID tokens for the webhook.
    TokenIsAccessToken => "token_is_access_token", 401, AccessDenied, Peer, "The token is an access token, not an ID token", detail;
    /// No key of the issuer has the `kid` of the token. Operator: check that the configured keys are those of the issuer.
    TokenUnknownKey => "token_unknown_key", 401, AccessDenied, Peer, "The token's key is unknown", detail;
    /// The signature of the token does not verify, or its algorithm is not that of the key. Peer: send the token as its issuer
    /// signed it.
    TokenBadSignature => "token_bad_signature", 401, AccessDenied, Peer, "The token's signature is not accepted", detail;
    /// `iss` is not the expected issuer. Operator: correct `issuers`.
    TokenWrongIssuer => "token_wrong_issuer", 401, AccessDenied, Peer, "The token's issuer is not the expected one", detail;
    /// `aud` contains none of the expected audiences. Peer: request a token for this URL. Operator: add the audience.
    TokenWrongAudience => "token_wrong_audience", 401, AccessDenied, Peer, "The token is for another audience", detail;
    /// `exp` has passed. Peer: send a new token. Operator: check the clock of this host.
    TokenExpired => "token_expired", 401, AccessDenied, Peer, "The token has expired", detail;
    /// `nbf` or `iat` is in the future. Operator: check the clock of this host.
    TokenNotYetValid => "token_not_yet_valid", 401, AccessDenied, Peer, "The token is not valid yet", detail;
    /// `email` is not an expected address, or is not verified. Operator: add the service account of the sender.
    TokenWrongEmail => "token_wrong_email", 401, AccessDenied, Peer, "The token's email is not the expected one", detail;
    /// `sub` is not an expected subject. Operator: add the subject of the sender.
    TokenWrongSubject => "token_wrong_subject", 401, AccessDenied, Peer, "The token's subject is not the expected one", detail;
    /// The keys of a token's issuer, or of a sender that signs, were never fetched, or are too old. The status makes senders retry. Operator: check that this host can
    /// reach the key source.
    KeysUnavailable => "keys_unavailable", 503, InternalError, Gateway, "The keys that verify the request are unavailable",
        "The receiver has no usable keys to verify the token or the signature; send the webhook again later.";
    /// The proof is in the body, and the body cannot be read as JSON. Peer: send well-formed JSON.
    BodyNotJson => "body_not_json", 400, InternalError, Peer, "The body cannot be read as JSON", detail;
    /// The body lacks the session parameter. Peer: send the parameter in every request.
    SessionParameterMissing => "session_parameter_missing", 403, AccessDenied, Peer, "The session parameter is missing", detail;
    /// The session parameter is present, but is not a valid proof. Peer: make it with the shared secret of this receiver.
    SessionParameterMismatch => "session_parameter_mismatch", 403, AccessDenied, Peer, "The session parameter is not the expected one", detail;
    // 403 and not 401 for signatures: 401 must carry a challenge (RFC 9110, section 15.5.2), and no authentication scheme is
    // registered for them. Senders treat both alike: PagerDuty drops either without a retry. One that does not has `refusal_status`.
    /// The request lacks the signature header, or another header that the signature needs. Peer: sign the webhook.
    SignatureMissing => "signature_missing", 403, AccessDenied, Peer, "A body signature is required", detail;
    /// The signature headers are present, but cannot be parsed. Peer: send them in the documented form.
    SignatureMalformed => "signature_malformed", 403, AccessDenied, Peer, "The body signature is malformed", detail;
    /// No signature of the request verifies with a configured secret. Operator: configure the secret that the sender uses;
    /// during a rotation, both.
    SignatureMismatch => "signature_mismatch", 403, AccessDenied, Peer, "The body signature does not match", detail;
    /// No key of the sender has the id that the signature names, or is for its algorithm. Operator: check that the configured keys are those
    /// of the sender.
    SignatureUnknownKey => "signature_unknown_key", 403, AccessDenied, Peer, "The signature's key is unknown", detail;
    /// The signed timestamp is too far from the current time. Peer: sign again at each attempt. Operator: check the clock of
    /// this host; `tolerance_s` of the signature bounds the difference.
    TimestampOutsideWindow => "timestamp_outside_window", 403, AccessDenied, Peer, "The signed timestamp is outside the window", detail;
    /// The request lacks the header field with the secret. Peer: send the secret that you share with this receiver.
    SecretMissing => "secret_missing", 403, AccessDenied, Peer, "A secret is required", detail;
    /// The header field has none of the configured secrets. Operator: configure the secret that the sender uses; during a rotation,
    /// both.
    SecretMismatch => "secret_mismatch", 403, AccessDenied, Peer, "The secret is not the expected one", detail;
    /// The request has no basic authentication. Peer: send user name and password in every request.
    CredentialsMissing => "credentials_missing", 401, AccessDenied, Peer, "A user name and a password are required", detail;
    /// User name and password do not belong to one configured user. Operator: configure those that the sender uses.
    CredentialsMismatch => "credentials_mismatch", 401, AccessDenied, Peer, "The user name or the password is not accepted", detail;
    /// The request lacks the delivery id that identifies duplicates. Peer: send the id. Operator: correct where it is read.
    DeliveryIdMissing => "delivery_id_missing", 400, AccessDenied, Peer, "The delivery id is missing", detail;
    /// The handler already accepted this delivery. The configured status replaces this one (200 by default). Peer: there is nothing to do.
    DuplicateDelivery => "duplicate_delivery", 409, AccessDenied, Peer, "The handler already accepted this delivery", detail;
    /// The handler is processing a copy of this delivery, here or at another host of the fleet, and may still fail. Peer: send it again later; the status asks for that.
    DeliveryInFlight => "delivery_in_flight", 429, AccessDenied, Peer, "A copy of this delivery is in progress", detail;
    /// `replay_entries` deliveries are remembered, and none of them may be forgotten yet. Operator: raise `replay_entries`, or
    /// shorten the replay window.
    ReplayGuardFull => "replay_guard_full", 503, InternalError, Gateway, "Too many deliveries to remember",
        "The receiver remembers too many deliveries; send the webhook again later.";
    /// The disk took no delivery when it was tried last, so a restart could forget this one (`on_state_failure = "refuse"`); or the route is
    /// durable, and this one could not be stored; or the servers of `[fleet]` gave no answer. The status makes senders retry. Operator: see the log for
    /// what the disk or the servers say; make room, or mend the file or the connection.
    StateUnavailable => "state_unavailable", 503, InternalError, Gateway, "Deliveries cannot be remembered",
        "The receiver cannot remember this delivery now; send the webhook again later.";
    // upstream
    /// The route is durable, and as much of it is stored as `max_entries` and `max_bytes` allow, dead letters included. The status makes senders
    /// retry. Operator: see why its handler takes nothing (`hookgate deliveries list`); drop or retry dead letters, or raise the bounds.
    SpoolFull => "spool_full", 503, InternalError, Gateway, "Too many deliveries are stored",
        "The receiver stores too many deliveries; send the webhook again later.";
    /// Nothing took the connection at the handler's socket or port, or the handler closed it before it answered. Operator: start the handler;
    /// see its log.
    HandlerUnavailable => "handler_unavailable", 502, InternalError, Handler, "The handler is unavailable",
        "The program behind this webhook did not answer; its operator must act.";
    /// The handler's response is not well-formed HTTP. Operator: correct the handler.
    HandlerMalformed => "handler_malformed", 502, InternalError, Handler, "The handler's response is malformed",
        "The program behind this webhook gave an answer that cannot be forwarded; its operator must act.";
    /// The head of the handler's response does not tell where the response ends, or two readers could disagree about it: Transfer-Encoding
    /// beside Content-Length, several lengths, or a transfer coding other than `chunked`. Operator: correct the handler.
    HandlerAmbiguous => "handler_ambiguous", 502, InternalError, Handler, "The length of the handler's response is ambiguous",
        "The program behind this webhook gave an answer that cannot be forwarded; its operator must act.";
    /// `handler_max_in_flight` requests are with the handler, and `handler_max_waiting` wait for it. Peer: retry. Operator: make
    /// the handler faster, or raise the limits.
    HandlerOverloaded => "handler_overloaded", 503, InternalError, Handler, "The handler is overloaded",
        "The program behind this webhook has too many requests; send the webhook again later.";
    /// `max_in_flight` requests of the route are with its handler, and `handler_max_waiting` wait for a place among them. Peer: retry. Operator:
    /// make the handler faster, or raise `max_in_flight` of the route.
    RouteOverloaded => "route_overloaded", 503, InternalError, Handler, "The route is overloaded",
        "The program behind this webhook has too many requests; send the webhook again later.";
    /// The handler did not answer within `handler_timeout_ms`. Operator: make the handler faster, or raise the limit.
    HandlerTimeout => "handler_timeout", 504, InternalError, Handler, "The handler timed out",
        "The program behind this webhook did not answer in time.";
    /// The kernel gave hookgate no socket to the handler, for lack of descriptors or memory. The status makes senders retry. Operator:
    /// raise the limit on open files (`LimitNOFILE=`), or look for what fills the host.
    HostExhausted => "host_exhausted", 503, InternalError, Gateway, "The gateway's host is out of resources",
        "The receiver has no resources left for this request; send the webhook again later.";
    /// Request bodies fill `max_buffered_bytes`. Peer: retry. Operator: raise the limit.
    BufferLimit => "buffer_limit", 503, InternalError, Gateway, "The memory for request bodies is full",
        "The receiver has no memory left for this request; send the webhook again later.";
    /// A defect of hookgate. Operator: report it with the log line.
    Internal => "internal", 500, InternalError, Gateway, "Internal error in hookgate",
        "The receiver failed; its log has the request id.";
}

/// The `type` of the problem document of each reason (RFC 9457, section 3.1.1): a beginning that they share, and the reason. Clones share them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeBase(Arc<[Box<str>]>);

impl Default for TypeBase {
    /// A URN, which names the reason and leads nowhere.
    fn default() -> Self {
        Self::new("urn:hookgate:reason:")
    }
}

impl TypeBase {
    /// `base` consists of characters of a URI.
    pub fn new(base: &str) -> Self {
        Self(Reject::ALL.iter().map(|reject| [base, reject.row().reason].concat().into()).collect())
    }

    /// The `type` of a problem document for this reason: the same for every occurrence, and never another one.
    pub fn uri(&self, reject: Reject) -> &str {
        self.0.get(reject as usize).map_or("about:blank", |uri| uri)
    }
}

/// One occurrence of a [`Reject`]: the reason, and a sentence about this occurrence.
///
/// The sentence names the certificate, rule or bound that was violated, so that its reader can act on it. It contains no
/// secret, and of the peer's bytes only names and numbers from a certificate or a header. Whether the peer may read it, the row of the
/// reason says: what goes to a peer takes [`Refusal::peer_detail`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reject: Reject,
    detail: Box<str>,
    answer: Answer,
}

/// How the answer differs from the row of the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answer {
    #[default]
    AsRow,
    Deferred,
    Terse,
    Unauthorized,
}

/// The status of a refused signature for a sender that wants it (RFC 9110, section 15.5.2).
const UNAUTHORIZED_STATUS: u16 = 401;

/// The status of a deferred refusal: 503 (RFC 9110, section 15.6.4), after which senders try again.
const DEFERRED_STATUS: u16 = 503;

impl Refusal {
    /// A refusal for `reject`, explained by `detail`: one or more sentences without a line break, at most a few hundred bytes.
    pub fn new(reject: Reject, detail: impl Into<Box<str>>) -> Self {
        Self { reject, detail: detail.into(), answer: Answer::AsRow }
    }

    /// The same refusal, answered so that the sender tries again. Only [`crate::suspicion`] calls it, with evidence.
    pub(crate) fn deferred(self) -> Self {
        Self { answer: Answer::Deferred, ..self }
    }

    /// The same refusal, answered without a detail.
    pub(crate) fn terse(self) -> Self {
        Self { answer: Answer::Terse, ..self }
    }

    /// The same refusal, answered with 401 instead of the status of the row.
    pub(crate) fn unauthorized(self) -> Self {
        Self { answer: Answer::Unauthorized, ..self }
    }

    /// Whether the sender is asked to try again because the refusal may be ignorance of this receiver.
    pub fn is_deferred(&self) -> bool {
        self.answer == Answer::Deferred
    }

    /// The HTTP status of the answer: that of the row, 503 if it is deferred, or 401 for a sender that wants it after a wrong signature.
    pub fn status(&self) -> u16 {
        match self.answer {
            Answer::Deferred => DEFERRED_STATUS,
            Answer::Unauthorized => UNAUTHORIZED_STATUS,
            Answer::AsRow | Answer::Terse => self.reject.row().status,
        }
    }

    /// The sentence for the operator: the log, the terminal.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The sentence for the peer. It says nothing of this host.
    pub fn peer_detail(&self) -> &str {
        self.reject.row().peer_detail.unwrap_or(&self.detail)
    }

    /// What the answer says of the occurrence: [`Refusal::peer_detail`], or nothing if the provider wants it terse.
    pub fn shown_detail(&self) -> Option<&str> {
        (self.answer != Answer::Terse).then(|| self.peer_detail())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reject.row().reason, self.detail)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Blame, Refusal, Reject, Stage};

    #[test]
    fn reasons_are_unique_and_statuses_are_errors() {
        let mut seen = HashSet::new();
        for reject in Reject::ALL {
            let row = reject.row();
            assert!(seen.insert(row.reason), "{} stands twice", row.reason);
            assert!((400..600).contains(&row.status), "{} has status {}", row.reason, row.status);
            assert!(row.reason.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }

    #[test]
    fn every_reason_says_what_happened_and_who_can_do_what() {
        for reject in Reject::ALL {
            let row = reject.row();
            assert!(row.meaning().ends_with('.'), "{reject:?}: {}", row.meaning());
            let advice = [row.for_peer(), row.for_operator()];
            assert!(advice.iter().any(Option::is_some), "{reject:?} says neither \"Peer:\" nor \"Operator:\"");
            for text in advice.into_iter().flatten() {
                assert!(text.len() > 5 && text.ends_with('.') && !text.contains(": Peer"), "{reject:?}: {text}");
            }
        }
        let row = Reject::HeadTooLarge.row();
        assert_eq!((row.for_peer(), row.for_operator()), (Some("send less."), Some("raise the limit.")));
    }

    #[test]
    fn each_stage_has_its_reasons() {
        let stages: Vec<Stage> = Reject::ALL.iter().map(|reject| reject.stage()).collect();
        assert!(stages.is_sorted(), "{stages:?}");
        assert!(Stage::ALL.iter().all(|stage| stages.contains(stage)));
        assert_eq!(Reject::NoCertificate.stage(), Stage::Identity);
        assert_eq!(Reject::SourceNotInRanges.stage(), Stage::Admission);
        assert_eq!(Reject::TokenMissing.stage(), Stage::Auth);
        assert_eq!(Reject::of_reason("no_route"), Some(Reject::NoRoute));
    }

    /// With two exceptions, which are about the peer's certificate and the list of its issuer.
    #[test]
    fn a_peer_reads_nothing_about_this_host() {
        for reject in Reject::ALL {
            let about_peer = reject.row().blame == Blame::Peer && *reject != Reject::HandshakeFailed
                || matches!(reject, Reject::RevocationUnknown | Reject::RevocationListExpired);
            let refusal = Refusal::new(*reject, "/run/app.sock");
            assert_eq!(refusal.peer_detail() == "/run/app.sock", about_peer, "{reject:?}");
            assert_eq!(refusal.detail(), "/run/app.sock");
        }
    }
}
