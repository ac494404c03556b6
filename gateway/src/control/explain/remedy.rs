//! Which line decides about a refusal, and what would help.
//!
//! Owns the keys of the configuration by reason, and the sentences. A remedy is advice: whether the certificate or the sender is genuine, an
//! operator finds out elsewhere.

use std::time::Duration;

use hookgate_core::identity::{DistinguishedName, Provider, printable_name};
use hookgate_core::limits::Limits;
use hookgate_core::reject::{Refusal, Reject, Stage};
use rustls_pki_types::CertificateDer;
use toml::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// The most characters of a name that are shown.
const MAXIMUM_SHOWN: usize = 160;

/// The longest subject that is advised as a rule. The documented ones of senders have some 100 characters.
const MAXIMUM_WRITTEN: usize = 512;

/// DER contents of the object identifier of commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

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

/// `KEY is now VALUE` of each of these limits; empty for keys that are none.
pub(super) fn now(keys: &[&str], limits: &Limits) -> String {
    let milliseconds = |time: Duration| time.as_millis().to_string();
    let value = |key: &str| {
        Some(match key {
            "max_connections" => limits.max_connections.to_string(),
            "max_unadmitted_bytes" => limits.max_unadmitted_bytes.to_string(),
            "max_presented_bytes" => limits.max_presented_bytes.to_string(),
            "max_presented_certificates" => limits.max_presented_certificates.to_string(),
            "max_head_bytes" => limits.max_head_bytes.to_string(),
            "max_headers" => limits.max_headers.to_string(),
            "max_body_bytes" => limits.max_body_bytes.to_string(),
            "max_buffered_bytes" => limits.max_buffered_bytes.to_string(),
            "handler_max_in_flight" => limits.handler_max_in_flight.to_string(),
            "handler_max_waiting" => limits.handler_max_waiting.to_string(),
            "replay_entries" => limits.replay_entries.to_string(),
            "handshake_timeout_ms" => milliseconds(limits.handshake_timeout),
            "request_timeout_ms" => milliseconds(limits.request_timeout),
            "request_head_timeout_ms" => milliseconds(limits.request_head_timeout),
            "response_timeout_ms" => milliseconds(limits.response_timeout),
            "handler_timeout_ms" => milliseconds(limits.handler_timeout),
            _ => return None,
        })
    };
    let texts = keys.iter().filter_map(|key| Some(format!("{key} is now {}", value(key)?)));
    texts.collect::<Vec<_>>().join(", ")
}

