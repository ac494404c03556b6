//! The path from an end entity to a trust anchor of one profile, built and verified by webpki.
//!
//! Owns the search, extended key usage, and the time until which a path is valid. A path that fails one of the `requirements` is passed
//! over, and the search goes on. Must not match identities or word refusals: it returns which check failed, and `diagnosis` explains it.
//!
//! **Cost.** webpki gets only the certificates whose issuer names lead to a trust anchor. If the end entity is not among them, webpki
//! is not called: a chain of a foreign authority costs no signature check. `checks` bounds the signatures and the steps of all builds of a
//! chain, and `verdict` their number.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use webpki::{
    ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage, RequiredEkuNotFoundContext, VerifiedPath,
};
use x509_parser::certificate::X509Certificate;

use super::anchor::AnchorFlaw;
use super::checks::Checks;
use super::links::{Candidates, Hints, Links};
use super::name::Name;
use super::presented::{self, EndEntity, PresentedChain};
use super::provider::{ExtendedKeyUsage, Profile};
use super::requirements::{Accepted, require, trust_anchor_of};
use super::status::StatusFailure;

/// What is kept of a verified path.
#[derive(Debug)]
pub(super) struct Path {
    /// The index of the trust anchor in the profile.
    pub(super) trust_anchor: u16,
    /// RFC 4514 text of the trust anchor's subject.
    pub(super) trust_anchor_subject: Arc<str>,
    /// Counted as [`Profile::verify_depth`] counts.
    pub(super) trust_anchor_depth: usize,
    /// The first second at which the path is no longer valid.
    pub(super) valid_until: UnixTime,
    /// Whether a stricter [`ExtendedKeyUsage`] would have refused the path.
    pub(super) eku_lenient: bool,
}

/// Why there is no path.
#[derive(Debug)]
pub(super) enum PathFailure {
    /// The issuer names lead to no trust anchor of the profile.
    NoTrustAnchor,
    /// None was found without a check that was put off: only [`Attempt::Whole`] can tell.
    PutOff,
    /// A path was verified, but its trust anchor is at this depth, beyond the profile's `verify_depth`.
    TooDeep(usize),
    /// A path was verified, but the end entity lacks the extended key usage extension that the profile requires.
    ExtendedKeyUsageAbsent,
    /// A path was verified, but the key usage extension of the issuer at this place does not allow it to sign certificates.
    NotForCertificates(usize),
    /// A path was verified, but the certificate at this place has a name that the name constraints of an issuer do not permit.
    NameNotPermitted(usize),
    /// A path was verified, but the serial number of the certificate at this place is too long.
    LongSerial(usize),
    /// A path was verified, but it has more intermediates than the pathLenConstraint of the issuer at this place allows.
    TooLong(usize),
    /// A path was verified, but the subject of the issuer at this place is empty.
    Nameless(usize),
    /// A path was verified, but the name constraints of the issuer at this place have no subtree.
    VoidConstraints(usize),
    /// A path was verified, but it ends at the trust anchor at this place of the profile, which must not verify it.
    UnusableAnchor { place: usize, flaw: AnchorFlaw },
    /// A path was verified, but the key usage extension of the end entity does not allow it to sign a handshake.
    NotForSignatures,
    /// A path was verified, but the end entity has cA, and is not its own trust anchor.
    AuthorityAtEnd,
    /// A path was verified, but the end entity may sign certificates, and has no cA.
    SignsWithoutAuthority,
    /// A path was verified, but the end entity has name constraints, and no cA.
    ConstrainsNothing,
    /// A path was verified, but a certificate on it does not pass its revocation list.
    Status(StatusFailure),
    /// A path was verified, but x509-parser cannot parse one of its certificates.
    Unreadable,
    /// webpki found no valid path. If that is due to a signature, the place of the first certificate whose signature failed.
    Refused(webpki::Error, Option<usize>),
    /// So many signatures failed that the search ended; the first that did is on the certificate at this place.
    TooManyUnsigned(usize),
    /// None was found without a check that is too expensive for a chain of this length.
    Unaffordable,
}

