//! How often a refusal reads the parts of a chain, whatever a stranger makes of it, and how few of them are checked with an expensive key.

use std::collections::BTreeSet;

use rustls_pki_types::CertificateDer;

use super::cost::{dialogflow, dialogflow_client, impostor_of, namesakes, preset_root};
use super::fixture::*;
use crate::identity::bounds::{Bounds, EXPENSIVE_COST, FAILED_COST, READING_COST};
use crate::identity::effort::{Effort, effort_of};
use crate::identity::presented::PresentedChain;
use crate::identity::{PeerChain, Provider, Verification, Work, elements, verdict};
use crate::reject::Reject;
use crate::signatures::P384_CHECK;

/// Most DER elements of a chain, under [`LIMITS`].
const ELEMENTS: usize = 8 * 128;

type Chain = Vec<CertificateDer<'static>>;

/// A name of so many relative names, each with a text of its own.
fn long_name(count: usize, tag: u8, text: &str) -> Vec<u8> {
    let relative = |number: usize| {
        let text = format!("{text}{number:x}");
        tlv(0x31, &[&tlv(0x30, &[&oid("2.5.4.11"), &tlv(tag, &[text.as_bytes()])])])
    };
    tlv(0x30, &[&(0..count).map(relative).collect::<Vec<_>>().concat()])
}

/// A client of Dialogflow with so many other names.
fn client_with(names: usize) -> Template {
    let others = (0..names).map(|number| dns(&format!("{number:x}.ab")));
    Template::client("-")
        .with(alternative_names(&std::iter::once(dns("*.dialogflow.com")).chain(others).collect::<Vec<_>>()))
}

/// Extensions that are not known, each with so many elements.
fn unknown_extensions(count: usize, elements: usize) -> impl Iterator<Item = Vec<u8>> {
    let value = tlv(0x30, &[&[0x05, 0x00].repeat(elements)]);
    (0..count).map(move |number| extension(&format!("1.2.3.{number}"), false, &value))
}

fn authority(subject: &[u8]) -> Template {
    Template::new(subject.to_vec()).with(authority_extension(None))
}

fn with_all(template: Template, extensions: impl Iterator<Item = Vec<u8>>) -> Template {
    extensions.fold(template, Template::with)
}

