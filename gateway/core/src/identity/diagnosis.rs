//! Why a chain was refused, in a sentence that names the certificate at fault.
//!
//! Owns the mapping from webpki's errors to [`Reject`], the search for the culprit, and the wording. Must not decide: it is
//! asked after the decision, and nothing it finds changes it. What it says is bounded and printable ASCII, since most of it
//! is the peer's own bytes.

use std::fmt::Write as _;

use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use webpki::{ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::name::Name;
use super::path::{PathFailure, excludes_client_auth};
use super::policy::{Profile, Provider};
use super::presented::{Presented, PresentedChain, unix_seconds};
use super::revocation::RevocationScope;
use crate::reject::{Refusal, Reject};
use crate::signatures::CERTIFICATE_SIGNATURES;

/// Most bytes of a detail: room for the longest sentence below with every name in it at its bound.
pub(super) const MAX_DETAIL_BYTES: usize = 768;
/// Most bytes of one name within it; the subjects of the providers' certificates and authorities stay below.
const MAX_NAME_BYTES: usize = 110;
/// Most bytes of a serial number: RFC 5280, section 4.1.2.2, allows 20.
const MAX_SERIAL_BYTES: usize = 20;
/// Longest prefix of a path that is verified again to find a bad signature.
const MAX_SIGNATURE_SEARCH: usize = 6;

/// The end entity, or another certificate at `index`, cannot be parsed.
pub(super) fn malformed(error: &webpki::Error, index: usize, chain: &PresentedChain<'_>) -> Refusal {
    let (reject, what) = reason(error);
    told(reject, &format!("{} {what}.", describe(index, chain)))
}

/// The path is good, but no rule of `profile`, nor any other of the scope, matches the end entity.
pub(super) fn mismatch(chain: &PresentedChain<'_>, provider: &Provider, profile: &Profile) -> Refusal {
    let expected = profile.identity.first().map(|rule| bounded(&rule.to_string(), MAX_NAME_BYTES)).unwrap_or_default();
    let others = if profile.identity.len() > 1 { " or another of its rules" } else { "" };
    told(
        Reject::IdentityMismatch,
        &format!(
            "{} is issued by a trusted authority, but matches no identity rule; provider \"{}\" expects {expected}{others}.",
            describe(0, chain),
            bounded(&provider.name, MAX_NAME_BYTES),
        ),
    )
}

/// No path of `profile` could be verified.
pub(super) fn path(failure: &PathFailure, profile: &Profile, chain: &PresentedChain<'_>, now: UnixTime) -> Refusal {
    match failure {
        PathFailure::NoAnchor => unknown_issuer(profile, chain),
        PathFailure::TooDeep(depth) => told(
            Reject::PathTooLong,
            &format!(
                "{}: the trust anchor of its path stands at depth {depth} (the end entity at 0), but verify_depth is {}.",
                describe(0, chain),
                profile.verify_depth,
            ),
        ),
        PathFailure::ExtendedKeyUsageAbsent => told(
            Reject::ExtendedKeyUsage,
            &format!(
                "{} has no extended key usage extension, but one that lists clientAuth is demanded.",
                describe(0, chain),
            ),
        ),
        PathFailure::Unreadable => {
            let index = chain.certificates().iter().position(|certificate| certificate.x509().is_none());
            told(Reject::CertificateMalformed, &format!("{} is malformed.", describe(index.unwrap_or(0), chain)))
        }
        PathFailure::Refused(error) => refused(error, profile, chain, now),
    }
}

fn refused(error: &webpki::Error, profile: &Profile, chain: &PresentedChain<'_>, now: UnixTime) -> Refusal {
    let (reject, what) = reason(error);
    let sentence = match error {
        webpki::Error::UnknownIssuer => return unknown_issuer(profile, chain),
        webpki::Error::CrlExpired { next_update, .. } => {
            let lists = profile.revocation.iter().flat_map(|lists| lists.lists());
            let issuer = lists.filter(|list| list.next_update() == *next_update).map(|list| list.issuer()).next();
            format!(
                "The revocation list of \"{}\" was to be renewed by {}, so whether a certificate has been revoked is not \
                 known; it is for the operator of this receiver to renew it.",
                bounded(&issuer.unwrap_or_default(), MAX_NAME_BYTES),
                date(next_update.as_secs()),
            )
        }
        webpki::Error::MaximumNameConstraintComparisonsExceeded
        | webpki::Error::MaximumPathBuildCallsExceeded
        | webpki::Error::MaximumSignatureChecksExceeded => {
            format!("The {} presented certificates form too many paths.", chain.certificates().len())
        }
        error => format!("{} {what}.", describe(culprit(error, profile, chain, now).unwrap_or(0), chain)),
    };
    told(reject, &sentence)
}

/// Every error that webpki 0.103 knows, and what it says about a certificate.
#[expect(deprecated, reason = "the variants without context are matched with those that replaced them")]
fn reason(error: &webpki::Error) -> (Reject, &'static str) {
    use webpki::Error as E;
    match error {
        E::BadDer | E::TrailingData(_) => (Reject::CertificateMalformed, "is not well-formed DER"),
        E::BadDerTime => (Reject::CertificateMalformed, "holds a malformed time"),
        E::InvalidCertValidity => (Reject::CertificateMalformed, "ends before it begins"),
        E::InvalidSerialNumber => (Reject::CertificateMalformed, "has a malformed serial number"),
        E::ExtensionValueInvalid | E::MalformedExtensions => {
            (Reject::CertificateMalformed, "has a malformed or repeated extension")
        }
        E::InvalidNetworkMaskConstraint | E::MalformedNameConstraint | E::MalformedDnsIdentifier => {
            (Reject::CertificateMalformed, "has malformed names or name constraints")
        }
        E::UnsupportedCertVersion => (Reject::CertificateMalformed, "is not an X.509 version 3 certificate"),
        E::CertExpired { .. } => (Reject::CertificateExpired, "has expired"),
        E::CertNotValidYet { .. } => (Reject::CertificateNotYetValid, "is not valid yet"),
        E::UnknownIssuer => (Reject::UnknownIssuer, "has no trusted issuer"),
        E::CertDistrusted => (Reject::UnknownIssuer, "depends on a key that is distrusted everywhere"),
        E::InvalidSignatureForPublicKey => (Reject::BadSignature, "was not signed by the key of its issuer"),
        E::SignatureAlgorithmMismatch => (Reject::BadSignature, "names two different signature algorithms"),
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKey
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            (Reject::BadSignature, "is signed with an algorithm that is not accepted")
        }
        E::MaximumPathDepthExceeded => (Reject::PathTooLong, "has more issuers than any path may have"),
        E::EmptyEkuExtension => (Reject::ExtendedKeyUsage, "has an empty extended key usage extension"),
        E::RequiredEkuNotFound | E::RequiredEkuNotFoundContext(_) => {
            (Reject::ExtendedKeyUsage, "has an extended key usage extension that does not list clientAuth")
        }
        E::CaUsedAsEndEntity => (Reject::PathConstraint, "is an authority's, and may not be a client's own"),
        E::EndEntityUsedAsCa => (Reject::PathConstraint, "stands as an issuer, but is not an authority's"),
        E::PathLenConstraintViolated => {
            (Reject::PathConstraint, "allows fewer authorities below it (pathLenConstraint)")
        }
        E::NameConstraintViolation => {
            (Reject::PathConstraint, "has a name that the name constraints of an issuer exclude")
        }
        E::UnsupportedCriticalExtension => (Reject::PathConstraint, "has a critical extension that is not understood"),
        E::CertNotValidForName(_) | E::UnsupportedNameType => (Reject::PathConstraint, "is not valid for its name"),
        E::MaximumNameConstraintComparisonsExceeded
        | E::MaximumPathBuildCallsExceeded
        | E::MaximumSignatureChecksExceeded => {
            (Reject::ChainTooLarge, "is among certificates that form too many paths")
        }
        E::CertRevoked => (Reject::CertificateRevoked, "has been revoked by its issuer"),
        E::CrlExpired { .. } => (Reject::RevocationListExpired, "falls under a revocation list that has expired"),
        E::UnknownRevocationStatus => (Reject::RevocationUnknown, "is covered by no configured revocation list"),
        E::InvalidCrlSignatureForPublicKey => {
            (Reject::RevocationUnknown, "falls under a revocation list that the key of its issuer did not sign")
        }
        E::IssuerNotCrlSigner => (Reject::RevocationUnknown, "has an issuer that may not sign revocation lists"),
        E::InvalidCrlNumber
        | E::UnsupportedCrlIssuingDistributionPoint
        | E::UnsupportedCrlSignatureAlgorithm
        | E::UnsupportedCrlSignatureAlgorithmContext(_)
        | E::UnsupportedCrlSignatureAlgorithmForPublicKey
        | E::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_)
        | E::UnsupportedCrlVersion
        | E::UnsupportedDeltaCrl
        | E::UnsupportedIndirectCrl
        | E::UnsupportedRevocationReason
        | E::UnsupportedRevocationReasonsPartitioning => {
            (Reject::RevocationUnknown, "falls under a revocation list that cannot be used")
        }
        // The enum is `non_exhaustive`: what a later webpki adds is a refusal all the same.
        _ => (Reject::PathConstraint, "violates a rule of certificate paths"),
    }
}

