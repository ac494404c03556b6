//! Cases of `identity`: chains that are verified and chains in the cache, parsed certificates, compared rules.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use hookgate_core::identity::{
    CacheOutcome, ChainCache, ChainLimits, Condition, ConfiguredAnchor, ExtendedKeyUsage, Identity, IdentityRule,
    OnFailure, PeerChain, Profile, Provider, ProviderId, RefusalAnswer, RuleError, Scope, VerifiedChain, rule,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::Repeat;

const ROOT: &[u8] = include_bytes!("../certificates/root.pem");
const INTERMEDIATE: &[u8] = include_bytes!("../certificates/intermediate.pem");
const END_ENTITY: &[u8] = include_bytes!("../certificates/end-entity.pem");

/// The time of every case, 2030-03-17T17:46:40Z, within the validity of the committed certificates.
pub(crate) const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));

fn certificate(pem: &[u8]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem).expect("the committed certificates are PEM")
}

fn chain() -> [CertificateDer<'static>; 2] {
    [certificate(END_ENTITY), certificate(INTERMEDIATE)]
}

fn rule_of(conditions: impl IntoIterator<Item = Result<Condition, RuleError>>) -> IdentityRule {
    let conditions = conditions.into_iter().collect::<Result<_, _>>();
    conditions.and_then(IdentityRule::new).expect("the rules of the cases are well-formed")
}

/// One provider with a usual configuration: an anchor, an intermediate below it, and a common name.
fn identity(capacity: usize) -> Identity {
    let root = certificate(ROOT);
    let anchor = ConfiguredAnchor::of(&root, u64::MAX).expect("the committed root is an anchor");
    let profile = Profile {
        name: "default".into(),
        trust_anchors: [anchor].into_iter().collect(),
        verify_depth: 2,
        identity: vec![rule_of([Condition::subject_cn("webhooks.sender.example")])],
        extended_key_usage: ExtendedKeyUsage::ClientAuth,
        revocation: None,
        overlap_ends: None,
    };
    let provider = Provider {
        name: "sender".into(),
        profiles: vec![profile],
        on_failure: OnFailure::Respond,
        refusal: RefusalAnswer::Deny,
        client_certificate: Default::default(),
    };
    let cache = Arc::new(ChainCache::new(capacity, Duration::from_secs(3600)));
    Identity::new(1, [provider].into(), cache, ChainLimits { max_certificates: 8, max_bytes: 65_536 })
}

fn scope(id: u32) -> Scope {
    Scope { id, providers: vec![ProviderId(0)] }
}

/// The proof that the chain of the cases belongs to the sender.
pub(crate) fn verified() -> Arc<VerifiedChain> {
    let found = identity(0).verify(&scope(0), PeerChain::unsafe_assumed(&chain()), NOW).result;
    found.unwrap_or_else(|refused| panic!("the chain is refused: {}", refused.refusal))
}

/// Verifies two signatures, and inserts the result into a full cache.
pub(crate) fn cold(repeat: &mut dyn Repeat) {
    // The cache holds one chain, and the scope is part of its key: with two scopes in turn, neither is found.
    let (identity, scopes, chain) = (identity(1), [scope(0), scope(1)], chain());
    let mut turn = 0;
    repeat.repeat(&mut || (), &mut || {
        turn ^= 1;
        let found = identity.verify(&scopes[turn], PeerChain::unsafe_assumed(black_box(&chain)), NOW);
        assert!(found.result.is_ok() && found.cache == CacheOutcome::Miss, "{found:?}");
    });
}

/// Finds the same chain in the cache.
pub(crate) fn warm(repeat: &mut dyn Repeat) {
    let (identity, scope, chain) = (identity(16), scope(0), chain());
    drop(identity.verify(&scope, PeerChain::unsafe_assumed(&chain), NOW));
    repeat.repeat(&mut || (), &mut || {
        let found = identity.verify(&scope, PeerChain::unsafe_assumed(black_box(&chain)), NOW);
        assert!(found.result.is_ok() && found.cache == CacheOutcome::Hit, "{found:?}");
    });
}

/// Parses an end entity, which every verification of a chain does once.
pub(crate) fn end_entity_read(repeat: &mut dyn Repeat) {
    let end_entity = certificate(END_ENTITY);
    repeat.repeat(&mut || (), &mut || {
        assert!(rule::with_end_entity(black_box(&end_entity), |_| ()).is_some());
    });
}

/// Compares `wanted`, which must match, with an end entity that is parsed once.
fn compare(repeat: &mut dyn Repeat, wanted: &IdentityRule) {
    let end_entity = certificate(END_ENTITY);
    let read = rule::with_end_entity(&end_entity, |matches| {
        repeat.repeat(&mut || (), &mut || assert!(matches(black_box(wanted))));
    });
    assert!(read.is_some(), "the committed end entity is not well-formed");
}

pub(crate) fn identity_subject_cn(repeat: &mut dyn Repeat) {
    compare(repeat, &rule_of([Condition::subject_cn("webhooks.sender.example")]));
}

pub(crate) fn identity_subject(repeat: &mut dyn Repeat) {
    let subject = r"CN=webhooks.sender.example,O=Sender\, Inc.,L=San Francisco,ST=California,C=US";
    compare(repeat, &rule_of([Condition::subject(subject)]));
}

/// Matches the second name in the certificate with a wildcard.
pub(crate) fn identity_san_dns(repeat: &mut dyn Repeat) {
    compare(repeat, &rule_of([Condition::san_dns("*.webhooks.sender.example")]));
}

/// Matches three conditions of one rule.
pub(crate) fn identity_several(repeat: &mut dyn Repeat) {
    let conditions = [
        Condition::subject_cn("webhooks.sender.example"),
        Condition::san_dns("webhooks.sender.example"),
        Condition::san_uri("https://sender.example/webhooks"),
    ];
    compare(repeat, &rule_of(conditions));
}
