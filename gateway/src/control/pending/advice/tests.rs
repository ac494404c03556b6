//! Tests of what is advised about a pending chain: the check, and the lines that fit how the provider is written.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};

use super::*;
use crate::config::preset::Presets;

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

fn written(provider: &str) -> Written {
    Written::new(provider.parse().unwrap(), &Presets::compiled_in())
}

/// The lines, with a blank one between two blocks. `NEW` stands for the name of the file, and `ID` for what distinguishes it.
fn lines(chain: &Pending, provider: &str) -> Vec<String> {
    let advice = advise(chain, Some(&written(provider)));
    let file = advice.anchor.map(|(_, file)| file).unwrap_or_default();
    let id = file.trim_start_matches("sender-").trim_end_matches(".pem");
    let blocks: Vec<String> = advice.blocks.iter().map(|block| block.lines().join("\n")).collect();
    let mut text = blocks.join("\n\n");
    if !file.is_empty() {
        text = text.replace(&file, "NEW").replace(&format!("{}-{id}", chain.profile), "ID");
    }
    text.lines().map(str::to_owned).collect()
}

#[track_caller]
fn check(chain: &Pending, provider: &str, expected: &[&str]) {
    assert_eq!(lines(chain, provider), expected, "{provider}");
}

#[test]
fn the_lines_fit_the_way_the_provider_is_written() {
    let root = authority("root", None);
    let chain = pending(vec![leaf(&root, ExtendedKeyUsagePurpose::ClientAuth), root.der().clone()], None);
    let identity = "identity = [{ subject_cn = \"sender\" }]";
    check(
        &chain,
        &format!("trust_anchors = [\"old.pem\"]\n{identity}"),
        &["trust_anchors = [\"old.pem\", \"NEW\"]", identity],
    );
    let table =
        |name: &str, lines: &str| format!("[[profile]]\nname = \"{name}\"\ntrust_anchors = [\"old.pem\"]\n{lines}\n");
    let new = ["[[provider.profile]]", "name = \"ID\"", "trust_anchors = [\"NEW\"]", "verify_depth = 1", identity];
    let tables = table("older", "identity = [{ subject_cn = \"x\" }]") + &table("old", identity);
    check(&chain, &tables, &new);
    // A new profile demands what the one did that the chain claims.
    let strict = "extended_key_usage = \"client-auth-explicit\"\ncrls = [\"list.pem\"]\ncrl_urls = [\"http://a.example/l\"]\ncrl_scope = \"chain\"\nuntil = 2026-12-01\n";
    let with_demands: Vec<&str> = new
        .into_iter()
        .chain([
            "extended_key_usage = \"client-auth-explicit\"",
            "crls = [\"list.pem\"]",
            "crl_urls = [\"http://a.example/l\"]",
            "crl_scope = \"chain\"",
        ])
        .collect();
    check(&chain, &table("old", &format!("{identity}\n{strict}")), &with_demands);
    // Keys of the provider replace those of every profile, so they are not written again.
    let own = ["[[provider.profile]]", "name = \"ID\"", "trust_anchors = [\"NEW\"]"];
    check(&chain, &format!("{identity}\nverify_depth = 1\n{}", table("old", "")), &own);
    let all = ["trust_anchors = [\"all.pem\", \"NEW\"]"];
    check(&chain, &format!("trust_anchors = [\"all.pem\"]\n{}", table("old", identity)), &all);
}

