//! What is advised for names that a certificate has.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use rcgen::{CertificateParams, DistinguishedName as Subject, DnType, DnValue, KeyPair};

use super::*;

fn certificate(attributes: &[(DnType, DnValue)]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = Subject::new();
    for (kind, value) in attributes {
        params.distinguished_name.push(kind.clone(), value.clone());
    }
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn named(name: &str) -> CertificateDer<'static> {
    certificate(&[(DnType::CommonName, DnValue::Utf8String(name.to_owned()))])
}

/// What is advised is a rule that matches this certificate.
#[track_caller]
fn check(certificate: &CertificateDer<'_>, expected: &str) {
    let rule = condition(certificate).unwrap();
    assert_eq!(rule, expected);
    let table: toml::Table = rule.parse().unwrap();
    if let Some(subject) = table.get("subject") {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let written = DistinguishedName::parse(subject.as_str().unwrap()).unwrap();
        let shown = DistinguishedName::parse(&printable_name(parsed.subject().as_raw()).unwrap()).unwrap();
        assert_eq!(written, shown);
    }
}

#[test]
fn a_name_is_advised_in_a_form_that_matches_it() {
    check(&named("hooks.example.com"), "subject_cn = \"hooks.example.com\"");
    check(&named("a\"b"), "subject_cn = 'a\"b'");
    // Control characters, a NUL (no text at all), and what a terminal would obey.
    check(&named("a\u{1b}[2Jb"), "subject = 'CN=a\\1B[2Jb'");
    check(&named("a\0b"), "subject = \"CN=#0c03610062\"");
    check(&named("ä"), "subject = 'CN=\\C3\\A4'");
    let two = [("a", DnType::CommonName), ("b", DnType::OrganizationName)];
    let two = two.map(|(text, kind)| (kind, DnValue::Utf8String(text.to_owned())));
    check(&certificate(&two), "subject_cn = \"a\"");
    // A text that cannot match is not advised.
    assert!(condition(&named(&"x".repeat(20_000))).unwrap_err().contains("longer than a rule should be"));
    assert!(condition(&certificate(&[])).unwrap_err().contains("is empty"));
}