impl PathFailure {
    /// Whether the search ended before every possible path was tried.
    pub(super) fn exhausted(&self) -> bool {
        match self {
            Self::TooManyUnsigned(_) => true,
            Self::Refused(error, _) => is_fatal(error),
            _ => false,
        }
    }
}

/// Whether webpki ends its search at this error: there are too many possible paths.
fn is_fatal(error: &webpki::Error) -> bool {
    matches!(
        error,
        webpki::Error::MaximumNameConstraintComparisonsExceeded
            | webpki::Error::MaximumPathBuildCallsExceeded
            | webpki::Error::MaximumSignatureChecksExceeded
    )
}

/// The chain of one search.
pub(super) struct Subject<'a> {
    pub(super) chain: &'a PresentedChain<'a>,
    /// Its first certificate.
    pub(super) end_entity: &'a EndEntity<'a>,
    pub(super) links: &'a Links<'a>,
    pub(super) checks: &'a Checks<'a>,
    pub(super) now: UnixTime,
}

/// What an attempt to build a path relies on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// On the key identifiers, if certificates have one name: it puts off the checks that they speak against.
    Hinted,
    /// On signatures alone. It finds every path.
    Whole,
}

/// Builds and verifies the path of the end entity.
pub(super) fn verify(profile: &Profile, subject: &Subject<'_>, attempt: Attempt) -> Result<Path, PathFailure> {
    let &Subject { links, checks, .. } = subject;
    let candidates = links.toward(&profile.trust_anchors).ok_or(PathFailure::NoTrustAnchor)?;
    let hints = match attempt {
        Attempt::Hinted if candidates.contested => links.hints(),
        _ => None,
    };
    let steps = checks.steps();
    let result = build(profile, subject, &candidates, hints);
    match result {
        Ok(_) => checks.forget_steps(steps),
        Err(_) if checks.put_off() => return Err(PathFailure::PutOff),
        Err(_) => {}
    }
    result
}

/// One attempt, with the hints that it relies on.
fn build(
    profile: &Profile,
    subject: &Subject<'_>,
    candidates: &Candidates<'_>,
    hints: Option<Hints<'_>>,
) -> Result<Path, PathFailure> {
    let &Subject { end_entity, checks, now, .. } = subject;
    let algorithms = checks.algorithms(profile.revocation.as_ref().map(|lists| lists.failed()), hints);
    let algorithms: Vec<_> =
        algorithms.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect();
    // The closure can return only a webpki error, and the error of another candidate path may take precedence over it. The cell
    // keeps the failure of the first path whose signatures are good: that is what to report if there is no better path.
    let passed_over = OnceCell::new();
    let accepted = Cell::new(None);
    let acceptable = |path: &VerifiedPath<'_>| match require(profile, subject, path, &algorithms) {
        Ok(found) => {
            accepted.set(Some(found));
            Ok(())
        }
        Err(failure) => {
            let _ = passed_over.set(failure);
            Err(webpki::Error::UnknownIssuer)
        }
    };
    let built = end_entity.path_webpki().verify_for_usage(
        &algorithms,
        candidates.anchors.as_deref().unwrap_or(&profile.trust_anchors),
        &candidates.issuers,
        now,
        Usage { required: profile.extended_key_usage, checks, elements: candidates.elements },
        None,
        Some(&acceptable),
    );
    match (built, passed_over.into_inner()) {
        (Ok(path), _) => conclude(profile, subject, &path, accepted.get().ok_or(PathFailure::Unreadable)?),
        (Err(_), Some(failure)) => Err(failure),
        (Err(error), None) => {
            let unsigned = checks.first_unsigned().filter(|_| checks.exhausted());
            Err(match unsigned {
                Some(place) => PathFailure::TooManyUnsigned(place),
                None if checks.left_out() => PathFailure::Unaffordable,
                None => PathFailure::Refused(error, checks.unsigned()),
            })
        }
    }
}

