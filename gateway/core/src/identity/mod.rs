//! Who the peer is: from presented certificates to the providers that they prove.
//!
//! Owns path verification (webpki), the identity rules (x509-parser), revocation, the diagnosis of failures, and the
//! verified-chain cache. Does no I/O, reads no clock (`now` is passed in) and knows nothing of sockets and files,
//! and of HTTP only the two field values that every request of a chain carries.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use http::header::HeaderValue;
use rustls::DistinguishedName as EncodedName;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::reject::{Refusal, Reject};

pub mod cache;
mod name;
pub mod policy;
pub mod revocation;
pub mod rule;

mod diagnosis;
mod path;
mod peer;
mod presented;
mod sighting;
mod signature_memory;
mod verdict;

#[cfg(test)]
mod tests;

pub use cache::ChainCache;
pub use name::{DistinguishedName, NameError};
pub use peer::PeerChain;
pub use policy::{ChainLimits, ExtendedKeyUsage, OnFailure, Profile, Provider, ProviderId, Scope};
pub use revocation::{RevocationList, RevocationListError, RevocationLists, RevocationScope};
pub use rule::{Condition, DnsPattern, IdentityRule, RuleError};
pub use sighting::{CertificateSighting, ChainSighting, Sightings, anchor_label};

use cache::CacheKey;
use presented::EndEntity;
use signature_memory::SignatureMemory;

/// The trust policy of one snapshot, and the cache of what it has found good.
#[derive(Debug)]
pub struct Identity {
    generation: u64,
    providers: Arc<[Provider]>,
    cache: Arc<ChainCache>,
    limits: ChainLimits,
    sightings: Arc<Sightings>,
    issuer_signatures: SignatureMemory,
}

impl Identity {
    /// The policy of `generation`, which must be higher than that of every policy before it that shares `cache`.
    pub fn new(generation: u64, providers: Arc<[Provider]>, cache: Arc<ChainCache>, limits: ChainLimits) -> Self {
        let sightings = Arc::new(Sightings::new(&providers, &Sightings::default()));
        Self { generation, providers, cache, limits, sightings, issuer_signatures: SignatureMemory::of_issuers() }
    }

    /// The same, which goes on counting what was seen where the policy before it stopped.
    #[must_use]
    pub fn after(self, former: &Sightings) -> Self {
        let sightings = Arc::new(Sightings::new(&self.providers, former));
        Self { sightings, ..self }
    }

    /// What was seen of the providers' certificates.
    pub fn sightings(&self) -> &Arc<Sightings> {
        &self.sightings
    }

    /// Notes that `chain` was admitted at `now`: what [`Identity::verify`] of this very policy found, or took from the cache.
    /// Neither locks nor allocates.
    pub fn sighted(&self, chain: &VerifiedChain, now: UnixTime) {
        if chain.generation == self.generation {
            self.sightings.note(chain, now);
        }
    }

    /// All providers, in the order of the configuration.
    pub fn providers(&self) -> &[Provider] {
        &self.providers
    }

    /// The provider at this place. The id must be of this policy: it is an index.
    pub fn provider(&self, id: ProviderId) -> &Provider {
        &self.providers[usize::from(id.0)]
    }

    /// The distinct subjects of the scope's trust anchors, each a DER-encoded `Name`: what a CertificateRequest names, so
    /// that a sender with several certificates chooses the right one (RFC 8446, section 4.2.4).
    pub fn authority_names(&self, scope: &Scope) -> Vec<Vec<u8>> {
        let providers = scope.providers.iter().filter_map(|id| self.providers.get(usize::from(id.0)));
        let anchors = providers.flat_map(|provider| &provider.profiles).flat_map(|profile| &profile.trust_anchors);
        let mut seen = HashSet::new();
        anchors
            .map(|anchor| anchor.subject.as_ref())
            .filter(|subject| seen.insert(*subject))
            .map(|subject| EncodedName::in_sequence(subject).as_ref().to_vec())
            .collect()
    }

    /// Finds the providers of `scope` that the chain of a peer proves at `now`. A chain that the cache knows is not verified
    /// again; that the peer holds the key of its end entity is what [`PeerChain`] stands for.
    pub fn verify(&self, scope: &Scope, chain: PeerChain<'_>, now: UnixTime) -> Verification {
        self.judge(scope, chain.certificates(), now)
    }