/// Chains below an authority that calls itself as a trust anchor does, each within the limits.
fn crafted(impostor: &Authority) -> Vec<(&'static str, Chain)> {
    let client = impostor.issue(&dialogflow_client());
    let below = |template: Template| impostor.intermediate_by(template).certificate;
    let with = |issuers: Chain| [vec![client.clone()], issuers].concat();
    let seven = |make: &dyn Fn(usize) -> Template| with((0..7).map(|number| below(make(number))).collect());
    let subject = impostor.subject.as_slice();
    let shouted = impostor.renamed(subject.iter().map(u8::to_ascii_uppercase).collect());
    let directory = |count: usize| {
        let subtree = |number: usize| tlv(0x30, &[&tlv(0xa4, &[&long_name(1, UTF8_STRING, &number.to_string())])]);
        let subtrees = (0..count).map(subtree).collect::<Vec<_>>().concat();
        extension("2.5.29.30", true, &tlv(0x30, &[&tlv(0xa1, &[&subtrees])]))
    };
    let ladder = |tag: u8| {
        let names: Vec<_> = (0..6).map(|rung| long_name(20, tag, &format!("{rung}\u{e9}"))).collect();
        let rung = |rung: usize| {
            let issuer = names.get(rung + 1).map_or(subject, Vec::as_slice);
            impostor.certified_by(&authority(&names[rung]), issuer, impostor)
        };
        let client = impostor.certified_by(&dialogflow_client(), &names[0], impostor);
        [vec![client], (0..6).map(rung).collect()].concat()
    };
    let tangled = Authority::root("tangled");
    let expired = authority(&tangled.subject).between(NOW - 2, NOW - 1);
    let purposes: Vec<String> = (0..90).map(|number| format!("1.2.3.{number}")).collect();
    let purposes: Vec<&str> = purposes.iter().map(String::as_str).collect();
    let blob = |bytes: usize| extension("1.2.3.4", false, &tlv(0x04, &[&vec![0xff; bytes]]));
    let named = |key: u8| authority(subject).with(subject_key(&[key; 20])).with(authority_key(&[key + 1; 20]));
    vec![
        ("alone", vec![client.clone()]),
        ("many authorities", with(namesakes(7, subject, impostor))),
        ("a hundred names", vec![impostor.issue(&client_with(100)), below(authority(subject))]),
        ("many names", vec![impostor.issue(&client_with(900))]),
        ("too many names", vec![impostor.issue(&client_with(1100))]),
        (
            "an authority with many names",
            with(vec![below(with_all(client_with(850), [authority_extension(None)].into_iter()))]),
        ),
        (
            "a long subject",
            vec![impostor.issue(&Template { subject: long_name(200, UTF8_STRING, ""), ..client_with(0) })],
        ),
        ("long names of authorities", ladder(PRINTABLE_STRING)),
        ("long names to fold", ladder(UTF8_STRING)),
        (
            "another spelling",
            [vec![shouted.issue(&client_with(200))], namesakes(6, &shouted.subject, impostor)].concat(),
        ),
        ("many extensions", vec![impostor.issue(&with_all(client_with(0), unknown_extensions(180, 1)))]),
        ("authorities with many extensions", seven(&|_| with_all(authority(subject), unknown_extensions(15, 1)))),
        ("many constraints", with(vec![below(authority(subject).with(directory(120)))])),
        (
            "self-issued authorities",
            seven(&|number| authority(subject).with(alternative_names(&vec![dns("a"); 60 + number]))),
        ),
        (
            "tangled and expired",
            [vec![tangled.issue(&dialogflow_client())], namesakes(6, &tangled.subject, &tangled), vec![below(expired)]]
                .concat(),
        ),
        ("key identifiers", seven(&|number| named(u8::try_from(number).unwrap()))),
        ("one key identifier", seven(&|_| named(1))),
        ("many purposes", seven(&|_| authority(subject).with(extended_key_usage(&purposes)))),
        ("expired a while ago", vec![impostor.issue(&client_with(300).between(NOW - 2 * DAY, NOW - 60))]),
        ("long without elements", vec![impostor.issue(&client_with(0).with(blob(30_000)))]),
        ("authorities that are long without elements", seven(&|_| authority(subject).with(blob(4_000)))),
        (
            "no name of a sender",
            [vec![impostor.issue(&Template::client("stranger"))], namesakes(7, subject, impostor)].concat(),
        ),
    ]
}

/// Anchors with keys of three kinds, and impostors of each.
fn impostors() -> Vec<(&'static str, Authority)> {
    // The key of an impostor is made up; the check costs what the key of the anchor does.
    let rsa = Authority::root_named(tlv(0x30, &[&preset_root("GTS_Root_R1").subject]));
    let p256 = Authority::root_named(common_name("cheap"));
    vec![("RSA", rsa), ("P-256", p256), ("P-384", impostor_of(&preset_root("GTS_Root_R4")))]
}

/// So many providers as Dialogflow, and one with a cheap anchor, whose rule is the same.
fn providers(count: usize) -> Vec<Provider> {
    let mut providers = vec![dialogflow(); count];
    let mut cheap = profile(&Authority::root("cheap"), "-");
    cheap.identity = providers[0].profiles[0].identity.clone();
    providers.push(provider("cheap", vec![cheap]));
    providers
}

fn judged(count: usize, chain: &[CertificateDer<'_>]) -> (Reject, Work, Effort) {
    let (identity, scope) = policy(providers(count));
    let (Verification { result, work, .. }, effort) =
        effort_of(|| identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(NOW)));
    (result.unwrap_err().refusal.reject, work, effort)
}

