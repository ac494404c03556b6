//! Refused chains that claim a provider: for which reasons, and who vouches for the name.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::{
    AwaitedLists, CacheOutcome, ChainCache, ChainRefusal, Claim, Condition, ExtendedKeyUsage, Identity, OnFailure,
    PeerChain, Profile, Provider, ProviderId, PublicRoots, RefusalAnswer, RevocationLists, RevocationScope, Suspect,
};
use crate::reject::Reject;

const NAME: &str = "hooks.example.com";

/// The refusal of `chain` at `now` by a policy of one provider, on a host with these public roots.
fn refused(provider: Provider, public: &[&Authority], chain: &[CertificateDer<'_>], now: u64) -> ChainRefusal {
    let (identity, scope) = policy(vec![provider]);
    let roots = public.iter().map(|root| root.certificate.clone());
    let identity = identity.with_public_roots(Arc::new(PublicRoots::new(roots)));
    identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(now)).result.unwrap_err()
}

fn only_claim(suspect: &Suspect) -> &Claim {
    let [claim] = suspect.claims() else { panic!("{suspect:?}") };
    assert!(claim.is_suspected());
    claim
}

fn sender(root: &Authority) -> Provider {
    provider("sender", vec![profile(root, NAME)])
}

fn named() -> Template {
    Template::client(NAME).with(alternative_names(&[dns(NAME)]))
}

#[test]
fn a_claim_is_suspect_for_reasons_of_ignorance_alone() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let check = |provider: Provider, leaf: CertificateDer<'_>, reject, expected: bool| {
        let refusal = refused(provider, &[], &[leaf], NOW);
        assert_eq!(refusal.refusal.reject, reject);
        let found =
            refusal.suspect.as_ref().map(|suspect| (only_claim(suspect).provider(), suspect.certificates().len()));
        assert_eq!(found, expected.then_some((ProviderId(0), 1)), "{reject:?}");
        assert_eq!(refusal.answer, RefusalAnswer::Retry);
    };
    let retry = |provider: Provider| Provider { refusal: RefusalAnswer::Retry, ..provider };
    let strict = Profile { extended_key_usage: ExtendedKeyUsage::ClientAuthExplicit, ..profile(&known, NAME) };
    let server = Template::new(common_name(NAME)).with(extended_key_usage(&[SERVER_AUTH]));
    let late = |seconds| Template::client(NAME).between(NOW - 90 * DAY, NOW - seconds);
    check(retry(sender(&known)), new.issue(&named()), Reject::UnknownIssuer, true);
    check(retry(sender(&known)), known.issue(&server), Reject::ExtendedKeyUsage, true);
    check(
        retry(provider("sender", vec![strict])),
        known.issue(&Template::new(common_name(NAME))),
        Reject::ExtendedKeyUsage,
        true,
    );
    check(retry(sender(&known)), known.issue(&late(1)), Reject::CertificateExpired, true);
    check(retry(sender(&known)), known.issue(&late(DAY)), Reject::CertificateExpired, true);
    check(retry(sender(&known)), known.issue(&late(DAY + 1)), Reject::CertificateExpired, false);
    let early = Template::client(NAME).between(NOW + DAY, NOW + 90 * DAY);
    check(retry(sender(&known)), known.issue(&early), Reject::CertificateNotYetValid, false);
}

#[test]
fn a_public_root_vouches_for_a_chain_that_is_respelled() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    // A self-issued authority, and a path length: webpki gets the chain with comparable names.
    let limited = Authority::limited_root("new", 3);
    for root in [&new, &limited] {
        let chain = [root.issue(&named()), root.certificate.clone()];
        let suspect = refused(sender(&known), &[root], &chain, NOW).suspect.unwrap();
        assert_eq!(suspect.public_root(), Some(&root.certificate));
    }
}

