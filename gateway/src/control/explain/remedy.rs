//! Which line decides about a refusal, and what would help.
//!
//! Owns the keys of the configuration by reason, and the sentences. A remedy is advice: whether the certificate or the sender is genuine, an
//! operator finds out elsewhere.

use hookgate_core::identity::{Provider, printable_name};
use hookgate_core::reject::{Reject, Stage};
use rustls_pki_types::CertificateDer;
use toml::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The most characters of a name that are shown.
const MAXIMUM_SHOWN: usize = 160;

/// The way to a new authority of a sender, for the reasons that can be ignorance of this receiver.
const TRUST: &str = "If the sender may have changed its authority: hookgate trust pending lists such a chain if there is evidence for it, and \
                     hookgate trust show NUMBER says what to compare and to write (docs/rotation.md)";

/// Whose keys decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A section: its name, and keys.
    Section(&'static str, &'static [&'static str]),
    /// The provider.
    Provider(&'static [&'static str]),
    /// The route that is most like the request, which has none.
    Nearest,
    /// The route.
    Route(&'static [&'static str]),
    /// The route, if it has one of these keys, otherwise `[limits]`.
    Bound(&'static [&'static str]),
    /// The route, if it has one of these keys, otherwise the provider.
    Proof(&'static [&'static str]),
    /// No line of the configuration.
    Nothing,
}

/// What decides about a refusal for this reason.
pub(super) fn owner(reject: Reject) -> Owner {
    use Owner::{Bound, Nearest, Proof, Provider, Route, Section};
    match reject {
        Reject::ConnectionLimit => Section("limits", &["max_connections"]),
        Reject::UnadmittedLimit => Section("limits", &["max_unadmitted_bytes"]),
        Reject::HandshakeTimeout => Section("limits", &["handshake_timeout_ms"]),
        Reject::ServerCertificateRefused => Section("certificate", &["chain"]),
        Reject::ChainTooLarge => Section("limits", &["max_presented_bytes", "max_presented_certificates"]),
        Reject::RequestTimeout => Section("limits", &["request_timeout_ms", "request_head_timeout_ms"]),
        Reject::ResponseTimeout => Section("limits", &["response_timeout_ms"]),
        Reject::BodyTooLarge => Bound(&["max_body_bytes"]),
        Reject::HeadTooLarge => Section("limits", &["max_head_bytes", "max_headers"]),
        Reject::BufferLimit => Section("limits", &["max_buffered_bytes"]),
        Reject::HandlerOverloaded => Section("limits", &["handler_max_in_flight", "handler_max_waiting"]),
        Reject::RouteOverloaded => Route(&["max_in_flight"]),
        Reject::HandlerTimeout => Bound(&["handler_timeout_ms"]),
        Reject::ReplayGuardFull => Section("limits", &["replay_entries"]),
        Reject::StateUnavailable => Section("state", &["directory"]),
        Reject::UnknownServerName | Reject::NoRoute | Reject::MethodNotAllowed => Nearest,
        other if other.stage() == Stage::Proxy => Section("listen", &["proxy_protocol"]),
        // Never client_certificate: a demand of the sender is no remedy of a request that does not meet it.
        Reject::ProviderNotAdmitted | Reject::NoCertificate => Route(&["providers"]),
        Reject::SpoolFull => Route(&["durable"]),
        Reject::HandlerUnavailable | Reject::HandlerMalformed | Reject::HandlerAmbiguous => Route(&["handler"]),
        Reject::UnknownIssuer | Reject::BadSignature => Provider(&["trust_anchors"]),
        Reject::PathTooLong => Provider(&["verify_depth"]),
        Reject::ExtendedKeyUsage => Provider(&["extended_key_usage"]),
        Reject::IdentityMismatch => Provider(&["identity"]),
        Reject::CertificateRevoked
        | Reject::RevocationUnknown
        | Reject::RevocationListExpired
        | Reject::RevocationListUnavailable => Provider(&["crls", "crl_urls", "crl_scope"]),
        Reject::SourceNotInRanges | Reject::RangesUnavailable => {
            Provider(&["source_ranges", "source_range_files", "source_range_urls", "source_ranges_check"])
        }
        Reject::SessionParameterMissing | Reject::SessionParameterMismatch | Reject::BodyNotJson => {
            Proof(&["session_parameter", "proof"])
        }
        Reject::SignatureMissing
        | Reject::SignatureMalformed
        | Reject::SignatureMismatch
        | Reject::SignatureUnknownKey
        | Reject::TimestampOutsideWindow => Proof(&["signature", "proof"]),
        Reject::SecretMissing | Reject::SecretMismatch => Proof(&["secret", "proof"]),
        Reject::CredentialsMissing | Reject::CredentialsMismatch => Proof(&["basic", "proof"]),
        Reject::DeliveryIdMissing | Reject::DuplicateDelivery | Reject::DeliveryInFlight => Proof(&["replay"]),
        other if other.stage() == Stage::Auth => Proof(&["token", "signature", "proof"]),
        _ => Owner::Nothing,
    }
}

/// What would help against the refusal of a certificate by this provider.
pub(super) fn of_certificate(
    reject: Reject,
    chain: &[CertificateDer<'_>],
    provider: &Provider,
    preset: Option<&str>,
) -> String {
    let parsed = |der: Option<&CertificateDer<'_>>| {
        let (_, certificate) = X509Certificate::from_der(der?).ok()?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Some((name.map(str::to_owned), shown(&printable_name(certificate.issuer().as_raw()).unwrap_or_default())))
    };
    let text = match reject {
        Reject::IdentityMismatch => match parsed(chain.first()) {
            Some((Some(name), _)) => format!(
                "if the sender is {} and this name is the one that it documents, write identity = [{{ subject_cn = {} }}]; \
                 otherwise the sender must present the certificate of {}",
                provider.name,
                Value::String(shown(&name)),
                provider.name
            ),
            _ => "write an identity rule for what the end entity has: its subject, or a name of subjectAltName"
                .to_owned(),
        },
        Reject::UnknownIssuer => match parsed(chain.last()) {
            Some((_, issuer)) => format!(
                "the sender must present every intermediate: hookgate completes no chain from trust_anchors, and an intermediate beside its issuer \
                 there is no anchor. If \"{issuer}\" is a new root of the sender, compare its fingerprint with the one that its authority \
                 publishes, and add its certificate to trust_anchors. {TRUST}"
            ),
            None => general(reject),
        },
        Reject::BadSignature | Reject::PathTooLong => format!("{}. {TRUST}", general(reject)),
        Reject::ExtendedKeyUsage => format!(
            "the sender: obtain a certificate for client authentication; the operator: extended_key_usage = \"ignore\", with which the extension \
             may list anything, for a sender whose public authority no longer issues clientAuth. {TRUST}"
        ),
        other => general(other),
    };
    match preset {
        Some(preset) => format!(
            "{text}. The preset {preset} says this (hookgate providers {preset}): a key beside preset = replaces what it says, and a \
             [[provider.profile]] adds to it"
        ),
        None => text,
    }
}

/// What the table of reasons says that can be done.
pub(super) fn general(reject: Reject) -> String {
    let row = reject.row();
    let texts = [("the operator: ", row.for_operator()), ("the sender: ", row.for_peer())];
    let texts = texts.into_iter().filter_map(|(who, text)| Some(format!("{who}{}", text?.trim_end_matches('.'))));
    texts.collect::<Vec<_>>().join("; ")
}

fn shown(text: &str) -> String {
    let printable = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    text.chars().take(MAXIMUM_SHOWN).map(printable).collect()
}