/// The place of the certificate that `error` is about, as far as the chain shows it.
#[expect(deprecated, reason = "the variants without context are matched with those that replaced them")]
fn culprit(error: &webpki::Error, profile: &Profile, chain: &PresentedChain<'_>, now: UnixTime) -> Option<usize> {
    use webpki::Error as E;
    let first = |test: &dyn Fn(&Presented<'_>) -> bool| chain.certificates().iter().position(test);
    match error {
        E::CertExpired { not_after, .. } => first(&|certificate| {
            validity(certificate).is_some_and(|(_, until)| until == not_after.as_secs() && until < now.as_secs())
        }),
        E::CertNotValidYet { not_before, .. } => first(&|certificate| {
            validity(certificate).is_some_and(|(from, _)| from == not_before.as_secs() && from > now.as_secs())
        }),
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
        E::InvalidSignatureForPublicKey => bad_signature(chain, now),
        E::CertRevoked => first(&|certificate| {
            let Some(lists) = &profile.revocation else { return false };
            let Ok(parsed) = certificate.webpki() else { return false };
            lists.of_issuer(parsed.issuer()).any(|list| list.revokes(parsed.serial()))
        }),
        E::UnknownRevocationStatus => first(&|certificate| {
            profile.revocation.as_ref().is_some_and(|lists| lists.of_issuer(certificate.issuer()).next().is_none())
        })
        .filter(|index| {
            *index == 0 || profile.revocation.as_ref().is_some_and(|lists| lists.scope() == RevocationScope::Chain)
        }),
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

/// The first certificate on the way up whose issuer's key did not sign it. Takes each issuer in turn for an anchor: the
/// first for which the signatures fail is the issuer of the culprit.
fn bad_signature(chain: &PresentedChain<'_>, now: UnixTime) -> Option<usize> {
    let way = way_up(chain);
    let end_entity = chain.certificates().first()?.webpki().ok()?;
    for (place, issuer) in way.iter().enumerate().skip(1).take(MAX_SIGNATURE_SEARCH) {
        let anchors = [anchor_from_trusted_cert(chain.certificates().get(*issuer)?.der()).ok()?];
        let between: Vec<CertificateDer<'_>> = way
            .get(1..place)?
            .iter()
            .filter_map(|index| Some(CertificateDer::from(chain.certificates().get(*index)?.der().as_ref())))
            .collect();
        let verified =
            end_entity.verify_for_usage(CERTIFICATE_SIGNATURES, &anchors, &between, now, AnyUsage, None, None);
        if verified.is_err_and(|error| error == webpki::Error::InvalidSignatureForPublicKey) {
            return way.get(place - 1).copied();
        }
    }
    // Every presented issuer signed what it should, so it is the last one that its anchor did not sign.
    way.last().copied()
}

/// For the search alone: what a key may be used for says nothing about who signed it.
struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// The places of the end entity, of the certificate that bears its issuer's name, and so on, as far as was presented.
fn way_up(chain: &PresentedChain<'_>) -> Vec<usize> {
    let certificates = chain.certificates();
    let mut way = vec![0];
    while let Some(top) = way.last().and_then(|index| certificates.get(*index)) {
        let next = (0..certificates.len()).find(|index| {
            !way.contains(index)
                && !certificates[*index].subject().is_empty()
                && top.claims_issuer(certificates[*index].subject())
        });
        match next {
            Some(index) => way.push(index),
            None => break,
        }
    }
    way
}

fn unknown_issuer(profile: &Profile, chain: &PresentedChain<'_>) -> Refusal {
    let top = way_up(chain).last().copied().unwrap_or(0);
    let certificates = chain.certificates();
    if let Some((index, Err(error))) =
        certificates.iter().map(Presented::webpki).enumerate().find(|(_, parsed)| parsed.is_err())
    {
        return malformed(error, index, chain);
    }
    let Some(certificate) = certificates.get(top) else {
        return told(Reject::UnknownIssuer, "No certificate was presented.");
    };
    let issuer = name(certificate.issuer());
    let why = if certificate.issuer() == certificate.subject() {
        "is self-signed, and not among the trust anchors here".to_owned()
    } else if profile.trust_anchors.iter().any(|anchor| certificate.claims_issuer(&anchor.subject)) {
        "bears the name of a trust anchor as its issuer, but no path to it could be verified".to_owned()
    } else {
        format!(
            "is the last on its path; the chain lacks the intermediate certificate of its issuer \"{issuer}\", or that \
             issuer is not trusted here"
        )
    };
    told(Reject::UnknownIssuer, &format!("{} {why}.", describe(top, chain)))
}

/// `Certificate 1 of 2 presented (subject "CN=…", issuer "CN=…", serial 0A:1B, not before …, not after …)`.
fn describe(index: usize, chain: &PresentedChain<'_>) -> String {
    let count = chain.certificates().len();
    let mut text = format!("Certificate {} of {count} presented", index + 1);
    let Some(certificate) = chain.certificates().get(index) else { return text };
    // What webpki refuses to parse, x509-parser may still read.
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
    // Only the strict parser's verdict decides; for the wording, what is malformed need not be the validity.
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
    name.map_or_else(|| "(malformed)".to_owned(), |name| bounded(&name.to_string(), MAX_NAME_BYTES))
}

/// RFC 3339, in UTC.
fn date(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&Rfc3339).ok());
    text.unwrap_or_else(|| format!("second {seconds} of Unix time"))
}

fn told(reject: Reject, sentence: &str) -> Refusal {
    Refusal::new(reject, bounded(sentence, MAX_DETAIL_BYTES))
}

/// At most `limit` bytes, printable ASCII; where something was cut off, it ends in three dots.
fn bounded(text: &str, limit: usize) -> String {
    let printable = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    if text.chars().count() <= limit {
        return text.chars().map(printable).collect();
    }
    text.chars().take(limit.saturating_sub(3)).map(printable).chain("...".chars()).collect()
}