#[test]
fn an_authority_with_another_key_is_suspect_and_a_forgery_below_the_known_one_is_not() {
    let (known, new) = (Authority::root("root"), Authority::root("root"));
    let (issuing, rekeyed) = (known.intermediate("issuing"), new.intermediate("issuing"));
    let is_suspect = |anchors: &[&Authority], chain: &[CertificateDer<'_>]| {
        let trust_anchors = unrestricted(anchors.iter().map(|root| root.anchor()));
        let refusal = refused(
            provider("sender", vec![Profile { trust_anchors, ..sender(&known).profiles.remove(0) }]),
            &[],
            chain,
            NOW,
        );
        assert_eq!(refusal.refusal.reject, Reject::BadSignature, "{refusal:?}");
        refusal.suspect.is_some()
    };
    // The new root, with and without its own certificate.
    assert!(is_suspect(&[&known], &[new.issue(&named())]));
    assert!(is_suspect(&[&known], &[rekeyed.issue(&named()), rekeyed.certificate.clone()]));
    let whole = [rekeyed.issue(&named()), rekeyed.certificate.clone(), new.certificate.clone()];
    assert!(is_suspect(&[&known], &whole));
    let (strong, other) = (Authority::p384_root(common_name("root")), Authority::root("other"));
    assert!(is_suspect(&[&strong], &whole), "a check with this key exhausts the bound");
    assert!(is_suspect(&[&other, &known], &whole));
    // Its key identifier says which key it means.
    let identified = |key: &Authority| new.issue(&named().with(authority_key(&key.key_identifier())));
    assert!(is_suspect(&[&known], &[identified(&new)]));
    assert!(!is_suspect(&[&known], &[identified(&known)]));
    assert!(!is_suspect(&[&strong, &known], &[identified(&known)]));
    // The known key signed the issuer, so it did not change.
    assert!(!is_suspect(&[&known], &[rekeyed.issue(&named()), issuing.certificate.clone()]));
    let beside = [rekeyed.issue(&named()), issuing.certificate.clone(), new.certificate.clone()];
    assert!(!is_suspect(&[&known], &beside));
}

#[test]
fn a_path_that_is_longer_than_the_configuration_allows_is_suspect() {
    let root = Authority::root("root");
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let chain = [second.issue(&named()), second.certificate.clone(), first.certificate.clone()];
    let shallow = Profile { verify_depth: 2, ..profile(&root, NAME) };
    let refusal = refused(provider("sender", vec![shallow]), &[], &chain, NOW);
    assert_eq!(refusal.refusal.reject, Reject::PathTooLong);
    assert!(refusal.suspect.is_some());
}

#[test]
fn a_chain_without_the_names_of_a_provider_claims_none() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let provider = Provider { refusal: RefusalAnswer::Retry, ..sender(&known) };
    let refusal = refused(provider, &[&new], &[new.issue(&Template::client("other.example.com"))], NOW);
    assert_eq!((refusal.provider, refusal.suspect, refusal.answer), (None, None, RefusalAnswer::Deny));
}

#[test]
fn a_public_root_vouches_for_a_dns_name_alone() {
    let (known, public, own) = (Authority::root("known"), Authority::root("public"), Authority::root("own"));
    let middle = public.intermediate("middle");
    let check = |chain: &[CertificateDer<'_>], expected: bool| {
        let refusal = refused(sender(&known), &[&public], chain, NOW);
        let suspect = refusal.suspect.unwrap();
        assert_eq!(suspect.public_root(), expected.then_some(&public.certificate));
    };
    check(&[public.issue(&named())], true);
    check(&[middle.issue(&named()), middle.certificate.clone()], true);
    // Whatever its key may be used for.
    let server = Template::new(common_name(NAME)).with(extended_key_usage(&[SERVER_AUTH]));
    let server = server.with(alternative_names(&[dns(NAME)]));
    check(&[public.issue(&server)], true);
    // The common name of a certificate for e-mail is whatever its owner wanted.
    check(&[public.issue(&Template::client(NAME))], false);
    let other = Template::client(NAME).with(alternative_names(&[dns("evil.example.com")]));
    check(&[public.issue(&other)], false);
    check(&[own.issue(&named())], false);
    check(&[middle.issue(&named())], false);
    // Of a foreign key in the name of the public root.
    let forged = own.certified_by(&named(), &public.subject, &own);
    check(&[forged], false);
}

