//! Paths: depth, extended key usage, and every error of webpki.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::diagnosis::MAX_DETAIL_BYTES;
use crate::identity::is_key_accepted;
use crate::identity::{ExtendedKeyUsage, Profile};
use crate::reject::Reject;

/// Checks that the chain is refused for this reason, and that the detail contains these words.
fn check(case: &str, profile: Profile, chain: &[CertificateDer<'_>], reject: Reject, words: &[&str]) {
    let refusal = verify(profile, chain).expect_err(case).refusal;
    assert_eq!(refusal.reject, reject, "{case}: {refusal}");
    for word in words {
        assert!(refusal.detail().contains(word), "{case}: no {word:?} in {refusal}");
    }
    assert!(refusal.detail().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{case}: {refusal}");
    assert!(refusal.detail().len() <= MAX_DETAIL_BYTES, "{case}: {refusal}");
}

#[test]
fn the_depth_of_the_trust_anchor_is_one_more_than_the_intermediates() {
    let root = Authority::root("root");
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let client = Template::client("sender");
    let chains = [
        vec![root.issue(&client)],
        vec![first.issue(&client), first.certificate.clone()],
        vec![second.issue(&client), second.certificate.clone(), first.certificate.clone()],
    ];
    for (depth, chain) in (1..).zip(&chains) {
        for verify_depth in 0..=4_u8 {
            let profile = Profile { verify_depth, ..profile(&root, "sender") };
            if depth > usize::from(verify_depth) {
                let bound = format!("verify_depth is {verify_depth}");
                let stands = format!("at depth {depth}");
                check("depth", profile, chain, Reject::PathTooLong, &[&stands, &bound]);
            } else {
                assert_eq!(verify(profile, chain).unwrap().matches()[0].trust_anchor_depth, depth);
            }
        }
    }
}

#[test]
fn a_shorter_path_is_used_if_the_first_is_too_deep() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let issuing = root.intermediate("issuing");
    let far = Authority::root("far");
    // issuing <- far <- other, and issuing <- root
    let chain = [
        issuing.issue(&Template::client("sender")),
        issuing.cross_signed_by(&far),
        far.cross_signed_by(&other),
        issuing.certificate.clone(),
    ];
    let both = Profile {
        trust_anchors: unrestricted([other.anchor(), root.anchor()]),
        verify_depth: 2,
        ..profile(&root, "sender")
    };
    let verified = verify(both, &chain).unwrap();
    assert_eq!(verified.matches()[0].trust_anchor_depth, 2);
    assert_eq!(&*verified.matches()[0].trust_anchor_subject, "CN=root");
    let far_alone = Profile { verify_depth: 2, ..profile(&other, "sender") };
    check("only the long path", far_alone, &chain, Reject::PathTooLong, &["at depth 3"]);
}

#[test]
fn the_order_and_unrelated_certificates_do_not_matter() {
    let root = Authority::root("root");
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let leaf = second.issue(&Template::client("sender"));
    let junk = CertificateDer::from(vec![0x30, 0x03, 0x02, 0x01, 0x00]);
    let stranger = Authority::root("stranger").certificate;
    let chain = [leaf, junk, first.certificate.clone(), stranger, root.certificate.clone(), second.certificate.clone()];
    let verified = verify(profile(&root, "sender"), &chain).unwrap();
    assert_eq!(verified.matches()[0].trust_anchor_depth, 3);
    assert_eq!(verified.certificates(), chain);
}

/// A root and an intermediate below it.
struct Pki {
    root: Authority,
    issuing: Authority,
}

const FIRST: &str = "Certificate 1 of 2 presented (subject \"CN=sender\", issuer \"CN=issuing\", serial 0A:1B";
const SECOND: &str = "Certificate 2 of 2 presented (subject \"CN=odd\", issuer \"CN=root\"";

fn client() -> Template {
    Template::client("sender")
}

/// An intermediate that a test makes invalid.
fn odd() -> Template {
    Template::new(common_name("odd")).with(authority_extension(None))
}

impl Pki {
    fn new() -> Self {
        let root = Authority::root("root");
        Self { issuing: root.intermediate("issuing"), root }
    }

    /// An end entity by this template, and the intermediate that issued it.
    fn below_issuing(&self, template: Template) -> Vec<CertificateDer<'static>> {
        vec![self.issuing.issue(&template), self.issuing.certificate.clone()]
    }

    /// A valid end entity below an intermediate by this template.
    fn below(&self, template: Template) -> Vec<CertificateDer<'static>> {
        let authority = self.root.intermediate_by(template);
        vec![authority.issue(&client()), authority.certificate]
    }

    fn refused(&self, case: &str, chain: &[CertificateDer<'_>], reject: Reject, words: &[&str]) {
        check(case, profile(&self.root, "sender"), chain, reject, words);
    }
}

