//! What a chain may cost: signatures that are checked, and elements that are parsed, not time.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, TrustAnchor};
use webpki::anchor_from_trusted_cert;

use super::fixture::*;
use crate::identity::{
    ChainRefusal, Condition, Identity, OnFailure, PeerChain, Profile, Provider, ProviderId, RevocationLists,
    RevocationScope, Scope, Verification, Work, is_key_expensive,
};
use crate::reject::Reject;
use crate::signatures::CERTIFICATE_SIGNATURES;

/// Failed checks by cheap keys after which a search ends.
const CHEAP_FAILURES: usize = 4;

/// Elements that failed builds may parse, under [`LIMITS`], and a step more.
const STEPS: usize = 8 * ELEMENTS + ELEMENTS;

/// Elements of a chain, under [`LIMITS`].
const ELEMENTS: usize = 8 * 128;

fn judge(identity: &Identity, scope: &Scope, chain: &[CertificateDer<'_>]) -> Verification {
    identity.verify(scope, PeerChain::unsafe_assumed(chain), at(NOW))
}

/// What the refusal of this chain costs. Asks twice: what the first refusal costs, the second does as well, and no more.
fn refused(identity: &Identity, scope: &Scope, chain: &[CertificateDer<'_>], reject: Reject) -> Work {
    let verification = judge(identity, scope, chain);
    let refusal = verification.result.unwrap_err().refusal;
    assert_eq!(refusal.reject, reject, "{refusal}");
    assert_eq!(judge(identity, scope, chain).work, verification.work);
    verification.work
}

/// A root of the presets.
pub(super) fn preset_root(name: &str) -> TrustAnchor<'static> {
    let path = format!("{}/../presets/roots/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    anchor_from_trusted_cert(&CertificateDer::from_pem_file(path).unwrap()).unwrap().to_owned()
}

/// A provider like the preset `dialogflow-cx`: four anchors, two of which have keys on P-384, and another profile.
pub(super) fn dialogflow() -> Provider {
    let any = profile(&Authority::root("-"), "Google LLC");
    let google = Profile {
        name: "google-trust-services".into(),
        trust_anchors: unrestricted(["GTS_Root_R1", "GTS_Root_R2", "GTS_Root_R3", "GTS_Root_R4"].map(preset_root)),
        verify_depth: 2,
        identity: vec![rule(vec![Condition::san_dns("*.dialogflow.com").unwrap()])],
        ..any.clone()
    };
    let ssl = Profile { trust_anchors: unrestricted([preset_root("SSL.com_Root_Certification_Authority_RSA")]), ..any };
    provider("dialogflow", vec![google, ssl])
}

/// An authority with the name of this anchor and a key of its own, on P-384.
pub(super) fn impostor_of(anchor: &TrustAnchor<'_>) -> Authority {
    Authority::p384_root(tlv(0x30, &[&anchor.subject]))
}

/// `count` certificates of authorities, each with this subject and a key of its own, by `issuer`.
pub(super) fn namesakes(count: usize, subject: &[u8], issuer: &Authority) -> Vec<CertificateDer<'static>> {
    let template = || Template::new(subject.to_vec()).with(authority_extension(None));
    (0..count).map(|_| issuer.intermediate_by(template()).certificate).collect()
}

pub(super) fn dialogflow_client() -> Template {
    Template::client("-").with(alternative_names(&[dns("*.dialogflow.com")]))
}

#[test]
fn self_made_certificates_with_the_name_of_a_p384_anchor_cost_one_check() {
    let root = preset_root("GTS_Root_R4");
    let impostor = impostor_of(&root);
    let issuers = namesakes(7, &impostor.subject, &impostor);
    // With a matching identity, and with another one.
    for client in [dialogflow_client(), Template::client("stranger")] {
        for count in 0..=issuers.len() {
            let mut chain = vec![impostor.issue(&client)];
            chain.extend_from_slice(&issuers[..count]);
            for providers in [1, 8, 100] {
                let (identity, scope) = policy((0..providers).map(|_| dialogflow()).collect());
                let work = refused(&identity, &scope, &chain, Reject::BadSignature);
                let found = (work.signature_checks, work.failed_checks);
                assert_eq!(found, (1, 1), "{count} issuers, {providers} providers");
            }
        }
    }
}

#[test]
fn the_refusal_during_a_handshake_costs_as_much_as_the_one_after_it() {
    let impostor = impostor_of(&preset_root("GTS_Root_R4"));
    let mut chain = vec![impostor.issue(&dialogflow_client())];
    chain.extend(namesakes(7, &impostor.subject, &impostor));
    let (identity, scope) = policy(vec![Provider { on_failure: OnFailure::Abort, ..dialogflow() }]);
    let refused = identity.refusal_of_presented(&scope, &chain, at(NOW)).unwrap();
    assert_eq!(refused.refusal.on_failure, OnFailure::Abort);
    assert_eq!(identity.judge(&scope, &chain, at(NOW)).work, judge(&identity, &scope, &chain).work);
}

/// The SubjectPublicKeyInfo of an RSA key of so many bits, with the exponent 65537.
fn rsa_key(bits: usize) -> Vec<u8> {
    let modulus = [&[0][..], &vec![0xff; bits / 8]].concat();
    let key = tlv(0x30, &[&tlv(0x02, &[&modulus]), &[0x02, 0x03, 1, 0, 1]]);
    let algorithm = tlv(0x30, &[&oid("1.2.840.113549.1.1.1"), &[0x05, 0x00]]);
    tlv(0x30, &[&algorithm, &tlv(0x03, &[&[0], &key])])
}

#[test]
fn an_expensive_handshake_is_not_finished_after_an_expensive_refusal() {
    let impostor = impostor_of(&preset_root("GTS_Root_R4"));
    let holder = Authority::p384_root(common_name("foreign"));
    let cheap = Authority::root("root");
    let (identity, scope) =
        policy(vec![dialogflow(), provider("sender", vec![profile(&Authority::root("root"), "sender")])]);
    let check = |chain: &[CertificateDer<'_>], expensive_key: bool, failed_cost: u32, ends: bool| {
        let refused = identity.refusal_of_presented(&scope, chain, at(NOW)).unwrap();
        assert_eq!(is_key_expensive(&chain[0]), expensive_key, "{}", refused.refusal.refusal);
        assert_eq!(judge(&identity, &scope, chain).work.failed_cost, failed_cost, "{}", refused.refusal.refusal);
        assert_eq!((refused.refusal.on_failure, refused.ends_handshake), (OnFailure::Respond, ends));
    };
    let with_key =
        |bits, issuer: &Authority| issuer.issue(&Template { public_key: Some(rsa_key(bits)), ..dialogflow_client() });
    for client in [dialogflow_client(), Template::client("stranger")] {
        check(&[holder.certified_by(&client, &impostor.subject, &impostor)], true, 740, true);
        check(&[impostor.issue(&client)], false, 740, false);
        // No check fails if no issuer has the name of an anchor.
        check(&[holder.certified_by(&client, &holder.subject, &holder)], true, 0, false);
    }
    check(&[with_key(8192, &impostor)], true, 740, true);
    check(&[with_key(8192, &holder)], true, 0, false);
    check(&[with_key(4096, &impostor)], false, 740, false);
    // Three checks by cheap keys, and as much as they may cost.
    for (others, failed_cost, ends) in [(2, 180, false), (7, 240, true)] {
        let mut chain = vec![holder.certified_by(&Template::client("sender"), &cheap.subject, &cheap)];
        chain.extend(namesakes(others, &cheap.subject, &cheap));
        check(&chain, true, failed_cost, ends);
    }
}

#[test]
fn permutations_of_self_made_certificates_are_checked_once_each_and_then_no_more() {
    let (root, impostor) = (Authority::root("root"), Authority::root("root"));
    for count in 0..=7 {
        let mut chain = vec![impostor.issue(&Template::client("sender"))];
        chain.extend(namesakes(count, &root.subject, &impostor));
        for profiles in [1, 3, 20] {
            let provider = provider("sender", (0..profiles).map(|_| profile(&root, "sender")).collect());
            let (identity, scope) = policy(vec![provider.clone(), provider]);
            let work = refused(&identity, &scope, &chain, Reject::BadSignature);
            assert_eq!(work.failed_checks, (count + 1).min(CHEAP_FAILURES), "{count} issuers, {profiles} profiles");
            assert_eq!(work.signature_checks, work.failed_checks);
        }
    }
}

#[test]
fn copies_of_a_certificate_are_checked_once() {
    let (root, impostor) = (Authority::root("root"), Authority::root("root"));
    let issuer = namesakes(1, &root.subject, &impostor).remove(0);
    let mut chain = vec![impostor.issue(&Template::client("sender"))];
    chain.extend(vec![issuer; 7]);
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    // The end entity and the issuer, each with the key of the anchor.
    assert_eq!(refused(&identity, &scope, &chain, Reject::BadSignature).signature_checks, 2);

    // Copies of good ones change nothing.
    let issuing = root.intermediate("issuing");
    let mut chain = vec![issuing.issue(&Template::client("sender"))];
    chain.extend(vec![issuing.certificate.clone(); 7]);
    let admitted = judge(&identity, &scope, &chain);
    assert_eq!(admitted.work, Work { signature_checks: 2, ..Work::default() });
    assert_eq!(admitted.result.unwrap().matches()[0].trust_anchor_depth, 2);
}

#[test]
fn a_good_chain_is_checked_once_for_all_its_providers() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let chain = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let (identity, scope) = policy((0..10).map(|_| provider("sender", vec![profile(&root, "sender")])).collect());
    for remembered in [false, true] {
        let admitted = judge(&identity, &scope, &chain);
        assert_eq!(admitted.result.unwrap().matches().len(), 10);
        let signature_checks = if remembered { 1 } else { 2 };
        assert_eq!(admitted.work, Work { signature_checks, ..Work::default() });
    }
}

