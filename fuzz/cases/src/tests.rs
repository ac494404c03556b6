//! The cases reach both verdicts: an input that is never admitted would prove little.

use std::fs;
use std::path::Path;

use hookgate_core::auth::KeySet;
use hookgate_core::identity::PeerChain;

use crate::policy::{CERTIFICATES, GENUINE, ISSUING, NAMESAKE, NOW, POLICIES, REVOKED, ROOT, scope};
use crate::{fields, memory, token};

#[test]
fn genuine_chains_are_admitted_and_a_revoked_one_only_without_a_list() {
    let is_admitted = |policy: usize, end_entity: usize, issuer: usize| {
        let chain = [CERTIFICATES[end_entity].clone(), CERTIFICATES[issuer].clone()];
        POLICIES[policy].verify(&scope(), PeerChain::unsafe_assumed(&chain), NOW).result.is_ok()
    };
    for (end_entity, issuer) in GENUINE.into_iter().zip([ISSUING, ISSUING, ROOT, NAMESAKE]) {
        let admitted = [0, 1, 2].map(|policy| is_admitted(policy, end_entity, issuer));
        let below_first_root = issuer != NAMESAKE;
        // A revocation list of the intermediate says nothing about an end entity of the root.
        assert_eq!(admitted, [below_first_root, true, issuer == ISSUING], "certificate {end_entity}");
    }
    assert_eq!([0, 1, 2].map(|policy| is_admitted(policy, REVOKED, ISSUING)), [true, true, false]);
}

#[test]
fn a_good_token_passes_with_the_keys_of_its_issuer() {
    let keys = KeySet::parse(include_bytes!("../keys.json")).expect("a key set");
    assert!(token::passes_with(keys));
}

#[test]
fn some_configurations_of_the_corpus_are_good() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus/configuration");
    let files = fs::read_dir(corpus).expect("the corpus").map(|entry| entry.expect("a readable directory").path());
    let texts = files.map(|path| fs::read_to_string(path).unwrap_or_default());
    let outcomes: Vec<_> = texts.map(|text| memory::parse(&text, b"").map_err(|errors| errors.to_string())).collect();
    let good = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(good >= 2, "{good} of {}: {outcomes:?}", outcomes.len());
}

#[test]
fn signatures_of_the_fields_pass_in_both_forms() {
    for header in [&br#"{"alg":"EdDSA"}"#[..], br#"{"alg":"EdDSA","b64":false,"crit":["b64"]}"#] {
        assert!(fields::passes_under(header, b"{}"), "{}", header.escape_ascii());
    }
    assert!(!fields::passes_under(br#"{"alg":"ES256"}"#, b"{}"));
}
