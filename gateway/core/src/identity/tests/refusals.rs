//! Several providers in one scope: which ones a chain proves, and which refusal is reported.

use rustls_pki_types::{CertificateDer, TrustAnchor};

use super::fixture::*;
use crate::identity::PeerChain;
use crate::identity::{
    CacheOutcome, CertificateRequest, ChainLimits, ChainRefusal, ClientCertificate, ExtendedKeyUsage, Identity,
    OnFailure, Profile, Provider, ProviderId, RefusalAnswer, Scope, TrustAnchors,
};
use crate::reject::Reject;

fn refusal(identity: &Identity, scope: &Scope, chain: &[CertificateDer<'_>]) -> ChainRefusal {
    let verification = identity.verify(scope, PeerChain::unsafe_assumed(chain), at(NOW));
    assert_eq!(verification.cache, CacheOutcome::Miss);
    verification.result.unwrap_err()
}

fn with(provider: Provider, on_failure: OnFailure) -> Provider {
    Provider { on_failure, ..provider }
}

#[test]
fn a_missing_or_oversized_chain_is_refused_unparsed() {
    let root = Authority::root("root");
    let (identity, scope) = policy(vec![provider("a", vec![profile(&root, "a")])]);
    let leaf = root.issue(&Template::client("a"));
    let empty = Scope { id: 1, providers: vec![] };
    let huge = CertificateDer::from(vec![0; LIMITS.max_bytes + 1]);
    for (scope, chain, reject) in [
        (&scope, vec![], Reject::NoCertificate),
        (&scope, vec![leaf.clone(); LIMITS.max_certificates + 1], Reject::ChainTooLarge),
        (&scope, vec![huge], Reject::ChainTooLarge),
        (&empty, vec![leaf.clone()], Reject::UnknownServerName),
        (&empty, vec![], Reject::UnknownServerName),
    ] {
        let refused = refusal(&identity, scope, &chain);
        assert_eq!(refused.refusal.reject, reject);
        assert_eq!((refused.on_failure, refused.provider), (OnFailure::Respond, None));
    }
    // Just within the limits.
    let exact = ChainLimits { max_certificates: 2, max_bytes: 2 * leaf.len() };
    let limited = Identity::new(1, identity.providers().into(), identity.cache.clone(), exact);
    assert!(limited.verify(&scope, PeerChain::unsafe_assumed(&[leaf.clone(), leaf.clone()]), at(NOW)).result.is_ok());
    let shorter = ChainLimits { max_bytes: 2 * leaf.len() - 1, ..exact };
    let limited = Identity::new(1, identity.providers().into(), identity.cache.clone(), shorter);
    assert_eq!(refusal(&limited, &scope, &[leaf.clone(), leaf]).refusal.reject, Reject::ChainTooLarge);
}

#[test]
fn a_policy_without_trust_anchors_or_rules_admits_no_chain() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("a"))];
    for (profiles, reject) in [
        (vec![Profile { trust_anchors: TrustAnchors::default(), ..profile(&root, "a") }], Reject::UnknownIssuer),
        (vec![Profile { identity: vec![], ..profile(&root, "a") }], Reject::IdentityMismatch),
        (vec![], Reject::UnknownIssuer),
    ] {
        let (identity, scope) = policy(vec![provider("a", profiles)]);
        assert_eq!(refusal(&identity, &scope, &chain).refusal.reject, reject);
    }
    // An id beyond the policy proves no provider.
    let (identity, _) = policy(vec![provider("a", vec![profile(&root, "a")])]);
    let beyond = Scope { id: 0, providers: vec![ProviderId(7)] };
    assert_eq!(refusal(&identity, &beyond, &chain).refusal.reject, Reject::UnknownIssuer);
}