#[test]
fn a_forged_end_entity_below_a_good_issuer_costs_the_check_of_its_signature() {
    let root = Authority::p384_root(common_name("root"));
    let issuing = root.intermediate("issuing");
    let forged = Authority::root("issuing").issue(&Template::client("sender"));
    let chain = [forged, issuing.certificate.clone()];
    let (identity, scope) = policy((0..9).map(|_| provider("sender", vec![profile(&root, "sender")])).collect());
    let first = judge(&identity, &scope, &chain);
    assert_eq!((first.work.signature_checks, first.work.failed_checks), (2, 1));
    // The issuer is remembered.
    assert_eq!(refused(&identity, &scope, &chain, Reject::BadSignature).signature_checks, 1);
}

#[test]
fn cross_signed_issuers_are_tried_until_one_leads_to_the_anchor() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let (first, second) = (root.intermediate("first"), root.intermediate("second"));
    let far = other.intermediate("far");
    // issuing <- far <- other, issuing <- second <- other, issuing <- first <- root
    let issuing = first.intermediate("issuing");
    let chain = [
        issuing.issue(&Template::client("sender")),
        issuing.cross_signed_by(&far),
        far.certificate.clone(),
        issuing.cross_signed_by(&second),
        second.cross_signed_by(&other),
        issuing.certificate.clone(),
        first.certificate.clone(),
    ];
    for anchor in [&root, &other] {
        let (identity, scope) = policy(vec![provider("sender", vec![profile(anchor, "sender")])]);
        let admitted = judge(&identity, &scope, &chain);
        assert_eq!(admitted.work, Work { signature_checks: 3, ..Work::default() });
        assert_eq!(admitted.result.unwrap().matches()[0].trust_anchor_depth, 3);
    }
}

