//! Tests of what is advised about a pending chain: the check, and the lines that fit how the provider is written.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn authority(name: &str, issuer: Option<&Issuer>) -> Issuer {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match issuer {
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
    }
}

fn leaf(issuer: &Issuer, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
    let mut params = params("sender");
    params.extended_key_usages = vec![usage];
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
}

fn pending(certificates: Vec<CertificateDer<'static>>, public_root: Option<&Issuer>) -> Pending {
    Pending {
        provider: "sender".into(),
        profile: "old".into(),
        reason: "unknown_issuer".into(),
        evidence: "proof".into(),
        first_seen: 0,
        last_seen: 0,
        fingerprint: sha256(&certificates[0]),
        certificates,
        public_root: public_root.map(|root| root.der().clone()),
    }
}

fn lines(chain: &Pending, provider: &str) -> Vec<String> {
    let advice = advise(chain, Some(&provider.parse().unwrap()));
    let file = advice.anchor.map(|(_, file)| file).unwrap_or_default();
    advice.lines.iter().map(|line| line.replace(&file, "NEW")).collect()
}

#[test]
fn the_lines_fit_the_way_the_provider_is_written() {
    let root = authority("root", None);
    let chain = pending(vec![leaf(&root, ExtendedKeyUsagePurpose::ClientAuth), root.der().clone()], None);
    let check = |provider: &str, expected: &[&str]| assert_eq!(lines(&chain, provider), expected, "{provider}");
    check(
        "trust_anchors = [\"old.pem\"]\nidentity = [{ subject_cn = \"sender\" }]",
        &["trust_anchors = [\"old.pem\", \"NEW\"]", "identity = [{ subject_cn = \"sender\" }]"],
    );
    let tables = "[[profile]]\nname = \"older\"\nidentity = [{ subject_cn = \"x\" }]\n\
                  [[profile]]\nname = \"old\"\nidentity = [{ subject_cn = \"sender\" }]\n";
    let found = lines(&chain, tables);
    assert!(found[1].starts_with("name = \""), "{found:?}");
    let found = [&found[..1], &found[2..]].concat();
    assert_eq!(
        found,
        ["[[provider.profile]]", "trust_anchors = [\"NEW\"]", "identity = [{ subject_cn = \"sender\" }]"]
    );
    let found = lines(&chain, "preset = \"pagerduty\"");
    let anchors = "trust_anchors = [\"builtin:DigiCert_Global_Root_CA\", \"builtin:DigiCert_Global_Root_G2\", \"NEW\"]";
    assert_eq!(found[0], anchors);
}

#[test]
fn the_anchor_is_the_highest_certificate_of_an_authority() {
    let root = authority("root", None);
    let (middle, other) = (authority("middle", Some(&root)), authority("other", None));
    let leaf = leaf(&middle, ExtendedKeyUsagePurpose::ServerAuth);
    let check = |chain: &Pending, anchor: Option<&Issuer>, depth: u8| {
        assert_eq!(path(chain).anchor.as_ref(), anchor.map(|anchor| anchor.der()));
        assert_eq!(path(chain).depth, depth);
    };
    let whole = vec![leaf.clone(), other.der().clone(), root.der().clone(), middle.der().clone()];
    check(&pending(whole.clone(), None), Some(&root), 2);
    check(&pending(whole, Some(&root)), Some(&root), 2);
    check(&pending(vec![leaf.clone(), middle.der().clone()], None), Some(&middle), 1);
    check(&pending(vec![leaf.clone(), middle.der().clone()], Some(&root)), Some(&root), 2);
    check(&pending(vec![leaf.clone()], None), None, 0);
    // What lacks clientAuth needs more than an anchor.
    let found = lines(&pending(vec![leaf.clone(), middle.der().clone()], Some(&root)), "verify_depth = 1");
    assert!(found.ends_with(&["verify_depth = 2".to_owned(), usage()]), "{found:?}");
    let without = advise(&pending(vec![leaf], None), None);
    assert!(without.lines.is_empty() && without.check.contains("obtain the root"), "{}", without.check);
}

#[test]
fn nothing_is_to_be_written_for_a_late_renewal() {
    let root = authority("root", None);
    let chain = pending(vec![leaf(&root, ExtendedKeyUsagePurpose::ClientAuth)], None);
    let advice = advise(&Pending { reason: "certificate_expired".into(), ..chain }, None);
    assert!(advice.lines.is_empty() && advice.anchor.is_none());
}

#[test]
fn a_name_of_a_peer_is_shown_as_printable_text() {
    assert_eq!(shown("a\u{1b}[2J\"é\n\\"), "a?[2J'??'");
    assert_eq!(shown(&"x".repeat(500)).len(), MAXIMUM_SHOWN);
}
