//! The path from an end entity to a trust anchor of one profile, built and verified by webpki.
//!
//! Owns the requirements on a path beyond RFC 5280 (extended key usage, depth, revocation), and the time until which a path is
//! valid. Must not match identities or word refusals: it returns which check failed, and `diagnosis` explains it.
//!
//! **Cost.** webpki gets only the certificates whose issuer names lead to a trust anchor. If the end entity is not among them, webpki
//! is not called: a chain of a foreign authority costs no signature check. One build costs at most 100 signature checks (webpki's
//! budget); signatures on issuers that were verified before are not verified again. `verdict` bounds the builds of one chain.

use std::cell::Cell;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath};

use super::name::Name;
use super::presented::{self, EndEntity, PresentedChain};
use super::provider::{ExtendedKeyUsage, Profile};
use super::revocation::RevocationScope;
use super::signature_memory::{self, SignatureMemory};

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
    /// A path was verified, but its trust anchor is at this depth, beyond the profile's `verify_depth`.
    TooDeep(usize),
    /// A path was verified, but the end entity lacks the extended key usage extension that the profile requires.
    ExtendedKeyUsageAbsent,
    /// A path was verified, but x509-parser cannot parse one of its certificates.
    Unreadable,
    /// webpki found no valid path.
    Refused(webpki::Error),
}

impl PathFailure {
    /// Whether webpki gave up because there are too many possible paths.
    pub(super) fn exhausted(&self) -> bool {
        matches!(
            self,
            Self::Refused(
                webpki::Error::MaximumNameConstraintComparisonsExceeded
                    | webpki::Error::MaximumPathBuildCallsExceeded
                    | webpki::Error::MaximumSignatureChecksExceeded
            )
        )
    }
}

/// Builds and verifies the path of `end_entity`, the first certificate of `chain`, at `now`.
pub(super) fn verify(
    profile: &Profile,
    issuer_signatures: &SignatureMemory,
    chain: &PresentedChain<'_>,
    end_entity: &EndEntity<'_>,
    now: UnixTime,
) -> Result<Path, PathFailure> {
    let issuers = issuers_towards(&profile.trust_anchors, chain).ok_or(PathFailure::NoTrustAnchor)?;
    let references = profile.revocation.as_ref().map(|lists| lists.references()).unwrap_or_default();
    let revocation = match &profile.revocation {
        Some(lists) => {
            Some(lists.options(&references).ok_or(PathFailure::Refused(webpki::Error::UnknownRevocationStatus))?)
        }
        None => None,
    };
    let list_signatures = profile.revocation.as_ref().map(|lists| lists.signatures());
    let algorithms = signature_memory::remembering(&issuers, issuer_signatures, list_signatures);
    let algorithms: Vec<_> =
        algorithms.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm).collect();
    // The closure can return only a webpki error, and the error of another candidate path may take precedence over it. The cell
    // keeps the depth.
    let too_deep = Cell::new(None);
    let within_depth = |path: &VerifiedPath<'_>| {
        let depth = trust_anchor_depth(path);
        if depth > usize::from(profile.verify_depth) {
            too_deep.set(Some(depth));
            return Err(webpki::Error::MaximumPathDepthExceeded);
        }
        Ok(())
    };
    let path = end_entity
        .webpki()
        .verify_for_usage(
            &algorithms,
            &profile.trust_anchors,
            &issuers,
            now,
            Usage(profile.extended_key_usage),
            revocation,
            Some(&within_depth),
        )
        .map_err(|error| too_deep.get().map_or(PathFailure::Refused(error), PathFailure::TooDeep))?;
    conclude(profile, end_entity, &path, now)
}

/// End entity 0, first intermediate 1, trust anchor one above the last intermediate: as nginx counts.
fn trust_anchor_depth(path: &VerifiedPath<'_>) -> usize {
    path.intermediate_certificates().count() + 1
}