#[test]
fn the_key_identifier_finds_the_issuer_among_its_namesakes() {
    let root = Authority::p384_root(common_name("root"));
    let issuer = |number: u8| {
        let template = Template::new(common_name("issuing")).with(authority_extension(None));
        root.intermediate_by(template.with(subject_key(&[number; 20])))
    };
    let issuers: Vec<_> = (0..7).map(issuer).collect();
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    let chain = |client: Template| {
        let mut chain = vec![issuers[6].issue(&client)];
        chain.extend(issuers.iter().map(|issuer| issuer.certificate.clone()));
        chain
    };
    let named = chain(Template::client("sender").with(authority_key(&[6; 20])));
    let admitted = judge(&identity, &scope, &named);
    assert_eq!(admitted.work, Work { signature_checks: 2, ..Work::default() });
    assert!(admitted.result.is_ok());
    // Without it, checks fail below the others, until no further one of them is checked with an expensive key. The right one is found if its
    // signature is known.
    let nameless = chain(Template::client("sender"));
    let known = judge(&identity, &scope, &nameless);
    assert!(known.result.is_ok() && known.work.failed_checks == 3, "{:?}", known.work);
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    let unknown = judge(&identity, &scope, &nameless);
    assert!(unknown.result.is_err() && unknown.work.failed_checks == 3, "{:?}", unknown.work);
}

