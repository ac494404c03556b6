//! Why a chain was refused, in a sentence that names the certificate at fault.
//!
//! Owns the mapping from webpki's errors to [`Reject`], the search for the certificate at fault, and the wording. Must not decide: it
//! runs after the decision and does not change it. Its text is bounded and printable ASCII, since most of it comes from the peer.

use std::fmt::{self, Write as _};

use rustls_pki_types::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::keys::{ACCEPTED_KEYS, named};
use super::name::Name;
use super::path::excludes_client_auth;
use super::presented::{Presented, PresentedChain, unix_seconds};
use super::provider::{Profile, Provider};
use super::status::{StatusFailure, Unusable};
use crate::reject::{Refusal, Reject};

mod requirement;

pub(super) use requirement::path;

/// Most bytes of a detail: the longest sentence below fits, with every name in it at its bound.
pub(super) const MAX_DETAIL_BYTES: usize = 960;
/// Most bytes of one name in a detail. The subjects of the providers' certificates and authorities are shorter.
const MAX_NAME_BYTES: usize = 110;
/// Most bytes of an attribute type in a detail: the dotted forms in use are shorter.
const MAX_KIND_BYTES: usize = 40;
/// Most bytes of a serial number: RFC 5280, section 4.1.2.2, allows 20.
const MAX_SERIAL_BYTES: usize = 20;

/// The words for a signature whose algorithm is not accepted, if no certificate shows which one it is.
const UNACCEPTED_ALGORITHM: &str = "is signed with an algorithm that is not accepted with the key of its issuer";
/// The algorithms of `signatures`, in words.
const ACCEPTED_ALGORITHMS: &str = "ECDSA on P-256 or P-384 with SHA-256 or SHA-384, RSA of 2048 to 8192 bits with SHA-256, SHA-384 or SHA-512, or Ed25519";

/// The end entity, or another certificate at `index`, cannot be parsed.
pub(super) fn malformed(error: &webpki::Error, index: usize, chain: &PresentedChain<'_>) -> Refusal {
    let (reject, what) = reason(error);
    refusal(reject, &format!("{} {what}.", describe(index, chain)))
}

/// The key of the end entity is of a kind that is not accepted; `kind` says which.
pub(super) fn unaccepted_key(kind: &str, chain: &PresentedChain<'_>) -> Refusal {
    refusal(
        Reject::PathConstraint,
        &format!(
            "{} has {}, with which no handshake can be signed here; the sender must use a certificate with a key of an accepted \
             kind: {ACCEPTED_KEYS}.",
            describe(0, chain),
            bounded(kind, MAX_NAME_BYTES),
        ),
    )
}

/// The chain of so many certificates has more than `most` DER elements.
pub(super) fn too_many_elements(certificates: usize, most: usize) -> Refusal {
    refusal(
        Reject::ChainTooLarge,
        &format!(
            "The {certificates} presented certificates have more than {most} DER elements (names, extensions and their \
             parts); the sender must present shorter ones."
        ),
    )
}

/// The path is valid, but no identity rule of `profile`, nor of another profile in scope, matches the end entity.
pub(super) fn mismatch(chain: &PresentedChain<'_>, provider: &Provider, profile: &Profile) -> Refusal {
    let expected = profile.identity.first().map(|rule| bounded(&rule.to_string(), MAX_NAME_BYTES)).unwrap_or_default();
    let others = if profile.identity.len() > 1 { " or another of its identity rules" } else { "" };
    refusal(
        Reject::IdentityMismatch,
        &format!(
            "{} has a valid path to a trust anchor, but matches no identity rule; provider \"{}\" expects \
             {expected}{others}.{}",
            describe(0, chain),
            bounded(&provider.name, MAX_NAME_BYTES),
            undecodable(chain).unwrap_or_default(),
        ),
    )
}

/// What to write in a rule for a subject with a value that is no text.
fn undecodable(chain: &PresentedChain<'_>) -> Option<String> {
    let kind = Name::from_contents(chain.certificates().first()?.webpki().ok()?.subject())?.undecodable()?;
    Some(format!(
        " The value of {} is not valid for its string type; a rule matches it only as subject = \"...\" with its #hex form.",
        bounded(&kind, MAX_KIND_BYTES)
    ))
}