/// Checks what only the end entity must satisfy, and keeps what is needed later.
fn conclude(
    profile: &Profile,
    subject: &Subject<'_>,
    path: &VerifiedPath<'_>,
    accepted: Accepted,
) -> Result<Path, PathFailure> {
    let &Subject { chain, end_entity, .. } = subject;
    let leaf_carries_usage = matches!(end_entity.x509().extended_key_usage(), Ok(Some(_)));
    if profile.extended_key_usage == ExtendedKeyUsage::ClientAuthExplicit && !leaf_carries_usage {
        return Err(PathFailure::ExtendedKeyUsageAbsent);
    }
    let mut valid_until = presented::valid_until(end_entity.x509());
    let mut refused_by_client_auth = excludes_client_auth(end_entity.x509());
    for intermediate in path.intermediate_certificates() {
        let place = chain.place_of(&intermediate.der()).ok_or(PathFailure::Unreadable)?;
        let parsed = chain.certificates()[place].x509().ok_or(PathFailure::Unreadable)?;
        valid_until = valid_until.min(presented::valid_until(parsed));
        refused_by_client_auth |= excludes_client_auth(parsed);
    }
    valid_until = accepted.lists_until.map_or(valid_until, |until| valid_until.min(until));
    // A profile has at most 256 trust anchors, and the path ends at one of them.
    let anchor = trust_anchor_of(profile, path);
    let subject = anchor.map_or(&path.anchor().subject, |place| &profile.trust_anchors[place].subject);
    Ok(Path {
        trust_anchor: anchor.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX),
        trust_anchor_subject: Name::from_contents(subject)
            .map_or_else(|| Arc::from("?"), |name| name.to_string().into()),
        trust_anchor_depth: accepted.depth,
        valid_until,
        eku_lenient: match profile.extended_key_usage {
            ExtendedKeyUsage::ClientAuth => !leaf_carries_usage,
            ExtendedKeyUsage::ClientAuthExplicit => false,
            ExtendedKeyUsage::Ignore => refused_by_client_auth,
        },
    })
}

/// Whether the certificate has the extension without id-kp-clientAuth. anyExtendedKeyUsage does not replace it: RFC 5280, section
/// 4.2.1.12, leaves that to the application, and webpki decides the same.
pub(super) fn excludes_client_auth(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(extension)) => !extension.value.client_auth,
        Ok(None) => false,
        Err(_) => true,
    }
}

/// The check that webpki calls once for each certificate that it puts on a path, without saying which one. `conclude` therefore checks
/// what only the end entity must satisfy. The number of calls bounds the search.
struct Usage<'a> {
    required: ExtendedKeyUsage,
    checks: &'a Checks<'a>,
    /// Of the candidates that webpki parses next.
    elements: usize,
}

impl ExtendedKeyUsageValidator for Usage<'_> {
    fn validate(&self, mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        self.checks.step(self.elements)?;
        match self.required {
            ExtendedKeyUsage::ClientAuth | ExtendedKeyUsage::ClientAuthExplicit => includes_client_auth(purposes),
            // The purposes are ignored, but the extension must be well-formed.
            ExtendedKeyUsage::Ignore => purposes.try_for_each(|purpose| purpose.map(drop)),
        }
    }
}

/// As `KeyUsage::client_auth` of webpki decides, which allocates for each purpose that it passes.
fn includes_client_auth(mut purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
    /// id-kp-clientAuth, 1.3.6.1.5.5.7.3.2 (RFC 5280, section 4.2.1.12).
    const CLIENT_AUTH: KeyPurposeId<'static> = KeyPurposeId::new(&[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02]);
    let Some(first) = purposes.next() else { return Ok(()) };
    if first? == CLIENT_AUTH {
        return Ok(());
    }
    for purpose in purposes {
        if purpose? == CLIENT_AUTH {
            return Ok(());
        }
    }
    let context = RequiredEkuNotFoundContext { required: KeyUsage::client_auth(), present: Vec::new() };
    Err(webpki::Error::RequiredEkuNotFoundContext(context))
}