/// Two generations of a root: one name, two keys.
struct Rekeyed {
    old: Authority,
    new: Authority,
}

impl Rekeyed {
    fn of(make: fn() -> Authority) -> Self {
        Self { old: make(), new: make() }
    }

    /// The two certificates of an intermediate, by the old key and by the new one. `identified` ones name their keys.
    fn generations(&self, keys: [&Authority; 2], identified: bool) -> [CertificateDer<'static>; 2] {
        let certify = |key: &Authority, signer: &Authority| {
            let mut template = Template::new(common_name("issuing")).with(authority_extension(None));
            if identified {
                template =
                    template.with(subject_key(&key.key_identifier())).with(authority_key(&signer.key_identifier()));
            }
            key.certified_by(&template, &signer.subject, signer)
        };
        [certify(keys[0], &self.old), certify(keys[1], &self.new)]
    }
}

fn p384() -> Authority {
    Authority::p384_root(common_name("root"))
}

fn p256() -> Authority {
    Authority::root("root")
}

/// An end entity of `issuer`, which calls itself `issuing`.
fn client_of(issuer: &Authority, identified: bool) -> CertificateDer<'static> {
    let template = Template::client("sender");
    let identified = if identified { template.with(authority_key(&issuer.key_identifier())) } else { template };
    Authority::root("-").certified_by(&identified, &common_name("issuing"), issuer)
}

/// The profiles of policies with these anchors: one profile with all of them, and a provider for each.
fn policies(anchors: &[&Authority]) -> Vec<Vec<Provider>> {
    let one = |anchors: &[&Authority]| {
        let trust_anchors = unrestricted(anchors.iter().map(|anchor| anchor.anchor()));
        provider("sender", vec![Profile { trust_anchors, ..profile(anchors[0], "sender") }])
    };
    vec![vec![one(anchors)], anchors.iter().map(|anchor| one(&[anchor])).collect()]
}

#[test]
fn the_key_identifier_finds_the_generation_of_an_issuer_that_the_anchor_signed() {
    for make in [p384, p256] {
        let roots = Rekeyed::of(make);
        let (first, second) = (make(), make());
        for keys in [[&first, &first], [&first, &second]] {
            let generations = roots.generations(keys, true);
            for named in [true, false] {
                let client = client_of(keys[1], named);
                for order in [[0, 1], [1, 0]] {
                    let chain = [client.clone(), generations[order[0]].clone(), generations[order[1]].clone()];
                    // The new root alone: no check fails.
                    let (identity, scope) = policy(policies(&[&roots.new]).remove(0));
                    let admitted = judge(&identity, &scope, &chain);
                    assert_eq!(admitted.work, Work { signature_checks: 2, ..Work::default() }, "{order:?}, {named}");
                    assert!(admitted.result.is_ok());
                    // Both roots, in one profile and as two providers. Of one key, both generations lead to a root.
                    for providers in policies(&[&roots.old, &roots.new]) {
                        let (identity, scope) = policy(providers.clone());
                        let proven = judge(&identity, &scope, &chain).result.unwrap().matches().len();
                        let expected = if std::ptr::eq(keys[0], keys[1]) { providers.len() } else { 1 };
                        assert_eq!(proven, expected, "{order:?}, {named}");
                    }
                }
            }
        }
    }
}