/// `unsigned` is the place of the first certificate whose signature failed.
fn refused_by_webpki(
    error: &webpki::Error,
    unsigned: Option<usize>,
    profile: &Profile,
    chain: &PresentedChain<'_>,
    now: UnixTime,
) -> Refusal {
    let (reject, what) = reason(error);
    let sentence = match error {
        webpki::Error::UnknownIssuer => return unknown_issuer(profile, chain),
        webpki::Error::MaximumNameConstraintComparisonsExceeded
        | webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded => {
            format!(
                "The {} presented certificates form too many paths to verify; the sender must present those of one path.",
                chain.certificates().len()
            )
        }
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            let at_fault = at_fault(error, chain).unwrap_or(0);
            format!("{} {what}. The time here is {}.", describe(at_fault, chain), date(now.as_secs()))
        }
        webpki::Error::InvalidSignatureForPublicKey => format!("{} {what}.", describe(unsigned.unwrap_or(0), chain)),
        error if what == UNACCEPTED_ALGORITHM => {
            let at_fault = at_fault(error, chain).unwrap_or(0);
            let algorithm = signed_with(at_fault, chain).unwrap_or_else(|| "an unknown algorithm".to_owned());
            format!(
                "{} is signed with {algorithm}, which is not accepted with the key of its issuer; the issuer must use \
                 {ACCEPTED_ALGORITHMS}.",
                describe(at_fault, chain)
            )
        }
        error => format!("{} {what}.", describe(at_fault(error, chain).unwrap_or(0), chain)),
    };
    refusal(reject, &sentence)
}

/// The reason for every error of webpki 0.103, and the words that follow the description of the certificate.
fn reason(error: &webpki::Error) -> (Reject, &'static str) {
    malformation(error)
        .map(|words| (Reject::CertificateMalformed, words))
        .or_else(|| signature(error).map(|words| (Reject::BadSignature, words)))
        .unwrap_or_else(|| constraint(error))
}

/// Why a certificate is malformed, if `error` says that.
fn malformation(error: &webpki::Error) -> Option<&'static str> {
    use webpki::Error as E;
    Some(match error {
        E::BadDer | E::TrailingData(_) => "is not well-formed DER",
        E::BadDerTime => "has a malformed notBefore or notAfter",
        E::InvalidCertValidity => "has a notAfter before its notBefore",
        E::InvalidSerialNumber => "has a malformed serial number",
        E::ExtensionValueInvalid | E::MalformedExtensions => "has a malformed or duplicate extension",
        E::InvalidNetworkMaskConstraint | E::MalformedNameConstraint | E::MalformedDnsIdentifier => {
            "has a malformed name or name constraint"
        }
        E::UnsupportedCertVersion => "is not an X.509 version 3 certificate",
        _ => return None,
    })
}

/// Why a signature is not accepted, if `error` says that.
#[expect(deprecated, reason = "the variants without context are matched with those that replaced them")]
fn signature(error: &webpki::Error) -> Option<&'static str> {
    use webpki::Error as E;
    Some(match error {
        E::InvalidSignatureForPublicKey => "has a signature that does not verify with the public key of its issuer",
        E::SignatureAlgorithmMismatch => "names one algorithm in signatureAlgorithm and another in tbsCertificate",
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKey
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => UNACCEPTED_ALGORITHM,
        _ => return None,
    })
}

/// The algorithm of the certificate's signature.
fn signed_with(index: usize, chain: &PresentedChain<'_>) -> Option<String> {
    /// Those that certificates have and hookgate does not accept, or accepts with some keys only (RFC 3279, 4055, 5758, 8410, 9881).
    const ALGORITHMS: &[(&str, &str)] = &[
        ("1.2.840.10040.4.3", "dsa-with-SHA1"),
        ("1.2.840.10045.4.1", "ecdsa-with-SHA1"),
        ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224"),
        ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256"),
        ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384"),
        ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512"),
        ("1.2.840.113549.1.1.4", "md5WithRSAEncryption"),
        ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption"),
        ("1.2.840.113549.1.1.10", "RSASSA-PSS"),
        ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption"),
        ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption"),
        ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption"),
        ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption"),
        ("1.3.101.112", "Ed25519"),
        ("1.3.101.113", "Ed448"),
        ("2.16.840.1.101.3.4.3.2", "dsa-with-SHA256"),
        ("2.16.840.1.101.3.4.3.17", "ML-DSA-44"),
        ("2.16.840.1.101.3.4.3.18", "ML-DSA-65"),
        ("2.16.840.1.101.3.4.3.19", "ML-DSA-87"),
    ];
    let certificate = chain.certificates().get(index)?.x509()?;
    let name = named(certificate.signature_algorithm.oid().as_bytes(), ALGORITHMS);
    Some(bounded(&name, MAX_KIND_BYTES))
}