/// The presented certificates, except the end entity, whose issuer names lead to a trust anchor; `None` if those of the end entity do
/// not. A certificate that is left out can be on no path, but webpki would try it at every step.
fn issuers_towards<'a>(anchors: &[TrustAnchor<'_>], chain: &'a PresentedChain<'_>) -> Option<Vec<CertificateDer<'a>>> {
    let (end_entity, others) = chain.certificates().split_first()?;
    let mut kept: Vec<usize> = Vec::new();
    let leads_on = |certificate: &presented::Presented<'_>, kept: &[usize]| {
        anchors.iter().any(|anchor| certificate.claims_issuer(&anchor.subject))
            || kept.iter().any(|index| certificate.claims_issuer(others[*index].subject()))
    };
    // Each round keeps one more certificate or ends the loop, so there are at most as many rounds as certificates.
    loop {
        let found = (0..others.len()).find(|index| !kept.contains(index) && leads_on(&others[*index], &kept));
        match found {
            Some(index) => kept.push(index),
            None => break,
        }
    }
    if !leads_on(end_entity, &kept) {
        return None;
    }
    kept.sort_unstable();
    Some(kept.into_iter().map(|index| CertificateDer::from(others[index].der().as_ref())).collect())
}

/// Checks of a verified path what webpki does not, and keeps what is needed later.
fn conclude(
    profile: &Profile,
    end_entity: &EndEntity<'_>,
    path: &VerifiedPath<'_>,
    now: UnixTime,
) -> Result<Path, PathFailure> {
    let leaf_carries_usage = matches!(end_entity.x509().extended_key_usage(), Ok(Some(_)));
    if profile.extended_key_usage == ExtendedKeyUsage::ClientAuthExplicit && !leaf_carries_usage {
        return Err(PathFailure::ExtendedKeyUsageAbsent);
    }
    let mut valid_until = presented::valid_until(end_entity.x509());
    let mut refused_by_client_auth = excludes_client_auth(end_entity.x509());
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        let parsed = presented::parse(&der).ok_or(PathFailure::Unreadable)?;
        valid_until = valid_until.min(presented::valid_until(&parsed));
        refused_by_client_auth |= excludes_client_auth(&parsed);
    }
    if let Some(lists) = &profile.revocation {
        let above = path.intermediate_certificates().map(|certificate| certificate.issuer());
        let above = above.filter(|_| lists.scope() == RevocationScope::Chain);
        let issuers = std::iter::once(end_entity.webpki().issuer()).chain(above);
        valid_until = lists.valid_until(issuers, now).map_or(valid_until, |update| valid_until.min(update));
    }
    // A profile has at most 256 trust anchors, and the path ends at one of them.
    let anchor = profile.trust_anchors.iter().position(|anchor| anchor == path.anchor());
    Ok(Path {
        trust_anchor: anchor.and_then(|place| u16::try_from(place).ok()).unwrap_or(u16::MAX),
        trust_anchor_subject: Name::from_contents(&path.anchor().subject)
            .map_or_else(|| Arc::from("?"), |name| name.to_string().into()),
        trust_anchor_depth: trust_anchor_depth(path),
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
pub(super) fn excludes_client_auth(certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(Some(extension)) => !extension.value.client_auth,
        Ok(None) => false,
        Err(_) => true,
    }
}

/// The check that webpki calls once for each certificate on a path, without saying which one. `conclude` therefore checks what only
/// the end entity must satisfy.
struct Usage(ExtendedKeyUsage);

impl ExtendedKeyUsageValidator for Usage {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        match self.0 {
            ExtendedKeyUsage::ClientAuth | ExtendedKeyUsage::ClientAuthExplicit => {
                KeyUsage::client_auth().validate(purposes)
            }
            // The purposes are ignored, but the extension must be well-formed.
            ExtendedKeyUsage::Ignore => purposes.into_iter().try_for_each(|purpose| purpose.map(drop)),
        }
    }
}
