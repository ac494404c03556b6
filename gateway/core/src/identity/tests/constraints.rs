//! Name constraints, of the forms that webpki processes and of those that hookgate does.

use super::fixture::*;
use crate::identity::Profile;
use crate::reject::Reject;

fn mail(text: &str) -> Vec<u8> {
    tlv(0x81, &[text.as_bytes()])
}

fn directory(name: &[u8]) -> Vec<u8> {
    tlv(0xa4, &[name])
}

/// An organization, and a common name in it.
fn member(organization: &str, common: &str) -> Vec<u8> {
    let organization = [("2.5.4.10", UTF8_STRING, organization.as_bytes())];
    let common = [("2.5.4.3", UTF8_STRING, common.as_bytes())];
    name(&[&organization, &common])
}

fn organization(text: &str) -> Vec<u8> {
    name(&[&[("2.5.4.10", PRINTABLE_STRING, text.as_bytes())]])
}

/// The name constraints extension.
fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let list = |tag: u8, bases: &[Vec<u8>]| {
        let subtrees: Vec<Vec<u8>> = bases.iter().map(|base| tlv(0x30, &[base])).collect();
        if bases.is_empty() { Vec::new() } else { tlv(tag, &[&subtrees.concat()]) }
    };
    extension("2.5.29.30", true, &tlv(0x30, &[&list(0xa0, permitted), &list(0xa1, excluded)]))
}

/// Whether a client with this subject and these alternative names passes, below an issuer with the constraints and below an anchor with
/// them. Fails if the two answers differ.
fn admits(constraints: &[u8], subject: &[u8], names: &[Vec<u8>]) -> bool {
    let template = |subject: &[u8]| Template::new(subject.to_vec()).with(authority_extension(None));
    let mut client = Template::new(subject.to_vec()).with(extended_key_usage(&[CLIENT_AUTH]));
    if !names.is_empty() {
        client = client.with(alternative_names(names));
    }
    let root = Authority::root("root");
    let narrow = root.intermediate_by(template(&member("Acme", "CA")).with(constraints.to_vec()));
    let ask = |anchor: &Authority, chain: &[_]| match verify(anchored(anchor), chain) {
        Ok(_) => true,
        Err(refusal) if refusal.refusal.reject == Reject::IdentityMismatch => true,
        Err(refusal) => {
            assert_eq!(refusal.refusal.reject, Reject::PathConstraint, "{}", refusal.refusal);
            assert!(refusal.refusal.detail().contains("Certificate 1 of"), "{}", refusal.refusal);
            assert!(refusal.refusal.detail().contains("name constraints"), "{}", refusal.refusal);
            false
        }
    };
    let below_issuer = ask(&root, &[narrow.issue(&client), narrow.certificate.clone()]);
    let below_anchor = ask(&narrow, &[narrow.issue(&client)]);
    assert_eq!(below_issuer, below_anchor);
    below_issuer
}

fn anchored(authority: &Authority) -> Profile {
    profile(authority, "sender")
}

#[test]
fn directory_names_are_compared_with_the_subtrees_of_an_issuer() {
    let (acme, other) = (directory(&organization("Acme")), directory(&organization("Other")));
    let shouted = directory(&organization("ACME"));
    let (inside, outside) = (member("Acme", "sender"), member("Ample", "sender"));
    for (permitted, excluded, subject, names, expected) in [
        (vec![acme.clone()], vec![], &inside, vec![], true),
        (vec![acme.clone()], vec![], &outside, vec![], false),
        (vec![other.clone(), shouted], vec![], &inside, vec![], true),
        (vec![], vec![acme.clone()], &inside, vec![], false),
        (vec![], vec![acme.clone()], &outside, vec![], true),
        (vec![acme.clone()], vec![directory(&inside)], &inside, vec![], false),
        // A subtree is a beginning of the name.
        (vec![directory(&common_name("sender"))], vec![], &inside, vec![], false),
        (vec![directory(&member("Acme", "sender"))], vec![], &inside, vec![], true),
        // Alternative names of this form count, and an empty subject does not.
        (vec![acme.clone()], vec![], &inside, vec![directory(&outside)], false),
        (vec![acme.clone()], vec![], &name(&[]), vec![directory(&inside)], true),
        (vec![acme.clone()], vec![], &name(&[]), vec![dns("a.example.com")], true),
        // What is no name permits nothing, and excludes everything.
        (vec![directory(&[0x05, 0x00])], vec![], &inside, vec![], false),
        (vec![], vec![directory(&[0x05, 0x00])], &inside, vec![], false),
        // The forms of webpki stay in force.
        (vec![acme.clone(), dns("example.com")], vec![], &inside, vec![dns("a.example.com")], true),
        (vec![acme.clone(), dns("example.com")], vec![], &inside, vec![dns("a.example.org")], false),
        (vec![acme], vec![uri("example.com")], &inside, vec![uri("https://a.example.com/")], false),
    ] {
        let found = admits(&constraints(&permitted, &excluded), subject, &names);
        assert_eq!(found, expected, "{permitted:x?} {excluded:x?} {subject:x?} {names:x?}");
    }
}