/// What is wrong with the revocation status of a certificate.
fn status(StatusFailure { place, why, .. }: &StatusFailure, chain: &PresentedChain<'_>) -> Refusal {
    let (reject, words) = match why {
        Unusable::Expired { issuer, next_update } => {
            let sentence = format!(
                "The revocation list (CRL) of \"{}\" expired at {} (nextUpdate), so the revocation status is unknown; the \
                 operator of this receiver must install the current list.",
                bounded(issuer, MAX_NAME_BYTES),
                date(next_update.as_secs()),
            );
            return refusal(Reject::RevocationListExpired, &sentence);
        }
        Unusable::Revoked => {
            (Reject::CertificateRevoked, "has been revoked by its issuer; the sender must use another one")
        }
        Unusable::NoList => (
            Reject::RevocationUnknown,
            "is covered by no configured revocation list; the operator must add the list of its issuer to crls",
        ),
        Unusable::NotServed => (
            Reject::RevocationUnknown,
            "is covered by no revocation list: no URL of crl_urls serves a list of its issuer; the log of this receiver names \
             that issuer, and the list at each URL",
        ),
        Unusable::NotSignedByIssuer => (
            Reject::RevocationUnknown,
            "is covered by no revocation list whose signature verifies with the public key of its issuer; if the issuer changed \
             its key, the operator must add the list of that key to crls",
        ),
        Unusable::Awaited => (
            Reject::RevocationListUnavailable,
            "is covered by no revocation list so far; the list of its issuer is fetched, and the log says what came of that",
        ),
        Unusable::IssuerMayNotSign => (
            Reject::RevocationUnknown,
            "has an issuer whose key usage extension lacks cRLSign, so its revocation list is not valid",
        ),
        Unusable::Unreadable => (Reject::CertificateMalformed, "is malformed or has a duplicate extension"),
    };
    refusal(reject, &format!("{} {words}.", describe(*place, chain)))
}

/// Every other error.
#[expect(deprecated, reason = "the variants without context are matched with those that replaced them")]
fn constraint(error: &webpki::Error) -> (Reject, &'static str) {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => (Reject::CertificateExpired, "has expired; the sender must renew it"),
        E::CertNotValidYet { .. } => {
            (Reject::CertificateNotYetValid, "is not valid yet; compare the clocks of sender and receiver")
        }
        E::UnknownIssuer => (Reject::UnknownIssuer, "has an issuer that is not trusted"),
        E::CertDistrusted => (Reject::UnknownIssuer, "has a public key that is explicitly distrusted"),
        // webpki's MAX_SUB_CA_COUNT.
        E::MaximumPathDepthExceeded => (Reject::PathTooLong, "needs more than 6 intermediates to reach a trust anchor"),
        E::EmptyEkuExtension => (Reject::ExtendedKeyUsage, "has an empty extended key usage extension"),
        E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) => {
            (Reject::ExtendedKeyUsage, "has an extended key usage extension without id-kp-clientAuth")
        }
        E::CaUsedAsEndEntity => (
            Reject::PathConstraint,
            "is a CA certificate; the first certificate presented must be an end entity (basicConstraints with CA:FALSE, or without), \
             unless it is a trust anchor itself",
        ),
        E::EndEntityUsedAsCa => (Reject::PathConstraint, "is the issuer of another one, but is not a CA certificate"),
        E::PathLenConstraintViolated => {
            (Reject::PathConstraint, "has a pathLenConstraint that allows fewer intermediates below it")
        }
        E::NameConstraintViolation => {
            (Reject::PathConstraint, "has a name that the name constraints of an issuer do not permit")
        }
        E::UnsupportedCriticalExtension => {
            (Reject::PathConstraint, "has a critical extension that hookgate does not support")
        }
        E::CertNotValidForName(_) | E::UnsupportedNameType => (Reject::PathConstraint, "is not valid for the name"),
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded => {
            (Reject::ChainTooLarge, "is among certificates that form too many paths")
        }
        // The enum is `non_exhaustive`: an error that a later webpki adds is a refusal too.
        _ => (Reject::PathConstraint, "violates a rule of path validation (RFC 5280, section 6)"),
    }
}

