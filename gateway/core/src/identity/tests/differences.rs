//! Certificates that RFC 5280 forbids authorities to issue, or allows them to, and on which verifiers differ.
//!
//! `docs/rfc5280.md` lists each of them. They are about what the certificate of a well-meaning authority may look like; none of them lets
//! a peer prove a name that an authority did not certify.

use super::fixture::*;
use crate::reject::Reject;

/// One certificate of a chain, as a test changes it.
type Change = fn(Template) -> Template;

fn plain(template: Template) -> Template {
    template
}

/// Verifies an end entity below an intermediate below a root, each of the two first with a change. `None` if the path is valid.
fn refusal(end_entity: Change, issuer: Change) -> Option<Reject> {
    let root = Authority::root("root");
    let issuer = issuer(Template::new(common_name("issuing")).with(authority_extension(None)));
    let issuing = root.intermediate_by(issuer);
    let chain = [issuing.issue(&end_entity(Template::client("sender"))), issuing.certificate];
    let refused = verify(profile(&root, "sender"), &chain).err().map(|refusal| refusal.refusal.reject);
    // An end entity without a subject matches no rule of the profile.
    refused.filter(|reject| *reject != Reject::IdentityMismatch)
}

fn without_subject(template: Template) -> Template {
    Template { subject: name(&[]), ..template }
}

#[test]
fn forms_that_prove_nothing_false_are_admitted() {
    let named = |name: &str| alternative_names(&[dns(name)]);
    // The fixture has no key identifiers, and alternative names that are not critical.
    let cases: [(&str, Change, Change); 8] = [
        ("no key identifiers", plain, plain),
        ("serial number 0", |template| template.serial(&[0]), |template| template.serial(&[0])),
        ("serial number of 20 bytes", |template| template.serial(&[0x7f; 20]), |template| template.serial(&[0x7f; 20])),
        (
            "serial number of 20 bytes after a zero",
            |template| template.serial(&[&[0], &[0xff; 20][..]].concat()),
            plain,
        ),
        ("policy constraints", plain, |template| {
            template.with(extension("2.5.29.36", false, &tlv(0x30, &[&tlv(0x80, &[&[0]])])))
        }),
        (
            "an end entity without a subject",
            |template| without_subject(template).with(alternative_names(&[dns("a.b")])),
            plain,
        ),
        ("RSA of 2049 bits", |template| Template { public_key: Some(rsa_2049()), ..template }, plain),
        ("a malformed extension", |template| template.with(extension("1.3.6.1.5.5.7.1.1", false, b"malformed")), plain),
    ];
    for (case, end_entity, issuer) in cases {
        assert_eq!(refusal(end_entity, issuer), None, "{case}");
    }
    for name in ["hook_sender.example.com", "192.0.2.1"] {
        let root = Authority::root("root");
        let chain = [root.issue(&Template::client("sender").with(named(name)))];
        assert!(verify(profile(&root, "sender"), &chain).is_ok(), "{name}");
    }
}

#[test]
fn constraints_are_enforced_though_written_in_another_form() {
    fn within(template: Template) -> Template {
        template.with(alternative_names(&[dns("a.example.com")]))
    }
    fn outside(template: Template) -> Template {
        template.with(alternative_names(&[dns("a.example.org")]))
    }
    let leading_dot: Change = |template| template.with(permitted_domain(".example.com"));
    let not_critical: Change = |template| {
        let permitted = tlv(0xa0, &[&tlv(0x30, &[&dns("example.com")])]);
        template.with(extension("2.5.29.30", false, &tlv(0x30, &[&permitted])))
    };
    fn itself(template: Template) -> Template {
        template.with(alternative_names(&[dns("example.com")]))
    }
    assert_eq!(refusal(itself, leading_dot), Some(Reject::PathConstraint));
    assert_eq!(refusal(itself, not_critical), None);
    for issuer in [leading_dot, not_critical] {
        assert_eq!(refusal(within, issuer), None);
        assert_eq!(refusal(outside, issuer), Some(Reject::PathConstraint));
    }
}

#[test]
fn a_critical_extension_that_is_not_processed_refuses_the_chain() {
    let authority_key: Change =
        |template| template.with(extension("2.5.29.35", true, &tlv(0x30, &[&tlv(0x80, &[&[7; 20]])])));
    let own_key: Change = |template| template.with(extension("2.5.29.14", true, &tlv(0x04, &[&[7; 20]])));
    for change in [authority_key, own_key] {
        assert_eq!(refusal(change, plain), Some(Reject::PathConstraint));
        assert_eq!(refusal(plain, change), Some(Reject::PathConstraint));
    }
}

#[test]
fn forms_that_contradict_themselves_are_refused() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("sender").with(permitted_domain("example.com")))];
    let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::CertificateMalformed);
    assert!(refusal.detail().contains("has name constraints, but is not a CA certificate"), "{refusal}");

    for usage in [key_usage(&[0, 5]), key_usage(&[0, 2, 5])] {
        let chain = [root.issue(&Template::client("sender").with(usage))];
        let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::CertificateMalformed);
        assert!(refusal.detail().contains("with keyCertSign, but is not a CA certificate"), "{refusal}");
    }
    // Of a self-signed client nothing is asked but what the operator chose.
    let own = Authority::root("sender");
    let template = Template::client("sender").with(key_usage(&[0, 5]));
    assert!(verify(profile(&own, "sender"), &[own.certified_by(&template, &own.subject, &own)]).is_ok());

    for (client, issuer, place) in [(&[0x7f; 21][..], &[1][..], "1 of 2"), (&[1], &[0x7f; 22], "2 of 2")] {
        let template = Template::new(common_name("issuing")).with(authority_extension(None)).serial(issuer);
        let issuing = root.intermediate_by(template);
        let chain = [issuing.issue(&Template::client("sender").serial(client)), issuing.certificate];
        let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::CertificateMalformed);
        assert!(refusal.detail().contains(&format!("Certificate {place}")), "{refusal}");
        assert!(refusal.detail().contains("more than 20 bytes"), "{refusal}");
    }

    let issuing = root.intermediate_by(without_subject(Template::client("-")).with(authority_extension(None)));
    let chain = [issuing.issue(&Template::client("sender")), issuing.certificate];
    let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::CertificateMalformed);
    assert!(refusal.detail().contains("Certificate 2 of 2"), "{refusal}");
    assert!(refusal.detail().contains("has an empty subject"), "{refusal}");
}

/// A SubjectPublicKeyInfo whose length is no multiple of 8 bits.
fn rsa_2049() -> Vec<u8> {
    let key = tlv(0x30, &[&tlv(0x02, &[&[1], &[0xff; 256]]), &[0x02, 0x03, 1, 0, 1]]);
    let algorithm = tlv(0x30, &[&oid("1.2.840.113549.1.1.1"), &[0x05, 0x00]]);
    tlv(0x30, &[&algorithm, &tlv(0x03, &[&[0], &key])])
}
