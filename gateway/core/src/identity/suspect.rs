//! Refused chains that claim a provider, for a reason that may be ignorance of this receiver.
//!
//! Senders change their authorities without notice. Such a chain fails for a reason that a forged one fails for too, so a claim alone
//! proves nothing. Owns which reasons are meant, which providers a chain claims to be, and whether a public authority of the host vouches for the
//! claimed name. Must not admit: a suspect chain is refused, and only the *answer* to it can differ (see [`crate::suspicion`]).

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};

use super::ProviderId;
use super::anchor::{ConfiguredAnchor, TrustAnchors};
use super::links::public_key;
use super::path::Subject;
use super::presented::{PresentedChain, valid_until};
use super::provider::{ExtendedKeyUsage, Profile, RefusalAnswer};
use super::shared_chain::SharedChain;
use crate::reject::{Refusal, Reject};

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
        let mut anchors = TrustAnchors::default();
        for certificate in certificates {
            if let Ok(anchor) = ConfiguredAnchor::of(&certificate, u64::MAX) {
                anchors.push(anchor);
                known.push(certificate);
            }
        }
        let profile = (!anchors.is_empty()).then(|| Profile {
            name: "public".into(),
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

/// The most providers that one chain can claim. A receiver has some accounts of one sender at a server name, each a provider; only a forged
/// chain has the names of more senders than that. Each claim costs a few bytes, and the look at its path failed already.
pub(super) const MAX_CLAIMS: usize = 64;

/// A refused chain whose end entity has the names of configured providers. Nothing of it is proven but the possession of the key, and that
/// only after the handshake. Only a refusal makes one.
#[derive(Clone, PartialEq, Eq)]
pub struct Suspect {
    pub(super) certificates: SharedChain,
    pub(super) public_root: Option<CertificateDer<'static>>,
    /// Not empty, each provider once. The first is the one that is reported.
    pub(super) claims: Vec<Claim>,
}

/// One provider whose names the chain has, although its path is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    pub(super) provider: ProviderId,
    pub(super) profile: u16,
    pub(super) refusal: Arc<Refusal>,
    pub(super) answer: RefusalAnswer,
    pub(super) is_suspected: bool,
    pub(super) is_vouched: bool,
}

impl Suspect {
    /// The providers that it claims, at most 64, each once.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// The claims that may be genuine.
    pub fn suspected(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.is_suspected)
    }

    /// The certificates as presented, end entity first. Bounded by `max_presented_bytes`.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.certificates.certificates()
    }

    /// The same, to be kept.
    pub fn chain(&self) -> &SharedChain {
        &self.certificates
    }

    /// The bytes that it keeps.
    pub fn bytes(&self) -> usize {
        let claims = self.claims.len().saturating_mul(size_of::<Claim>());
        self.certificates.bytes() + self.public_root.as_ref().map_or(0, |root| root.len()) + claims
    }

    /// The public root of the host to which the chain verifies, if one vouches for a claimed DNS name ([`Claim::is_vouched`]).
    pub fn public_root(&self) -> Option<&CertificateDer<'static>> {
        self.public_root.as_ref()
    }
}

impl Claim {
    /// The provider.
    pub fn provider(&self) -> ProviderId {
        self.provider
    }

    /// The index of the profile of that provider for which the path failed.
    pub fn profile(&self) -> u16 {
        self.profile
    }

    /// Why it was refused.
    pub fn reject(&self) -> Reject {
        self.refusal.reject
    }

    /// The same, with the sentence.
    pub fn refusal(&self) -> &Refusal {
        &self.refusal
    }

    /// How the provider wants its refusals answered.
    pub fn answer(&self) -> RefusalAnswer {
        self.answer
    }

    /// Whether the refusal may be ignorance of this receiver.
    pub fn is_suspected(&self) -> bool {
        self.is_suspected
    }

    /// Whether the claim rests on a DNS name for which the public root of the chain vouches.
    pub fn is_vouched(&self) -> bool {
        self.is_vouched
    }
}

impl fmt::Debug for Suspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = self.public_root.is_some();
        write!(formatter, "Suspect({:?}, public root: {public})", self.claims)
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provider, profile, refusal, .. } = self;
        write!(formatter, "{provider:?}, profile {profile}, {:?}", refusal.reject)
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
