//! Identity rules against whole certificates, most of them near misses.

use ring::digest::{SHA256, digest};

use super::fixture::*;
use crate::identity::{Condition, DnsPattern, IdentityRule, Profile, RuleError};
use crate::reject::Reject;

const CN: &str = "2.5.4.3";
const O: &str = "2.5.4.10";
const OU: &str = "2.5.4.11";
const C: &str = "2.5.4.6";

fn check(case: &str, condition: Condition, template: &Template, expected: bool) {
    let root = Authority::root("root");
    let leaf = root.issue(template);
    let profile = Profile { identity: vec![rule(vec![condition.clone()])], ..profile(&root, "-") };
    match verify(profile, &[leaf]) {
        Ok(_) => assert!(expected, "{case}: {condition} matched"),
        Err(refusal) => {
            assert_eq!(refusal.refusal.reject, Reject::IdentityMismatch, "{case}: {}", refusal.refusal);
            assert!(!expected, "{case}: {}", refusal.refusal);
        }
    }
}

#[test]
fn a_common_name_is_compared_whole_and_must_be_alone() {
    let utf8 = |text: &'static str| (CN, UTF8_STRING, text.as_bytes());
    let right = "webhooks.pagerduty.com";
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("same", name(&[&[utf8(right)]]), true),
        ("printable", name(&[&[(CN, PRINTABLE_STRING, right.as_bytes())]]), true),
        ("beside others", name(&[&[(C, PRINTABLE_STRING, b"US")], &[utf8(right)]]), true),
        ("multi-valued", name(&[&[utf8(right), (OU, UTF8_STRING, b"x")]]), true),
        ("prefix", name(&[&[utf8("webhooks.pagerduty.com.evil.example")]]), false),
        ("suffix", name(&[&[utf8("evil-webhooks.pagerduty.com")]]), false),
        ("substring", name(&[&[utf8("x webhooks.pagerduty.com y")]]), false),
        ("case", name(&[&[utf8("Webhooks.pagerduty.com")]]), false),
        ("trailing space", name(&[&[utf8("webhooks.pagerduty.com ")]]), false),
        ("embedded NUL", name(&[&[utf8("webhooks.pagerduty.com\0.evil.example")]]), false),
        ("trailing NUL", name(&[&[utf8("webhooks.pagerduty.com\0")]]), false),
        ("within O", name(&[&[(O, UTF8_STRING, b"x/CN=webhooks.pagerduty.com")]]), false),
        ("O only", name(&[&[(O, UTF8_STRING, right.as_bytes())]]), false),
        ("twice the same", name(&[&[utf8(right)], &[utf8(right)]]), false),
        ("right, then another", name(&[&[utf8(right)], &[utf8("other")]]), false),
        ("another, then right", name(&[&[utf8("other")], &[utf8(right)]]), false),
        ("two in one set", name(&[&[utf8(right), utf8("other")]]), false),
        ("not UTF-8", name(&[&[(CN, UTF8_STRING, b"webhooks.pagerduty.com\xff")]]), false),
        ("octets", name(&[&[(CN, 0x04, right.as_bytes())]]), false),
        ("empty", name(&[]), false),
    ];
    for (case, subject, expected) in cases {
        let template = Template { subject, ..Template::client("") };
        check(case, Condition::subject_cn(right).unwrap(), &template, expected);
    }
}

#[test]
fn a_subject_is_compared_attribute_by_attribute() {
    let percolate = "/C=US/ST=New York/L=New York/O=Percolate Industries, Inc./CN=Percolate Industries, Inc.";
    let (st, l) = ("2.5.4.8", "2.5.4.7");
    let organisation = b"Percolate Industries, Inc.".as_slice();
    let c = (C, PRINTABLE_STRING, b"US".as_slice());
    let state = (st, UTF8_STRING, b"New York".as_slice());
    let city = (l, PRINTABLE_STRING, b"New York".as_slice());
    let o = (O, UTF8_STRING, organisation);
    let common = (CN, UTF8_STRING, organisation);
    let ou = (OU, UTF8_STRING, b"Evil".as_slice());
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("same", name(&[&[c], &[state], &[city], &[o], &[common]]), true),
        ("other order", name(&[&[common], &[o], &[city], &[state], &[c]]), false),
        ("two swapped", name(&[&[c], &[city], &[state], &[o], &[common]]), false),
        ("one missing", name(&[&[c], &[state], &[city], &[o]]), false),
        ("one more at the end", name(&[&[c], &[state], &[city], &[o], &[common], &[ou]]), false),
        ("one more in the middle", name(&[&[c], &[state], &[city], &[o], &[ou], &[common]]), false),
        ("one twice", name(&[&[c], &[state], &[city], &[o], &[common], &[common]]), false),
        ("joined", name(&[&[c], &[state], &[city], &[o, common]]), false),
        ("case", name(&[&[(C, PRINTABLE_STRING, b"us")], &[state], &[city], &[o], &[common]]), false),
        ("all in one value", name(&[&[(CN, UTF8_STRING, percolate.as_bytes())]]), false),
    ];
    for (case, subject, expected) in cases {
        let template = Template { subject, ..Template::client("") };
        check(case, Condition::subject(percolate).unwrap(), &template, expected);
        let rfc4514 = "CN=Percolate Industries\\, Inc.,O=Percolate Industries\\2C Inc.,L=New York,ST=New York,C=US";
        check(case, Condition::subject(rfc4514).unwrap(), &template, expected);
    }
}