#[test]
fn whatever_a_chain_consists_of_its_refusal_reads_it_a_few_times() {
    for (key, impostor) in impostors() {
        for (kind, chain) in crafted(&impostor) {
            let all: usize = chain.iter().map(|certificate| elements::count(certificate, usize::MAX)).sum();
            let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
            assert!(chain.len() <= LIMITS.max_certificates && bytes <= LIMITS.max_bytes, "{kind}: {bytes} bytes");
            let presented = PresentedChain::new(&chain);
            let names =
                presented.certificates().iter().flat_map(|certificate| [certificate.issuer(), certificate.subject()]);
            let names: usize = names.collect::<BTreeSet<_>>().into_iter().map(<[u8]>::len).sum();
            for count in [1, 8, 60] {
                let (reject, work, effort) = judged(count, &chain);
                let seen =
                    format!("{kind}, {key}, {count} providers, {all} elements: {reject:?}, {work:?}, {effort:?}");
                if all > ELEMENTS {
                    assert_eq!((reject, work, effort.parsed), (Reject::ChainTooLarge, Work::default(), 0), "{seen}");
                    continue;
                }
                // Once as presented, and once respelled.
                assert!(effort.parsed <= 2 * chain.len(), "{seen}");
                // Once, and once more for the wording if it is malformed.
                assert!(effort.understood <= chain.len() + 1, "{seen}");
                assert!(effort.folded <= names, "{seen}");
                assert!(effort.elements <= 8 * all + 64 * chain.len(), "{seen}");
                // Four comparisons with all, and a table, of names and of what is below a label.
                assert!(effort.compared <= 10 * all, "{seen}");
                assert!(work.steps <= 9 * ELEMENTS, "{seen}");
            }
        }
    }
}

#[test]
fn a_long_chain_is_not_checked_with_an_expensive_key() {
    for (key, impostor) in impostors() {
        for (kind, chain) in crafted(&impostor) {
            for count in [1, 8] {
                let reading = verdict::reading_cost_of(&chain, Bounds::new(&LIMITS, &providers(count)));
                let (reject, work, _) = judged(count, &chain);
                let seen = format!("{kind}, {key}, {count} providers, reading {reading}: {reject:?}, {work:?}");
                let is_long = reading > READING_COST;
                match key {
                    "P-384" if is_long => {
                        assert_eq!((reject, work.failed_checks), (Reject::ChainTooLarge, 0), "{seen}");
                    }
                    "P-384" => assert!(work.failed_cost <= EXPENSIVE_COST && work.failed_checks <= 2, "{seen}"),
                    // The hash of a long certificate counts too.
                    _ => assert!(work.failed_cost <= FAILED_COST + P384_CHECK / 4, "{seen}"),
                }
            }
        }
    }
}

#[test]
fn a_genuine_chain_of_usual_length_is_checked_with_an_expensive_key() {
    let root = Authority::p384_root(common_name("root"));
    let (policy_ca, issuing) = (root.intermediate("policy"), Authority::p384_root(common_name("issuing")));
    let names = |count: usize| {
        alternative_names(&(0..count).map(|number| dns(&format!("host{number}.example.com"))).collect::<Vec<_>>())
    };
    let blob = |id: &str| extension(id, false, &tlv(0x04, &[&[0xff; 3500]]));
    // Four certificates of 16 KiB, and a hundred names.
    let certified = |template: Template, signer: &Authority| issuing.certified_by(&template, &signer.subject, signer);
    let issuer = certified(authority(&issuing.subject).with(blob("1.2.3.4")).with(blob("1.2.3.5")), &policy_ca);
    let leaf = issuing.issue(&Template::client("sender").with(names(100)).with(blob("1.2.3.4")));
    let chain = [leaf, issuer, policy_ca.certificate.clone(), root.certificate.clone()];
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    assert!((12_000..16_384).contains(&bytes), "{bytes}");
    let admitted = verify(profile(&root, "sender"), &chain);
    assert!(admitted.is_ok(), "{}", admitted.unwrap_err().refusal);

    // A longer one only below an authority that is known.
    let long = issuing.issue(&Template::client("sender").with(names(800)));
    let long = [long, certified(authority(&issuing.subject), &root)];
    let refused = verify(profile(&root, "sender"), &long).unwrap_err().refusal;
    assert_eq!(refused.reject, Reject::ChainTooLarge, "{refused}");
    assert!(refused.detail().contains("expensive to verify with"), "{refused}");
}
