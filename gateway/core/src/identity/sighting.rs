//! Sightings: which chains were admitted, how often, and when their certificates expire.
//!
//! Owns the counts, by provider, profile and trust anchor. All of these are in the configuration, so a peer cannot add one. The counts
//! exist from the start: to count a chain takes a few atomic stores, no lock and no memory. Must not warn or publish: `control` reads
//! the counts and does both.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{Context, SHA256};
use rustls_pki_types::{TrustAnchor, UnixTime};

use super::name::Name;
use super::provider::{ExtendedKeyUsage, Profile, Provider};
use super::{ProviderId, VerifiedChain};

/// Most characters of a common name in a label: RFC 5280 (appendix A.1) allows 64, but some authorities exceed that.
const MAXIMUM_NAME_CHARACTERS: usize = 64;

/// Bytes of the key's digest in a label: enough to distinguish two keys of one name.
const DIGEST_BYTES: usize = 4;

/// The admitted chains of one trust anchor of one profile.
#[derive(Debug)]
pub struct ChainSighting {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The profile's name.
    pub profile: Arc<str>,
    /// The trust anchor, as [`trust_anchor_label`] writes it.
    pub trust_anchor: Arc<str>,
    admitted: AtomicU64,
    last_seen: AtomicU64,
    last_lenient: AtomicU64,
    rule: ExtendedKeyUsage,
}

impl ChainSighting {
    /// When the last chain was admitted that a stricter `extended_key_usage` would have refused, in seconds since 1970; 0 if there was none.
    pub fn last_lenient(&self) -> u64 {
        self.last_lenient.load(Ordering::Relaxed)
    }

    /// The profile's rule. A sighting of another rule is another one.
    pub fn rule(&self) -> ExtendedKeyUsage {
        self.rule
    }

    /// How many chains were admitted since the start: one for each connection, and one each time that the chain of an open
    /// connection is verified again.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// When the last chain was admitted, in seconds since 1970; 0 if there was none.
    pub fn last_seen(&self) -> u64 {
        self.last_seen.load(Ordering::Relaxed)
    }
}

/// The admitted client certificates of one provider.
#[derive(Debug)]
pub struct CertificateSighting {
    /// The provider's name.
    pub provider: Arc<str>,
    last_not_after: AtomicU64,
    latest_not_after: AtomicU64,
}

impl CertificateSighting {
    /// notAfter of the certificate that was admitted last, in seconds since 1970; 0 if there was none.
    pub fn last_not_after(&self) -> u64 {
        self.last_not_after.load(Ordering::Relaxed)
    }

    /// The latest notAfter of all admitted certificates, in seconds since 1970; 0 if there was none.
    pub fn latest_not_after(&self) -> u64 {
        self.latest_not_after.load(Ordering::Relaxed)
    }
}

/// The sightings of one provider.
#[derive(Debug)]
struct OfProvider {
    certificate: Arc<CertificateSighting>,
    profiles: Box<[OfProfile]>,
}

/// The sightings of one profile, by the index of the trust anchor.
#[derive(Debug)]
struct OfProfile(Box<[Arc<ChainSighting>]>);

/// The sightings of one policy. They continue those of earlier policies with the same provider, profile and trust anchor.
#[derive(Debug, Default)]
pub struct Sightings {
    /// By [`ProviderId`].
    providers: Box<[OfProvider]>,
}

impl Sightings {
    /// Counts for every provider, profile and trust anchor of `providers`. They continue those of `former`.
    pub fn new(providers: &[Provider], former: &Self) -> Self {
        let former = Former::new(former);
        let of_provider = |provider: &Provider| OfProvider {
            certificate: former.certificate(&provider.name),
            profiles: provider
                .profiles
                .iter()
                .map(|profile| {
                    let anchors = profile.trust_anchors.iter();
                    OfProfile(anchors.map(|anchor| former.chain(&provider.name, profile, anchor)).collect())
                })
                .collect(),
        };
        Self { providers: providers.iter().map(of_provider).collect() }
    }

    /// Counts that `chain`, which this policy verified, was admitted at `now`.
    pub(super) fn note(&self, chain: &VerifiedChain, now: UnixTime) {
        for found in chain.matches() {
            let Some(provider) = self.providers.get(usize::from(found.provider.0)) else { continue };
            provider.certificate.last_not_after.store(chain.not_after, Ordering::Relaxed);
            provider.certificate.latest_not_after.fetch_max(chain.not_after, Ordering::Relaxed);
            let profile = provider.profiles.get(usize::from(found.profile));
            if let Some(sighting) = profile.and_then(|profile| profile.0.get(usize::from(found.trust_anchor))) {
                sighting.admitted.fetch_add(1, Ordering::Relaxed);
                sighting.last_seen.fetch_max(now.as_secs(), Ordering::Relaxed);
                if found.eku_lenient {
                    sighting.last_lenient.fetch_max(now.as_secs(), Ordering::Relaxed);
                }
            }
        }
    }

