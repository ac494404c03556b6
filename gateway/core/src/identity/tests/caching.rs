//! The verified-chain cache, tested through the policy that fills it.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::cache::CacheKey;
use crate::identity::{CacheOutcome, ChainCache, Identity, PeerChain, Profile, RevocationLists, Scope};
use crate::reject::Reject;

const HOUR: Duration = Duration::from_secs(3600);

fn outcome(identity: &Identity, scope: &Scope, chain: &[CertificateDer<'_>], seconds: u64) -> CacheOutcome {
    let verification = identity.verify(scope, PeerChain::unsafe_assumed(chain), at(seconds));
    assert!(verification.result.is_ok(), "{:?}", verification.result);
    verification.cache
}

/// Checks the outcome of two verifications of one chain, at [`NOW`] and at a later second.
fn check(case: &str, profile: Profile, chain: &[CertificateDer<'_>], later: u64, expected: CacheOutcome) {
    let cache = Arc::new(ChainCache::new(8, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile])], &cache);
    assert_eq!(outcome(&identity, &scope, chain, NOW), CacheOutcome::Miss, "{case}");
    assert_eq!(identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(later)).cache, expected, "{case}");
}

#[test]
fn an_entry_is_valid_until_the_earliest_end() {
    use CacheOutcome::{Hit, Miss};
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("sender"))];
    let plain = || profile(&root, "sender");
    check("at once", plain(), &chain, NOW, Hit);
    check("last second of the time to live", plain(), &chain, NOW + 3599, Hit);
    check("time to live over", plain(), &chain, NOW + 3600, Miss);

    let short = [root.issue(&Template::client("sender").between(NOW - DAY, NOW + 10))];
    check("last second of the validity", plain(), &short, NOW + 10, Hit);
    check("validity over", plain(), &short, NOW + 11, Miss);

    let list = root.revocation_list(&[], NOW - DAY, NOW + 10);
    let listed = Profile { revocation: Some(RevocationLists::new(vec![list], Default::default())), ..plain() };
    check("last second of the list", listed.clone(), &chain, NOW + 9, Hit);
    check("list over", listed, &chain, NOW + 10, Miss);
}

#[test]
fn an_expired_entry_is_dropped_when_looked_up() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(8, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile(&root, "sender")])], &cache);
    let chain = [root.issue(&Template::client("sender").between(NOW - DAY, NOW + 10))];
    outcome(&identity, &scope, &chain, NOW);
    assert_eq!(cache.len(), 1);
    assert!(identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW + 11)).result.is_err());
    assert!(cache.is_empty());
    assert_eq!(cache.evictions(), 0);
}

#[test]
fn entries_are_not_shared_across_generations_scopes_or_chains() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(64, HOUR));
    let providers = || vec![provider("sender", vec![profile(&root, "sender")])];
    let (first, scope) = cached_policy(1, providers(), &cache);
    let (second, _) = cached_policy(2, providers(), &cache);
    let other_scope = Scope { id: 1, ..scope.clone() };
    let leaf = root.issue(&Template::client("sender"));
    let appended = [leaf.clone(), root.certificate.clone()];
    let chain = [leaf];
    for (identity, scope, chain) in [
        (&first, &scope, &chain[..]),
        (&second, &scope, &chain[..]),
        (&first, &other_scope, &chain[..]),
        (&first, &scope, &appended[..]),
    ] {
        assert_eq!(outcome(identity, scope, chain, NOW), CacheOutcome::Miss);
        assert_eq!(outcome(identity, scope, chain, NOW), CacheOutcome::Hit);
        let verified = identity.verify(scope, PeerChain::unsafe_assumed(chain), at(NOW)).result.unwrap();
        assert_eq!(verified.certificates(), chain);
    }
    assert_eq!(cache.len(), 4);
}

#[test]
fn entries_of_old_generations_are_dropped_and_refused() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(64, HOUR));
    let providers = || vec![provider("sender", vec![profile(&root, "sender")])];
    let (first, scope) = cached_policy(1, providers(), &cache);
    let (second, _) = cached_policy(2, providers(), &cache);
    assert_eq!([first.generation(), second.generation()], [1, 2]);
    let chain = [root.issue(&Template::client("sender"))];
    outcome(&first, &scope, &chain, NOW);
    outcome(&second, &scope, &chain, NOW);
    cache.retain_generation(2);
    assert_eq!(cache.len(), 1);
    assert_eq!(outcome(&second, &scope, &chain, NOW), CacheOutcome::Hit);
    assert_eq!(outcome(&first, &scope, &chain, NOW), CacheOutcome::Miss);
    assert_eq!(outcome(&first, &scope, &chain, NOW), CacheOutcome::Miss);
    assert_eq!(cache.len(), 1);
    // The oldest generation that is kept gets new entries, too.
    let other = [root.issue(&Template::client("sender"))];
    assert_eq!(outcome(&second, &scope, &other, NOW), CacheOutcome::Miss);
    assert_eq!(outcome(&second, &scope, &other, NOW), CacheOutcome::Hit);
}

#[test]
fn refusals_are_never_cached() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(8, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile(&root, "sender")])], &cache);
    for common in ["other", "sender"] {
        let chain = [root.issue(&Template::client(common).between(NOW + 10, NOW + DAY))];
        assert!(identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.is_err());
    }
    assert!(cache.is_empty());
}