#[test]
fn without_key_identifiers_generations_are_tried_as_far_as_the_bound_allows() {
    for (make, admitted) in [(p256 as fn() -> Authority, true), (p384, false)] {
        let roots = Rekeyed::of(make);
        let issuing = make();
        let [old, new] = roots.generations([&issuing, &issuing], false);
        let client = client_of(&issuing, false);
        let (identity, scope) = policy(policies(&[&roots.new]).remove(0));
        let result = |chain: [CertificateDer<'_>; 3]| judge(&identity, &scope, &chain).result.is_ok();
        assert_eq!(result([client.clone(), old.clone(), new.clone()]), admitted);
        assert!(result([client.clone(), new, old]));
    }
}

#[test]
fn an_issuer_with_the_name_of_its_own_issuer_is_found_by_the_key_identifier() {
    for make in [p384, p256] {
        let roots = Rekeyed::of(make);
        let issuing = make();
        // The new root, certified by the old one, and below it the intermediate and then the end entity.
        let rollover = Template::new(roots.new.subject.clone())
            .with(authority_extension(None))
            .with(subject_key(&roots.new.key_identifier()))
            .with(authority_key(&roots.old.key_identifier()));
        let rollover = roots.new.certified_by(&rollover, &roots.old.subject, &roots.old);
        let [_, intermediate] = roots.generations([&issuing, &issuing], true);
        let (identity, scope) = policy(policies(&[&roots.old]).remove(0));
        let below = Template::client("sender").with(authority_key(&roots.new.key_identifier()));
        for (chain, depth) in [
            (vec![roots.new.issue(&below), rollover.clone()], 1),
            (vec![client_of(&issuing, true), intermediate.clone(), rollover.clone()], 2),
            (vec![client_of(&issuing, true), rollover, roots.old.certificate.clone(), intermediate], 2),
        ] {
            let admitted = judge(&identity, &scope, &chain);
            assert_eq!(admitted.work.failed_checks, 0);
            assert_eq!(admitted.result.unwrap().matches()[0].trust_anchor_depth, depth);
        }
    }
}

#[test]
fn a_key_identifier_that_speaks_against_the_right_key_rules_nothing_out() {
    let roots = Rekeyed::of(p256);
    let (issuing, stranger) = (p256(), p256());
    let wrong = Template::new(common_name("issuing")).with(authority_extension(None));
    let wrong = wrong.with(subject_key(&[7; 20])).with(authority_key(&[9; 20]));
    let chain = [
        client_of(&issuing, true),
        stranger.certified_by(&wrong, &roots.new.subject, &roots.new),
        issuing.certified_by(&wrong, &roots.new.subject, &roots.new),
    ];
    let (identity, scope) = policy(policies(&[&roots.new]).remove(0));
    let admitted = judge(&identity, &scope, &chain);
    assert_eq!((admitted.work.signature_checks, admitted.work.failed_checks), (4, 1));
    assert!(admitted.result.is_ok());
}

#[test]
fn key_identifiers_do_not_raise_what_a_self_made_chain_costs() {
    let root = preset_root("GTS_Root_R4");
    let impostor = impostor_of(&root);
    for identifier in [vec![1; 20], impostor.key_identifier()] {
        let client = dialogflow_client().with(authority_key(&identifier));
        let template = Template::new(impostor.subject.clone()).with(authority_extension(None));
        let template = template.with(subject_key(&identifier)).with(authority_key(&[2; 20]));
        let mut chain = vec![impostor.issue(&client)];
        chain.extend((0..7).map(|_| impostor.intermediate_by(template.clone()).certificate));
        let (identity, scope) = policy((0..100).map(|_| dialogflow()).collect());
        let work = refused(&identity, &scope, &chain, Reject::BadSignature);
        assert_eq!((work.signature_checks, work.failed_checks), (1, 1));
    }
}

#[test]
fn every_trust_anchor_of_one_name_may_be_tried() {
    let roots: Vec<_> = (0..5).map(|_| Authority::p384_root(common_name("root"))).collect();
    let all =
        Profile { trust_anchors: unrestricted(roots.iter().map(Authority::anchor)), ..profile(&roots[0], "sender") };
    let (identity, scope) = policy(vec![provider("sender", vec![all.clone()])]);
    let check = |client: Template, failed: usize| {
        let admitted = judge(&identity, &scope, &[roots[4].issue(&client)]);
        assert!(admitted.result.is_ok());
        assert_eq!((admitted.work.signature_checks, admitted.work.failed_checks), (failed + 1, failed));
    };
    check(Template::client("sender"), 4);
    let named = |template: Template| template.with(authority_key(&roots[4].key_identifier()));
    check(named(Template::client("sender")), 0);
    // Below an intermediate as well.
    let issuing = Template::new(common_name("issuing")).with(authority_extension(None));
    let issuing = roots[4].intermediate_by(named(issuing));
    let chain = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let admitted = judge(&identity, &scope, &chain);
    assert!(admitted.result.is_ok());
    assert_eq!((admitted.work.signature_checks, admitted.work.failed_checks), (2, 0));

    // A forged certificate costs one round of the keys, and so do many.
    let impostor = Authority::p384_root(common_name("root"));
    let mut chain = vec![impostor.issue(&Template::client("sender"))];
    chain.extend(namesakes(7, &impostor.subject, &impostor));
    let (identity, scope) = policy((0..9).map(|_| provider("sender", vec![all.clone()])).collect());
    assert_eq!(refused(&identity, &scope, &chain, Reject::BadSignature).failed_checks, 5);
}

#[test]
fn the_signatures_of_lists_count_as_well() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let chain = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let foreign = || Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY);
    let listed = |lists: &RevocationLists| Profile { revocation: Some(lists.clone()), ..profile(&root, "sender") };
    // One list for all profiles is checked once.
    let shared = RevocationLists::new(vec![foreign()], RevocationScope::EndEntity);
    let (identity, scope) = policy((0..20).map(|_| provider("sender", vec![listed(&shared)])).collect());
    assert_eq!(judge(&identity, &scope, &chain).work.failed_checks, 1);
    // A list that the key of an issuer did not sign is hashed for the first client alone.
    let other = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let verification = judge(&identity, &scope, &other);
    assert_eq!(verification.result.unwrap_err().refusal.reject, Reject::RevocationUnknown);
    assert_eq!((verification.work.failed_checks, verification.work.failed_cost), (0, 0));
    // Of a list for each profile, only some are.
    let (identity, scope) = policy(
        (0..20)
            .map(|_| listed(&RevocationLists::new(vec![foreign()], RevocationScope::EndEntity)))
            .map(|listed| provider("sender", vec![listed]))
            .collect(),
    );
    let verification = judge(&identity, &scope, &chain);
    assert_eq!(verification.result.unwrap_err().refusal.reject, Reject::RevocationUnknown);
    assert_eq!(verification.work.failed_checks, CHEAP_FAILURES);
}