#[test]
fn a_chain_proves_each_matching_provider_by_its_first_matching_profile() {
    let (root, old) = (Authority::root("root"), Authority::root("old"));
    let shorter = root.intermediate("issuing");
    let chain = [shorter.issue(&Template::client("shared")), shorter.certificate.clone()];
    let (identity, scope) = policy(vec![
        provider("other", vec![profile(&root, "other")]),
        provider("rotating", vec![profile(&old, "shared"), profile(&root, "shared"), profile(&root, "shared")]),
        provider("foreign", vec![profile(&old, "shared")]),
        provider("also", vec![profile(&shorter, "shared")]),
    ]);
    let verified = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let found: Vec<_> = verified.matches().iter().map(|found| (found.provider.0, found.profile)).collect();
    assert_eq!(found, [(1, 1), (3, 0)]);
    assert_eq!(verified.matched(ProviderId(3)).unwrap().trust_anchor_depth, 1);
    assert!(verified.matched(ProviderId(0)).is_none());
    assert_eq!(verified.subject(), "CN=shared");
    assert_eq!(verified.subject_field().unwrap(), "CN=shared");
    let field = verified.client_cert_field().unwrap().to_str().unwrap();
    let header = field.strip_prefix(':').unwrap().strip_suffix(':').unwrap();
    assert_eq!(data_encoding::BASE64.decode(header.as_bytes()).unwrap(), chain[0].to_vec());

    // Only what the scope names.
    let narrow = Scope { id: 1, providers: vec![ProviderId(3)] };
    let verified = identity.verify(&narrow, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    assert_eq!(verified.matches().len(), 1);
}

#[test]
fn the_proof_is_valid_until_the_earliest_end_of_all_matches() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("a"))];
    let listed = |next_update: u64| {
        let list = root.revocation_list(&[], NOW - DAY, next_update);
        Profile {
            revocation: Some(crate::identity::RevocationLists::new(vec![list], Default::default())),
            ..profile(&root, "a")
        }
    };
    let (identity, scope) = policy(vec![
        provider("long", vec![profile(&root, "a")]),
        provider("short", vec![listed(NOW + 7)]),
        provider("middle", vec![listed(NOW + 9)]),
    ]);
    assert_eq!(
        identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap().valid_until(),
        at(NOW + 7)
    );
}

#[test]
fn the_refusal_is_that_of_the_provider_whose_rule_matches() {
    let (root, old) = (Authority::root("root"), Authority::root("old"));
    let (identity, scope) = policy(vec![
        provider("bystander", vec![profile(&root, "bystander")]),
        with(provider("strict", vec![profile(&old, "strict"), profile(&root, "strict")]), OnFailure::Abort),
    ]);
    let expired = root.issue(&Template::client("strict").between(NOW - 2 * DAY, NOW - DAY));
    let refused = refusal(&identity, &scope, &[expired]);
    assert_eq!(refused.refusal.reject, Reject::CertificateExpired);
    assert_eq!((refused.on_failure, refused.provider), (OnFailure::Abort, Some(ProviderId(1))));

    let foreign = Authority::root("foreign").issue(&Template::client("bystander"));
    let refused = refusal(&identity, &scope, &[foreign]);
    assert_eq!(refused.refusal.reject, Reject::UnknownIssuer);
    assert_eq!((refused.on_failure, refused.provider), (OnFailure::Respond, Some(ProviderId(0))));
}

#[test]
fn a_mismatch_is_that_of_the_provider_whose_name_is_nearest_below_the_same_anchor() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let (identity, scope) = policy(vec![
        provider("first", vec![profile(&root, "hooks.first.example")]),
        provider("pagerduty", vec![profile(&other, "old.example"), profile(&root, "webhooks.pagerduty.com")]),
        provider("elsewhere", vec![profile(&other, "webhook.pagerduty.com")]),
    ]);
    let nearest = |name: &str| {
        let refused = refusal(&identity, &scope, &[root.issue(&Template::client(name))]);
        assert_eq!(refused.refusal.reject, Reject::IdentityMismatch);
        let provider = refused.provider.unwrap();
        let named = format!("provider \"{}\" expects", identity.provider(provider).name);
        assert!(refused.refusal.detail().contains(&named), "{}", refused.refusal);
        provider.0
    };
    assert_eq!(nearest("webhook.pagerduty.org"), 1, "the third is nearer, but has another anchor");
    assert_eq!(nearest("Webhooks.PagerDuty.com.evil.example"), 1);
    assert_eq!(nearest("hook.first.example"), 0);
    assert_eq!(nearest("!"), 0, "the first if none is near");
}

#[test]
fn a_mismatch_names_the_expected_identity() {
    let root = Authority::root("root");
    let (identity, scope) = policy(vec![provider("pagerduty", vec![profile(&root, "webhooks.pagerduty.com")])]);
    let leaf = root.issue(&Template::client("webhooks.pagerduty.com.evil.example"));
    let refused = refusal(&identity, &scope, &[leaf]);
    assert_eq!(refused.refusal.reject, Reject::IdentityMismatch);
    assert_eq!(refused.provider, Some(ProviderId(0)));
    for words in
        ["CN=webhooks.pagerduty.com.evil.example\"", "\"pagerduty\" expects subject CN \"webhooks.pagerduty.com\""]
    {
        assert!(refused.refusal.detail().contains(words), "{}", refused.refusal);
    }
    // The same identity with an expired certificate: the path is reported.
    let leaf = root.issue(&Template::client("stranger").between(NOW - 2 * DAY, NOW - DAY));
    assert_eq!(refusal(&identity, &scope, &[leaf]).refusal.reject, Reject::CertificateExpired);
}