/// The index of the certificate that `error` is about, if the chain shows it.
#[expect(deprecated, reason = "the variants without context are matched with those that replaced them")]
fn at_fault(error: &webpki::Error, chain: &PresentedChain<'_>) -> Option<usize> {
    use webpki::Error as E;
    let first = |test: &dyn Fn(&Presented<'_>) -> bool| chain.certificates().iter().position(test);
    match error {
        E::CertExpired { not_after, .. } => {
            first(&|certificate| validity(certificate).is_some_and(|(_, until)| until == not_after.as_secs()))
        }
        E::CertNotValidYet { not_before, .. } => {
            first(&|certificate| validity(certificate).is_some_and(|(from, _)| from == not_before.as_secs()))
        }
        E::InvalidCertValidity => first(&|certificate| validity(certificate).is_some_and(|(from, until)| from > until)),
        E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => {
            first(&|certificate| certificate.x509().is_some_and(excludes_client_auth))
        }
        E::EndEntityUsedAsCa => {
            let others = chain.certificates().iter().skip(1);
            others
                .map(|certificate| certificate.x509().is_some_and(|x509| !x509.is_ca()))
                .position(|found| found)
                .map(|at| at + 1)
        }
        E::PathLenConstraintViolated => first(&|certificate| {
            certificate.x509().is_some_and(|x509| {
                matches!(x509.basic_constraints(), Ok(Some(extension)) if extension.value.path_len_constraint.is_some())
            })
        }),
        E::UnsupportedSignatureAlgorithmContext(context) => {
            first(&|certificate| signature_algorithm_is(certificate, &context.signature_algorithm_id))
        }
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            first(&|certificate| signature_algorithm_is(certificate, &context.signature_algorithm_id))
        }
        error => first(&|certificate| certificate.webpki().is_err_and(|found| found == error)),
    }
}

/// notBefore and notAfter, seconds since 1970.
fn validity(certificate: &Presented<'_>) -> Option<(u64, u64)> {
    certificate.x509().map(validity_of)
}

fn validity_of(certificate: &X509Certificate<'_>) -> (u64, u64) {
    let validity = certificate.validity();
    (unix_seconds(validity.not_before), unix_seconds(validity.not_after))
}

/// Whether the certificate is signed with this algorithm (contents of an AlgorithmIdentifier, which begins with the tag,
/// the length and the contents of an object identifier).
fn signature_algorithm_is(certificate: &Presented<'_>, identifier: &[u8]) -> bool {
    certificate.x509().is_some_and(|x509| {
        identifier.get(2..).is_some_and(|contents| contents.starts_with(x509.signature_algorithm.oid().as_bytes()))
    })
}

/// The indices of the end entity, of the certificate with its issuer's name as subject, and so on, up to the last one presented.
fn presented_path(chain: &PresentedChain<'_>) -> Vec<usize> {
    let certificates = chain.certificates();
    let mut path = vec![0];
    while let Some(top) = path.last().and_then(|index| certificates.get(*index)) {
        let next = (0..certificates.len()).find(|index| {
            !path.contains(index)
                && !certificates[*index].subject().is_empty()
                && top.claims_issuer(certificates[*index].subject())
        });
        match next {
            Some(index) => path.push(index),
            None => break,
        }
    }
    path
}