#[test]
fn paths_without_a_signature_to_check_are_bounded_by_their_steps() {
    let root = Authority::root("root");
    let tangled = Authority::root("tangled");
    let expired = Template::new(tangled.subject.clone()).with(authority_extension(None)).between(NOW - 2, NOW - 1);
    let no_authority = Template::new(tangled.subject.clone());
    for top in [expired, no_authority] {
        let mut chain = vec![tangled.issue(&Template::client("sender"))];
        chain.extend(namesakes(6, &tangled.subject, &tangled));
        chain.push(root.intermediate_by(top).certificate);
        for providers in [1, 8, 50] {
            let provider = |_| provider("sender", vec![profile(&root, "sender")]);
            let (identity, scope) = policy((0..providers).map(provider).collect());
            let work = refused(&identity, &scope, &chain, Reject::ChainTooLarge);
            assert_eq!(work.signature_checks, 0);
            assert!((STEPS / 2..STEPS).contains(&work.steps), "{work:?}");
        }
    }
}

#[test]
fn the_elements_of_a_chain_are_bounded() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let (identity, scope) = policy(vec![provider("sender", vec![profile(&root, "sender")])]);
    let check = |names: usize| {
        let names: Vec<_> = (0..names).map(|number| dns(&format!("{number:x}.ab"))).collect();
        let leaf = issuing.issue(&Template::client("sender").with(alternative_names(&names)));
        judge(&identity, &scope, &[leaf, issuing.certificate.clone()]).result
    };
    assert!(check(900).is_ok());
    let refusal = check(1000).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::ChainTooLarge, "{refusal}");
    assert!(refusal.detail().contains("more than 1024 DER elements"), "{refusal}");
}

/// One certificate of a generated chain. Numbers are places in [`NAMES`] and [`Universe`].
#[derive(Clone, Debug)]
struct Generated {
    subject: usize,
    key: usize,
    issuer: usize,
    signer: usize,
    authority: bool,
    expired: bool,
    /// Whether it names its key and that of its signer.
    identified: bool,
}

/// The first two are names of trust anchors.
const NAMES: [&str; 4] = ["root", "other", "x", "y"];

/// The key that most authorities of each name have.
const KEY_OF: [usize; 4] = [0, 4, 1, 2];

const KEYS: usize = 6;

/// The first key on P-384.
const FIRST_P384: usize = 4;

prop_compose! {
    fn generated()(
        subject in 0..NAMES.len(),
        key in prop::option::weighted(0.3, 0..KEYS),
        issuer in 0..NAMES.len(),
        signer in prop::option::weighted(0.3, 0..KEYS),
        authority in prop::bool::weighted(0.9),
        expired in prop::bool::weighted(0.1),
        identified in any::<bool>(),
    ) -> Generated {
        let (key, signer) = (key.unwrap_or(KEY_OF[subject]), signer.unwrap_or(KEY_OF[issuer]));
        Generated { subject, key, issuer, signer, authority, expired, identified }
    }
}

