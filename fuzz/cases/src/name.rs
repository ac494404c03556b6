//! Target `name`: identity rules as written, and end entities that are compared with them.
//!
//! Input: text, one condition. If it begins with `0`, the DER of an end entity instead.

use hookgate_core::identity::{Condition, DistinguishedName, DnsPattern, IdentityRule, rule};
use rustls_pki_types::CertificateDer;

use crate::policy::{CERTIFICATES, GOOD};

/// Compares a rule with the committed certificates, or the usual rules with a certificate. What is printed must be read as the same.
pub fn judge(input: &[u8]) {
    if input.first() == Some(&0x30) {
        certificate(input);
    } else if let Ok(text) = std::str::from_utf8(input) {
        condition(text);
    }
}

fn certificate(der: &[u8]) {
    let conditions = [
        Condition::subject("/C=US/O=Example, Inc./CN=sender"),
        Condition::subject_cn("sender"),
        Condition::san_dns("*.sender.example"),
        Condition::san_uri("https://sender.example/"),
    ];
    let rules = conditions.map(|condition| condition.and_then(|condition| IdentityRule::new(vec![condition])));
    let certificate = CertificateDer::from(der.to_vec());
    rule::with_end_entity(&certificate, |matches| {
        for rule in &rules {
            matches(rule.as_ref().expect("the rules of the case are well-formed"));
        }
    });
}

fn condition(text: &str) {
    if let Ok(name) = DistinguishedName::parse(text) {
        let shown = name.to_string();
        assert!(shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?} is shown as {shown:?}");
        assert_eq!(DistinguishedName::parse(&shown).as_ref(), Ok(&name), "{text:?} is shown as {shown:?}");
    }
    if let Ok(pattern) = DnsPattern::parse(text) {
        assert_eq!(DnsPattern::parse(&pattern.to_string()).as_ref(), Ok(&pattern), "{text:?}");
    }
    let conditions = [
        Condition::subject(text),
        Condition::subject_cn(text),
        Condition::san_dns(text),
        Condition::san_uri(text),
        Condition::spki_sha256(text),
        Condition::certificate_sha256(text),
    ];
    for (place, condition) in conditions.into_iter().enumerate() {
        let condition = match condition {
            Ok(condition) => condition,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                continue;
            }
        };
        let rule = IdentityRule::new(vec![condition]).expect("one condition makes a rule");
        for certificate in CERTIFICATES.iter() {
            let matches = rule::with_end_entity(certificate, |matches| matches(&rule));
            // A text that is no part of a name matches none.
            if matches == Some(true) && place == 1 {
                assert!(text == "sender" || certificate != &CERTIFICATES[GOOD], "{text:?}");
            }
        }
    }
}