fn unknown_issuer(profile: &Profile, chain: &PresentedChain<'_>) -> Refusal {
    let top = presented_path(chain).last().copied().unwrap_or(0);
    let certificates = chain.certificates();
    if let Some((index, Err(error))) =
        certificates.iter().map(Presented::webpki).enumerate().find(|(_, parsed)| parsed.is_err())
    {
        return malformed(error, index, chain);
    }
    let Some(certificate) = certificates.get(top) else {
        return refusal(Reject::UnknownIssuer, "No certificate was presented.");
    };
    let why = if certificate.issuer() == certificate.subject() {
        "is self-signed and is not a trust anchor of this receiver".to_owned()
    } else if profile.trust_anchors.iter().any(|anchor| certificate.claims_issuer(&anchor.subject)) {
        "names a trust anchor as its issuer, but no path to that trust anchor verifies".to_owned()
    } else {
        format!(
            "is the last of its path: the sender did not present the certificate of its issuer \"{}\", and that issuer is \
             not a trust anchor of this receiver; the sender must present every intermediate certificate",
            name(certificate.webpki().map(|parsed| parsed.issuer()).unwrap_or_default())
        )
    };
    refusal(Reject::UnknownIssuer, &format!("{} {why}.", describe(top, chain)))
}

/// `Certificate 1 of 2 presented (subject "CN=…", issuer "CN=…", serial 0A:1B, not before …, not after …)`.
fn describe(index: usize, chain: &PresentedChain<'_>) -> String {
    let count = chain.certificates().len();
    let mut text = format!("Certificate {} of {count} presented", index + 1);
    let Some(certificate) = chain.certificates().get(index) else { return text };
    // x509-parser may parse a certificate that webpki cannot.
    let (subject, issuer, serial) = match (certificate.webpki(), certificate.x509()) {
        (Ok(parsed), _) => (name(parsed.subject()), name(parsed.issuer()), parsed.serial()),
        (Err(_), Some(parsed)) => (
            printed(Name::from_der(parsed.subject().as_raw())),
            printed(Name::from_der(parsed.issuer().as_raw())),
            parsed.raw_serial(),
        ),
        (Err(_), None) => return text,
    };
    // Writing into a `String` cannot fail.
    let _ = write!(text, " (subject \"{subject}\", issuer \"{issuer}\", serial ");
    for (index, byte) in serial.iter().take(MAX_SERIAL_BYTES).enumerate() {
        let _ = write!(text, "{}{byte:02X}", if index == 0 { "" } else { ":" });
    }
    if serial.len() > MAX_SERIAL_BYTES {
        text.push_str("...");
    }
    // The strict parser decides about the certificate. For the wording, the validity may be read from a malformed one.
    let lenient = || Some(validity_of(&X509Certificate::from_der(certificate.der()).ok()?.1));
    if let Some((not_before, not_after)) = validity(certificate).or_else(lenient) {
        let _ = write!(text, ", not before {}, not after {}", date(not_before), date(not_after));
    }
    text.push(')');
    text
}

fn name(contents: &[u8]) -> String {
    printed(Name::from_contents(contents))
}

fn printed(name: Option<Name<'_>>) -> String {
    let Some(name) = name else { return "(malformed)".to_owned() };
    let mut text = Beginning { text: String::new(), left: MAX_NAME_BYTES + 1 };
    // An error says that the text is long enough.
    let _ = write!(text, "{name}");
    bounded(&text.text, MAX_NAME_BYTES)
}

/// Takes the first characters of a text, and then ends its printing: a name may have thousands of attributes.
struct Beginning {
    text: String,
    left: usize,
}

impl fmt::Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

/// RFC 3339, in UTC.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("second {seconds} of Unix time"))
}

fn refusal(reject: Reject, sentence: &str) -> Refusal {
    Refusal::new(reject, bounded(sentence, MAX_DETAIL_BYTES))
}