#[test]
fn the_certificate_outside_its_validity_is_named() {
    let pki = Pki::new();
    pki.refused(
        "expired",
        &pki.below_issuing(client().between(NOW - 2 * DAY, NOW - DAY)),
        Reject::CertificateExpired,
        &[FIRST, "not after 2026-11-17T13:46:40Z", "has expired"],
    );
    pki.refused(
        "expired issuer",
        &pki.below(odd().between(NOW - 2 * DAY, NOW - DAY)),
        Reject::CertificateExpired,
        &[SECOND, "has expired"],
    );
    pki.refused(
        "early",
        &pki.below_issuing(client().between(NOW + DAY, NOW + 2 * DAY)),
        Reject::CertificateNotYetValid,
        &[FIRST, "not before 2026-11-19T13:46:40Z", "not valid yet"],
    );
    pki.refused(
        "early issuer",
        &pki.below(odd().between(NOW + DAY, NOW + 2 * DAY)),
        Reject::CertificateNotYetValid,
        &[SECOND],
    );
    pki.refused(
        "reversed validity",
        &pki.below_issuing(client().between(NOW + DAY, NOW - DAY)),
        Reject::CertificateMalformed,
        &[FIRST, "notAfter before its notBefore"],
    );
    let reversed = Template::new(common_name("odd")).with(authority_extension(None)).between(NOW + DAY, NOW - DAY);
    let issuing = pki.root.intermediate_by(reversed);
    // A certificate for one second is not reversed.
    for client in [client(), client().between(NOW, NOW)] {
        let chain = [issuing.issue(&client), issuing.certificate.clone()];
        pki.refused(
            "reversed validity",
            &chain,
            Reject::CertificateMalformed,
            &[SECOND, "notAfter before its notBefore"],
        );
    }
}

#[test]
fn the_certificate_with_the_wrong_issuer_is_named() {
    let pki = Pki::new();
    pki.refused(
        "missing intermediate",
        &pki.below_issuing(client())[..1],
        Reject::UnknownIssuer,
        &["Certificate 1 of 1", "did not present the certificate of its issuer \"CN=issuing\""],
    );
    let foreign = Authority::root("foreign");
    pki.refused(
        "foreign, self-signed root presented",
        &[foreign.issue(&client()), foreign.certificate.clone()],
        Reject::UnknownIssuer,
        &["Certificate 2 of 2", "is self-signed"],
    );
    pki.refused(
        "not an authority",
        &pki.below(Template::new(common_name("odd"))),
        Reject::PathConstraint,
        &[SECOND, "not a CA certificate"],
    );
}

#[test]
fn the_certificate_of_an_unsupported_form_is_named() {
    let pki = Pki::new();
    pki.refused(
        "unknown critical extension",
        &pki.below_issuing(client().with(extension("1.3.6.1.4.1.99999.1", true, &[0x05, 0x00]))),
        Reject::PathConstraint,
        &[FIRST, "critical extension"],
    );
    for (algorithm, name) in [(RSA_SHA1, "sha1WithRSAEncryption"), (ECDSA_SHA512, "ecdsa-with-SHA512")] {
        let words = [FIRST, "is signed with", name, "not accepted", "ECDSA on P-256 or P-384 with"];
        let template = Template { algorithm: Some(algorithm), ..client() };
        pki.refused(name, &pki.below_issuing(template), Reject::BadSignature, &words);
        // The certificate at fault is the one with this algorithm.
        let issuing = Template::new(common_name("odd")).with(authority_extension(None));
        let issuing = pki.root.intermediate_by(Template { algorithm: Some(algorithm), ..issuing });
        let chain = [issuing.issue(&client()), issuing.certificate.clone()];
        pki.refused(name, &chain, Reject::BadSignature, &[SECOND, "is signed with", name]);
    }
    pki.refused(
        "version 1",
        &pki.below_issuing(Template { version: 0, ..client() }),
        Reject::CertificateMalformed,
        &["Certificate 1 of 2 presented", "version 3"],
    );
    pki.refused(
        "no certificate at all",
        &[CertificateDer::from(b"hello".to_vec())],
        Reject::CertificateMalformed,
        &["Certificate 1 of 1 presented"],
    );
    pki.refused(
        "malformed issuer",
        &[pki.issuing.issue(&client()), CertificateDer::from(b"hello".to_vec())],
        Reject::CertificateMalformed,
        &["Certificate 2 of 2 presented"],
    );
    let mut trailing = pki.root.issue(&client()).to_vec();
    trailing.push(0);
    pki.refused("trailing byte", &[trailing.into()], Reject::CertificateMalformed, &["Certificate 1 of 1 presented"]);
}

