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

/// Verifies an end entity below an intermediate below a root, each of the two first with a change. `None` if it is admitted.
fn refusal(end_entity: Change, issuer: Change) -> Option<Reject> {
    let root = Authority::root("root");
    let issuer = issuer(Template::new(common_name("issuing")).with(authority_extension(None)));
    let issuing = root.intermediate_by(issuer);
    let chain = [issuing.issue(&end_entity(Template::client("sender"))), issuing.certificate];
    verify(profile(&root, "sender"), &chain).err().map(|refusal| refusal.refusal.reject)
}

#[test]
fn forms_that_prove_nothing_false_are_admitted() {
    let critical_key: Change =
        |template| template.with(extension("2.5.29.35", true, &tlv(0x30, &[&tlv(0x80, &[&[7; 20]])])));
    let critical_own_key: Change = |template| template.with(extension("2.5.29.14", true, &tlv(0x04, &[&[7; 20]])));
    for (case, end_entity, issuer, expected) in [
        // No certificate of the fixture has a key identifier.
        ("no key identifiers", plain as Change, plain as Change, None),
        ("serial number 0", |template| template.serial(&[0]), |template| template.serial(&[0]), None),
        ("serial number of 21 bytes", |template| template.serial(&[0x7f; 21]), plain, None),
        ("name constraints in an end entity", |template| template.with(permitted_domain("example.com")), plain, None),
        ("keyCertSign in an end entity", |template| template.with(key_usage(&[0, 5])), plain, None),
        (
            "an underscore in a DNS name",
            |template| template.with(alternative_names(&[dns("hook_sender.example.com")])),
            plain,
            None,
        ),
        ("an address in a DNS name", |template| template.with(alternative_names(&[dns("192.0.2.1")])), plain, None),
        (
            "a leading dot in a constraint",
            |template| template.with(alternative_names(&[dns("a.example.com")])),
            |template| template.with(permitted_domain(".example.com")),
            None,
        ),
        // webpki knows the extension but not as a critical one.
        ("a critical authority key identifier", critical_key, plain, Some(Reject::PathConstraint)),
        ("a critical subject key identifier", critical_own_key, plain, Some(Reject::PathConstraint)),
    ] {
        assert_eq!(refusal(end_entity, issuer), expected, "{case}");
    }
}