#[test]
fn a_public_root_vouches_for_a_renewal_that_is_late() {
    let (known, public) = (Authority::root("known"), Authority::root("public"));
    let both = Profile { trust_anchors: unrestricted([known.anchor(), public.anchor()]), ..profile(&known, NAME) };
    let late = named().between(NOW - 90 * DAY, NOW - 60);
    let refusal = refused(provider("sender", vec![both]), &[&public], &[public.issue(&late)], NOW);
    assert_eq!(refusal.refusal.reject, Reject::CertificateExpired);
    assert!(refusal.suspect.unwrap().public_root().is_some());
}

#[test]
fn a_suspect_chain_is_answered_and_not_aborted_if_its_provider_retries() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let check = |refusal, leaf: CertificateDer<'_>, expected| {
        let provider = Provider { refusal, on_failure: OnFailure::Abort, ..sender(&known) };
        assert_eq!(refused(provider, &[], &[leaf], NOW).on_failure, expected);
    };
    check(RefusalAnswer::Deny, new.issue(&named()), OnFailure::Abort);
    check(RefusalAnswer::Terse, new.issue(&named()), OnFailure::Abort);
    check(RefusalAnswer::Retry, new.issue(&named()), OnFailure::Respond);
    check(RefusalAnswer::Retry, new.issue(&Template::client("other")), OnFailure::Abort);
    let early = Template::client(NAME).between(NOW + DAY, NOW + 90 * DAY);
    check(RefusalAnswer::Retry, known.issue(&early), OnFailure::Abort);
}

#[test]
fn a_suspect_says_what_was_refused_and_what_it_takes() {
    let (known, other, new) = (Authority::root("known"), Authority::root("other"), Authority::root("new"));
    let second = Profile { identity: by_common_name(NAME), ..profile(&other, NAME) };
    let providers = provider("sender", vec![profile(&known, "elsewhere"), second]);
    let leaf = new.issue(&named());
    let refusal = refused(providers.clone(), &[], std::slice::from_ref(&leaf), NOW);
    let suspect = refusal.suspect.unwrap();
    let claim = only_claim(&suspect);
    assert_eq!((claim.provider(), claim.profile(), claim.reject()), (ProviderId(0), 1, Reject::UnknownIssuer));
    assert_eq!(suspect.bytes(), leaf.len() + size_of::<Claim>());
    assert_eq!(format!("{suspect:?}"), "Suspect([ProviderId(0), profile 1, UnknownIssuer], public root: false)");
    let refusal = refused(providers, &[&new], std::slice::from_ref(&leaf), NOW);
    let suspect = refusal.suspect.unwrap();
    assert_eq!(suspect.bytes(), leaf.len() + new.certificate.len() + size_of::<Claim>());
    assert!(format!("{suspect:?}").ends_with("public root: true)"));
}

#[test]
fn public_roots_are_those_that_can_be_read() {
    let root = Authority::root("root");
    let roots = PublicRoots::new([root.certificate.clone(), CertificateDer::from(vec![0x30, 0x00])]);
    assert_eq!((roots.len(), roots.is_empty()), (1, false));
    assert_eq!(format!("{roots:?}"), "PublicRoots { len: 1, .. }");
    assert_eq!((PublicRoots::none().len(), PublicRoots::none().is_empty()), (0, true));
}