#[test]
fn a_multi_valued_name_is_a_set() {
    let (a, b) = ((CN, UTF8_STRING, b"a".as_slice()), (OU, UTF8_STRING, b"b".as_slice()));
    let joined = name(&[&[(C, PRINTABLE_STRING, b"DE")], &[a, b]]);
    let turned = name(&[&[(C, PRINTABLE_STRING, b"DE")], &[b, a]]);
    let apart = name(&[&[(C, PRINTABLE_STRING, b"DE")], &[a], &[b]]);
    let doubled = name(&[&[(C, PRINTABLE_STRING, b"DE")], &[a, a]]);
    for text in ["/C=DE/CN=a+OU=b", "/C=DE/OU=b+CN=a", "CN=a+OU=b,C=DE", "OU=b+CN=a,C=DE", "OU=b+CN=#0c0161,C=DE"] {
        let with = |subject: &Vec<u8>| Template { subject: subject.clone(), ..Template::client("") };
        check("joined", Condition::subject(text).unwrap(), &with(&joined), true);
        check("turned", Condition::subject(text).unwrap(), &with(&turned), true);
        check("apart", Condition::subject(text).unwrap(), &with(&apart), false);
        check("doubled", Condition::subject(text).unwrap(), &with(&doubled), false);
    }
}

#[test]
fn string_types_are_decoded_strictly() {
    let cases: &[(&str, u8, &[u8], bool)] = &[
        ("UTF8String", 0x0c, "\u{e9}-a".as_bytes(), true),
        ("BMPString", 0x1e, &[0, 0xe9, 0, b'-', 0, b'a'], true),
        ("UniversalString", 0x1c, &[0, 0, 0, 0xe9, 0, 0, 0, b'-', 0, 0, 0, b'a'], true),
        ("BMPString, odd", 0x1e, &[0, 0xe9, 0, b'-', 0, b'a', 0], false),
        ("UniversalString, short", 0x1c, &[0, 0, 0, 0xe9, 0, 0, 0, b'-', 0, 0, b'a'], false),
        ("TeletexString, Latin-1", 0x14, &[0xe9, b'-', b'a'], false),
        ("PrintableString, UTF-8", 0x13, "\u{e9}-a".as_bytes(), false),
        ("IA5String, UTF-8", 0x16, "\u{e9}-a".as_bytes(), false),
        ("UTF8String, decomposed", 0x0c, "e\u{301}-a".as_bytes(), false),
    ];
    for (case, tag, bytes, expected) in cases {
        let template = Template { subject: name(&[&[(CN, *tag, bytes)]]), ..Template::client("") };
        check(case, Condition::subject_cn("\u{e9}-a").unwrap(), &template, *expected);
        check(case, Condition::subject("/CN=\u{e9}-a").unwrap(), &template, *expected);
        // The encoded form matches any value, also one that cannot be decoded.
        let encoded = data_encoding::HEXLOWER.encode(&tlv(*tag, &[bytes]));
        check(case, Condition::subject(&format!("CN=#{encoded}")).unwrap(), &template, true);
    }
    for (case, tag, text, expected) in [
        ("PrintableString", 0x13, "a b", true),
        ("PrintableString with asterisk", 0x13, "*.a", true),
        ("PrintableString with at sign", 0x13, "a@b", true),
        ("PrintableString with underscore", 0x13, "hook_sender", true),
        ("PrintableString with a control character", 0x13, "a\tb", false),
        ("IA5String with at sign", 0x16, "a@b", true),
        ("VisibleString", 0x1a, "a@b", true),
        ("TeletexString", 0x14, "a b", true),
        ("TeletexString with dollar", 0x14, "a$b", false),
        // Bits 8 and 7 are the class, bit 6 the form (X.690, section 8.1.2).
        ("UTF8String", 0x0c, "a b", true),
        ("UTF8String, constructed", 0x2c, "a b", false),
        ("context-specific 12", 0x8c, "a b", false),
        ("context-specific 12, constructed", 0xac, "a b", false),
        ("NumericString", 0x12, "12 3", true),
        ("NumericString with letter", 0x12, "12a", false),
    ] {
        let template = Template { subject: name(&[&[(CN, tag, text.as_bytes())]]), ..Template::client("") };
        check(case, Condition::subject_cn(text).unwrap(), &template, expected);
    }
}