/// What would help against the refusal of a certificate by this provider. `preset` is that of the provider, if it says what decides: a key
/// beside it would replace what it says for every profile, so the advice is a profile beside those of the preset.
pub(super) fn of_certificate(
    refusal: &Refusal,
    chain: &[CertificateDer<'_>],
    provider: &Provider,
    preset: Option<&str>,
) -> String {
    match refusal.reject {
        Reject::IdentityMismatch => of_identity(chain.first(), provider, preset),
        Reject::UnknownIssuer => {
            let Some(issuer) = chain.last().and_then(issuer) else { return general(refusal.reject) };
            let write = match preset {
                Some(preset) => format!(
                    "{}, with that certificate as its trust_anchors: the key beside preset = replaces the anchors of the preset",
                    beside(preset)
                ),
                None => "add its certificate to trust_anchors".to_owned(),
            };
            format!(
                "the sender must present every intermediate: hookgate completes no chain from trust_anchors, and an intermediate beside its issuer \
                 there is no anchor. If \"{issuer}\" is a new root of the sender, compare its fingerprint with the one that its authority \
                 publishes, and {write}. {TRUST}"
            )
        }
        Reject::BadSignature | Reject::PathTooLong => match preset {
            Some(preset) => format!(
                "{}. A key beside preset = counts for every profile of the preset: {} instead. {TRUST}",
                general(refusal.reject),
                beside(preset)
            ),
            None => format!("{}. {TRUST}", general(refusal.reject)),
        },
        Reject::ExtendedKeyUsage => {
            let write = match preset {
                Some(preset) => format!(
                    "{}, with extended_key_usage = \"ignore\": the key beside preset = counts for every profile; in this one the extension may list anything",
                    beside(preset)
                ),
                None => "extended_key_usage = \"ignore\", with which the extension may list anything".to_owned(),
            };
            format!(
                "the sender: obtain a certificate for client authentication; the operator: {write}, for a sender whose public authority no longer \
                 issues clientAuth. {TRUST}"
            )
        }
        // The sentence begins with the certificate that no list covers.
        Reject::RevocationUnknown if refusal.detail().starts_with("Certificate 1 of ") => {
            "the operator: add the list of its issuer to crls; no crl_scope leaves the end entity out".to_owned()
        }
        other => general(other),
    }
}

/// What would help if the name of the end entity is none of the provider's.
fn of_identity(end_entity: Option<&CertificateDer<'_>>, provider: &Provider, preset: Option<&str>) -> String {
    let name = &provider.name;
    let rule = match end_entity.map(|der| condition(der)) {
        Some(Ok(rule)) => rule,
        Some(Err(why)) => return format!("the sender must present the certificate of {name}: {why}"),
        None => return general(Reject::IdentityMismatch),
    };
    let write = match preset {
        Some(preset) => format!(
            "{}, with identity = [{{ {rule} }}]: the key beside preset = replaces the names of the preset, and their senders are refused then",
            beside(preset)
        ),
        None => format!("add {{ {rule} }} to identity"),
    };
    format!(
        "if the sender is {name} and this name is one that it documents, {write}; otherwise the sender must present the certificate of {name}"
    )
}

/// A profile that leaves those of the preset as they are.
fn beside(preset: &str) -> String {
    format!(
        "add a [[provider.profile]], with name, trust_anchors and identity, beside those of the preset (hookgate providers {preset} prints these)"
    )
}

/// The condition of an identity rule that the subject of this certificate satisfies, as TOML; or why none is advised.
fn condition(end_entity: &CertificateDer<'_>) -> Result<String, &'static str> {
    let parsed = X509Certificate::from_der(end_entity).ok().map(|(_, parsed)| parsed);
    let printed = parsed.as_ref().and_then(|parsed| printable_name(parsed.subject().as_raw())).unwrap_or_default();
    if printed.is_empty() {
        return Err("the subject of this one is empty, and a rule for it has to name what its subjectAltName has");
    }
    if printed.len() > MAXIMUM_WRITTEN {
        return Err("the subject of this one is longer than a rule should be");
    }
    let name = DistinguishedName::parse(&printed).map_err(|_| "the subject of this one cannot be written as a rule")?;
    let names = name.attributes().unwrap_or_default();
    let mut common = names.iter().filter(|(kind, _)| *kind == COMMON_NAME).map(|(_, text)| *text);
    Ok(match (common.next(), common.next()) {
        (Some(only), None) if only.chars().all(is_printable) => {
            format!("subject_cn = {}", Value::String(only.to_owned()))
        }
        // With the #hex form of what is no text, and the escapes of what is not printable.
        _ => format!("subject = {}", Value::String(printed)),
    })
}

/// The issuer of a certificate, to be shown.
fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = printable_name(parsed.issuer().as_raw()).unwrap_or_default();
    Some(name.chars().take(MAXIMUM_SHOWN).collect())
}

/// What the table of reasons says that can be done.
pub(super) fn general(reject: Reject) -> String {
    let row = reject.row();
    let texts = [("the operator: ", row.for_operator()), ("the sender: ", row.for_peer())];
    let texts = texts.into_iter().filter_map(|(who, text)| Some(format!("{who}{}", text?.trim_end_matches('.'))));
    // A terminal shows no marks of Markdown.
    texts.collect::<Vec<_>>().join("; ").replace('`', "")
}

fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~')
}

#[cfg(test)]
mod tests;
