//! Who the peer is: from presented certificates to the providers that they prove.
//!
//! Owns path verification (webpki), the identity rules (x509-parser), revocation, the diagnosis of failures, and the
//! verified-chain cache. Does no I/O, reads no clock (`now` is an argument) and knows nothing of sockets and files. Of HTTP
//! it knows only the two field values that every request of a chain carries.
//!
//! | file | owns |
//! | --- | --- |
//! | `provider` | the policy as data: [`Provider`], [`Profile`], [`Scope`] |
//! | `peer` | [`PeerChain`], the chain of a finished handshake |
//! | `presented` | the parsed certificates of one chain |
//! | `rule`, `name`, `alternative_names` | identity rules, names, and their comparison |
//! | `authority_names` | the names of authorities for a CertificateRequest |
//! | `elements` | DER elements, and how many a certificate has |
//! | `effort` | how often the parts of a chain are read, counted in tests |
//! | `links` | which presented certificates may have issued which, by their names |
//! | `spelling` | names of issuers that are equal, but not the same bytes |
//! | `exemptions` | rules that webpki enforces more widely than RFC 5280 |
//! | `constraints` | name constraints of the forms that webpki does not process |
//! | `bounds` | what the search for one chain may cost |
//! | `checks` | the signature checks of one search |
//! | `keys` | which keys of end entities can sign a handshake, and which make that expensive |
//! | `signature_memory` | signatures on issuers and lists that were found good |
//! | `path_demands` | which profiles demand the same of a path |
//! | `path` | the path from the end entity to a trust anchor |
//! | `requirements` | what a path must satisfy beyond what webpki checks |
//! | `anchor` | what the certificate of a trust anchor says against its use |
//! | `revocation` | certificate revocation lists (CRLs) |
//! | `status` | which list covers a certificate, and what it says |
//! | `verdict` | which providers a chain proves, or which failure to report |
//! | `verification` | what is said of a chain: the proof or the refusal, and what it cost |
//! | `diagnosis` | the sentence of a refusal |
//! | `nearness` | which provider's name a refused certificate nearly has |
//! | `cache` | chains that were verified |
//! | `sighting` | counts of admitted chains |
//! | `suspect` | refused chains that may be genuine |
//! | `shared_chain` | a chain that outlives its connection |
//! | `trust_digest` | the digest of a policy, the same on hosts that admit the same |

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::HeaderValue;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::reject::{Refusal, Reject};

pub mod cache;
mod name;
mod provider;
pub mod revocation;
pub mod rule;

mod alternative_names;
mod anchor;
mod authority_names;
mod bounds;
mod checks;
mod constraints;
mod diagnosis;
mod effort;
mod elements;
mod exemptions;
mod keys;
mod links;
mod nearness;
mod path;
mod path_demands;
mod peer;
mod presented;
mod requirements;
mod shared_chain;
mod sighting;
mod signature_memory;
mod spelling;
mod status;
mod suspect;
mod trust_digest;
mod verdict;
mod verification;

#[cfg(test)]
mod tests;

pub use anchor::{AnchorFlaw, AnchorUse, ConfiguredAnchor, TrustAnchors};
pub use authority_names::authority_names;
pub use cache::ChainCache;
pub use checks::Work;
pub use keys::{is_key_accepted, is_key_expensive};
pub use name::{DistinguishedName, NameError, canonical as comparable_name, printable_name};
pub use peer::PeerChain;
pub use provider::{
    CertificateRequest, ChainLimits, ClientCertificate, ExtendedKeyUsage, OnFailure, Profile, Provider, ProviderId,
    RefusalAnswer, Scope,
};
pub use revocation::{
    AwaitedLists, ListSigner, MissingList, Provenance, RevocationList, RevocationListError, RevocationLists,
    RevocationScope,
};
pub use rule::{Condition, DnsPattern, IdentityRule, RuleError};
pub use shared_chain::SharedChain;
pub use sighting::{CertificateSighting, ChainSighting, Sightings, trust_anchor_label};
pub use status::distribution_points;
pub use suspect::{Claim, PublicRoots, Suspect};
pub use trust_digest::{Digested, Transcript, TrustDigest};
pub use verification::{CacheOutcome, ChainRefusal, MissingLists, PresentedRefusal, Verification};