#[test]
fn dns_names_match_exactly_or_one_label_of_a_wildcard() {
    let cases = [
        ("client.example.com", "client.example.com", true),
        ("client.example.com", "CLIENT.Example.COM", true),
        ("Client.Example.com", "client.example.com", true),
        ("client.example.com", "*.example.com", false),
        ("client.example.com", "xclient.example.com", false),
        ("client.example.com", "client.example.com.evil.example", false),
        ("client.example.com", "client.example.com.", false),
        ("client.example.com", "client.example.com\0.evil.example", false),
        ("*.dialogflow.com", "*.dialogflow.com", true),
        ("*.dialogflow.com", "foo.dialogflow.com", true),
        ("*.dialogflow.com", "FOO.Dialogflow.com", true),
        ("*.dialogflow.com", "dialogflow.com", false),
        ("*.dialogflow.com", ".dialogflow.com", false),
        ("*.dialogflow.com", "a.b.dialogflow.com", false),
        ("*.dialogflow.com", "*.foo.dialogflow.com", false),
        ("*.dialogflow.com", "f*.dialogflow.com", false),
        ("*.dialogflow.com", "foo.evil-dialogflow.com", false),
        ("*.dialogflow.com", "foo.dialogflow.com.evil.example", false),
        ("*.dialogflow.com", "a\0b.dialogflow.com", false),
    ];
    for (pattern, found, expected) in cases {
        let template = Template::client("x").with(alternative_names(&[uri("https://a.example/"), dns(found)]));
        check(&format!("{pattern} and {found:?}"), Condition::san_dns(pattern).unwrap(), &template, expected);
    }
    let pattern = || Condition::san_dns("client.example.com").unwrap();
    check("in the CN alone", pattern(), &Template::client("client.example.com"), false);
    let as_uri = Template::client("x").with(alternative_names(&[uri("client.example.com")]));
    check("of another kind", pattern(), &as_uri, false);
    let second = [dns("other.example.com"), dns("client.example.com")];
    check("second", pattern(), &Template::client("x").with(alternative_names(&second)), true);
}

#[test]
fn uris_match_exactly() {
    for (found, expected) in [
        ("spiffe://example.org/sender", true),
        ("spiffe://example.org/sender/", false),
        ("spiffe://EXAMPLE.org/sender", false),
        ("xspiffe://example.org/sender", false),
    ] {
        let template = Template::client("x").with(alternative_names(&[uri(found)]));
        check(found, Condition::san_uri("spiffe://example.org/sender").unwrap(), &template, expected);
    }
}

#[test]
fn pins_match_the_key_or_the_certificate() {
    let root = Authority::root("root");
    let leaf = root.issue(&Template::client("x"));
    let other = root.issue(&Template::client("x"));
    let hex = |bytes: &[u8]| data_encoding::HEXUPPER.encode(digest(&SHA256, bytes).as_ref());
    let colons = |hex: String| {
        hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(":")
    };
    let key = |certificate: &[u8]| {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        hex(parsed.public_key().raw)
    };
    let matches = |condition: Condition, leaf: &rustls_pki_types::CertificateDer<'_>| {
        let profile = Profile { identity: vec![rule(vec![condition])], ..profile(&root, "-") };
        verify(profile, std::slice::from_ref(leaf)).is_ok()
    };
    for text in [hex(&leaf), hex(&leaf).to_lowercase(), colons(hex(&leaf))] {
        assert!(matches(Condition::certificate_sha256(&text).unwrap(), &leaf), "{text}");
        assert!(!matches(Condition::certificate_sha256(&text).unwrap(), &other), "{text}");
        assert!(!matches(Condition::spki_sha256(&text).unwrap(), &leaf), "{text}");
    }
    for text in [key(&leaf), key(&leaf).to_lowercase(), colons(key(&leaf))] {
        assert!(matches(Condition::spki_sha256(&text).unwrap(), &leaf), "{text}");
        assert!(!matches(Condition::spki_sha256(&text).unwrap(), &other), "{text}");
        assert!(!matches(Condition::certificate_sha256(&text).unwrap(), &leaf), "{text}");
    }
}