#[test]
fn the_least_recently_used_entry_is_evicted() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(3, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile(&root, "sender")])], &cache);
    let chains: Vec<_> = (0..4).map(|_| [root.issue(&Template::client("sender"))]).collect();
    for chain in &chains[..3] {
        outcome(&identity, &scope, chain, NOW);
    }
    assert_eq!(outcome(&identity, &scope, &chains[0], NOW), CacheOutcome::Hit);
    outcome(&identity, &scope, &chains[3], NOW);
    assert_eq!((cache.len(), cache.evictions()), (3, 1));
    for (index, expected) in
        [(0, CacheOutcome::Hit), (2, CacheOutcome::Hit), (3, CacheOutcome::Hit), (1, CacheOutcome::Miss)]
    {
        assert_eq!(outcome(&identity, &scope, &chains[index], NOW), expected, "{index}");
    }
}

#[test]
fn expired_entries_are_evicted_first_and_the_capacity_holds() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(32, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile(&root, "sender")])], &cache);
    let issue = |not_after| [root.issue(&Template::client("sender").between(NOW - DAY, not_after))];
    for _ in 0..32 {
        outcome(&identity, &scope, &issue(NOW + 10), NOW);
    }
    outcome(&identity, &scope, &issue(NOW + DAY), NOW + 11);
    assert_eq!((cache.len(), cache.evictions()), (1, 0));
    for _ in 0..100 {
        outcome(&identity, &scope, &issue(NOW + DAY), NOW + 11);
        assert!(cache.len() <= 32);
    }
    // 69 more than the capacity, evicted two at a time.
    assert_eq!(cache.evictions(), 70);
}

#[test]
fn a_cache_of_capacity_zero_stays_empty() {
    let root = Authority::root("root");
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    let chain = [root.issue(&Template::client("sender"))];
    assert_eq!(outcome(&identity, &scope, &chain, NOW), CacheOutcome::Miss);
    assert_eq!(outcome(&identity, &scope, &chain, NOW), CacheOutcome::Miss);
    assert!(identity.cache.is_empty());
}

#[test]
fn workers_share_the_cache_within_its_capacity() {
    let root = Authority::root("root");
    let cache = Arc::new(ChainCache::new(4, HOUR));
    let (identity, scope) = cached_policy(1, vec![provider("sender", vec![profile(&root, "sender")])], &cache);
    let chains: Vec<_> = (0..8).map(|_| [root.issue(&Template::client("sender"))]).collect();
    std::thread::scope(|threads| {
        for worker in 0..4 {
            let (identity, scope, chains, cache) = (&identity, &scope, &chains, &cache);
            threads.spawn(move || {
                for round in 0..50 {
                    outcome(identity, scope, &chains[(round * (worker + 1) + worker) % 8], NOW);
                    assert!(cache.settled_len() <= 4);
                    if round == 25 && worker == 0 {
                        cache.retain_generation(1);
                    }
                }
            });
        }
    });
    assert!(!cache.is_empty());
}

#[test]
fn the_signature_on_an_issuer_is_checked_once_for_all_its_clients() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    let check = |serial: u8, leaf_by: &Authority, issuer: CertificateDer<'static>, admitted: bool| {
        let leaf = leaf_by.issue(&Template::client("sender").serial(&[serial]));
        let result = identity.verify(&scope, PeerChain::unsafe_assumed(&[leaf, issuer]), at(NOW)).result;
        assert_eq!(result.is_ok(), admitted, "{serial}: {result:?}");
        // The end entity's signature is never remembered, nor is one that failed.
        assert_eq!(identity.issuer_signatures.remembered(), 1, "{serial}");
    };
    assert_eq!(identity.issuer_signatures.remembered(), 0);
    check(1, &issuing, issuing.certificate.clone(), true);
    check(2, &issuing, issuing.certificate.clone(), true);
    // The same certificate with a damaged signature (its last bytes), and that of another authority with the same name.
    let mut damaged = issuing.certificate.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    check(3, &issuing, damaged.into(), false);
    let impostor = Authority::root("root").intermediate("issuing");
    check(4, &impostor, impostor.certificate.clone(), false);
    check(5, &impostor, issuing.certificate.clone(), false);
    // A remembered signature does not bypass the validity.
    let leaf = issuing.issue(&Template::client("sender").serial(&[6]).between(NOW - DAY, NOW + 40_000 * DAY));
    let chain = [leaf, issuing.certificate.clone()];
    let later = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW + 30_000 * DAY)).result;
    assert_eq!(later.unwrap_err().refusal.reject, Reject::CertificateExpired);
}

#[test]
fn a_chain_is_kept_only_if_there_is_room_for_it_and_it_is_still_valid() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("sender"))];
    let verified = verify(profile(&root, "sender"), &chain).unwrap();
    for (capacity, seconds, kept) in [(0, 60, 0), (4, 0, 0), (4, 60, 1)] {
        let cache = ChainCache::new(capacity, Duration::from_secs(seconds));
        cache.insert(CacheKey::new(1, 0, &chain), &verified, at(NOW));
        assert_eq!(cache.settled_len(), kept, "capacity {capacity}, {seconds} s");
    }
    let ended = ChainCache::new(4, Duration::from_secs(60));
    ended.insert(CacheKey::new(1, 0, &chain), &verified, verified.valid_until());
    assert_eq!(ended.settled_len(), 0);
}
