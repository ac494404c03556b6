//! Every build accepts what the build with ring alone accepts.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use hookgate_client::suite::{self, TlsVersion};
use rustls_pki_types::pem::PemObject;

use super::*;

fn identifiers(algorithms: &[&dyn SignatureVerificationAlgorithm]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let both = |algorithm: &&dyn SignatureVerificationAlgorithm| {
        (algorithm.public_key_alg_id().to_vec(), algorithm.signature_alg_id().to_vec())
    };
    algorithms.iter().map(both).collect()
}

#[test]
fn both_libraries_accept_the_same() {
    let (ours, ring) = (provider(), ring::default_provider());
    assert_eq!(ours.cipher_suites, ring.cipher_suites);
    let groups = |provider: &CryptoProvider| provider.kx_groups.iter().map(|group| group.name()).collect::<Vec<_>>();
    // ring has no ML-KEM.
    let hybrid = if cfg!(feature = "aws-lc") { vec![NamedGroup::X25519MLKEM768] } else { vec![] };
    assert_eq!(groups(&ours), [hybrid, groups(&ring)].concat());
    let (ours, ring) = (ours.signature_verification_algorithms, ring.signature_verification_algorithms);
    assert_eq!(identifiers(ours.all), identifiers(ring.all));
    assert_eq!(ours.mapping.len(), ring.mapping.len());
    for ((scheme, algorithms), (by_ring, algorithms_of_ring)) in ours.mapping.iter().zip(ring.mapping) {
        assert_eq!(scheme, by_ring);
        assert_eq!(identifiers(algorithms), identifiers(algorithms_of_ring), "{scheme:?}");
    }
}

/// A key that `openssl genpkey` generates with `options`.
fn generated(options: &[&str]) -> PrivateKeyDer<'static> {
    let mut command = std::process::Command::new("openssl");
    let output = command.arg("genpkey").args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PrivateKeyDer::from_pem_slice(&output.stdout).unwrap()
}

#[test]
fn both_libraries_accept_the_same_keys() {
    let check = |options: &[&str], taken: bool| {
        let outcome = signing_key(&generated(options));
        assert_eq!(outcome.is_ok(), taken, "{options:?}: {outcome:?}");
    };
    let curve = |name| format!("ec_paramgen_curve:{name}");
    let bits = |number| format!("rsa_keygen_bits:{number}");
    check(&["-algorithm", "EC", "-pkeyopt", &curve("P-256")], true);
    check(&["-algorithm", "EC", "-pkeyopt", &curve("P-384")], true);
    check(&["-algorithm", "EC", "-pkeyopt", &curve("P-521")], false);
    check(&["-algorithm", "EC", "-pkeyopt", &curve("secp256k1")], false);
    check(&["-algorithm", "ED25519"], true);
    check(&["-algorithm", "ED448"], false);
    check(&["-algorithm", "RSA", "-pkeyopt", &bits(1024)], false);
    check(&["-algorithm", "RSA", "-pkeyopt", &bits(2048)], true);
}

#[test]
fn each_group_is_what_its_name_says() {
    for (place, group) in KeyExchange::AVAILABLE.iter().enumerate() {
        let made = provider_for(TlsPolicy::default(), &[*group]);
        assert_eq!(made.kx_groups.iter().map(|it| KeyExchange::name_of(it.name())).collect::<Vec<_>>(), [group.name()]);
        assert_eq!(provider().kx_groups[place].name(), made.kx_groups[0].name());
    }
    assert_eq!(KeyExchange::name_of(NamedGroup::FFDHE2048), "");
}

/// The suites of TLS 1.3, which both of Mozilla's configurations have.
const MOZILLA_TLS13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Those of TLS 1.2 in Mozilla's intermediate configuration (version 5.7), but for DHE-RSA, which no library here has.
const MOZILLA_INTERMEDIATE: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// The suites that PagerDuty's preset documents.
fn documented_by_pagerduty() -> Vec<String> {
    let preset: toml::Table = include_str!("../../presets/pagerduty.toml").parse().unwrap();
    let suites = preset["sender"]["cipher_suites"].as_array().unwrap().iter();
    suites.map(|suite| suite.as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_policy_has_the_suites_of_its_source() {
    let check = |policy: TlsPolicy, versions: &[TlsVersion], suites: &[&str]| {
        let sorted = |suites: &mut Vec<String>| suites.sort();
        let mut expected: Vec<String> = suites.iter().map(|suite| (*suite).to_owned()).collect();
        sorted(&mut expected);
        let mut had: Vec<String> = policy.suites().map(suite::name).collect();
        sorted(&mut had);
        assert_eq!(had, expected, "{policy:?}");
        // What handshakes use: rustls leaves out suites of versions that are off.
        let provider = provider_for(policy, KeyExchange::AVAILABLE);
        let is_on = |suite: &&SupportedCipherSuite| policy.versions().contains(&suite.version());
        let mut used: Vec<String> =
            provider.cipher_suites.iter().filter(is_on).map(|used| suite::name(used.suite())).collect();
        sorted(&mut used);
        assert_eq!(used, expected, "{policy:?}");
        let on: Vec<_> = policy.versions().iter().map(|version| u16::from(version.version)).collect();
        assert_eq!(on, versions.iter().map(|version| version.code()).collect::<Vec<_>>(), "{policy:?}");
    };
    let intermediate = [&MOZILLA_TLS13[..], &MOZILLA_INTERMEDIATE[..]].concat();
    check(TlsPolicy::Intermediate, &[TlsVersion::Tls13, TlsVersion::Tls12], &intermediate);
    check(TlsPolicy::Modern, &[TlsVersion::Tls13], &MOZILLA_TLS13);
    let all = ring::default_provider().cipher_suites;
    let all: Vec<String> = all.iter().map(|had| suite::name(had.suite())).collect();
    let mut in_common = documented_by_pagerduty();
    in_common.retain(|suite| all.contains(suite));
    let in_common: Vec<&str> = in_common.iter().map(String::as_str).collect();
    assert_eq!(in_common.len(), 4, "{in_common:?}");
    check(TlsPolicy::PagerDuty, &[TlsVersion::Tls12], &in_common);
}