#[test]
fn an_end_entity_whose_key_cannot_sign_a_handshake_is_refused() {
    let pki = Pki::new();
    let id_ec_public_key = oid("1.2.840.10045.2.1");
    let on = |curve: &str, bytes: usize| {
        let algorithm = tlv(0x30, &[&id_ec_public_key, &oid(curve)]);
        tlv(0x30, &[&algorithm, &tlv(0x03, &[&[0, 4], &vec![7; 2 * bytes]])])
    };
    let rsa = |bytes: usize| {
        let key = tlv(0x30, &[&tlv(0x02, &[&[0], &vec![0xff; bytes]]), &[0x02, 0x03, 1, 0, 1]]);
        let algorithm = tlv(0x30, &[&oid("1.2.840.113549.1.1.1"), &[0x05, 0x00]]);
        tlv(0x30, &[&algorithm, &tlv(0x03, &[&[0], &key])])
    };
    for (key, kind) in [
        (on("1.3.132.0.35", 66), "an ECDSA key on P-521"),
        (on("1.2.840.10045.3.1.1", 24), "an ECDSA key on P-192"),
        (rsa(128), "an RSA key of 1024 bits"),
        (tlv(0x30, &[&tlv(0x30, &[&oid("1.3.101.113")]), &tlv(0x03, &[&[0], &[7; 57]])]), "an Ed448 key"),
    ] {
        let words = [FIRST, kind, "ECDSA on P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519"];
        let template = Template { public_key: Some(key), ..client() };
        let chain = pki.below_issuing(template);
        assert!(!is_key_accepted(&chain[0]), "{kind}");
        pki.refused(kind, &chain, Reject::PathConstraint, &words);
    }
    for key in [on("1.2.840.10045.3.1.7", 32), on("1.3.132.0.34", 48), rsa(256), rsa(1024)] {
        let template = Template { public_key: Some(key), ..client() };
        let chain = pki.below_issuing(template);
        assert!(is_key_accepted(&chain[0]) && verify(profile(&pki.root, "sender"), &chain).is_ok());
    }
}

#[test]
fn name_and_length_constraints_of_an_issuer_are_enforced() {
    let root = Authority::root("root");
    let template = Template::new(common_name("narrow")).with(authority_extension(Some(0)));
    let narrow = root.intermediate_by(template.with(permitted_domain("example.com")));
    let named = |host: &str| Template::client("sender").with(alternative_names(&[dns(host)]));

    let good = [narrow.issue(&named("a.example.com")), narrow.certificate.clone()];
    verify(profile(&root, "sender"), &good).unwrap();
    let outside = [narrow.issue(&named("a.example.org")), narrow.certificate.clone()];
    check(
        "name",
        profile(&root, "sender"),
        &outside,
        Reject::PathConstraint,
        &["Certificate 1 of 2", "name constraints"],
    );

    let below = narrow.intermediate("below");
    let long = [below.issue(&named("a.example.com")), below.certificate.clone(), narrow.certificate.clone()];
    let words = ["Certificate 3 of 3", "pathLenConstraint"];
    check("length", profile(&root, "sender"), &long, Reject::PathConstraint, &words);
}

#[test]
fn the_certificate_with_the_bad_signature_is_named() {
    let root = Authority::root("root");
    let impostor = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let forged = impostor.intermediate("issuing");
    let client = Template::client("sender");

    let by_root = [impostor.issue(&client)];
    check("leaf", profile(&root, "sender"), &by_root, Reject::BadSignature, &["Certificate 1 of 1"]);
    let leaf = [forged.issue(&client), issuing.certificate.clone()];
    check("leaf below a real issuer", profile(&root, "sender"), &leaf, Reject::BadSignature, &["Certificate 1 of 2"]);
    let intermediate = [forged.issue(&client), forged.certificate.clone()];
    check("issuer", profile(&root, "sender"), &intermediate, Reject::BadSignature, &["Certificate 2 of 2"]);
}

