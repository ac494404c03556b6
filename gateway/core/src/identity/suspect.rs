//! Refused chains that claim a provider, for a reason that may be ignorance of this receiver.
//!
//! Senders change their authorities without notice. Such a chain fails for a reason that a forged one fails for too, so a claim alone
//! proves nothing. Owns which reasons are meant, whom a chain claims to be, and whether a public authority of the host vouches for the
//! claimed name. Must not admit: a suspect chain is refused, and only the *answer* to it can differ (see [`crate::suspicion`]).

use std::fmt;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use super::ProviderId;
use super::anchor::AnchorUse;
use super::links::public_key;
use super::path::Subject;
use super::presented::{PresentedChain, valid_until};
use super::provider::{ExtendedKeyUsage, Profile};
use super::shared_chain::SharedChain;
use crate::reject::Reject;

/// How long after its end an expired certificate may be a renewal that is late, in seconds: one day. A sender that renews late does so
/// within hours; a certificate that ended earlier belongs to nobody who still sends.
const LATE_SECONDS: u64 = 24 * 3600;

/// The deepest path to a public root: RFC 5280 sets no bound, and webpki's is 6 intermediates.
const PUBLIC_DEPTH: u8 = 7;

/// The roots that this host trusts for servers of the web.
///
/// They admit no peer: no provider has them as trust anchors. They only tell an authority that took care from a self-made one.
pub struct PublicRoots {
    profile: Option<Profile>,
    certificates: Vec<CertificateDer<'static>>,
}

impl PublicRoots {
    /// Those of `certificates` that can be read as trust anchors.
    pub fn new(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> Self {
        let mut known = Vec::new();
        let mut anchors: Vec<TrustAnchor<'static>> = Vec::new();
        for certificate in certificates {
            if let Ok(anchor) = webpki::anchor_from_trusted_cert(&certificate) {
                anchors.push(anchor.to_owned());
                known.push(certificate);
            }
        }
        let profile = (!anchors.is_empty()).then(|| Profile {
            name: "public".into(),
            trust_anchors_not_after: vec![0; anchors.len()],
            trust_anchor_uses: known.iter().map(AnchorUse::of).collect(),
            trust_anchors: anchors,
            overlap_ends: None,
            verify_depth: PUBLIC_DEPTH,
            identity: Vec::new(),
            // The question is who vouches for the name. What the key may be used for is the configuration's to judge.
            extended_key_usage: ExtendedKeyUsage::Ignore,
            revocation: None,
        });
        Self { profile, certificates: known }
    }

    /// None: no chain is vouched for.
    pub fn none() -> Self {
        Self::new([])
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.certificates.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty()
    }

    pub(super) fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    pub(super) fn certificate(&self, index: u16) -> Option<&CertificateDer<'static>> {
        self.certificates.get(usize::from(index))
    }
}

impl fmt::Debug for PublicRoots {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PublicRoots").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A refused chain whose end entity has the names of a configured provider. A claim: nothing of it is proven but the possession of the
/// key, and that only after the handshake. Only a refusal makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Suspect {
    pub(super) provider: ProviderId,
    pub(super) profile: u16,
    pub(super) reject: Reject,
    pub(super) certificates: SharedChain,
    pub(super) public_root: Option<CertificateDer<'static>>,
}

impl Suspect {
    /// The provider that it claims.
    pub fn provider(&self) -> ProviderId {
        self.provider
    }

    /// The index of the profile of that provider for which the path failed.
    pub fn profile(&self) -> u16 {
        self.profile
    }

    /// Why it was refused.
    pub fn reject(&self) -> Reject {
        self.reject
    }

    /// The certificates as presented, end entity first. Bounded by `max_presented_bytes`.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.certificates.certificates()
    }

    /// The same, to be kept.
    pub fn chain(&self) -> &SharedChain {
        &self.certificates
    }

    /// The bytes of all certificates that it keeps.
    pub fn bytes(&self) -> usize {
        self.certificates.bytes() + self.public_root.as_ref().map_or(0, |root| root.len())
    }

    /// The public root of the host to which the chain verifies, if one vouches for the claimed DNS name.
    pub fn public_root(&self) -> Option<&CertificateDer<'static>> {
        self.public_root.as_ref()
    }
}

impl fmt::Debug for Suspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, profile, reject, .. } = self;
        let public = self.public_root.is_some();
        write!(formatter, "Suspect({provider:?}, profile {profile}, {reject:?}, public root: {public})")
    }
}

/// Whether a receiver that knows less than its sender refuses a genuine chain of `profile` for this reason.
pub(super) fn may_be_ignorance(reject: Reject, subject: &Subject<'_>, profile: &Profile) -> bool {
    match reject {
        Reject::UnknownIssuer
        | Reject::ExtendedKeyUsage
        | Reject::PathTooLong
        | Reject::RevocationUnknown
        | Reject::RevocationListExpired => true,
        Reject::CertificateExpired => ended(subject.chain, subject.now).is_some(),
        Reject::BadSignature => may_have_another_key(subject, profile),
        _ => false,
    }
}

/// Whether an authority with the name of a trust anchor, but another key, may have signed the chain.
///
/// Paths are verified from the anchor down. So if a signature verified with the key of an anchor, the authority is the known one, and the
/// bad signature is below it. The same holds if the certificate below the anchor says by its key identifier that the known key signed it.
fn may_have_another_key(subject: &Subject<'_>, profile: &Profile) -> bool {
    let keys = profile.trust_anchors.iter().filter_map(|anchor| public_key(&anchor.subject_public_key_info));
    !subject.checks.verified_with_any(keys) && subject.links.may_name_another_key(&profile.trust_anchors)
}

/// The last second at which every expired certificate of the chain was valid, if all of them ended within [`LATE_SECONDS`]. `None` if none
/// has ended.
pub(super) fn ended(chain: &PresentedChain<'_>, now: UnixTime) -> Option<UnixTime> {
    let ends = chain.certificates().iter().filter_map(|certificate| certificate.x509()).map(valid_until);
    let first = ends.filter(|end| *end <= now).min()?;
    let last_valid = first.as_secs().saturating_sub(1);
    let is_late = now.as_secs().saturating_sub(last_valid) <= LATE_SECONDS;
    is_late.then(|| UnixTime::since_unix_epoch(std::time::Duration::from_secs(last_valid)))
}
