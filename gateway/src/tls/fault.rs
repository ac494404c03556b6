//! Why a handshake failed, in words: the errors of rustls as sentences for the log.
//!
//! Owns the wording. Must not decide: the handshake is over. rustls prints many of its errors as the names of its Rust types, which say
//! little to an operator.

use hookgate_core::reject::Reject;
use rustls::{AlertDescription, ContentType, Error, InvalidMessage, PeerIncompatible};

/// Alerts by their code, as the registry of IANA names them, and for some what a client means by them.
const ALERTS: &[(u8, &str, &str)] = &[
    (10, "unexpected_message", ""),
    (20, "bad_record_mac", ""),
    (22, "record_overflow", ""),
    (40, "handshake_failure", ""),
    (42, "bad_certificate", NOT_TRUSTED),
    (43, "unsupported_certificate", NOT_TRUSTED),
    (44, "certificate_revoked", NOT_TRUSTED),
    (45, "certificate_expired", NOT_TRUSTED),
    (46, "certificate_unknown", NOT_TRUSTED),
    (47, "illegal_parameter", ""),
    (48, "unknown_ca", NOT_TRUSTED),
    (49, "access_denied", ""),
    (50, "decode_error", ""),
    (51, "decrypt_error", ""),
    (70, "protocol_version", ""),
    (71, "insufficient_security", ""),
    (80, "internal_error", ""),
    (86, "inappropriate_fallback", ""),
    (90, "user_canceled", ""),
    (100, "no_renegotiation", ""),
    (109, "missing_extension", ""),
    (110, "unsupported_extension", ""),
    (112, "unrecognized_name", ""),
    (113, "bad_certificate_status_response", NOT_TRUSTED),
    (115, "unknown_psk_identity", ""),
    (116, "certificate_required", ""),
    (120, "no_application_protocol", ""),
];

const NOT_TRUSTED: &str = " The client does not accept the certificate of this server: check that the chain is complete, in order and not \
                           expired, that it has the name that the client uses, and that the client trusts its root.";

const NO_VERSION: &str = "no version of TLS (1.2 or 1.3, as policy in [tls] says)";

/// The reason of a failed handshake. Only what an operator can act on has a reason of its own.
pub(super) fn reason(error: &Error) -> Reject {
    match error {
        Error::AlertReceived(alert) if distrusts(*alert) => Reject::ServerCertificateRefused,
        Error::PeerIncompatible(why) if lacking(why) == NO_VERSION => Reject::TlsVersion,
        _ => Reject::HandshakeFailed,
    }
}

/// Whether the peer sent a message that does not belong there. An alert is not answered by an alert.
pub(super) fn is_out_of_order(error: &Error) -> bool {
    match error {
        Error::InappropriateMessage { got_type, .. } => *got_type != ContentType::Alert,
        Error::InappropriateHandshakeMessage { .. } => true,
        _ => false,
    }
}

/// The sentence of [`Reject::TlsVersion`]. `served` are the versions of the policy in force.
pub(super) fn no_version(served: &str) -> String {
    format!("The client has no version of TLS that this server serves: {served}, as policy in [tls] says.")
}

/// One or more sentences about the error of a handshake. Contains nothing that the peer can choose but numbers.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::AlertReceived(alert) => alerted(*alert),
        Error::PeerIncompatible(why) => format!("The client and this server have {} in common.", lacking(why)),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "The bytes are not TLS, but perhaps plain HTTP: no TLS record begins so.".to_owned()
        }
        Error::InvalidMessage(message) => format!("The peer sent a TLS message that is malformed: {}.", flaw(message)),
        Error::InvalidCertificate(_) => {
            "The signature of the client's handshake does not verify with the key of its certificate: \
                                         the client must sign with the private key of the certificate that it presents."
                .to_owned()
        }
        Error::DecryptError => "A record of the peer cannot be decrypted.".to_owned(),
        Error::PeerSentOversizedRecord => "The peer sent a TLS record that is longer than allowed.".to_owned(),
        Error::NoApplicationProtocol => {
            "The client offers no application protocol (ALPN) that is spoken here; use http/1.1.".to_owned()
        }
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            "The peer sent a TLS message out of order.".to_owned()
        }
        Error::FailedToGetRandomBytes => "The system provides no random bytes for a handshake.".to_owned(),
        // What remains is `PeerMisbehaved`, of about 70 forms, and what no client can cause. The enum is `non_exhaustive`.
        _ => "The peer does not follow the TLS protocol.".to_owned(),
    }
}

fn distrusts(alert: AlertDescription) -> bool {
    ALERTS.iter().any(|(code, _, meaning)| *code == u8::from(alert) && *meaning == NOT_TRUSTED)
}