use bounds::Bounds;
use cache::CacheKey;
use path_demands::PathDemands;
use presented::EndEntity;
use signature_memory::SignatureMemory;
use spelling::AnchorNames;
use verdict::Policy;

/// The trust policy of one snapshot, with the cache of the chains that were verified.
#[derive(Debug)]
pub struct Identity {
    generation: u64,
    providers: Arc<[Provider]>,
    path_demands: Arc<PathDemands>,
    cache: Arc<ChainCache>,
    limits: ChainLimits,
    bounds: Bounds,
    sightings: Arc<Sightings>,
    issuer_signatures: Arc<SignatureMemory>,
    anchor_names: Arc<AnchorNames>,
    public_roots: Arc<PublicRoots>,
}

impl Identity {
    /// The policy of `generation`, which must be higher than the generation of every earlier policy that shares `cache`, unless that is the
    /// same policy with lists that revoke no more ([`Identity::with_lists`]).
    pub fn new(generation: u64, providers: Arc<[Provider]>, cache: Arc<ChainCache>, limits: ChainLimits) -> Self {
        let sightings = Arc::new(Sightings::new(&providers, &Sightings::default()));
        let bounds = Bounds::new(&limits, &providers);
        let issuer_signatures = Arc::new(SignatureMemory::of_issuers());
        let public_roots = Arc::new(PublicRoots::none());
        let anchor_names = Arc::new(AnchorNames::new(&providers, &public_roots));
        let path_demands = Arc::new(PathDemands::new(&providers));
        Self {
            generation,
            providers,
            path_demands,
            cache,
            limits,
            bounds,
            sightings,
            issuer_signatures,
            anchor_names,
            public_roots,
        }
    }

    /// The same policy, which says of a refused chain whether one of these roots vouches for the name that it claims.
    #[must_use]
    pub fn with_public_roots(self, public_roots: Arc<PublicRoots>) -> Self {
        let anchor_names = Arc::new(AnchorNames::new(&self.providers, &public_roots));
        Self { public_roots, anchor_names, ..self }
    }

    /// The same policy, whose sightings continue those of the policy before it.
    #[must_use]
    pub fn after(self, former: &Sightings) -> Self {
        let sightings = Arc::new(Sightings::new(&self.providers, former));
        Self { sightings, ..self }
    }

    /// The same policy with other revocation lists, as `generation`: the same one if no verdict by this policy may be wrong now, otherwise the
    /// next one. `lists` returns those of a profile, by its provider and its index; `None` leaves them as they are.
    #[must_use]
    pub fn with_lists(&self, generation: u64, lists: impl Fn(ProviderId, usize) -> Option<RevocationLists>) -> Self {
        let mut providers = self.providers.to_vec();
        for (id, provider) in (0..).map(ProviderId).zip(&mut providers) {
            for (index, profile) in provider.profiles.iter_mut().enumerate() {
                if let Some(lists) = lists(id, index) {
                    profile.revocation = Some(lists);
                }
            }
        }
        Self {
            generation,
            path_demands: Arc::new(PathDemands::new(&providers)),
            providers: providers.into(),
            cache: Arc::clone(&self.cache),
            limits: self.limits,
            bounds: self.bounds,
            sightings: Arc::clone(&self.sightings),
            issuer_signatures: Arc::clone(&self.issuer_signatures),
            anchor_names: Arc::clone(&self.anchor_names),
            public_roots: Arc::clone(&self.public_roots),
        }
    }

    /// Its number. A verdict by a policy of another generation must be made again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The counts of admitted chains.
    pub fn sightings(&self) -> &Arc<Sightings> {
        &self.sightings
    }

    /// Counts that `chain` was admitted at `now`. Ignores a chain that another policy verified. Takes no lock and allocates
    /// nothing.
    pub fn note_admitted(&self, chain: &VerifiedChain, now: UnixTime) {
        if chain.generation == self.generation {
            self.sightings.note(chain, now);
        }
    }

