//! The counts of admitted chains.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fixture::*;
use crate::identity::{ChainCache, Identity, PeerChain, Sightings, trust_anchor_label};

/// The name, admissions and last admission of every chain.
fn counts(identity: &Identity) -> Vec<(String, u64, u64)> {
    let sightings = identity.sightings().chains();
    let text =
        |names: [&Arc<str>; 3]| names.map(|name| name.split(" (").next().unwrap_or_default().to_owned()).join("/");
    sightings
        .map(|chain| {
            (text([&chain.provider, &chain.profile, &chain.trust_anchor]), chain.admitted(), chain.last_seen())
        })
        .collect()
}

#[test]
fn a_chain_counts_for_each_provider_that_it_proves_and_only_for_its_trust_anchor() {
    let (root, other) = (Authority::root("Root"), Authority::root("Other Root"));
    let chain = [root.issue(&Template::client("sender").between(NOW - DAY, NOW + 7 * DAY))];
    let both = || {
        let mut profile = profile(&other, "sender");
        profile.trust_anchors.push(root.anchor());
        profile.trust_anchor_uses = unrestricted(2);
        profile
    };
    let providers = || vec![provider("a", vec![profile(&other, "sender"), both()]), provider("b", vec![both()])];
    let cache = Arc::new(ChainCache::new(8, Duration::from_secs(60)));
    let (identity, scope) = cached_policy(1, providers(), &cache);
    let admit = |identity: &Identity, now| {
        let verified = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(now)).result.unwrap();
        identity.note_admitted(&verified, at(now));
    };
    admit(&identity, NOW);
    admit(&identity, NOW + 5);
    let row = |text: &str, admitted, seen| (text.to_owned(), admitted, seen);
    let (a, b) = (row("a/default/Root", 2, NOW + 5), row("b/default/Root", 2, NOW + 5));
    let none = |provider: &str| row(&format!("{provider}/default/Other Root"), 0, 0);
    assert_eq!(counts(&identity), [none("a"), none("a"), a.clone(), none("b"), b.clone()]);
    assert!(identity.sightings().certificates().all(|seen| seen.last_not_after() == NOW + 7 * DAY));

    // The next policy continues the counts of this one, except for what it does not contain.
    let (next, _) = cached_policy(2, vec![provider("b", vec![both()]), provider("c", vec![both()])], &cache);
    let next = next.after(identity.sightings());
    assert_eq!(counts(&next), [none("b"), b, none("c"), row("c/default/Root", 0, 0)]);
    let last: Vec<u64> = next.sightings().certificates().map(|seen| seen.last_not_after()).collect();
    assert_eq!(last, [NOW + 7 * DAY, 0]);
    let (again, _) = cached_policy(3, providers(), &cache);
    assert_eq!(
        counts(&again.after(next.sightings()))[2],
        row("a/default/Root", 0, 0),
        "a removed provider starts again at 0"
    );
}

#[test]
fn a_chain_of_another_policy_is_not_counted() {
    let root = Authority::root("Root");
    let chain = [root.issue(&Template::client("sender"))];
    let (identity, scope) = policy(vec![provider("a", vec![profile(&root, "sender")])]);
    let verified = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).result.unwrap();
    let cache = Arc::new(ChainCache::new(0, Duration::ZERO));
    let (other, _) = cached_policy(2, vec![provider("b", vec![profile(&root, "sender")])], &cache);
    other.note_admitted(&verified, at(NOW));
    assert_eq!(counts(&other)[0].1, 0);
    assert!(Sightings::default().chains().next().is_none());
}

/// The digests come from `openssl x509 -pubkey -noout | openssl pkey -pubin -outform der | sha256sum`, for keys whose DER length
/// takes one byte (P-384) or several (RSA).
#[test]
fn the_label_of_a_trust_anchor_has_its_name_and_key() {
    let check = |file: &str, expected: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../presets/roots").join(file);
        let certificate = CertificateDer::from_pem_file(path).unwrap();
        assert_eq!(trust_anchor_label(&webpki::anchor_from_trusted_cert(&certificate).unwrap()), expected);
    };
    check("GTS_Root_R1.pem", "GTS Root R1 (871a9194)");
    check("GTS_Root_R4.pem", "GTS Root R4 (9847e565)");
    check("DigiCert_Global_Root_CA.pem", "DigiCert Global Root CA (aff98890)");
}