#[test]
fn a_mismatch_says_how_to_match_a_value_that_is_no_text() {
    let root = Authority::root("root");
    let (identity, scope) = policy(vec![provider("a", vec![profile(&root, "na\u{ef}ve")])]);
    for (tag, expected) in [(0x14, true), (UTF8_STRING, false)] {
        let subject = name(&[&[("2.5.4.3", tag, b"na\xefve")]]);
        let subject = if expected { subject } else { common_name("naive") };
        let leaf = root.issue(&Template { subject, ..Template::client("") });
        let refused = refusal(&identity, &scope, &[leaf]).refusal;
        assert_eq!(refused.reject, Reject::IdentityMismatch);
        let words = ["CN=#14056e61ef7665", "The value of CN is not valid for its string type", "subject = "];
        assert_eq!(words.map(|words| refused.detail().contains(words)), [expected; 3], "{refused}");
    }
}

#[test]
fn a_peer_without_a_certificate_learns_which_keys_are_accepted() {
    let refused = crate::identity::no_certificate();
    assert!(refused.detail().contains("ECDSA on P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519"), "{refused}");
}

#[test]
fn an_unidentified_peer_is_aborted_only_if_every_provider_aborts() {
    let root = Authority::root("root");
    let stranger = [root.issue(&Template::client("stranger"))];
    let one = |on_failure| with(provider("a", vec![profile(&root, "a")]), on_failure);
    for (modes, expected) in [
        (vec![OnFailure::Abort, OnFailure::Abort], OnFailure::Abort),
        (vec![OnFailure::Abort, OnFailure::Respond], OnFailure::Respond),
        (vec![OnFailure::Respond], OnFailure::Respond),
    ] {
        let (identity, scope) = policy(modes.into_iter().map(one).collect());
        for chain in [&stranger[..], &[], &[CertificateDer::from(b"junk".to_vec())]] {
            assert_eq!(refusal(&identity, &scope, chain).on_failure, expected);
        }
    }
}

#[test]
fn the_number_of_failed_path_builds_is_bounded() {
    let (root, impostor) = (Authority::root("root"), Authority::root("root"));
    let forged = [impostor.issue(&Template::client("a"))];
    let genuine = [root.issue(&Template::client("a"))];
    let bad = |verify_depth| Profile { verify_depth, ..profile(&impostor, "a") };
    // The ninth profile would admit; eight failed before it. Profiles that demand the same of a path fail once.
    let equal = vec![1; 50];
    for (depths, admitted) in [((1..=7).collect(), true), ((1..=8).collect(), false), (equal, true)] {
        let depths: Vec<u8> = depths;
        let failing = depths.len();
        let mut profiles: Vec<_> = depths.into_iter().map(bad).collect();
        profiles.push(profile(&root, "a"));
        let (identity, scope) = policy(vec![provider("a", profiles)]);
        assert_eq!(
            identity.verify(&scope, PeerChain::unsafe_assumed(&genuine), at(NOW)).result.is_ok(),
            admitted,
            "{failing} failing"
        );
    }
    // A profile whose trust anchor cannot be reached by name costs no build and does not count.
    let mut profiles: Vec<_> = (0..50).map(|_| profile(&Authority::root("elsewhere"), "a")).collect();
    profiles.push(profile(&impostor, "a"));
    let (identity, scope) = policy(vec![provider("a", profiles)]);
    assert!(identity.verify(&scope, PeerChain::unsafe_assumed(&forged), at(NOW)).result.is_ok());
}

#[test]
fn authority_names_are_the_distinct_trust_anchors_of_the_scope() {
    let (a, b) = (Authority::root("a"), Authority::root("b"));
    let (identity, scope) = policy(vec![
        provider("a", vec![profile(&a, "x"), profile(&a, "y")]),
        provider("b", vec![profile(&b, "x"), profile(&a, "y")]),
    ]);
    assert_eq!(identity.authority_names(&scope), [a.subject.clone(), b.subject.clone()]);
    let narrow = Scope { id: 1, providers: vec![ProviderId(0)] };
    assert_eq!(identity.authority_names(&narrow), [a.subject]);
}