/// At most `limit` bytes of printable ASCII; if the text was cut, it ends in three dots.
fn bounded(text: &str, limit: usize) -> String {
    let printable = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    if text.chars().count() <= limit {
        return text.chars().map(printable).collect();
    }
    text.chars().take(limit.saturating_sub(3)).map(printable).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use webpki::Error as E;

    use super::{Beginning, MAX_NAME_BYTES, Name, bounded, printed, reason};
    use crate::reject::Reject;

    #[test]
    fn every_error_of_path_validation_has_its_reason_and_words() {
        for (error, reject, words) in [
            (E::BadDer, Reject::CertificateMalformed, "not well-formed DER"),
            (E::BadDerTime, Reject::CertificateMalformed, "malformed notBefore or notAfter"),
            (E::InvalidCertValidity, Reject::CertificateMalformed, "notAfter before its notBefore"),
            (E::InvalidSerialNumber, Reject::CertificateMalformed, "serial number"),
            (E::ExtensionValueInvalid, Reject::CertificateMalformed, "malformed or duplicate extension"),
            (E::MalformedExtensions, Reject::CertificateMalformed, "malformed or duplicate extension"),
            (E::InvalidNetworkMaskConstraint, Reject::CertificateMalformed, "name or name constraint"),
            (E::MalformedNameConstraint, Reject::CertificateMalformed, "name or name constraint"),
            (E::MalformedDnsIdentifier, Reject::CertificateMalformed, "name or name constraint"),
            (E::UnsupportedCertVersion, Reject::CertificateMalformed, "not an X.509 version 3"),
            (E::InvalidSignatureForPublicKey, Reject::BadSignature, "does not verify"),
            (E::SignatureAlgorithmMismatch, Reject::BadSignature, "one algorithm in signatureAlgorithm"),
            (E::UnknownIssuer, Reject::UnknownIssuer, "not trusted"),
            (E::CertDistrusted, Reject::UnknownIssuer, "explicitly distrusted"),
            (E::MaximumPathDepthExceeded, Reject::PathTooLong, "more than 6 intermediates"),
            (E::EmptyEkuExtension, Reject::ExtendedKeyUsage, "empty extended key usage"),
            (E::CaUsedAsEndEntity, Reject::PathConstraint, "is a CA certificate; the first"),
            (E::EndEntityUsedAsCa, Reject::PathConstraint, "is the issuer of another one"),
            (E::PathLenConstraintViolated, Reject::PathConstraint, "pathLenConstraint"),
            (E::NameConstraintViolation, Reject::PathConstraint, "name constraints of an issuer"),
            (E::UnsupportedCriticalExtension, Reject::PathConstraint, "critical extension"),
            (E::UnsupportedNameType, Reject::PathConstraint, "not valid for the name"),
            (E::MaximumNameConstraintComparisonsExceeded, Reject::ChainTooLarge, "too many paths"),
            (E::MaximumPathBuildCallsExceeded, Reject::ChainTooLarge, "too many paths"),
            (E::MaximumSignatureChecksExceeded, Reject::ChainTooLarge, "too many paths"),
            (E::UnsupportedDeltaCrl, Reject::PathConstraint, "a rule of path validation"),
        ] {
            let (found, text) = reason(&error);
            assert!(found == reject && text.contains(words), "{error:?}: {found:?}, {text}");
        }
    }

    /// The contents of a name of one common name, of this many letters.
    fn common_name(letters: usize) -> Vec<u8> {
        let short = |tag: u8, contents: &[u8]| {
            let length = u8::try_from(contents.len()).expect("short");
            [&[tag, 0x81, length], contents].concat()
        };
        let value = short(0x0c, &vec![b'a'; letters]);
        short(0x31, &short(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03], value.as_slice()].concat()))
    }

    #[test]
    fn a_name_is_printed_whole_up_to_the_bound_and_then_cut_visibly() {
        let length = |letters: usize| printed(Name::from_contents(&common_name(letters)));
        let most = MAX_NAME_BYTES - "CN=".len();
        assert_eq!(length(most), format!("CN={}", "a".repeat(most)));
        for letters in [most + 1, most + 2, most + 9] {
            assert_eq!(length(letters), format!("CN={}...", "a".repeat(most - 3)), "{letters} letters");
        }
        assert_eq!(printed(None), "(malformed)");
    }

    #[test]
    fn a_text_is_cut_after_its_last_allowed_character() {
        assert_eq!([bounded("abcde", 5), bounded("abcdef", 5)], ["abcde", "ab..."]);
        let mut beginning = Beginning { text: String::new(), left: 3 };
        assert!(std::fmt::Write::write_str(&mut beginning, "abc").is_ok());
        assert!(std::fmt::Write::write_str(&mut beginning, "d").is_err());
        assert_eq!(beginning.text, "abc");
    }
}