#[test]
fn a_path_longer_than_webpki_builds_is_too_long() {
    let root = Authority::root("root");
    let mut authorities = vec![root.intermediate("0")];
    for index in 1..7 {
        authorities.push(authorities[index - 1].intermediate(&index.to_string()));
    }
    let mut chain = vec![authorities[6].issue(&Template::client("sender"))];
    chain.extend(authorities.iter().rev().map(|authority| authority.certificate.clone()));
    check("seven issuers", profile(&root, "sender"), &chain, Reject::PathTooLong, &["Certificate 1 of 8"]);
}

#[test]
fn extended_key_usage_is_checked_by_the_profile() {
    use ExtendedKeyUsage::{ClientAuth, ClientAuthExplicit, Ignore};
    /// The outcome under `ClientAuth`, `ClientAuthExplicit` or `Ignore`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Outcome {
        Passes,
        Lenient,
        Refused,
    }
    use Outcome::{Lenient, Passes, Refused};

    let absent: Option<&[&str]> = None;
    let (client, server) = (Some([CLIENT_AUTH].as_slice()), Some([SERVER_AUTH].as_slice()));
    let (both, any) = (Some([SERVER_AUTH, CLIENT_AUTH].as_slice()), Some([ANY_USAGE].as_slice()));
    let any_and_client = Some([ANY_USAGE, CLIENT_AUTH].as_slice());
    let cases = [
        // end entity, intermediate, outcome by policy
        (absent, absent, [Lenient, Refused, Passes]),
        (absent, client, [Lenient, Refused, Passes]),
        (absent, server, [Refused, Refused, Lenient]),
        (client, absent, [Passes, Passes, Passes]),
        (client, client, [Passes, Passes, Passes]),
        (client, both, [Passes, Passes, Passes]),
        (client, server, [Refused, Refused, Lenient]),
        (client, any, [Refused, Refused, Lenient]),
        (server, absent, [Refused, Refused, Lenient]),
        (server, client, [Refused, Refused, Lenient]),
        (server, server, [Refused, Refused, Lenient]),
        (both, absent, [Passes, Passes, Passes]),
        (both, both, [Passes, Passes, Passes]),
        (any, absent, [Refused, Refused, Lenient]),
        (any, any, [Refused, Refused, Lenient]),
        (any_and_client, any_and_client, [Passes, Passes, Passes]),
    ];
    let root = Authority::root("root");
    for (leaf, issuer, outcomes) in cases {
        let with = |template: Template, usage: Option<&[&str]>| match usage {
            Some(purposes) => template.with(extended_key_usage(purposes)),
            None => template,
        };
        let authority = Template::new(common_name("issuing")).with(authority_extension(None));
        let issuing = root.intermediate_by(with(authority, issuer));
        let chain = [issuing.issue(&with(Template::new(common_name("sender")), leaf)), issuing.certificate.clone()];
        for (policy, expected) in [ClientAuth, ClientAuthExplicit, Ignore].into_iter().zip(outcomes) {
            let profile = Profile { extended_key_usage: policy, ..profile(&root, "sender") };
            let outcome = match verify(profile, &chain) {
                Ok(verified) if verified.matches()[0].eku_lenient => Lenient,
                Ok(_) => Passes,
                Err(refusal) => {
                    assert_eq!(refusal.refusal.reject, Reject::ExtendedKeyUsage, "{}", refusal.refusal);
                    let culprit = if leaf.is_some_and(|usage| !usage.contains(&CLIENT_AUTH))
                        || issuer != server && issuer != any
                    {
                        "Certificate 1 of 2"
                    } else {
                        "Certificate 2 of 2"
                    };
                    assert!(refusal.refusal.detail().contains(culprit), "{leaf:?} {issuer:?}: {}", refusal.refusal);
                    Refused
                }
            };
            assert_eq!(outcome, expected, "end entity {leaf:?}, issuer {issuer:?}, {policy:?}");
        }
    }
}