#[test]
fn a_subject_or_a_pin_rests_on_no_dns_name() {
    let (known, public) = (Authority::root("known"), Authority::root("public"));
    let leaf = public.issue(&named());
    let pin: String =
        ring::digest::digest(&ring::digest::SHA256, &leaf).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (condition, vouched) in [
        (Condition::subject(&format!("/CN={NAME}")), false),
        (Condition::certificate_sha256(&pin), false),
        (Condition::subject_cn(NAME), true),
        (Condition::san_dns("*.example.com"), true),
    ] {
        let condition = condition.unwrap();
        let one = Profile { identity: vec![rule(vec![condition.clone()])], ..profile(&known, NAME) };
        let refusal = refused(provider("sender", vec![one]), &[&public], std::slice::from_ref(&leaf), NOW);
        assert_eq!(refusal.suspect.unwrap().public_root().is_some(), vouched, "{condition}");
    }
}

/// The refusal of a chain by these providers, and the work that it cost.
fn refused_by_all(providers: Vec<Provider>, public: &[&Authority], chain: &[CertificateDer<'_>]) -> ChainRefusal {
    let (identity, scope) = policy(providers);
    let roots = public.iter().map(|root| root.certificate.clone());
    let identity = identity.with_public_roots(Arc::new(PublicRoots::new(roots)));
    identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(NOW)).result.unwrap_err()
}

fn claimed(suspect: &Suspect) -> Vec<u16> {
    suspect.suspected().map(|claim| claim.provider().0).collect()
}

#[test]
fn a_chain_claims_every_provider_whose_names_it_has() {
    let (known, new, other) = (Authority::root("known"), Authority::root("new"), Authority::root("other"));
    let elsewhere = provider("elsewhere", vec![profile(&known, "elsewhere")]);
    // Two accounts, one of which has an anchor of its own, and a profile that the chain does not claim.
    let own = provider("own", vec![profile(&known, "elsewhere"), profile(&other, NAME)]);
    let terse = Provider { refusal: RefusalAnswer::Terse, ..sender(&known) };
    let refusal = refused_by_all(vec![sender(&known), elsewhere, own, terse], &[], &[new.issue(&named())]);
    let suspect = refusal.suspect.unwrap();
    assert_eq!(claimed(&suspect), [0, 2, 3]);
    let claims = suspect.claims();
    assert_eq!((claims[1].profile(), claims[2].answer()), (1, RefusalAnswer::Terse));
    assert_eq!((refusal.provider, refusal.answer), (Some(ProviderId(0)), RefusalAnswer::Deny));
    assert!(claims.iter().all(|claim| claim.refusal() == &refusal.refusal && !claim.is_vouched()));
}

#[test]
fn a_refusal_tells_how_many_bytes_of_certificates_it_keeps() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let chain = [new.issue(&named()), new.certificate.clone()];
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    assert_eq!(refused(sender(&known), &[], &chain, NOW).kept_bytes(), bytes);
    // The public root that vouches for it, too.
    let vouched = refused(sender(&known), &[&new], &chain, NOW);
    assert_eq!(vouched.kept_bytes(), bytes + new.certificate.len());
}

#[test]
fn of_several_profiles_of_a_provider_the_first_is_claimed() {
    let (known, other, new) = (Authority::root("known"), Authority::root("other"), Authority::root("new"));
    let server =
        |issuer: &Authority| issuer.issue(&Template::new(common_name(NAME)).with(extended_key_usage(&[SERVER_AUTH])));
    let both = || provider("both", vec![profile(&known, NAME), profile(&other, NAME)]);
    // The one whose path reached a trust anchor, if there is one.
    for (leaf, expected) in [(new.issue(&named()), 0), (server(&known), 0), (server(&other), 1)] {
        let refusal = refused_by_all(vec![both()], &[], &[leaf]);
        let claims: Vec<u16> = refusal.suspect.unwrap().claims().iter().map(Claim::profile).collect();
        assert_eq!(claims, [expected]);
    }
    // Both reach an anchor of one key.
    let twice = provider("twice", vec![profile(&known, NAME), Profile { verify_depth: 3, ..profile(&known, NAME) }]);
    let refusal = refused_by_all(vec![twice], &[], &[server(&known)]);
    assert_eq!(refusal.suspect.unwrap().claims()[0].profile(), 0);
}