    /// Judges a chain *during* a handshake, before its sender has proven that it holds the key: the refusal, or `None` if there
    /// is none so far. Admits nobody: that takes [`Identity::verify`], after the handshake. A chain that is verified here is found
    /// in the cache there.
    pub fn refusal_of_presented(
        &self,
        scope: &Scope,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Option<ChainRefusal> {
        self.judge(scope, chain, now).result.err()
    }

    fn judge(&self, scope: &Scope, chain: &[CertificateDer<'_>], now: UnixTime) -> Verification {
        if let Some(refusal) = self.refuse_unseen(scope, chain) {
            let refusal = verdict::unclaimed(&self.providers, scope, refusal);
            return Verification { result: Err(refusal), cache: CacheOutcome::Miss };
        }
        let key = CacheKey::new(self.generation, scope.id, chain);
        if let Some(known) = self.cache.lookup(&key, now) {
            return Verification { result: Ok(known), cache: CacheOutcome::Hit };
        }
        let result = verdict::verify(&self.providers, &self.issuer_signatures, self.generation, scope, chain, now);
        let result = result.map(Arc::new);
        if let Ok(verified) = &result {
            self.cache.insert(key, verified, now);
        }
        Verification { result, cache: CacheOutcome::Miss }
    }

    /// What is refused before a byte of any certificate is read.
    fn refuse_unseen(&self, scope: &Scope, chain: &[CertificateDer<'_>]) -> Option<Refusal> {
        if scope.providers.is_empty() {
            return Some(Refusal::new(Reject::UnknownServerName, "No provider is expected at this server name."));
        }
        if chain.is_empty() {
            return Some(Refusal::new(Reject::NoCertificate, "The peer presented no client certificate."));
        }
        let ChainLimits { max_certificates, max_bytes } = self.limits;
        let bytes = chain.iter().fold(0_usize, |sum, certificate| sum.saturating_add(certificate.len()));
        if chain.len() > max_certificates || bytes > max_bytes {
            let detail = format!(
                "The peer presented {} certificates of {bytes} bytes; at most {max_certificates} of {max_bytes} bytes are \
                 accepted.",
                chain.len()
            );
            return Some(Refusal::new(Reject::ChainTooLarge, detail));
        }
        None
    }
}

/// What came of one chain.
#[derive(Clone, Debug)]
pub struct Verification {
    /// The proof, or why there is none.
    pub result: Result<Arc<VerifiedChain>, ChainRefusal>,
    /// Whether the proof was known.
    pub cache: CacheOutcome,
}

/// The `cache` label of verification metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheOutcome {
    /// The chain was in the cache, and still good.
    Hit,
    /// The chain was verified, or refused, just now.
    Miss,
}

/// Why a chain was refused, and what its sender is to see of that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainRefusal {
    /// The reason, and a sentence that names the certificate at fault.
    pub refusal: Refusal,
    /// What the provider that the end entity claims to be wants; where it claims none, `Abort` only if all providers do.
    pub on_failure: OnFailure,
    /// The provider whose identity rule the end entity matches, though its path does not hold.
    pub provider: Option<ProviderId>,
}

/// Proof that a chain was verified by the policy of one generation. Only [`Identity::verify`] makes one.
pub struct VerifiedChain {
    generation: u64,
    matches: Vec<ProfileMatch>,
    valid_until: UnixTime,
    /// notAfter of the end entity, in seconds since 1970.
    not_after: u64,
    certificates: Vec<CertificateDer<'static>>,
    subject: String,
    subject_field: Option<HeaderValue>,
    client_cert_field: Option<HeaderValue>,
}

impl VerifiedChain {
    /// `matches` is not empty, and ascends.
    fn new(
        generation: u64,
        matches: Vec<ProfileMatch>,
        valid_until: UnixTime,
        chain: &[CertificateDer<'_>],
        end_entity: &EndEntity<'_>,
    ) -> Self {
        let certificates: Vec<_> = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let leaf = certificates.first().map(|certificate| certificate.as_ref()).unwrap_or_default();
        let client_cert_field = field(format!(":{}:", BASE64.encode(leaf)));
        let not_after = presented::unix_seconds(end_entity.x509().validity().not_after);
        let subject = end_entity.subject().to_string();
        let subject_field = field(subject.clone());
        Self { generation, matches, valid_until, not_after, certificates, subject, subject_field, client_cert_field }
    }

    /// The generation of the policy that found it good; another generation must be asked itself.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The providers that it proves, ascending, each once. Never empty.
    pub fn matches(&self) -> &[ProfileMatch] {
        &self.matches
    }

    /// How it proves this provider, if it does.
    pub fn matched(&self, id: ProviderId) -> Option<&ProfileMatch> {
        self.matches.iter().find(|found| found.provider == id)
    }

    /// The first second at which it is no longer good: the end of the earliest validity among the certificates of the
    /// verified paths (notAfter is the last second), or the earliest nextUpdate among the revocation lists used. The
    /// anchor's own notAfter is not part of a trust anchor (RFC 5280, section 6.1.1) and does not count.
    pub fn valid_until(&self) -> UnixTime {
        self.valid_until
    }

    /// The certificates as presented, end entity first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The end entity's subject by RFC 4514. Printable ASCII: all else is escaped, so that it is fit for a header value,
    /// of at most thrice the length of the certificate.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The subject as the value of a header field. `None` where it is not fit for one, which printable ASCII always is.
    pub fn subject_field(&self) -> Option<&HeaderValue> {
        self.subject_field.as_ref()
    }

    /// The value of `Client-Cert` (RFC 9440, section 2.2): the end entity's DER as a byte sequence, `:base64:`. Never `None`,
    /// since base64 is fit for a header field.
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
    /// The place of the first of its profiles that matched.
    pub profile: u16,
    /// The place of the path's trust anchor in that profile.
    pub anchor: u16,
    /// RFC 4514 text of the subject of the path's trust anchor, printable ASCII.
    pub anchor_subject: Arc<str>,
    /// Depth of the trust anchor, counted as [`Profile::verify_depth`] counts.
    pub anchor_depth: usize,
    /// Whether a stricter reading of extended key usage would have refused: under [`ExtendedKeyUsage::ClientAuth`] the
    /// end entity lacks the extension, under [`ExtendedKeyUsage::Ignore`] a certificate of the path carries it without
    /// id-kp-clientAuth.
    pub eku_lenient: bool,
}

impl ProfileMatch {
    fn new(provider: ProviderId, profile: u16, path: path::Path) -> Self {
        let path::Path { anchor, anchor_subject, anchor_depth, eku_lenient, valid_until: _ } = path;
        Self { provider, profile, anchor, anchor_subject, anchor_depth, eku_lenient }
    }
}
