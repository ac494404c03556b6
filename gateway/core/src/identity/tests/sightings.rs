//! The counts of admitted chains.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fixture::*;
use crate::identity::{
    ChainCache, ConfiguredAnchor, ExtendedKeyUsage, Identity, PeerChain, Profile, ProviderId, Sightings,
    trust_anchor_label,
};

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
        profile.trust_anchors.push(ConfiguredAnchor::of(&root.certificate, NOW + DAY).unwrap());
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

#[test]
fn chains_that_a_stricter_rule_would_refuse_are_told() {
    let root = Authority::root("Root");
    let with = |rule| Profile { extended_key_usage: rule, ..profile(&root, "sender") };
    let lenient = [root.issue(&Template::new(common_name("sender")).between(NOW - DAY, NOW + 9 * DAY))];
    let strict = [root.issue(&Template::client("sender").between(NOW - DAY, NOW + 7 * DAY))];
    let policy_of = |generation, rule| {
        let cache = Arc::new(ChainCache::new(0, Duration::ZERO));
        let providers = vec![provider("a", vec![profile(&root, "other")]), provider("b", vec![with(rule)])];
        cached_policy(generation, providers, &cache)
    };
    let (identity, scope) = policy_of(1, ExtendedKeyUsage::ClientAuth);
    let admit = |chain: &[CertificateDer<'_>], now| {
        let verified = identity.verify(&scope, PeerChain::unsafe_assumed(chain), at(now)).result.unwrap();
        identity.note_admitted(&verified, at(now));
    };
    let seen = |identity: &Identity| -> Vec<(u64, u64, ExtendedKeyUsage)> {
        let chains = identity.sightings().chains_of(ProviderId(1), 0);
        chains.map(|chain| (chain.admitted(), chain.last_lenient(), chain.rule())).collect()
    };
    admit(&strict, NOW);
    assert_eq!(seen(&identity), [(1, 0, ExtendedKeyUsage::ClientAuth)]);
    admit(&lenient, NOW + 3);
    admit(&strict, NOW + 5);
    assert_eq!(seen(&identity), [(3, NOW + 3, ExtendedKeyUsage::ClientAuth)]);
    let other: Vec<u64> = identity.sightings().chains_of(ProviderId(0), 0).map(|chain| chain.admitted()).collect();
    assert_eq!(other, [0]);
    assert_eq!(identity.sightings().chains_of(ProviderId(1), 1).count(), 0);
    assert_eq!(identity.sightings().chains_of(ProviderId(2), 0).count(), 0);
    let certificates = identity.sightings().certificates().map(|seen| (seen.last_not_after(), seen.latest_not_after()));
    assert_eq!(certificates.collect::<Vec<_>>(), [(0, 0), (NOW + 7 * DAY, NOW + 9 * DAY)]);

    // Under the same rule, the counts go on. Under another one, other chains are lenient.
    let (same, _) = policy_of(2, ExtendedKeyUsage::ClientAuth);
    assert_eq!(seen(&same.after(identity.sightings())), [(3, NOW + 3, ExtendedKeyUsage::ClientAuth)]);
    let (ignoring, _) = policy_of(3, ExtendedKeyUsage::Ignore);
    assert_eq!(seen(&ignoring.after(identity.sightings())), [(3, 0, ExtendedKeyUsage::Ignore)]);
}

#[test]
fn the_label_of_a_trust_anchor_is_short_and_printable() {
    let label = |subject: &[u8]| {
        let key = webpki::anchor_from_trusted_cert(&Authority::root("-").certificate).unwrap().to_owned();
        trust_anchor_label(&rustls_pki_types::TrustAnchor { subject: subject.into(), ..key })
    };
    let contents = |name: Vec<u8>| name[2..].to_vec();
    let (text, digest) =
        label(&contents(common_name("a\nb"))).split_once(" (").map(|(a, b)| (a.to_owned(), b.len())).unwrap();
    assert_eq!((text.as_str(), digest), ("ab", 9));
    let long = label(&common_name(&"x".repeat(100))[2..]);
    assert!(long.starts_with(&format!("{} (", "x".repeat(64))), "{long}");
    // Without a name, the key alone; without one common name, the whole subject.
    assert!(label(&[]).starts_with('('));
    let two = name(&[&[("2.5.4.10", UTF8_STRING, b"Acme")], &[("2.5.4.11", UTF8_STRING, b"CA")]]);
    assert!(label(&contents(two)).starts_with("OU=CA,O=Acme ("));
}

#[test]
fn the_label_of_an_anchor_without_a_key_is_that_of_an_empty_sequence() {
    let anchor = rustls_pki_types::TrustAnchor {
        subject: common_name("a")[2..].to_vec().into(),
        subject_public_key_info: Vec::new().into(),
        name_constraints: None,
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, &[0x30, 0x00]);
    let shown: String = digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(trust_anchor_label(&anchor), format!("a ({shown})"));
}