#[test]
fn a_list_of_authority_names_is_left_out_when_it_is_too_long() {
    let with = |count: usize| {
        let mut profile = profile(&Authority::root("a"), "x");
        let [anchor] = &profile.trust_anchors[..] else { unreachable!("one anchor") };
        let anchor = anchor.clone();
        profile.trust_anchors = unrestricted((0..count).map(|number| {
            // A relative distinguished name of 94 bytes: an organization of 83 characters.
            let name = format!("{number:083}");
            let subject = [&[0x31, 92, 0x30, 90, 6, 3, 0x55, 4, 10, 0x0c, 83][..], name.as_bytes()].concat();
            TrustAnchor { subject: subject.into(), ..anchor.clone() }
        }));
        let (identity, scope) = policy(vec![provider("a", vec![profile])]);
        identity.authority_names(&scope).len()
    };
    // Each name has 96 bytes with its SEQUENCE, and 98 with its length.
    assert_eq!(with(326), 326);
    assert_eq!(with(327), 0);
}

#[test]
fn a_policy_tells_its_providers_and_what_its_handshakes_ask_for() {
    let root = Authority::root("root");
    let required = provider("a", vec![profile(&root, "a")]);
    let none = ClientCertificate::None { static_secret_suffices: false };
    let free = Provider { client_certificate: none, profiles: vec![], ..provider("b", vec![]) };
    for (providers, request, admits) in [
        (vec![required.clone()], CertificateRequest::Required, false),
        (vec![required.clone(), free.clone()], CertificateRequest::Optional, true),
        (vec![free.clone()], CertificateRequest::Never, true),
        (vec![], CertificateRequest::Required, false),
    ] {
        let (identity, scope) = policy(providers);
        let found = identity.certificate_request(&scope);
        assert_eq!((found, found.admits_without()), (request, admits));
    }
    let (identity, mut scope) = policy(vec![required, free]);
    assert_eq!(&*identity.provider(ProviderId(1)).name, "b");
    // Only the providers of the scope count.
    scope.providers = vec![ProviderId(0), ProviderId(7)];
    assert_eq!(identity.certificate_request(&scope), CertificateRequest::Required);
    let beside = |asked: CertificateRequest| [true, false].map(|it| asked.beside_public_route(it));
    assert_eq!(beside(CertificateRequest::Required), [CertificateRequest::Optional, CertificateRequest::Never]);
    assert_eq!(beside(CertificateRequest::Optional), [CertificateRequest::Optional; 2]);
    assert_eq!(beside(CertificateRequest::Never), [CertificateRequest::Never; 2]);
    let labels = [ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ClientAuthExplicit, ExtendedKeyUsage::Ignore];
    assert_eq!(labels.map(ExtendedKeyUsage::label), ["client-auth", "client-auth-explicit", "ignore"]);
}

#[test]
fn a_verified_chain_can_be_verified_again_and_prints_what_it_proves() {
    let root = Authority::root("root");
    let (identity, scope) = policy(vec![provider("a", vec![profile(&root, "sender")])]);
    let chain = [root.issue(&Template::client("sender"))];
    let verified = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let again = identity.verify(&scope, PeerChain::of_verified(&verified), at(NOW + 31 * DAY)).result.unwrap_err();
    assert_eq!(again.refusal.reject, Reject::CertificateExpired);
    assert!(identity.verify(&scope, PeerChain::of_verified(&verified), at(NOW)).result.is_ok());
    let shown = format!("{verified:?}");
    assert!(shown.starts_with("VerifiedChain { generation: 1, subject: \"CN=sender\", matches: ["), "{shown}");
}

#[test]
fn a_peer_without_a_claim_is_answered_tersely_if_every_provider_wants_it() {
    let (root, foreign) = (Authority::root("root"), Authority::root("foreign"));
    let chain = [foreign.issue(&Template::client("stranger"))];
    let with = |refusal| Provider { refusal, ..provider("a", vec![profile(&root, "sender")]) };
    let (deny, terse, retry) = (RefusalAnswer::Deny, RefusalAnswer::Terse, RefusalAnswer::Retry);
    for (answers, expected) in [
        (vec![terse], terse),
        (vec![terse, terse], terse),
        (vec![terse, deny], deny),
        (vec![retry, terse], deny),
        (vec![retry], deny),
    ] {
        let (identity, scope) = policy(answers.iter().copied().map(with).collect());
        assert_eq!(refusal(&identity, &scope, &chain).answer, expected, "{answers:?}");
    }
}
