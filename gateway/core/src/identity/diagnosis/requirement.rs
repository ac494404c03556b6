//! The sentence about a path that failed.
//!
//! Owns the wording of every [`PathFailure`] but those of webpki and of revocation lists. Each says what the sender or the operator has to
//! do, if the rule does not.

use rustls_pki_types::UnixTime;

use super::{describe, name, reason, refusal, refused_by_webpki, status, unknown_issuer};
use crate::identity::path::PathFailure;
use crate::identity::presented::PresentedChain;
use crate::identity::provider::Profile;
use crate::reject::{Refusal, Reject};

/// No path of `profile` could be verified.
pub(in crate::identity) fn path(
    failure: &PathFailure,
    profile: &Profile,
    chain: &PresentedChain<'_>,
    now: UnixTime,
) -> Refusal {
    let (reject, place, words) = match failure {
        PathFailure::NoTrustAnchor | PathFailure::PutOff => return unknown_issuer(profile, chain),
        PathFailure::Status(failure) => return status(failure, chain),
        PathFailure::Unaffordable => return unaffordable(chain),
        PathFailure::Refused(error, unsigned) => return refused_by_webpki(error, *unsigned, profile, chain, now),
        PathFailure::TooDeep(depth) => (
            Reject::PathTooLong,
            0,
            format!(
                "has its trust anchor at depth {depth} (the end entity is at depth 0), but verify_depth is {}",
                profile.verify_depth
            ),
        ),
        PathFailure::UnusableAnchor { place, flaw } => {
            let anchor = profile.trust_anchors.get(*place).map(|anchor| name(&anchor.subject)).unwrap_or_default();
            let words = format!(
                "has a path to the trust anchor \"{anchor}\", but the certificate of this trust anchor {flaw}, so it must not \
                 issue others; the operator of this receiver must configure a root certificate that may"
            );
            (Reject::PathConstraint, 0, words)
        }
        failure => {
            let (reject, place, words) = requirement(failure, chain);
            (reject, place, words.to_owned())
        }
    };
    refusal(reject, &format!("{} {words}.", describe(place, chain)))
}

/// The chain is too long for a check that its issuers' keys make expensive.
fn unaffordable(chain: &PresentedChain<'_>) -> Refusal {
    let certificates = chain.certificates();
    let bytes: usize = certificates.iter().map(|certificate| certificate.der().len()).sum();
    let sentence = format!(
        "The {} presented certificates of {bytes} bytes are too long to be verified with the key of their issuer, which is expensive to \
         verify with (ECDSA on P-384, or long RSA); the sender must present the certificates of one path, with fewer names and extensions.",
        certificates.len()
    );
    refusal(Reject::ChainTooLarge, &sentence)
}

/// The certificate at fault, and what is wrong with it.
fn requirement(failure: &PathFailure, chain: &PresentedChain<'_>) -> (Reject, usize, &'static str) {
    let as_webpki = |error: webpki::Error, place: usize| {
        let (reject, words) = reason(&error);
        (reject, place, words)
    };
    match failure {
        PathFailure::AuthorityAtEnd => as_webpki(webpki::Error::CaUsedAsEndEntity, 0),
        PathFailure::TooLong(place) => as_webpki(webpki::Error::PathLenConstraintViolated, *place),
        PathFailure::NameNotPermitted(place) => as_webpki(webpki::Error::NameConstraintViolation, *place),
        PathFailure::ExtendedKeyUsageAbsent => (
            Reject::ExtendedKeyUsage,
            0,
            "has no extended key usage extension; extended_key_usage = \"client-auth-explicit\" requires one with id-kp-clientAuth",
        ),
        PathFailure::NotForSignatures => (
            Reject::PathConstraint,
            0,
            "has a key usage extension without digitalSignature, so its key must not sign a TLS handshake (RFC 8446, section \
             4.4.2.2); the sender must obtain a certificate with it",
        ),
        PathFailure::NotForCertificates(place) => (
            Reject::PathConstraint,
            *place,
            "is the issuer of another one, but its key usage extension lacks keyCertSign; the sender must use an authority whose \
             certificate has it",
        ),
        PathFailure::SignsWithoutAuthority => (
            Reject::CertificateMalformed,
            0,
            "has a key usage extension with keyCertSign, but is not a CA certificate, which RFC 5280, section 4.2.1.9, forbids; \
             the sender must obtain a certificate without keyCertSign",
        ),
        PathFailure::ConstrainsNothing => (
            Reject::CertificateMalformed,
            0,
            "has name constraints, but is not a CA certificate, which RFC 5280, section 4.2.1.10, forbids; the sender must obtain \
             a certificate without them",
        ),
        PathFailure::VoidConstraints(place) => (
            Reject::CertificateMalformed,
            *place,
            "has name constraints without a subtree, which RFC 5280, section 4.2.1.10, forbids",
        ),
        PathFailure::Nameless(place) => (
            Reject::CertificateMalformed,
            *place,
            "is the issuer of another one, but has an empty subject, which RFC 5280, section 4.1.2.6, forbids",
        ),
        PathFailure::LongSerial(place) => (
            Reject::CertificateMalformed,
            *place,
            "has a serial number of more than 20 bytes, which RFC 5280, section 4.1.2.2, forbids; the sender must obtain another \
             certificate",
        ),
        PathFailure::TooManyUnsigned(place) => (
            Reject::BadSignature,
            *place,
            "has a signature that does not verify with the public key of its issuer. Too many signatures failed for other paths to \
             be tried; the sender must present the certificates of one path",
        ),
        // The other failures have their own sentences.
        _ => {
            let place = chain.certificates().iter().position(|certificate| certificate.x509().is_none());
            (Reject::CertificateMalformed, place.unwrap_or(0), "is malformed or has a duplicate extension")
        }
    }
}