    /// All providers, in the order of the configuration.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The provider with this id. The id must be of this policy, since it is an index.
    pub fn provider(&self, id: ProviderId) -> &Provider {
        &self.providers[usize::from(id.0)]
    }

    /// What the handshake asks of a client whose peer is verified for `scope`.
    pub fn certificate_request(&self, scope: &Scope) -> CertificateRequest {
        CertificateRequest::of(scope.providers.iter().filter_map(|id| self.providers.get(usize::from(id.0))))
    }

    /// The names of the scope's trust anchors for a CertificateRequest; see [`authority_names()`]. Empty if there are too many.
    pub fn authority_names(&self, scope: &Scope) -> Vec<Vec<u8>> {
        let providers = scope.providers.iter().filter_map(|id| self.providers.get(usize::from(id.0)));
        authority_names(providers).unwrap_or_default()
    }

    /// Finds the providers in `scope` that the chain of a peer proves at `now`. A chain in the cache is not verified again.
    /// [`PeerChain`] proves that the peer holds the private key of the end entity.
    pub fn verify(&self, scope: &Scope, chain: PeerChain<'_>, now: UnixTime) -> Verification {
        self.judge(scope, chain.certificates(), now)
    }

    /// Verifies a chain *during* a handshake, before its sender has proven possession of the private key. Returns the refusal, or
    /// `None` if there is none so far. `None` admits no peer: only [`Identity::verify`] does, after the handshake, and it then
    /// finds the chain in the cache.
    pub fn refusal_of_presented(
        &self,
        scope: &Scope,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<PresentedRefusal> {
        let Verification { result, work, .. } = self.judge(scope, chain, now);
        let refusal = result.err()?;
        // No check fails for a chain that is too large to be read.
        let exceeds = |end_entity| {
            let reading = if work.failed_cost == 0 { 0 } else { verdict::reading_cost_of(chain, self.bounds) };
            keys::exceeds_refusal_cost(end_entity, work.failed_cost.saturating_add(reading))
        };
        let ends_handshake = chain.first().is_some_and(exceeds);
        Some(PresentedRefusal { refusal, ends_handshake })
    }

    /// As [`Identity::refusal_of_presented`], for a chain that proves a provider in `scope`: its refusal as one of `providers`, of which it
    /// proves none but has the names ([`VerifiedChain::refusal_as`]). `None` admits no peer.
    pub fn refusal_of_presented_as(
        &self,
        scope: &Scope,
        chain: &[CertificateDer<'_>],
        providers: &[ProviderId],
        now: UnixTime,
    ) -> Option<ChainRefusal> {
        self.judge(scope, chain, now).result.ok()?.refusal_as(providers)
    }

    fn judge(&self, scope: &Scope, chain: &[CertificateDer<'_>], now: UnixTime) -> Verification {
        if let Some(refusal) = self.refuse_unparsed(scope, chain) {
            let refusal = verdict::refuse_unidentified(&self.providers, scope, refusal);
            return Verification::of_refusal(refusal);
        }
        let key = CacheKey::new(self.generation, scope.id, chain);
        if let Some(known) = self.cache.lookup(&key, now) {
            return Verification { result: Ok(known), cache: CacheOutcome::Hit, work: Work::default() };
        }
        let (result, work) = verdict::verify(self.policy(Work::default()), scope, chain, now);
        let result = result.map(Arc::new).map_err(|refused| refused.keeping(chain, work));
        // A chain that lacks lists proves more as soon as they come, and that makes no new generation.
        if let Ok(verified) = &result
            && verified.missing.is_empty()
        {
            self.cache.insert(key, verified, now);
        }
        Verification { result, cache: CacheOutcome::Miss, work }
    }

    /// What a search needs of this policy, after another one of the same chain took `spent`.
    fn policy(&self, spent: Work) -> Policy<'_> {
        Policy {
            generation: self.generation,
            providers: &self.providers,
            path_demands: &self.path_demands,
            issuer_signatures: &self.issuer_signatures,
            anchor_names: &self.anchor_names,
            bounds: self.bounds,
            public_roots: &self.public_roots,
            spent,
        }
    }

    /// What the providers of a route, which ascend, miss in a chain that was refused for all providers of the server name. `None` if `refused`
    /// is about one of them already, or if the chain has nothing to do with them: it neither leads to a trust anchor of theirs, nor has a name
    /// of theirs. Then the answer must not tell that there is such a route.
    ///
    /// The bounds of a search hold for both searches together.
    pub fn refusal_at_route(
        &self,
        refused: &ChainRefusal,
        route: &[ProviderId],
        now: UnixTime,
    ) -> Option<ChainRefusal> {
        if refused.provider.is_some_and(|provider| route.contains(&provider)) {
            return None;
        }
        let chain = refused.presented.as_ref()?.certificates();
        let scope = Scope { id: u32::MAX, providers: route.to_vec() };
        let (result, work) = verdict::verify(self.policy(refused.work), &scope, chain, now);
        // With bounds that the first search has reached, a second one tells nothing.
        let tells = |found: &ChainRefusal| found.provider.is_some() && found.refusal.reject != Reject::ChainTooLarge;
        let found = result.err().filter(tells)?;
        Some(ChainRefusal { presented: refused.presented.clone(), work, ..found })
    }

    /// The refusal of a chain that is missing or too large. Parses no certificate.
    fn refuse_unparsed(&self, scope: &Scope, chain: &[CertificateDer<'_>]) -> Option<Refusal> {
        if scope.providers.is_empty() {
            return Some(Refusal::new(Reject::UnknownServerName, "No route admits a provider at this server name."));
        }
        if chain.is_empty() {
            return Some(no_certificate());
        }
        let ChainLimits { max_certificates, max_bytes } = self.limits;
        let bytes = chain.iter().fold(0_usize, |sum, certificate| sum.saturating_add(certificate.len()));
        if chain.len() > max_certificates || bytes > max_bytes {
            let detail = format!(
                "The peer presented {} certificates of {bytes} bytes in total; the limits are {max_certificates} certificates \
                 (max_presented_certificates) and {max_bytes} bytes (max_presented_bytes).",
                chain.len()
            );
            return Some(Refusal::new(Reject::ChainTooLarge, detail));
        }
        None
    }
}

/// The refusal of a peer that presented no certificate. It says why a client that has one may have withheld it (RFC 8446, section
/// 4.4.2.3).
pub fn no_certificate() -> Refusal {
    let detail = format!(
        "The peer presented no client certificate; this server name requires one. A client withholds a certificate whose key is not \
         of an accepted kind ({}). Some withhold one whose authority this server does not name.",
        keys::ACCEPTED_KEYS
    );
    Refusal::new(Reject::NoCertificate, detail)
}

/// Proof that a chain was verified by the policy of one generation. Only [`Identity::verify`] makes one.
pub struct VerifiedChain {
    generation: u64,
    matches: Vec<ProfileMatch>,
    valid_until: UnixTime,
    /// notAfter of the end entity, in seconds since 1970.
    not_after: u64,
    certificates: SharedChain,
    unproven: Option<Arc<Suspect>>,
    missing: Vec<MissingLists>,
    subject: String,
    subject_field: Option<HeaderValue>,
    client_cert_field: Option<HeaderValue>,
}

impl VerifiedChain {
    /// `matches` is not empty and ascends.
    fn new(
        generation: u64,
        matches: Vec<ProfileMatch>,
        valid_until: UnixTime,
        chain: &[CertificateDer<'_>],
        end_entity: &EndEntity<'_>,
    ) -> Self {
        let certificates = SharedChain::new(chain);
        let leaf = chain.first().map(|certificate| certificate.as_ref()).unwrap_or_default();
        let client_cert_field = field(format!(":{}:", BASE64.encode(leaf)));
        let not_after = presented::unix_seconds(end_entity.x509().validity().not_after);
        let subject = end_entity.subject().to_string();
        let subject_field = field(subject.clone());
        Self {
            generation,
            matches,
            valid_until,
            not_after,
            certificates,
            unproven: None,
            missing: Vec::new(),
            subject,
            subject_field,
            client_cert_field,
        }
    }

    /// The generation of the policy that verified it. Under another generation, the chain must be verified again.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The revocation lists without which it does not prove further profiles, if it lacks nothing else for them.
    pub fn missing(&self) -> &[MissingLists] {
        &self.missing
    }

    /// The refusal of the chain as the first of `providers` whose names it has, if it proves none of them.
    pub fn refusal_as(&self, providers: &[ProviderId]) -> Option<ChainRefusal> {
        if self.matches.iter().any(|found| providers.contains(&found.provider)) {
            return None;
        }
        let unproven = self.unproven.as_ref()?;
        let claim = unproven.claims().iter().find(|claim| providers.contains(&claim.provider()))?;
        Some(ChainRefusal {
            provider: Some(claim.provider()),
            answer: claim.answer(),
            suspect: Some(Arc::clone(unproven)),
            ..ChainRefusal::unidentified(claim.refusal().clone(), OnFailure::Respond)
        })
    }

    /// The providers that it proves, ascending, each once. Never empty.
    pub fn matches(&self) -> &[ProfileMatch] {
        &self.matches
    }

    /// How it proves this provider, if it does.
    pub fn matched(&self, id: ProviderId) -> Option<&ProfileMatch> {
        self.matches.iter().find(|found| found.provider == id)
    }

    /// The first second at which the proof is no longer valid: one second after the earliest notAfter of the certificates on the
    /// verified paths, or the earliest nextUpdate of the revocation lists used. The notAfter of the root certificate is not part
    /// of a trust anchor (RFC 5280, section 6.1.1) and does not count.
    pub fn valid_until(&self) -> UnixTime {
        self.valid_until
    }

    /// The certificates as presented, end entity first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        self.certificates.certificates()
    }

    /// The same, to be kept.
    pub fn shared(&self) -> &SharedChain {
        &self.certificates
    }

    /// The end entity's subject in the form of RFC 4514. Printable ASCII, with everything else escaped, so that it is a valid
    /// header value. At most three times as long as the certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject as the value of a header field. `None` if it is not a valid one, which printable ASCII always is.
    pub fn subject_field(&self) -> Option<&HeaderValue> {
        self.subject_field.as_ref()
    }

    /// The value of `Client-Cert` (RFC 9440, section 2.2): the end entity's DER as a byte sequence, `:base64:`. Never `None`,
    /// since base64 is a valid header value.
    pub fn client_cert_field(&self) -> Option<&HeaderValue> {
        self.client_cert_field.as_ref()
    }
}

/// A field value that shares its bytes with every clone.
fn field(text: String) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

impl fmt::Debug for VerifiedChain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("VerifiedChain")
            .field("generation", &self.generation)
            .field("subject", &self.subject)
            .field("matches", &self.matches)
            .field("valid_until", &self.valid_until)
            .finish_non_exhaustive()
    }
}

/// One provider that a chain proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileMatch {
    /// The provider.
    pub provider: ProviderId,
    /// The index of the first of its profiles that matched.
    pub profile: u16,
    /// The index of the path's trust anchor in that profile.
    pub trust_anchor: u16,
    /// RFC 4514 text of the subject of the path's trust anchor, printable ASCII.
    pub trust_anchor_subject: Arc<str>,
    /// Depth of the trust anchor, counted as [`Profile::verify_depth`] counts.
    pub trust_anchor_depth: usize,
    /// Whether a stricter [`ExtendedKeyUsage`] would have refused the path. Under [`ExtendedKeyUsage::ClientAuth`]: the end entity
    /// lacks the extension. Under [`ExtendedKeyUsage::Ignore`]: a certificate on the path has it without id-kp-clientAuth.
    pub eku_lenient: bool,
}

impl ProfileMatch {
    fn new(provider: ProviderId, profile: u16, path: path::Path) -> Self {
        let path::Path { trust_anchor, trust_anchor_subject, trust_anchor_depth, eku_lenient, valid_until: _ } = path;
        Self { provider, profile, trust_anchor, trust_anchor_subject, trust_anchor_depth, eku_lenient }
    }
}
