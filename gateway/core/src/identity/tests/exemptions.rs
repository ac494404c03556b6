//! Certificates that RFC 5280 exempts from a rule that webpki enforces: self-issued authorities, and authorities at the end of a path.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::Profile;
use crate::reject::Reject;

fn issuer(length: Option<u8>) -> Template {
    Template::new(common_name("issuing")).with(authority_extension(length))
}

fn client() -> Template {
    Template::client("sender").with(alternative_names(&[dns("a.example.com")]))
}

/// The depth of the trust anchor, or the reason.
fn depth(root: &Authority, chain: &[CertificateDer<'_>]) -> Result<usize, Reject> {
    match verify(profile(root, "sender"), chain) {
        Ok(verified) => Ok(verified.matches()[0].trust_anchor_depth),
        Err(refusal) => Err(refusal.refusal.reject),
    }
}

#[test]
fn self_issued_authorities_do_not_count_for_path_length_and_depth() {
    let root = Authority::root("root");
    // An authority certifies its next key, and that key another authority.
    let old = root.intermediate_by(issuer(Some(0)));
    let new = old.intermediate_by(issuer(Some(0)));
    let chain = [new.issue(&client()), new.certificate.clone(), old.certificate.clone()];
    assert_eq!(depth(&root, &chain), Ok(2));
    let low = Profile { verify_depth: 1, ..profile(&root, "sender") };
    assert_eq!(verify(low, &chain).unwrap_err().refusal.reject, Reject::PathTooLong);

    // The next key of the trust anchor itself, certified by the one that is trusted.
    let next = root.intermediate_by(Template::new(common_name("root")).with(authority_extension(None)));
    assert_eq!(depth(&root, &[next.issue(&client()), next.certificate.clone()]), Ok(1));
    let issuing = next.intermediate_by(issuer(Some(0)));
    let chain = [issuing.issue(&client()), issuing.certificate.clone(), next.certificate.clone()];
    assert_eq!(depth(&root, &chain), Ok(2));
}

#[test]
fn other_authorities_count_for_the_path_length_of_every_issuer_above() {
    let root = Authority::root("root");
    // Below, there is a self-issued authority in each case, so that webpki does not judge the length.
    for (top, middle, admitted) in [
        (None, None, true),
        (Some(1), None, true),
        (Some(0), None, false),
        (Some(1), Some(0), true),
        (Some(2), Some(0), true),
        (Some(0), Some(0), false),
    ] {
        let above = root.intermediate_by(Template::new(common_name("above")).with(authority_extension(top)));
        let old = above.intermediate_by(issuer(middle));
        let new = old.intermediate_by(issuer(None));
        let chain = [new.issue(&client()), new.certificate.clone(), old.certificate.clone(), above.certificate.clone()];
        let expected = if admitted { Ok(3) } else { Err(Reject::PathConstraint) };
        assert_eq!(depth(&root, &chain), expected, "{top:?} {middle:?}");
        if !admitted {
            let refusal = verify(profile(&root, "sender"), &chain).unwrap_err().refusal;
            assert!(refusal.detail().contains("Certificate 4 of 4"), "{refusal}");
            assert!(refusal.detail().contains("pathLenConstraint"), "{refusal}");
        }
    }
}

#[test]
fn a_malformed_path_length_is_refused_beside_a_self_issued_authority() {
    let root = Authority::root("root");
    for contents in
        [&[0x02, 0x01, 0x00, 0x05, 0x00][..], &[0x02, 0x00], &[0x05, 0x00], &[0x02, 0x01, 0xff], &[0x02, 0x01, 0x80]]
    {
        let odd = extension("2.5.29.19", true, &tlv(0x30, &[&[0x01, 0x01, 0xff], contents]));
        let old = root.intermediate_by(Template::new(common_name("issuing")).with(odd));
        let new = old.intermediate_by(issuer(Some(0)));
        let chain = [new.issue(&client()), new.certificate.clone(), old.certificate.clone()];
        assert!(depth(&root, &chain).is_err(), "{contents:x?}");
    }
}

#[test]
fn constraints_do_not_bind_the_names_of_a_self_issued_authority() {
    let root = Authority::root("root");
    let own_name = || alternative_names(&[dns("authority.example.org")]);
    for constraints in [permitted_domain("example.com"), permitted_domain("example.org")] {
        let is_permitted = constraints == permitted_domain("example.com");
        let narrow = root.intermediate_by(issuer(None).with(constraints.clone()));
        let next = narrow.intermediate_by(issuer(None).with(own_name()));
        let chain = [next.issue(&client()), next.certificate.clone(), narrow.certificate.clone()];
        let found = depth(&root, &chain);
        assert_eq!(found.ok(), is_permitted.then_some(2));
    }
    // An authority of another name is bound, and so is an end entity whose name is that of its issuer.
    let narrow = root.intermediate_by(issuer(None).with(permitted_domain("example.com")));
    let other = Template::new(common_name("other")).with(authority_extension(None)).with(own_name());
    let other = narrow.intermediate_by(other);
    let chain = [other.issue(&client()), other.certificate.clone(), narrow.certificate.clone()];
    assert_eq!(depth(&root, &chain), Err(Reject::PathConstraint));
    let narrow = root.intermediate_by(
        Template::new(common_name("sender")).with(authority_extension(None)).with(permitted_domain("example.com")),
    );
    let outside = Template::client("sender").with(own_name());
    assert_eq!(depth(&root, &[narrow.issue(&outside), narrow.certificate]), Err(Reject::PathConstraint));
}

#[test]
fn a_self_issued_authority_in_another_spelling_is_one() {
    let printable = || name(&[&[("2.5.4.3", PRINTABLE_STRING, b"ISSUING")]]);
    let root = Authority::root("root");
    let old = root.intermediate_by(issuer(Some(0)));
    let new = old.intermediate_by(Template::new(printable()).with(authority_extension(None)));
    let chain = [new.issue(&client()), new.certificate.clone(), old.certificate.clone()];
    assert_eq!(depth(&root, &chain), Ok(2));
}

#[test]
fn an_authority_is_an_end_entity_if_it_is_its_own_anchor() {
    let own = Authority::root("sender");
    let authority = |length| client().with(authority_extension(length));
    let issued = |template: &Template| own.certified_by(template, &own.subject, &own);
    for length in [None, Some(0)] {
        assert_eq!(depth(&own, &[issued(&authority(length))]), Ok(1));
        // Constraints are for authorities.
        assert_eq!(depth(&own, &[issued(&authority(length).with(permitted_domain("example.org")))]), Ok(1));
        // Its key must be allowed to sign handshakes.
        assert_eq!(depth(&own, &[issued(&authority(length).with(key_usage(&[0, 5])))]), Ok(1));
        assert_eq!(depth(&own, &[issued(&authority(length).with(key_usage(&[5, 6])))]), Err(Reject::PathConstraint));
    }
    assert_eq!(depth(&own, &[issued(&client())]), Ok(1));

    // Another one is not: it could certify the names of others. Neither is one with another key and the name of the anchor.
    let root = Authority::root("root");
    for (anchor, chain) in [
        (&root, vec![root.issue(&authority(None))]),
        (&own, vec![own.issue(&authority(None))]),
        (&root, vec![own.certified_by(&authority(None), &root.subject, &root), root.certificate.clone()]),
    ] {
        let refusal = verify(profile(anchor, "sender"), &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::PathConstraint, "{refusal}");
        assert!(refusal.detail().contains("is a CA certificate; the first certificate"), "{refusal}");
    }
    let other = Authority::root("sender");
    assert_eq!(depth(&own, &[other.certificate]), Err(Reject::BadSignature));
    // As an issuer it issues as before.
    assert_eq!(depth(&own, &[own.issue(&client()), own.certificate.clone()]), Ok(1));
}

#[test]
fn odd_basic_constraints_of_an_end_entity_stay_with_webpki() {
    let own = Authority::root("sender");
    for contents in
        [&[0x01, 0x01, 0x01][..], &[0x01, 0x01, 0xff, 0x05, 0x00], &[0x01, 0x01, 0xff, 0x02, 0x01, 0x00, 0x05, 0x00]]
    {
        let odd = extension("2.5.29.19", true, &tlv(0x30, &[contents]));
        let certificate = own.certified_by(&client().with(odd), &own.subject, &own);
        assert!(depth(&own, &[certificate]).is_err(), "{contents:x?}");
    }
}