prop_compose! {
    /// The name and the key of a trust anchor.
    fn anchor()(name in 0..2_usize, key in prop::option::weighted(0.4, 0..KEYS)) -> (usize, usize) {
        (name, key.unwrap_or(KEY_OF[name]))
    }
}

/// What failed checks may cost in a policy with these anchors before no further one starts.
fn failed_cost_of(anchors: &[(usize, usize)]) -> u32 {
    let of_name = |name: usize| {
        let keys: BTreeSet<usize> = anchors.iter().filter(|anchor| anchor.0 == name).map(|anchor| anchor.1).collect();
        let cost = keys.iter().map(|key| if *key < FIRST_P384 { 60 } else { 740 }).sum();
        if keys.len() > 1 { cost } else { 0 }
    };
    of_name(0).max(of_name(1)).max(240)
}

/// The keys of all generated certificates: as authorities without a name of their own.
struct Universe(Vec<Authority>);

impl Universe {
    fn new() -> Self {
        let cheap = (0..FIRST_P384).map(|_| Authority::root("-"));
        Self(cheap.chain((FIRST_P384..KEYS).map(|_| Authority::p384_root(common_name("-")))).collect())
    }

    fn make(&self, wanted: &Generated, common: Option<&str>) -> CertificateDer<'static> {
        self.make_spelled(wanted, common, [false, false])
    }

    /// With subject and issuer in another spelling, if `respelled` says so.
    fn make_spelled(&self, wanted: &Generated, common: Option<&str>, respelled: [bool; 2]) -> CertificateDer<'static> {
        let spelled = |place: usize, respelled: bool| match respelled {
            false => common_name(NAMES[place]),
            true => name(&[&[("2.5.4.3", PRINTABLE_STRING, format!(" {}", NAMES[place].to_uppercase()).as_bytes())]]),
        };
        let mut template = match common {
            Some(common) => Template::client(common),
            None => Template::new(spelled(wanted.subject, respelled[0])),
        };
        if wanted.authority && common.is_none() {
            template = template.with(authority_extension(None));
        }
        if wanted.identified {
            template = template
                .with(subject_key(&self.0[wanted.key].key_identifier()))
                .with(authority_key(&self.0[wanted.signer].key_identifier()));
        }
        if wanted.expired {
            template = template.between(NOW - 2, NOW - 1);
        }
        self.0[wanted.key].certified_by(&template, &spelled(wanted.issuer, respelled[1]), &self.0[wanted.signer])
    }

    /// The anchor with this name and key.
    fn anchor(&self, name: usize, key: usize, respelled: bool) -> TrustAnchor<'static> {
        let own = Generated { subject: name, key, issuer: name, signer: key, ..GOOD };
        let certificate = self.make_spelled(&own, None, [respelled, false]);
        anchor_from_trusted_cert(&certificate).unwrap().to_owned()
    }
}

const GOOD: Generated =
    Generated { subject: 0, key: 0, issuer: 0, signer: 0, authority: true, expired: false, identified: false };