#[test]
fn key_usage_must_allow_what_the_path_uses_it_for() {
    let pki = Pki::new();
    let issuers = [(None, true), (Some([5].as_slice()), true), (Some(&[0, 5, 6]), true), (Some(&[0, 6]), false)];
    let clients = [(None, true), (Some([0].as_slice()), true), (Some(&[0, 2]), true), (Some(&[2]), false)];
    let with = |template: Template, bits: Option<&[u8]>| match bits {
        Some(bits) => template.with(key_usage(bits)),
        None => template,
    };
    for (issuer, signs_certificates) in issuers {
        for (leaf, signs_handshakes) in clients {
            let case = format!("issuer {issuer:?}, end entity {leaf:?}");
            let authority = pki.root.intermediate_by(with(odd(), issuer));
            let chain = [authority.issue(&with(client(), leaf)), authority.certificate];
            let words = match (signs_certificates, signs_handshakes) {
                (true, true) => {
                    assert!(verify(profile(&pki.root, "sender"), &chain).is_ok(), "{case}");
                    continue;
                }
                (false, _) => [SECOND, "keyCertSign"],
                (true, false) => ["Certificate 1 of 2", "digitalSignature"],
            };
            pki.refused(&case, &chain, Reject::PathConstraint, &words);
        }
    }
    let malformed = client().with(extension("2.5.29.15", true, &[0x05, 0x00]));
    pki.refused("malformed", &pki.below_issuing(malformed), Reject::CertificateMalformed, &[FIRST, "extension"]);
}

#[test]
fn a_path_is_found_beside_an_issuer_that_may_not_sign_certificates() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let forbidden = Template::new(common_name("issuing")).with(authority_extension(None)).with(key_usage(&[0]));
    let forbidden = issuing.certified_by(&forbidden, &root.subject, &root);
    let chain = [issuing.issue(&client()), forbidden, issuing.certificate.clone()];
    assert_eq!(verify(profile(&root, "sender"), &chain).unwrap().matches()[0].trust_anchor_depth, 2);
    check("no other", profile(&root, "sender"), &chain[..2], Reject::PathConstraint, &["2 of 2", "keyCertSign"]);
}

#[test]
fn the_certificate_whose_signature_does_not_verify_is_named() {
    let pki = Pki::new();
    let words = "has a signature that does not verify";
    // Another authority of the root's name issued the intermediate, or another one of the intermediate's name the end entity.
    let issuing = Authority::root("root").intermediate("odd");
    let chain = [issuing.issue(&client()), issuing.certificate.clone()];
    pki.refused("issuer", &chain, Reject::BadSignature, &[SECOND, words]);
    let (good, other) = (pki.root.intermediate("issuing"), pki.root.intermediate("issuing"));
    let chain = [other.issue(&client()), good.certificate.clone()];
    pki.refused("end entity", &chain, Reject::BadSignature, &["Certificate 1 of 2", words]);
}

#[test]
fn policies_are_ignored_unless_they_are_critical() {
    let pki = Pki::new();
    let policy = tlv(0x30, &[&tlv(0x30, &[&oid("1.3.6.1.4.1.99999.1")])]);
    // certificatePolicies, policyMappings, policyConstraints, inhibitAnyPolicy
    for id in ["2.5.29.32", "2.5.29.33", "2.5.29.36", "2.5.29.54"] {
        let with = |critical| pki.below_issuing(client().with(extension(id, critical, &policy)));
        assert!(verify(profile(&pki.root, "sender"), &with(false)).is_ok(), "{id}");
        pki.refused(id, &with(true), Reject::PathConstraint, &[FIRST, "critical extension"]);
    }
}

#[test]
fn neither_dates_nor_purposes_nor_path_length_of_an_anchors_certificate_count() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let template = Template::new(root.subject.clone()).with(authority_extension(Some(0)));
    let template = template.with(extended_key_usage(&[SERVER_AUTH])).between(NOW - 2 * DAY, NOW - DAY);
    let certificate = root.certified_by(&template, &root.subject, &root);
    let profile = Profile { trust_anchors: anchored_by(&certificate), ..profile(&root, "sender") };
    assert!(verify(profile, &[issuing.issue(&client()), issuing.certificate.clone()]).is_ok());
}

#[test]
fn an_empty_extended_key_usage_is_refused_by_every_policy() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::new(common_name("sender")).with(extended_key_usage(&[])))];
    for policy in [ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ClientAuthExplicit, ExtendedKeyUsage::Ignore] {
        let profile = Profile { extended_key_usage: policy, ..profile(&root, "sender") };
        let refusal = verify(profile, &chain).unwrap_err().refusal;
        assert!(
            matches!(refusal.reject, Reject::ExtendedKeyUsage | Reject::CertificateMalformed),
            "{policy:?}: {refusal}"
        );
    }
}