#[test]
fn mail_addresses_are_compared_with_the_subtrees_of_an_issuer() {
    let subject = common_name("sender");
    let with_address =
        name(&[&[("2.5.4.3", UTF8_STRING, b"sender")], &[("1.2.840.113549.1.9.1", 0x16, b"ops@Acme.example")]]);
    for (base, address, within) in [
        ("acme.example", "ops@ACME.example", true),
        ("acme.example", "ops@mail.acme.example", false),
        (".acme.example", "ops@mail.acme.example", true),
        (".acme.example", "ops@acme.example", false),
        (".acme.example", "ops@notacme.example", false),
        (".acme.example", "ops@.acme.example", false),
        ("ops@acme.example", "ops@Acme.Example", true),
        ("ops@acme.example", "Ops@acme.example", false),
        ("acme.example", "\"ops@home\"@acme.example", true),
        ("acme.example", "\"ops@acme.example\"@other.example", false),
    ] {
        assert_eq!(admits(&constraints(&[mail(base)], &[]), &subject, &[mail(address)]), within, "{base} {address}");
        assert_eq!(admits(&constraints(&[], &[mail(base)]), &subject, &[mail(address)]), !within, "{base} {address}");
        // One address outside is enough.
        let two = [mail(address), mail("x@outside.example")];
        assert!(!admits(&constraints(&[mail(base)], &[]), &subject, &two), "{base} {address}");
    }
    // What is no address, or no constraint, is neither permitted nor not excluded.
    for (base, address) in [
        ("acme.example", "acme.example"),
        ("", "ops@acme.example"),
        ("acme.example", "@acme.example"),
        ("acme.example", "ops@home@acme.example"),
        ("acme.example", "ops@acme.example@other.example"),
    ] {
        assert!(!admits(&constraints(&[mail(base)], &[]), &subject, &[mail(address)]), "{base} {address}");
        assert!(!admits(&constraints(&[], &[mail(base)]), &subject, &[mail(address)]), "{base} {address}");
    }
    // Without alternative names, the address in the subject counts.
    assert!(admits(&constraints(&[mail("acme.example")], &[]), &with_address, &[]));
    assert!(!admits(&constraints(&[mail("other.example")], &[]), &with_address, &[]));
    assert!(admits(&constraints(&[mail("other.example")], &[]), &with_address, &[dns("a.example.com")]));
    assert!(admits(&constraints(&[mail("other.example")], &[]), &subject, &[]));
}

#[test]
fn an_issuer_with_constraints_that_constrain_nothing_is_refused() {
    let root = Authority::root("root");
    for contents in [vec![], tlv(0xa0, &[]), tlv(0xa1, &[]), [tlv(0xa0, &[]), tlv(0xa1, &[])].concat()] {
        let void = extension("2.5.29.30", true, &tlv(0x30, &[&contents]));
        let issuing =
            root.intermediate_by(Template::new(common_name("void")).with(authority_extension(None)).with(void));
        let chain = [issuing.issue(&Template::client("sender")), issuing.certificate];
        let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::CertificateMalformed, "{refusal}");
        assert!(refusal.detail().contains("2 of 2"), "{refusal}");
    }
}

#[test]
fn constraints_bind_every_certificate_below_except_self_issued_authorities() {
    let root = Authority::root("root");
    let authority = |subject: &[u8]| Template::new(subject.to_vec()).with(authority_extension(None));
    let acme = constraints(&[directory(&organization("Acme"))], &[]);
    let client = |issuer: &Authority| {
        issuer.issue(&Template::new(member("Acme", "sender")).with(extended_key_usage(&[CLIENT_AUTH])))
    };
    // The constrained issuer is itself outside of its subtree, and so is its own next generation.
    let narrow = root.intermediate_by(authority(&common_name("narrow")).with(acme));
    let next = narrow.intermediate_by(authority(&common_name("narrow")));
    let chain = [client(&next), next.certificate.clone(), narrow.certificate.clone()];
    assert_eq!(verify(profile(&root, "sender"), &chain).unwrap().matches()[0].trust_anchor_depth, 2);
    // Another authority outside is not.
    let outside = narrow.intermediate_by(authority(&common_name("outside")));
    let chain = [client(&outside), outside.certificate.clone(), narrow.certificate.clone()];
    let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::PathConstraint, "{refusal}");
    assert!(refusal.detail().contains("Certificate 2 of 3"), "{refusal}");
}