/// Whether webpki alone, without bounds of ours, finds a path. Its own bounds are too high to be reached by these chains' paths.
fn has_path(profile: &Profile, chain: &[CertificateDer<'_>]) -> Result<bool, webpki::Error> {
    let end_entity = webpki::EndEntityCert::try_from(&chain[0])?;
    let found = end_entity.verify_for_usage(
        CERTIFICATE_SIGNATURES,
        &profile.trust_anchors,
        &chain[1..],
        at(NOW),
        webpki::KeyUsage::client_auth(),
        None,
        None,
    );
    match found {
        Ok(_) => Ok(true),
        Err(error @ (webpki::Error::MaximumSignatureChecksExceeded | webpki::Error::MaximumPathBuildCallsExceeded)) => {
            Err(error)
        }
        Err(_) => Ok(false),
    }
}

/// Whether the search ended at one of its bounds.
fn ended_early(refusal: &ChainRefusal) -> bool {
    refusal.refusal.reject == Reject::ChainTooLarge || refusal.refusal.detail().contains("Too many signatures failed")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cost_of_any_chain_is_bounded_and_its_verdict_is_that_of_webpki(
        leaf in generated(),
        others in prop::collection::vec(generated(), 0..=7),
        anchors in prop::collection::vec(anchor(), 1..=4),
        profiles in 1..=12_usize,
    ) {
        thread_local! {
            static UNIVERSE: Universe = Universe::new();
        }
        UNIVERSE.with(|universe| {
            let mut chain = vec![universe.make(&leaf, Some("sender"))];
            chain.extend(others.iter().map(|other| universe.make(other, None)));
            let trust_anchors = unrestricted(anchors.iter().map(|(name, key)| universe.anchor(*name, *key, false)));
            let one = Profile { trust_anchors, ..profile(&universe.0[0], "sender") };
            let (identity, scope) = policy((0..profiles).map(|_| provider("sender", vec![one.clone()])).collect());
            let Verification { result, work, .. } = judge(&identity, &scope, &chain);

            let failed_cost = failed_cost_of(&anchors);
            // The last check that starts may be one by P-384.
            prop_assert!(work.failed_cost < failed_cost + 740, "{:?}", work);
            prop_assert!(work.failed_checks <= usize::try_from(failed_cost.div_ceil(60)).unwrap(), "{:?}", work);
            prop_assert!(work.signature_checks <= work.failed_checks + chain.len(), "{:?}", work);
            prop_assert!(work.steps < STEPS, "{:?}", work);
            match (has_path(&one, &chain), &result) {
                (Ok(found), Ok(_)) => prop_assert!(found),
                (Ok(found), Err(refusal)) => prop_assert!(!found || ended_early(refusal), "{}", refusal.refusal),
                (Err(_), Ok(_)) => {}
                (Err(_), Err(refusal)) => prop_assert!(ended_early(refusal), "{}", refusal.refusal),
            }
            // Every provider is proven, or none.
            if let Ok(verified) = result {
                prop_assert_eq!(verified.matches().len(), profiles);
                prop_assert_eq!(verified.matches()[profiles - 1].provider, ProviderId(u16::try_from(profiles - 1).unwrap()));
            }
            Ok(())
        })?;
    }

    #[test]
    fn the_spelling_of_names_changes_neither_the_verdict_nor_its_cost(
        leaf in generated(),
        others in prop::collection::vec(generated(), 0..=7),
        anchors in prop::collection::vec(anchor(), 1..=4),
        spellings in prop::collection::vec(any::<[bool; 2]>(), 12),
    ) {
        thread_local! {
            static UNIVERSE: Universe = Universe::new();
        }
        UNIVERSE.with(|universe| {
            let judged = |spellings: &[[bool; 2]]| {
                let mut chain = vec![universe.make_spelled(&leaf, Some("sender"), spellings[0])];
                let made = others.iter().zip(&spellings[1..]);
                chain.extend(made.map(|(other, spelling)| universe.make_spelled(other, None, *spelling)));
                let made = anchors.iter().zip(&spellings[8..]);
                let trust_anchors = unrestricted(made.map(|((name, key), spelling)| universe.anchor(*name, *key, spelling[0])));
                let one = Profile { trust_anchors, ..profile(&universe.0[0], "sender") };
                let (identity, scope) = policy(vec![provider("sender", vec![one.clone()]), provider("sender", vec![one])]);
                let Verification { result, work, .. } = judge(&identity, &scope, &chain);
                let verdict = result.map(|verified| verified.matches().iter().map(|found| (found.trust_anchor, found.trust_anchor_depth)).collect::<Vec<_>>());
                (verdict.map_err(|refusal| refusal.refusal.reject), work)
            };
            prop_assert_eq!(judged(&[[false, false]; 12]), judged(&spellings));
            Ok(())
        })?;
    }
}

#[test]
fn of_too_many_failed_signatures_the_first_that_failed_is_named() {
    let root = Authority::root("root");
    let template = || Template::new(common_name("issuing")).with(authority_extension(None));
    // Two genuine authorities of one name with costly keys, and an end entity that neither signed.
    let expensive = || Authority::p384_root(common_name("issuing"));
    let certified = |authority: &Authority| authority.certified_by(&template(), &root.subject, &root);
    let (first, second, impostor) = (expensive(), expensive(), expensive());
    let chain = [impostor.issue(&Template::client("sender")), certified(&first), certified(&second)];
    let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::BadSignature);
    assert!(refusal.detail().contains("Certificate 1 of 3"), "{refusal}");
    assert!(refusal.detail().contains("Too many signatures failed"), "{refusal}");
}