#[test]
fn duplicate_extensions_are_malformed() {
    let root = Authority::root("root");
    let twice = |extension: Vec<u8>| Template::client("sender").with(extension.clone()).with(extension);
    for (case, template) in [
        ("alternative names", twice(alternative_names(&[dns("a.example.com")]))),
        ("unknown to webpki", twice(extension("1.3.6.1.4.1.99999.1", false, &[0x05, 0x00]))),
        ("broken alternative names", Template::client("sender").with(extension("2.5.29.17", false, &[0x30, 0x05]))),
    ] {
        check(
            case,
            profile(&root, "sender"),
            &[root.issue(&template)],
            Reject::CertificateMalformed,
            &["Certificate 1"],
        );
    }
}

#[test]
fn hostile_names_stay_short_and_printable_in_details() {
    let root = Authority::root("root");
    let hostile = format!("\u{1b}[31m\r\n\u{202e}{}", "\u{e9}\u{0}x".repeat(2000));
    let foreign = Authority::root(&hostile);
    let leaf = foreign.issue(&Template::client(&hostile).serial(&[0x7f; 200]));
    check("strange", profile(&root, "sender"), &[leaf], Reject::UnknownIssuer, &["..."]);
    let admitted = root.issue(&Template::client(&hostile));
    check("mismatch", profile(&root, "sender"), &[admitted], Reject::IdentityMismatch, &["..."]);
}

#[test]
fn the_proof_is_valid_until_the_earliest_end() {
    let root = Authority::root("root");
    let until = |leaf: u64, issuer: u64| {
        let authority = Template::new(common_name("issuing")).with(authority_extension(None));
        let issuing = root.intermediate_by(authority.between(NOW - DAY, issuer));
        let leaf = issuing.issue(&Template::client("sender").between(NOW - DAY, leaf));
        // A presented certificate that is on no path does not count.
        let unused = Authority::root("unused").intermediate_by(
            Template::new(common_name("unused")).with(authority_extension(None)).between(NOW - DAY, NOW + 1),
        );
        let chain = [leaf, issuing.certificate.clone(), unused.certificate];
        verify(profile(&root, "sender"), &chain).unwrap().valid_until()
    };
    assert_eq!(until(NOW + 5, NOW + 10), at(NOW + 6));
    assert_eq!(until(NOW + 10, NOW + 5), at(NOW + 6));
    assert_eq!(until(NOW, NOW + 5), at(NOW + 1));
}

#[test]
fn too_many_possible_paths_end_the_search() {
    let (root, tangled) = (Authority::root("root"), Authority::root("tangled"));
    let template = || Template::new(common_name("tangled")).with(authority_extension(None));
    // Seven keys of one name, each certified by that name, and one of them by the anchor's name: factorially many paths.
    let mut issuers: Vec<_> = (0..6).map(|_| tangled.intermediate_by(template())).collect();
    issuers.push(Authority::root("root").intermediate_by(template()));
    let mut chain = vec![issuers[0].issue(&Template::client("sender"))];
    chain.extend(issuers.iter().map(|issuer| issuer.certificate.clone()));
    check("tangle", profile(&root, "sender"), &chain, Reject::ChainTooLarge, &["8 presented certificates"]);
}

#[test]
fn a_valid_path_is_found_among_imitations() {
    let (root, impostor) = (Authority::root("root"), Authority::root("root"));
    let issuing = root.intermediate("issuing");
    let imitation = impostor.intermediate("issuing");
    let chain =
        [issuing.issue(&Template::client("sender")), imitation.certificate.clone(), issuing.certificate.clone()];
    let verified = verify(profile(&root, "sender"), &chain).unwrap();
    assert_eq!(verified.matches()[0].trust_anchor_depth, 2);
}

#[test]
fn a_mismatch_says_whether_there_are_other_rules() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("stranger"))];
    let detail = |rules: usize| {
        let identity = (0..rules).flat_map(|index| by_common_name(&format!("sender {index}"))).collect();
        let refusal = verify(Profile { identity, ..profile(&root, "-") }, &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::IdentityMismatch);
        refusal.detail().contains("or another of its identity rules")
    };
    assert_eq!((detail(1), detail(2)), (false, true));
}

#[test]
fn a_long_serial_number_is_cut_in_a_detail() {
    let foreign = Authority::root("foreign");
    let detail = |bytes: usize| {
        let chain = [foreign.issue(&Template::client("sender").serial(&vec![0x11; bytes]))];
        verify(profile(&Authority::root("root"), "sender"), &chain).unwrap_err().refusal.detail().to_owned()
    };
    let shown = ["11"; 20].join(":");
    assert!(detail(20).contains(&format!("serial {shown}, not before")), "{}", detail(20));
    assert!(detail(21).contains(&format!("serial {shown}..., not before")), "{}", detail(21));
}