    /// The client certificates, one item for each provider.
    pub fn certificates(&self) -> impl Iterator<Item = &Arc<CertificateSighting>> {
        self.providers.iter().map(|provider| &provider.certificate)
    }

    /// The chains, one item for each trust anchor of each profile of each provider.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<ChainSighting>> {
        self.providers.iter().flat_map(|provider| &provider.profiles).flat_map(|profile| &profile.0)
    }

    /// The chains of one profile of one provider, one item for each trust anchor.
    pub fn chains_of(&self, provider: ProviderId, profile: usize) -> impl Iterator<Item = &Arc<ChainSighting>> {
        let provider = self.providers.get(usize::from(provider.0));
        provider.and_then(|provider| provider.profiles.get(profile)).into_iter().flat_map(|profile| &profile.0)
    }
}

/// The sightings of the former policy, by name.
struct Former<'a> {
    certificates: HashMap<&'a str, &'a Arc<CertificateSighting>>,
    chains: HashMap<[&'a str; 3], &'a Arc<ChainSighting>>,
}

impl<'a> Former<'a> {
    fn new(sightings: &'a Sightings) -> Self {
        let key = |known: &'a Arc<ChainSighting>| [&*known.provider, &*known.profile, &*known.trust_anchor];
        Self {
            certificates: sightings.certificates().map(|known| (&*known.provider, known)).collect(),
            chains: sightings.chains().map(|known| (key(known), known)).collect(),
        }
    }

    fn certificate(&self, provider: &Arc<str>) -> Arc<CertificateSighting> {
        let new = || CertificateSighting {
            provider: Arc::clone(provider),
            last_not_after: AtomicU64::new(0),
            latest_not_after: AtomicU64::new(0),
        };
        self.certificates.get(&**provider).map_or_else(|| Arc::new(new()), |known| Arc::clone(known))
    }

    fn chain(&self, provider: &Arc<str>, profile: &Profile, anchor: &TrustAnchor<'_>) -> Arc<ChainSighting> {
        let anchor: Arc<str> = trust_anchor_label(anchor).into();
        let known = self.chains.get(&[&**provider, &*profile.name, &*anchor]);
        if let Some(known) = known.filter(|known| known.rule == profile.extended_key_usage) {
            return Arc::clone(known);
        }
        // Under another rule, other chains are lenient. The counts go on.
        let count = |of: fn(&ChainSighting) -> u64| AtomicU64::new(known.map_or(0, |known| of(known)));
        Arc::new(ChainSighting {
            provider: Arc::clone(provider),
            profile: Arc::clone(&profile.name),
            trust_anchor: Arc::clone(&anchor),
            admitted: count(ChainSighting::admitted),
            last_seen: count(ChainSighting::last_seen),
            last_lenient: AtomicU64::new(0),
            rule: profile.extended_key_usage,
        })
    }
}

/// The name of a trust anchor in metrics and warnings, such as `GTS Root R1 (871a9194)`: its common name, or its whole subject if it
/// does not have exactly one, and the first bytes of the SHA-256 of its SubjectPublicKeyInfo.
pub fn trust_anchor_label(anchor: &TrustAnchor<'_>) -> String {
    let name = Name::from_contents(&anchor.subject);
    let text = name.map(|name| name.only_common_name().unwrap_or_else(|| name.to_string())).unwrap_or_default();
    let printable = text.chars().filter(|character| !character.is_control());
    let mut label: String = printable.take(MAXIMUM_NAME_CHARACTERS).collect();
    let separator = if label.is_empty() { "" } else { " " };
    let digest = key_digest(&anchor.subject_public_key_info);
    // Writing to a String cannot fail.
    let _ = write!(label, "{separator}({})", data_encoding::HEXLOWER.encode(&digest));
    label
}

/// The first bytes of the SHA-256 of a SubjectPublicKeyInfo. A trust anchor keeps only its contents, so tag and length are added.
fn key_digest(contents: &[u8]) -> [u8; DIGEST_BYTES] {
    const SEQUENCE: u8 = 0x30;
    let mut context = Context::new(&SHA256);
    let length = contents.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    context.update(&[SEQUENCE]);
    if contents.len() >= 0x80 {
        // The long form of DER: the number of length bytes, at most eight, then the length.
        context.update(&[0x80 | u8::try_from(significant.len()).unwrap_or(8)]);
    }
    context.update(significant);
    context.update(contents);
    let mut first = [0; DIGEST_BYTES];
    first.copy_from_slice(&context.finish().as_ref()[..DIGEST_BYTES]);
    first
}
