//! Chains that no server of the end-to-end tests presents, or not with every library.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::TrustAnchor;

use super::*;

/// A time within the validity that rcgen gives by default (1975 to 4096).
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
const HOST: &str = "hooks.example.com";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, above: Option<&Authority>) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match above {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(above) => CertifiedIssuer::signed_by(params, key, above).unwrap(),
    }
}

fn leaf(issuer: &Authority, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, HOST);
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

fn trusting(root: &Authority) -> Roots {
    let directory = std::env::temp_dir().join(format!("hookgate-chain-{}-{}", std::process::id(), fastrand::u64(..)));
    std::fs::write(&directory, root.pem()).unwrap();
    let roots = Roots::mozilla().with_file(&directory).unwrap();
    std::fs::remove_file(&directory).unwrap();
    roots
}

/// The findings as ids, with the severity of each.
fn ids(chain: &[CertificateDer<'static>], roots: &Roots) -> Vec<(&'static str, Severity)> {
    let judged = judge(chain, &ServerName::try_from(HOST).unwrap(), roots, false, NOW);
    judged.findings.iter().map(|finding| (finding.kind.id(), finding.severity)).collect()
}

#[test]
fn usages_that_are_not_for_servers() {
    let root = authority("root", None);
    let roots = trusting(&root);
    let check = |change: &dyn Fn(&mut CertificateParams), expected: &[(&str, Severity)]| {
        assert_eq!(ids(&[leaf(&root, change)], &roots), expected);
    };
    check(&|_| {}, &[]);
    check(&|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], &[("key_usage", Severity::Fault)]);
    let for_clients = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    };
    check(&for_clients, &[("key_usage", Severity::Fault)]);
    let authority = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    check(&authority, &[("path_constraint", Severity::Fault)]);
}

#[test]
fn certificates_that_are_not_needed() {
    let root = authority("root", None);
    let (one, other) = (authority("one", Some(&root)), authority("other", Some(&root)));
    let roots = trusting(&root);
    let leaf = leaf(&one, |_| {});
    let der = |authority: &Authority| authority.der().clone();
    assert_eq!(ids(&[leaf.clone(), der(&one)], &roots), []);
    assert_eq!(ids(&[leaf.clone(), der(&one), der(&root)], &roots), [("chain_has_root", Severity::Note)]);
    assert_eq!(ids(&[leaf.clone(), der(&one), der(&other)], &roots), [("chain_out_of_order", Severity::Warning)]);
    assert_eq!(ids(&[leaf.clone(), der(&root), der(&one)], &roots), [("chain_out_of_order", Severity::Warning)]);
    assert_eq!(ids(&[leaf], &roots), [("chain_incomplete", Severity::Fault)]);
}

#[test]
fn a_root_with_the_right_name_and_another_key() {
    let (root, impostor) = (authority("root", None), authority("root", None));
    let found = ids(&[leaf(&impostor, |_| {})], &trusting(&root));
    // webpki tries the root of that name, whose key does not verify the signature.
    assert!(
        found.iter().all(|(id, _)| ["unknown_root", "chain_signature", "chain_incomplete"].contains(id)),
        "{found:?}"
    );
    assert!(found.iter().any(|(_, severity)| *severity == Severity::Fault), "{found:?}");
}

#[test]
fn what_is_no_certificate() {
    let roots = Roots::mozilla();
    assert_eq!(ids(&[], &roots), [("chain_malformed", Severity::Fault)]);
    assert_eq!(ids(&[CertificateDer::from(vec![0x30, 3, 1, 2, 3])], &roots), [("chain_malformed", Severity::Fault)]);
    let root = authority("root", None);
    let chain = [leaf(&root, |_| {}), CertificateDer::from(vec![1])];
    assert_eq!(ids(&chain, &trusting(&root)), [("chain_malformed", Severity::Fault)]);
}

#[test]
fn names_of_strangers_are_printed_in_ascii() {
    let root = authority("root", None);
    let evil = leaf(&root, |params| params.distinguished_name.push(DnType::CommonName, "a\u{1b}[2Jb\u{202e}"));
    let judged = judge(&[evil], &ServerName::try_from("other.example").unwrap(), &trusting(&root), false, NOW);
    let printed = format!("{:?} {:?}", judged.certificates, judged.findings);
    assert!(printed.is_ascii() && !printed.contains('\u{1b}'), "{printed}");
    assert!(judged.root.is_some_and(|root| root.name == "CN=root" && !root.is_public));
}

/// Every root of Mozilla's list is known as a public one.
#[test]
fn mozillas_roots_are_public() {
    let roots = trusting(&authority("root", None));
    let (own, public): (Vec<&TrustAnchor<'_>>, Vec<_>) =
        roots.anchors().iter().partition(|anchor| roots.is_own(anchor));
    assert_eq!(own.len(), 1);
    assert_eq!(public.len(), Roots::mozilla().anchors().len());
}