#[test]
fn only_some_of_the_claims_of_a_chain_may_be_genuine() {
    let (known, other) = (Authority::root("known"), Authority::root("other"));
    let early = known.issue(&Template::client(NAME).between(NOW + DAY, NOW + 90 * DAY));
    let suspect = refused_by_all(vec![sender(&known), sender(&other)], &[], &[early]).suspect.unwrap();
    let found = |claim: &Claim| (claim.provider().0, claim.reject(), claim.is_suspected());
    let mut claims: Vec<_> = suspect.claims().iter().map(found).collect();
    claims.sort_by_key(|(provider, ..)| *provider);
    assert_eq!(claims, [(0, Reject::CertificateNotYetValid, false), (1, Reject::UnknownIssuer, true)]);
    assert_eq!(claimed(&suspect), [1]);
}

#[test]
fn each_claim_has_the_reason_of_its_own_path() {
    let (known, other) = (Authority::root("known"), Authority::root("other"));
    let server = other.issue(&Template::new(common_name(NAME)).with(extended_key_usage(&[SERVER_AUTH])));
    let early = Profile { verify_depth: 1, ..profile(&other, "elsewhere") };
    let refusal =
        refused_by_all(vec![sender(&known), provider("b", vec![early, profile(&other, NAME)])], &[], &[server]);
    let suspect = refusal.suspect.unwrap();
    let found: Vec<_> =
        suspect.claims().iter().map(|claim| (claim.provider().0, claim.profile(), claim.reject())).collect();
    // The one whose path reached a trust anchor is reported.
    assert_eq!(found, [(1, 1, Reject::ExtendedKeyUsage), (0, 0, Reject::UnknownIssuer)]);
    assert_eq!((refusal.provider, refusal.refusal.reject), (Some(ProviderId(1)), Reject::ExtendedKeyUsage));
}

#[test]
fn the_number_of_claims_is_bounded_and_those_of_equal_accounts_cost_one_path() {
    let known = Authority::root("known");
    let server = known.issue(&Template::new(common_name(NAME)).with(extended_key_usage(&[SERVER_AUTH])));
    let work = |accounts: usize| {
        let (identity, scope) = policy((0..accounts).map(|_| sender(&known)).collect());
        let chain = std::slice::from_ref(&server);
        let verification = identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(NOW));
        let refusal = verification.result.unwrap_err();
        assert_eq!(refusal.refusal.reject, Reject::ExtendedKeyUsage);
        (refusal.suspect.unwrap().claims().len(), verification.work)
    };
    let (one, cost) = work(1);
    assert_eq!((one, work(20)), (1, (20, cost)));
    assert_eq!(work(65), (64, cost));
    // The first whose path reaches a trust anchor is among them wherever it stands.
    let mut providers: Vec<Provider> = (0..70).map(|_| sender(&Authority::root("other"))).collect();
    providers.push(sender(&known));
    let refusal = refused_by_all(providers, &[], std::slice::from_ref(&server));
    let suspect = refusal.suspect.unwrap();
    assert_eq!((refusal.provider, claimed(&suspect)[0], suspect.claims().len()), (Some(ProviderId(70)), 70, 64));
}

#[test]
fn one_account_that_retries_keeps_the_handshake_going_for_all() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let check = |second, expected| {
        let first = Provider { on_failure: OnFailure::Abort, ..sender(&known) };
        let second = Provider { refusal: second, ..first.clone() };
        assert_eq!(refused_by_all(vec![first, second], &[], &[new.issue(&named())]).on_failure, expected);
    };
    check(RefusalAnswer::Deny, OnFailure::Abort);
    check(RefusalAnswer::Retry, OnFailure::Respond);
}