#[test]
fn all_conditions_of_a_rule_and_any_rule_of_a_profile() {
    let root = Authority::root("root");
    let leaf = root.issue(&Template::client("sender").with(alternative_names(&[dns("a.example.com")])));
    let common = |text| Condition::subject_cn(text).unwrap();
    let host = |text| Condition::san_dns(text).unwrap();
    for (rules, expected) in [
        (vec![rule(vec![common("sender"), host("a.example.com")])], true),
        (vec![rule(vec![common("sender"), host("b.example.com")])], false),
        (vec![rule(vec![common("other"), host("a.example.com")])], false),
        (vec![rule(vec![common("other")]), rule(vec![host("a.example.com")])], true),
        (vec![], false),
    ] {
        let profile = Profile { identity: rules, ..profile(&root, "-") };
        assert_eq!(verify(profile.clone(), std::slice::from_ref(&leaf)).is_ok(), expected, "{:?}", profile.identity);
    }
}

#[test]
fn invalid_configuration_texts_are_errors() {
    assert_eq!(IdentityRule::new(vec![]), Err(RuleError::NoCondition));
    assert!(IdentityRule::new(vec![Condition::SubjectCn(String::new())]).is_err());
    assert!(Condition::subject("").is_err());
    assert_eq!(Condition::subject_cn(""), Err(RuleError::Empty { key: "subject_cn" }));
    assert_eq!(Condition::san_uri(""), Err(RuleError::Empty { key: "san_uri" }));
    assert_eq!(Condition::subject_cn("a\0"), Err(RuleError::Nul { key: "subject_cn" }));
    for text in [
        "",
        "*",
        "*.",
        "*.com",
        "*.*.com",
        "a.*.com",
        "f*.example.com",
        ".example.com",
        "example..com",
        "example.com.",
        "-a.example.com",
        "b\u{fc}cher.example",
        "a b.example",
        "https://example.com",
        "a.example.com:443",
        &"a".repeat(64),
        &["a".repeat(63).as_str(); 5].join("."),
    ] {
        assert!(DnsPattern::parse(text).is_err(), "{text}");
    }
    let digits = "0123456789abcdef".repeat(4);
    let colons = ["ab"; 32].join(":");
    assert!(Condition::spki_sha256(&digits).is_ok() && Condition::spki_sha256(&colons).is_ok());
    for text in [
        "",
        ":",
        &digits[1..],
        &format!("{digits}0"),
        &colons[3..],
        &colons.replacen(':', "", 1),
        "zz",
        &format!("sha256:{digits}"),
        &format!(" {digits}"),
    ] {
        assert!(Condition::spki_sha256(text).is_err(), "{text}");
        assert!(Condition::certificate_sha256(text).is_err(), "{text}");
    }
}

#[test]
fn a_rule_tells_its_conditions_and_is_compared_with_one_certificate() {
    let root = Authority::root("root");
    let leaf = root.issue(&Template::client("sender"));
    let conditions = vec![Condition::subject_cn("sender").unwrap(), Condition::san_dns("a.example.com").unwrap()];
    let both = rule(conditions.clone());
    assert_eq!(both.conditions(), conditions);
    let alone = rule(conditions[..1].to_vec());
    let found = crate::identity::rule::with_end_entity(&leaf, |matches| (matches(&alone), matches(&both)));
    assert_eq!(found, Some((true, false)));
    let malformed = rustls_pki_types::CertificateDer::from(vec![0x30, 0x00]);
    assert_eq!(crate::identity::rule::with_end_entity(&malformed, |_| ()), None);
}

#[test]
fn a_rule_prints_its_conditions_as_they_are_written() {
    let digits = "5a".repeat(32);
    for (condition, shown) in [
        (Condition::subject("/C=US/CN=a"), "subject \"CN=a,C=US\"".to_owned()),
        (Condition::subject_cn("a b"), "subject CN \"a b\"".to_owned()),
        (Condition::san_dns("*.Example.com"), "DNS name \"*.example.com\"".to_owned()),
        (Condition::san_uri("https://a.example/"), "URI \"https://a.example/\"".to_owned()),
        (Condition::spki_sha256(&digits), format!("public key SHA-256 {digits}")),
        (Condition::certificate_sha256(&digits), format!("certificate SHA-256 {digits}")),
    ] {
        let condition = condition.unwrap();
        assert_eq!(condition.to_string(), shown);
        let both = rule(vec![condition, Condition::subject_cn("x").unwrap()]);
        assert_eq!(both.to_string(), format!("{shown} and subject CN \"x\""));
    }
}