fn alerted(alert: AlertDescription) -> String {
    let code = u8::from(alert);
    match ALERTS.iter().find(|(known, ..)| *known == code) {
        Some((_, name, meaning)) => format!("The peer ended the handshake with the alert {name}.{meaning}"),
        None => format!("The peer ended the handshake with the alert {code}."),
    }
}

/// What the two sides lack, after "have".
fn lacking(why: &PeerIncompatible) -> &'static str {
    use PeerIncompatible as P;
    match why {
        P::NoCipherSuitesInCommon => "no cipher suite",
        P::NoKxGroupsInCommon | P::NamedGroupsExtensionRequired | P::KeyShareExtensionRequired => {
            "no key exchange group (see key_exchange in [tls])"
        }
        P::NoSignatureSchemesInCommon | P::SignatureAlgorithmsExtensionRequired => {
            "no signature scheme for the key of this server's certificate"
        }
        P::NoCertificateRequestSignatureSchemesInCommon => "no signature scheme for client certificates",
        P::ServerDoesNotSupportTls12Or13
        | P::ServerTlsVersionIsDisabledByOurConfig
        | P::SupportedVersionsExtensionRequired
        | P::Tls12NotOffered
        | P::Tls12NotOfferedOrEnabled => NO_VERSION,
        P::ExtendedMasterSecretExtensionRequired => "no extended master secret (RFC 7627)",
        P::EcPointsExtensionRequired | P::NoEcPointFormatsInCommon | P::UncompressedEcPointsRequired => {
            "no format of elliptic curve points"
        }
        P::NullCompressionRequired => "no compression method",
        // The enum is `non_exhaustive`.
        _ => "no set of TLS parameters",
    }
}

/// What is wrong with a message.
fn flaw(message: &InvalidMessage) -> &'static str {
    use InvalidMessage as M;
    match message {
        M::CertificatePayloadTooLarge => "the certificates have more than 64 KiB",
        M::HandshakePayloadTooLarge | M::MessageTooLarge => "it is too long",
        M::MessageTooShort | M::MissingData(_) => "it is cut short",
        M::TrailingData(_) => "bytes follow its end",
        M::InvalidEmptyPayload | M::IllegalEmptyList(_) | M::IllegalEmptyValue => "a part of it is empty",
        M::InvalidServerName => "its server name is not a DNS name",
        M::UnknownProtocolVersion => "its version of TLS is unknown",
        M::UnsupportedCompression => "it is compressed",
        M::MissingKeyExchange => "it has no key exchange group",
        M::NoSignatureSchemes => "it has no signature scheme",
        M::DuplicateExtension(_) => "an extension occurs twice",
        M::UnexpectedMessage(_) => "it is of a type that is not expected there",
        // The enum is `non_exhaustive`.
        _ => "a field has a value that is not allowed",
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, PeerMisbehaved};

    use super::*;

    #[test]
    fn the_versions_in_force_are_named() {
        let text = no_version("1.3 only");
        assert_eq!(
            text,
            "The client has no version of TLS that this server serves: 1.3 only, as policy in [tls] says."
        );
    }

    #[test]
    fn a_failed_handshake_is_explained_without_names_of_rust() {
        for (error, expected) in [
            (Error::AlertReceived(AlertDescription::UnknownCA), "alert unknown_ca. The client does not accept"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "alert handshake_failure."),
            (Error::AlertReceived(AlertDescription::Unknown(200)), "alert 200."),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), "have no cipher suite in common"),
            (
                PeerIncompatible::Tls12NotOfferedOrEnabled.into(),
                "no version of TLS (1.2 or 1.3, as policy in [tls] says) in common",
            ),
            (PeerIncompatible::Tls13RequiredForQuic.into(), "no set of TLS parameters in common"),
            (PeerMisbehaved::TooManyEmptyFragments.into(), "does not follow the TLS protocol"),
            (InvalidMessage::InvalidContentType.into(), "perhaps plain HTTP"),
            (InvalidMessage::MissingData("ClientHelloPayload").into(), "malformed: it is cut short"),
            (InvalidMessage::InvalidCcs.into(), "malformed: a field has a value"),
            (CertificateError::BadSignature.into(), "the private key of the certificate"),
            (Error::DecryptError, "cannot be decrypted"),
            (Error::General("Debug { }".into()), "does not follow"),
        ] {
            let text = sentence(&error);
            assert!(text.contains(expected), "{error:?}: {text}");
            assert!(text.ends_with('.') && !text.contains(['{', '\n']), "{text}");
            // No name of a variant: a word with a capital letter within it.
            let is_variant =
                |word: &str| word.chars().skip(1).any(char::is_uppercase) && word.chars().any(char::is_lowercase);
            let named = text.split([' ', '.', ',']).find(|word| is_variant(word) && *word != "KiB");
            assert_eq!(named, None, "{text}");
        }
    }
}