#[test]
fn a_public_root_vouches_only_for_the_claims_by_a_dns_name() {
    let (known, public) = (Authority::root("known"), Authority::root("public"));
    let subject = vec![rule(vec![Condition::subject(&format!("/CN={NAME}")).unwrap()])];
    let by_subject = provider("b", vec![Profile { identity: subject, ..profile(&known, NAME) }]);
    let refusal = refused_by_all(vec![by_subject, sender(&known)], &[&public], &[public.issue(&named())]);
    let suspect = refusal.suspect.unwrap();
    assert_eq!(suspect.public_root(), Some(&public.certificate));
    assert_eq!(suspect.claims().iter().map(Claim::is_vouched).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_chain_that_proves_one_account_is_refused_as_the_other_and_claims_it() {
    let (known, new) = (Authority::root("known"), Authority::root("new"));
    let retry = |root| Provider { refusal: RefusalAnswer::Retry, ..sender(root) };
    let elsewhere = provider("elsewhere", vec![profile(&known, "elsewhere")]);
    let (identity, scope) = policy(vec![retry(&new), retry(&known), elsewhere]);
    let chain = [new.issue(&named())];
    let verified = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let (first, second, third) = (ProviderId(0), ProviderId(1), ProviderId(2));
    assert!(verified.refusal_as(&[first]).is_none() && verified.refusal_as(&[second, first]).is_none());
    assert!(verified.refusal_as(&[third]).is_none(), "it does not have the name");
    let refusal = verified.refusal_as(&[third, second]).unwrap();
    assert_eq!((refusal.refusal.reject, refusal.provider), (Reject::UnknownIssuer, Some(second)));
    assert_eq!((refusal.answer, refusal.on_failure), (RefusalAnswer::Retry, OnFailure::Respond));
    assert_eq!(claimed(&refusal.suspect.unwrap()), [1]);
}

#[test]
fn a_chain_that_lacks_the_lists_of_one_account_says_so_and_is_judged_anew() {
    let root = Authority::root("root");
    let awaited = AwaitedLists { from_urls: true, incomplete: true, ..AwaitedLists::default() };
    let revocation = Some(RevocationLists::new(Vec::new(), RevocationScope::EndEntity).awaiting(awaited));
    let second = Profile { revocation, ..profile(&root, NAME) };
    let cache = Arc::new(ChainCache::new(8, std::time::Duration::from_secs(60)));
    let (identity, scope) = cached_policy(1, vec![sender(&root), provider("second", vec![second])], &cache);
    let chain = [root.issue(&named())];
    let verify = |identity: &Identity| {
        let verification = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW));
        (verification.result.unwrap(), verification.cache)
    };
    let (verified, _) = verify(&identity);
    let missing: Vec<_> = verified.missing().iter().map(|lists| (lists.provider, lists.profile)).collect();
    assert_eq!(missing, [(ProviderId(1), 0)]);
    let refusal = verified.refusal_as(&[ProviderId(1)]).unwrap();
    assert_eq!(refusal.refusal.reject, Reject::RevocationListUnavailable);
    // The lists come, and make no new generation.
    let list = root.revocation_list(&[], NOW - DAY, NOW + DAY);
    let lists = RevocationLists::new(vec![list], RevocationScope::EndEntity)
        .awaiting(AwaitedLists { incomplete: false, ..awaited });
    let identity = identity.with_lists(1, |id, _| (id == ProviderId(1)).then(|| lists.clone()));
    let (verified, cache) = verify(&identity);
    assert_eq!((verified.matches().len(), verified.missing().len(), cache), (2, 0, CacheOutcome::Miss));
    assert!(verified.refusal_as(&[ProviderId(1)]).is_none());
    assert_eq!(verify(&identity).1, CacheOutcome::Hit);
}
