//! The trust policy of the cases, made of the committed certificates.
//!
//! Owns the meaning of each certificate in `certificates.pem`, by its place. `examples/seeds.rs` makes the file in this order.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use hookgate_core::identity::{
    ChainCache, ChainLimits, Condition, ConfiguredAnchor, ExtendedKeyUsage, Identity, IdentityRule, OnFailure,
    PeerChain, Profile, Provider, ProviderId, RefusalAnswer, RevocationList, RevocationLists, RevocationScope, Scope,
    VerifiedChain,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

/// The time of every case, 2030-03-17T17:46:40Z.
pub(crate) const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000));

/// The bounds on a chain: the defaults of `[limits]`.
pub(crate) const LIMITS: ChainLimits = ChainLimits { max_certificates: 8, max_bytes: 32 * 1024 };

/// A root with a key on P-256.
pub(crate) const ROOT: usize = 0;
/// A root with a key on P-384 and another name.
pub(crate) const ROOT_P384: usize = 1;
/// A root with the name of [`ROOT`] and another key.
pub(crate) const NAMESAKE: usize = 2;
/// An intermediate by [`ROOT`].
pub(crate) const ISSUING: usize = 3;
/// An end entity by [`ISSUING`] that satisfies the rule.
pub(crate) const GOOD: usize = 5;
/// The places of all end entities with a good path, and the right identity and usage: below [`ROOT`] but for the last, which is below
/// [`NAMESAKE`], and revoked ones left out.
pub(crate) const GENUINE: [usize; 4] = [GOOD, 10, 30, 33];
/// An end entity that the list of [`ISSUING`] names.
pub(crate) const REVOKED: usize = 31;

/// The committed certificates.
pub(crate) static CERTIFICATES: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let sections = CertificateDer::pem_slice_iter(include_bytes!("../certificates.pem"));
    sections.collect::<Result<_, _>>().expect("the committed certificates are PEM")
});

/// Policies with different anchors: the first root; all three roots; and the first root with a revocation list.
pub(crate) static POLICIES: LazyLock<[Identity; 3]> = LazyLock::new(|| {
    let list = CertificateRevocationListDer::from_pem_slice(include_bytes!("../list.pem")).expect("it is PEM");
    let list = RevocationList::from_der(&list).expect("the committed list is well-formed");
    let lists = RevocationLists::new(vec![list], RevocationScope::EndEntity);
    [identity(&[ROOT], None), identity(&[ROOT, ROOT_P384, NAMESAKE], None), identity(&[ROOT], Some(lists))]
});

/// The scope of all policies.
pub(crate) fn scope() -> Scope {
    Scope { id: 0, providers: vec![ProviderId(0)] }
}

/// The proof that the good chain belongs to the sender.
pub(crate) fn verified() -> Arc<VerifiedChain> {
    let chain = [CERTIFICATES[GOOD].clone(), CERTIFICATES[ISSUING].clone()];
    let found = POLICIES[0].verify(&scope(), PeerChain::unsafe_assumed(&chain), NOW).result;
    found.unwrap_or_else(|refused| panic!("the good chain is refused: {}", refused.refusal))
}

fn identity(anchors: &[usize], revocation: Option<RevocationLists>) -> Identity {
    let anchor = |place: &usize| {
        let anchor = ConfiguredAnchor::of(&CERTIFICATES[*place], u64::MAX);
        anchor.expect("the committed roots are trust anchors")
    };
    let rule = Condition::subject_cn("sender").and_then(|condition| IdentityRule::new(vec![condition]));
    let profile = Profile {
        name: "default".into(),
        trust_anchors: anchors.iter().map(anchor).collect(),
        verify_depth: 4,
        identity: vec![rule.expect("a common name is a rule")],
        extended_key_usage: ExtendedKeyUsage::ClientAuth,
        revocation,
        overlap_ends: None,
    };
    let provider = Provider {
        name: "sender".into(),
        profiles: vec![profile],
        on_failure: OnFailure::Respond,
        refusal: RefusalAnswer::Deny,
        client_certificate: Default::default(),
    };
    // Without a cache, so that each chain is judged.
    let cache = Arc::new(ChainCache::new(0, Duration::from_secs(3600)));
    Identity::new(1, [provider].into(), cache, LIMITS)
}
