//! Every build accepts what the build with ring alone accepts.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

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
fn each_policy_and_group_is_what_its_name_says() {
    for (place, group) in KeyExchange::AVAILABLE.iter().enumerate() {
        let made = provider_for(TlsPolicy::default(), &[*group]);
        assert_eq!(made.kx_groups.iter().map(|it| KeyExchange::name_of(it.name())).collect::<Vec<_>>(), [group.name()]);
        assert_eq!(provider().kx_groups[place].name(), made.kx_groups[0].name());
    }
    assert_eq!(KeyExchange::name_of(NamedGroup::FFDHE2048), "");
    let suites = |policy| provider_for(policy, KeyExchange::AVAILABLE).cipher_suites;
    let of_policy = |policy: TlsPolicy| {
        let served = |version: rustls::ProtocolVersion| policy.versions().iter().any(|it| it.version == version);
        let served = suites(policy).into_iter().filter(|suite| served(suite.version().version));
        served.map(|suite| suite.suite()).collect::<Vec<_>>()
    };
    let all: Vec<CipherSuite> = ring::default_provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
    assert_eq!(of_policy(TlsPolicy::Intermediate), all);
    assert_eq!(of_policy(TlsPolicy::Modern), all[..3]);
    assert_eq!(of_policy(TlsPolicy::PagerDuty).len(), PAGERDUTY_SUITES.len());
    assert!(of_policy(TlsPolicy::PagerDuty).iter().all(|suite| PAGERDUTY_SUITES.contains(suite)));
}