#[test]
fn a_preset_keeps_its_pairs_of_anchors_and_identities() {
    let root = authority("root", None);
    let chain = |profile: &str, usage| Pending {
        profile: profile.into(),
        ..pending(vec![leaf(&root, usage), root.der().clone()], None)
    };
    let client = || ExtendedKeyUsagePurpose::ClientAuth;
    let new = ["[[provider.profile]]", "name = \"ID\"", "trust_anchors = [\"NEW\"]", "verify_depth = 1"];
    let with = |lines: &[&'static str]| [&new[..], lines].concat();
    let us = "identity = [{ subject_cn = \"webhooks.pagerduty.com\" }]";
    check(&chain("digicert-global-root-ca", client()), "preset = \"pagerduty\"", &with(&[us]));
    let both =
        "identity = [{ subject_cn = \"webhooks.pagerduty.com\" }, { subject_cn = \"webhooks.eu.pagerduty.com\" }]";
    check(&chain("digicert-global-root-g2", client()), "preset = \"pagerduty\"", &with(&[both]));
    let google = "identity = [{ subject_cn = \"Google LLC\" }]";
    check(&chain("ssl-com", client()), "preset = \"dialogflow-cx\"", &with(&[google]));
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let lax = with(&[google, "extended_key_usage = \"ignore\""]);
    check(&chain("ssl-com", server.clone()), "preset = \"dialogflow-cx\"", &lax);
    // The operator's own anchors replace those of the preset, so there is nothing to keep apart.
    let own = "preset = \"pagerduty\"\ntrust_anchors = [\"own.pem\"]";
    check(&chain("digicert-global-root-ca", client()), own, &["trust_anchors = [\"own.pem\", \"NEW\"]"]);
    // What the provider demands of all profiles stays a demand of all others.
    let strict = "preset = \"pagerduty\"\nextended_key_usage = \"client-auth\"";
    let found = lines(&chain("digicert-global-root-ca", server.clone()), strict);
    assert_eq!(found[..4], ["#- extended_key_usage = \"client-auth\"", "", "profiles = []", ""]);
    assert_eq!(found.iter().filter(|line| *line == "extended_key_usage = \"client-auth\"").count(), 2, "{found:?}");
    assert_eq!(found[found.len() - 6..], with(&[us, "extended_key_usage = \"ignore\""]));
    // The second chain of one authority gets another name.
    let id = &advise(&chain("ssl-com", client()), None).anchor.unwrap().1[7..15].to_owned();
    let taken = format!("preset = \"dialogflow-cx\"\n[[profile]]\nname = \"ssl-com-{id}\"");
    assert_eq!(lines(&chain("ssl-com", client()), &taken)[1], "name = \"ID-2\"");
}

#[test]
fn a_demand_that_is_dropped_is_dropped_for_one_profile() {
    let root = authority("root", None);
    let server = vec![leaf(&root, ExtendedKeyUsagePurpose::ServerAuth), root.der().clone()];
    let chain = |profile: &str| Pending {
        profile: profile.into(),
        reason: "extended_key_usage".into(),
        ..pending(server.clone(), None)
    };
    let ignore = "extended_key_usage = \"ignore\"";
    let place = |chain: &Pending, provider: &str| advise(chain, Some(&written(provider))).blocks.remove(0).place();
    let tables = "[[profile]]\nname = \"a\"\n[[profile]]\nname = \"b\"";
    check(&chain("b"), tables, &[ignore]);
    assert!(place(&chain("b"), tables).starts_with("write, in the [[provider.profile]] \"b\" of"));
    check(&chain("default"), "trust_anchors = [\"old.pem\"]", &[ignore]);
    assert!(place(&chain("default"), "").starts_with("write, in the [[provider]] \"sender\","));
    check(&chain("digicert-assured-id"), "preset = \"percolate\"", &[ignore]);
    let beside = [
        "[[provider.profile]]",
        "name = \"ssl-com-2\"",
        "trust_anchors = [\"builtin:SSL.com_Root_Certification_Authority_RSA\"]",
        "verify_depth = 2",
        "identity = [{ subject_cn = \"Google LLC\" }]",
        ignore,
    ];
    check(&chain("ssl-com"), "preset = \"dialogflow-cx\"", &beside);
    check(&chain("ssl-com"), "preset = \"dialogflow-cx\"\nprofiles = [\"ssl-com\"]", &[ignore]);
    check(&chain("ssl-com"), "preset = \"dialogflow-cx\"\nextended_key_usage = \"client-auth\"", &[ignore]);
    // Both demands at once, also if the sender does not present the root.
    let middle = authority("middle", Some(&root));
    let leaf = leaf(&middle, ExtendedKeyUsagePurpose::ServerAuth);
    let long = Pending { reason: "path_too_long".into(), certificates: vec![leaf, middle.der().clone()], ..chain("b") };
    check(&long, "trust_anchors = [\"old.pem\"]\nverify_depth = 1", &[ignore, "verify_depth = 2"]);
    check(&long, &format!("{ignore}\n[[profile]]\nname = \"b\"\nverify_depth = 1"), &["verify_depth = 2"]);
    // Where nothing of the configuration is too strict, nothing helps.
    assert!(advise(&long, Some(&written(ignore))).blocks.is_empty());
}

#[test]
fn the_anchor_is_the_highest_certificate_of_an_authority() {
    let root = authority("root", None);
    let (middle, other) = (authority("middle", Some(&root)), authority("other", None));
    let leaf = leaf(&middle, ExtendedKeyUsagePurpose::ServerAuth);
    let expect = |chain: &Pending, anchor: Option<&Issuer>, depth: u8| {
        assert_eq!(path(chain).anchor.as_ref(), anchor.map(|anchor| anchor.der()));
        assert_eq!(path(chain).depth, depth);
    };
    let whole = vec![leaf.clone(), other.der().clone(), root.der().clone(), middle.der().clone()];
    expect(&pending(whole.clone(), None), Some(&root), 2);
    expect(&pending(whole, Some(&root)), Some(&root), 2);
    expect(&pending(vec![leaf.clone(), middle.der().clone()], None), Some(&middle), 1);
    expect(&pending(vec![leaf.clone(), middle.der().clone()], Some(&root)), Some(&root), 2);
    expect(&pending(vec![leaf.clone()], None), None, 0);
    let note = |chain: &Pending| advise(chain, None).note;
    let of_middle = note(&pending(vec![leaf.clone(), middle.der().clone()], None)).unwrap();
    assert!(of_middle.contains("not a root") && of_middle.contains("\"CN=root\""), "{of_middle}");
    assert_eq!(note(&pending(vec![leaf.clone(), middle.der().clone()], Some(&root))), None);
    // What lacks clientAuth needs more than an anchor.
    let whole = pending(vec![leaf.clone(), middle.der().clone()], Some(&root));
    let found = lines(&whole, "trust_anchors = [\"old.pem\"]\nverify_depth = 1");
    let expected = [
        "#- trust_anchors = [\"old.pem\"]",
        "#- verify_depth = 1",
        "",
        "[[provider.profile]]",
        "name = \"default\"",
        "trust_anchors = [\"old.pem\"]",
        "verify_depth = 1",
        "",
        "[[provider.profile]]",
        "name = \"ID\"",
        "trust_anchors = [\"NEW\"]",
        "verify_depth = 2",
        "extended_key_usage = \"ignore\"",
    ];
    assert_eq!(found, expected);
    let without = advise(&pending(vec![leaf], None), None);
    assert!(
        without.blocks.is_empty() && without.check.contains("\"CN=middle\": tell the sender to send"),
        "{}",
        without.check
    );
}

#[test]
fn nothing_is_to_be_written_for_a_late_renewal() {
    let root = authority("root", None);
    let chain = pending(vec![leaf(&root, ExtendedKeyUsagePurpose::ClientAuth)], None);
    let advice = advise(&Pending { reason: "certificate_expired".into(), ..chain }, None);
    assert!(advice.blocks.is_empty() && advice.anchor.is_none());
}

#[test]
fn a_name_of_a_peer_is_shown_as_printable_text() {
    let shown_of = |name: &str| {
        let root = authority(name, None);
        let (_, parsed) = X509Certificate::from_der(root.der()).unwrap();
        shown(parsed.subject())
    };
    // As a rule would be written: RFC 4514, section 2.4.
    assert_eq!(shown_of("a\u{1b}[2J\"é\n\\"), "CN=a\\1B[2J\\\"\\C3\\A9\\0A\\\\");
    assert_eq!(shown_of(&"x".repeat(500)).len(), MAXIMUM_SHOWN);
}

#[test]
fn nobody_is_told_to_send_the_issuer_of_a_self_signed_certificate() {
    let alone = authority("alone", None);
    let advice = advise(&pending(vec![alone.der().clone()], None), None);
    assert!(advice.check.contains("\"CN=alone\", is self-signed") && advice.blocks.is_empty(), "{}", advice.check);
    assert!(!advice.check.contains("intermediate"), "{}", advice.check);
}
