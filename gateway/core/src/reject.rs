//! Every way in which hookgate says no: one closed enum, one table.
//!
//! Owns the mapping from a reason to its HTTP status, its TLS alert, its metric label and its title. Must not decide
//! anything: the stages decide, and name the reason here. Adding a reason means adding a row; nothing else maps reasons.

use std::fmt;

use rustls::AlertDescription;

/// Whose doing a refusal is, for the operator who reads a graph of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The peer sent something wrong: its certificate, its bytes, its request.
    Peer,
    /// A local handler did not do its part.
    Handler,
    /// hookgate, or the way in which it was configured.
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

/// What is said about one reason, wherever it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Stable code: the `reason` of a problem document, of a metric label and of a log line. Never renamed.
    pub reason: &'static str,
    /// HTTP status (RFC 9110) of the problem document.
    pub status: u16,
    /// TLS alert (RFC 8446, section 6.2) where the connection is aborted in the handshake instead.
    pub alert: AlertDescription,
    /// Whose doing it is.
    pub blame: Blame,
    /// The `title` of the problem document (RFC 9457, section 3.1.4): the same for every occurrence.
    pub title: &'static str,
}

macro_rules! rejects {
    ($($(#[$doc:meta])* $name:ident => $reason:literal, $status:literal, $alert:ident, $blame:ident, $title:literal;)+) => {
        /// Why something was refused. Fieldless: what is particular to one occurrence stands in [`Refusal::detail`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reject { $($(#[$doc])* $name,)+ }

        impl Reject {
            /// Every reason, in the order of the stages.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The row of this reason.
            pub fn row(self) -> &'static Row {
                match self {
                    $(Self::$name => const { &Row {
                        reason: $reason, status: $status, alert: AlertDescription::$alert,
                        blame: Blame::$blame, title: $title,
                    } },)+
                }
            }
        }
    };
}

// One macro, since a table in which a row can be forgotten is no table.
rejects! {
    // accept
    /// Every connection slot is taken and none is idle.
    ConnectionLimit => "connection_limit", 503, InternalError, Gateway, "Too many connections";
    // tls
    /// The handshake did not complete in time.
    HandshakeTimeout => "handshake_timeout", 408, UserCanceled, Peer, "The handshake took too long";
    /// The peer's bytes are no acceptable TLS handshake.
    HandshakeFailed => "handshake_failed", 400, HandshakeFailure, Peer, "The handshake failed";
    /// The server name (SNI) belongs to no route.
    UnknownServerName => "unknown_server_name", 421, UnrecognisedName, Peer, "No route has this server name";
    // identity
    /// No client certificate was presented.
    NoCertificate => "no_certificate", 403, CertificateRequired, Peer, "A client certificate is required";
    /// More certificates, or more bytes of them, than the limits allow.
    ChainTooLarge => "chain_too_large", 403, BadCertificate, Peer, "The presented certificate chain is too large";
    /// A presented certificate is not well-formed X.509.
    CertificateMalformed => "certificate_malformed", 403, BadCertificate, Peer, "A certificate is malformed";
    /// The validity of a certificate has ended.
    CertificateExpired => "certificate_expired", 403, CertificateExpired, Peer, "A certificate has expired";
    /// The validity of a certificate has not begun.
    CertificateNotYetValid => "certificate_not_yet_valid", 403, CertificateExpired, Peer, "A certificate is not valid yet";
    /// No path leads to a trust anchor of the providers in question.
    UnknownIssuer => "unknown_issuer", 403, UnknownCA, Peer, "The certificate's issuer is not trusted";
    /// A signature in the chain does not verify, or uses an algorithm that is not accepted.
    BadSignature => "bad_signature", 403, DecryptError, Peer, "A certificate's signature is not acceptable";
    /// A path exists, but it is longer than the provider's `verify_depth`.
    PathTooLong => "path_too_long", 403, UnknownCA, Peer, "The certificate path is too long";
    /// The extended key usage does not allow client authentication.
    ExtendedKeyUsage => "extended_key_usage", 403, UnsupportedCertificate, Peer, "The certificate is not for client authentication";
    /// Another constraint of RFC 5280 is violated on the path (CA flag, name constraints, critical extensions).
    PathConstraint => "path_constraint", 403, BadCertificate, Peer, "A certificate on the path violates a constraint";
    /// A certificate on the path is on a revocation list.
    CertificateRevoked => "certificate_revoked", 403, CertificateRevoked, Peer, "A certificate has been revoked";
    /// No configured revocation list covers a certificate that needs one.
    RevocationUnknown => "revocation_unknown", 403, CertificateUnknown, Gateway, "The revocation status is unknown";
    /// A revocation list is past its nextUpdate. The operator's doing, so a status that makes senders retry.
    RevocationListExpired => "revocation_list_expired", 503, CertificateUnknown, Gateway, "A revocation list has expired";
    /// The path is good, but no identity rule of a provider in question matches the certificate.
    IdentityMismatch => "identity_mismatch", 403, AccessDenied, Peer, "The certificate is not the expected one";
    /// The certificate is a provider's, but not of one that this route admits.
    ProviderNotAdmitted => "provider_not_admitted", 403, AccessDenied, Peer, "This provider is not admitted here";
    /// The request came from outside the ranges of its provider.
    SourceNotInRanges => "source_not_in_ranges", 403, AccessDenied, Peer, "The address is not one of this provider";
    // http
    /// The request is not well-formed HTTP.
    MalformedRequest => "malformed_request", 400, InternalError, Peer, "The request is malformed";
    /// The request's head or body did not arrive in time.
    RequestTimeout => "request_timeout", 408, UserCanceled, Peer, "The request took too long to arrive";
    /// The body is longer than `max_body_bytes`.
    BodyTooLarge => "body_too_large", 413, InternalError, Peer, "The request body is too large";
    /// The head is longer than `max_head_bytes` or has more than `max_headers` fields.
    HeadTooLarge => "head_too_large", 431, InternalError, Peer, "The request head is too large";
    /// The host of the request is not the server name of the connection.
    Misdirected => "misdirected", 421, UnrecognisedName, Peer, "The host is not the server name of this connection";
    // route
    /// No route has this host and path.
    NoRoute => "no_route", 404, AccessDenied, Peer, "No route has this host and path";
    /// A route has this host and path, but not this method.
    MethodNotAllowed => "method_not_allowed", 405, AccessDenied, Peer, "The method is not allowed here";
    // auth
    /// The route demands a bearer token and the request has none.
    TokenMissing => "token_missing", 401, AccessDenied, Peer, "A bearer token is required";
    /// What was sent as a bearer token is no JSON Web Token that could be accepted.
    TokenMalformed => "token_malformed", 401, AccessDenied, Peer, "The token is malformed";
    /// An OAuth access token was sent where an ID token is required.
    TokenIsAccessToken => "token_is_access_token", 401, AccessDenied, Peer, "The token is an access token, not an ID token";
    /// No key of the issuer has the `kid` of the token.
    TokenUnknownKey => "token_unknown_key", 401, AccessDenied, Peer, "The token's key is not known";
    /// The signature of the token does not verify, or its algorithm is not that of the key.
    TokenBadSignature => "token_bad_signature", 401, AccessDenied, Peer, "The token's signature is not acceptable";
    /// `iss` is not the expected issuer.
    TokenWrongIssuer => "token_wrong_issuer", 401, AccessDenied, Peer, "The token's issuer is not the expected one";
    /// `aud` holds none of the expected audiences.
    TokenWrongAudience => "token_wrong_audience", 401, AccessDenied, Peer, "The token is for another audience";
    /// `exp` has passed.
    TokenExpired => "token_expired", 401, AccessDenied, Peer, "The token has expired";
    /// `nbf` or `iat` lies in the future.
    TokenNotYetValid => "token_not_yet_valid", 401, AccessDenied, Peer, "The token is not valid yet";
    /// `email` is not an expected one, or is not verified.
    TokenWrongEmail => "token_wrong_email", 401, AccessDenied, Peer, "The token's email is not the expected one";
    /// `sub` is not an expected one.
    TokenWrongSubject => "token_wrong_subject", 401, AccessDenied, Peer, "The token's subject is not the expected one";
    /// No usable keys of the issuer: never fetched, or too old. A status that makes senders retry.
    KeysUnavailable => "keys_unavailable", 503, InternalError, Gateway, "The issuer's keys are not available";
    /// A proof stands in the body, and the body is not the JSON in which to look for it.
    BodyNotJson => "body_not_json", 400, InternalError, Peer, "The body is not readable as JSON";
    /// The body does not have the session parameter.
    SessionParameterMissing => "session_parameter_missing", 403, AccessDenied, Peer, "The session parameter is missing";
    /// The session parameter is there and proves nothing.
    SessionParameterMismatch => "session_parameter_mismatch", 403, AccessDenied, Peer, "The session parameter is not the expected one";
    // 403 and not 401 for signatures: 401 must carry a challenge (RFC 9110, section 15.5.2) and no authentication scheme is
    // registered that could name them. Senders treat both alike: PagerDuty drops either without a retry.
    /// The request has no signature header, or not all that the signature needs.
    SignatureMissing => "signature_missing", 403, AccessDenied, Peer, "A body signature is required";
    /// The signature headers are there and cannot be read.
    SignatureMalformed => "signature_malformed", 403, AccessDenied, Peer, "The body signature is malformed";
    /// No signature of the request was made with a configured secret over what arrived.
    SignatureMismatch => "signature_mismatch", 403, AccessDenied, Peer, "The body signature does not match";
    /// The signed timestamp is too far from now.
    TimestampOutsideWindow => "timestamp_outside_window", 403, AccessDenied, Peer, "The signed timestamp is outside the window";
    /// The request lacks the delivery id by which duplicates are found.
    DeliveryIdMissing => "delivery_id_missing", 400, AccessDenied, Peer, "The delivery id is missing";
    /// The handler already took this delivery. The configured answer replaces this status (200 unless configured).
    DuplicateDelivery => "duplicate_delivery", 409, AccessDenied, Peer, "This delivery was already taken";
    /// A copy of this delivery is with the handler, and may yet fail there: a status that makes senders retry later.
    DeliveryInFlight => "delivery_in_flight", 429, AccessDenied, Peer, "A copy of this delivery is being handled";
    /// As many deliveries are remembered as may be, and none may be forgotten yet.
    ReplayGuardFull => "replay_guard_full", 503, InternalError, Gateway, "Too many deliveries to remember";
    // upstream
    /// The handler's socket refused the connection, or the handler broke off before answering.
    HandlerUnavailable => "handler_unavailable", 502, InternalError, Handler, "The handler is not available";
    /// The handler's answer is not well-formed HTTP.
    HandlerMalformed => "handler_malformed", 502, InternalError, Handler, "The handler's answer is malformed";
    /// As many requests as allowed are with the handler and waiting for it.
    HandlerOverloaded => "handler_overloaded", 503, InternalError, Handler, "The handler is overloaded";
    /// The handler did not answer in time.
    HandlerTimeout => "handler_timeout", 504, InternalError, Handler, "The handler took too long";
    /// The memory set aside for request bodies is used up.
    BufferLimit => "buffer_limit", 503, InternalError, Gateway, "Too many request bodies at once";
    /// Something in hookgate failed that should not.
    Internal => "internal", 500, InternalError, Gateway, "hookgate failed";
}

/// One occurrence of a [`Reject`]: the reason, and a sentence about this occurrence.
///
/// The sentence names what was wrong with what (which certificate, which rule, which bound), so that whoever reads it can
/// act on it. It never holds a secret, nor more of the peer's bytes than names and numbers out of a certificate or header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub reject: Reject,
    /// One or more plain sentences, without a line break, at most a few hundred bytes.
    pub detail: Box<str>,
}

impl Refusal {
    /// A refusal for `reject`, explained by `detail`.
    pub fn new(reject: Reject, detail: impl Into<Box<str>>) -> Self {
        Self { reject, detail: detail.into() }
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

    use super::Reject;

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
}
