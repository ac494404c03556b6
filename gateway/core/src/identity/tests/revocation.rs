//! Revocation lists: their issuers, what they cover, when they expire.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::{Profile, RevocationList, RevocationListError, RevocationLists, RevocationScope};
use crate::reject::Reject;

struct Pki {
    root: Authority,
    issuing: Authority,
    chain: [CertificateDer<'static>; 2],
}

const LEAF: &[u8] = &[0x11];
const ISSUING: &[u8] = &[0x22];

impl Pki {
    fn new() -> Self {
        let root = Authority::root("root");
        let template = Template::new(common_name("issuing")).with(authority_extension(None)).serial(ISSUING);
        let issuing = root.intermediate_by(template);
        let leaf = issuing.issue(&Template::client("sender").serial(LEAF));
        let chain = [leaf, issuing.certificate.clone()];
        Self { root, issuing, chain }
    }

    fn profile(&self, lists: Vec<RevocationList>, scope: RevocationScope) -> Profile {
        Profile { revocation: Some(RevocationLists::new(lists, scope)), ..profile(&self.root, "sender") }
    }
}

#[test]
fn each_certificate_needs_a_list_that_does_not_name_it() {
    use RevocationScope::{Chain, EndEntity};
    let pki = Pki::new();
    let impostor = Authority::root("issuing");
    let of_root = |serials: &[&[u8]]| pki.root.revocation_list(serials, NOW - DAY, NOW + DAY);
    let of_issuing = |serials: &[&[u8]]| pki.issuing.revocation_list(serials, NOW - DAY, NOW + 2 * DAY);
    let expired = pki.issuing.revocation_list(&[], NOW - 3 * DAY, NOW);
    let cases = [
        ("none revoked", vec![of_root(&[]), of_issuing(&[])], Chain, Ok(NOW + DAY)),
        ("others revoked", vec![of_root(&[LEAF]), of_issuing(&[ISSUING, &[1]])], Chain, Ok(NOW + DAY)),
        ("end entity alone", vec![of_issuing(&[])], EndEntity, Ok(NOW + 2 * DAY)),
        ("issuer revoked, end entity alone", vec![of_root(&[ISSUING]), of_issuing(&[])], EndEntity, Ok(NOW + 2 * DAY)),
        ("older list expired", vec![expired.clone(), of_issuing(&[])], EndEntity, Ok(NOW + 2 * DAY)),
        (
            "leaf revoked",
            vec![of_root(&[]), of_issuing(&[&[1], LEAF])],
            Chain,
            Err((Reject::CertificateRevoked, "Certificate 1 of 2")),
        ),
        (
            "leaf revoked, end entity alone",
            vec![of_issuing(&[LEAF])],
            EndEntity,
            Err((Reject::CertificateRevoked, "Certificate 1 of 2")),
        ),
        (
            "issuer revoked",
            vec![of_root(&[ISSUING]), of_issuing(&[])],
            Chain,
            Err((Reject::CertificateRevoked, "Certificate 2 of 2")),
        ),
        ("no list of the root", vec![of_issuing(&[])], Chain, Err((Reject::RevocationUnknown, "Certificate 2 of 2"))),
        ("no list of the issuer", vec![of_root(&[])], Chain, Err((Reject::RevocationUnknown, "Certificate 1 of 2"))),
        ("no list", vec![], EndEntity, Err((Reject::RevocationUnknown, "Certificate 1 of 2"))),
        (
            "expired",
            vec![of_root(&[]), expired],
            Chain,
            Err((Reject::RevocationListExpired, "\"CN=issuing\" expired at 2026-11-18T13:46:40Z")),
        ),
        (
            "signed by another key",
            vec![impostor.revocation_list(&[], NOW - DAY, NOW + DAY)],
            EndEntity,
            Err((Reject::RevocationUnknown, "whose signature verifies")),
        ),
    ];
    for (case, lists, scope, expected) in cases {
        match (verify(pki.profile(lists, scope), &pki.chain), expected) {
            (Ok(verified), Ok(until)) => assert_eq!(verified.valid_until(), at(until), "{case}"),
            (Err(refusal), Err((reject, words))) => {
                assert_eq!(refusal.refusal.reject, reject, "{case}: {}", refusal.refusal);
                assert!(refusal.refusal.detail().contains(words), "{case}: {}", refusal.refusal);
            }
            (result, expected) => panic!("{case}: {result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn the_list_is_the_one_that_the_key_of_the_issuer_signed() {
    let (old_root, issuing) = (Authority::p384_root(common_name("root")), common_name("issuing"));
    let generation = |identified: bool| {
        let key = Authority::p384_root(issuing.clone());
        let template = Template::new(issuing.clone()).with(authority_extension(None));
        let template = if identified { template.with(subject_key(&key.key_identifier())) } else { template };
        let certificate = key.certified_by(&template, &old_root.subject, &old_root);
        (key, certificate)
    };
    let list = |key: &Authority, serials: &[&[u8]], age: u64, identified: bool| {
        let extension = if identified { vec![authority_key(&key.key_identifier())] } else { Vec::new() };
        let der = key.revocation_list_with(&extension, serials, NOW - age * DAY, Some(NOW + DAY));
        RevocationList::from_der(&der).unwrap()
    };
    // The subject key identifier of the issuer may be missing: it can be derived from its key.
    for of_issuer in [true, false] {
        let ((old, old_certificate), (new, new_certificate)) = (generation(of_issuer), generation(of_issuer));
        for (serials_of_old, serials_of_new) in [([].as_slice(), [LEAF].as_slice()), (&[LEAF], &[])] {
            for (age_of_old, age_of_new) in [(2, 1), (1, 2)] {
                let lists =
                    vec![list(&old, serials_of_old, age_of_old, true), list(&new, serials_of_new, age_of_new, true)];
                for (key, certificate, serials) in
                    [(&old, &old_certificate, serials_of_old), (&new, &new_certificate, serials_of_new)]
                {
                    let chain = [key.issue(&Template::client("sender").serial(LEAF)), certificate.clone()];
                    let revocation = Some(RevocationLists::new(lists.clone(), RevocationScope::EndEntity));
                    let result = verify(Profile { revocation, ..profile(&old_root, "sender") }, &chain);
                    let reject = result.err().map(|refusal| refusal.refusal.reject);
                    assert_eq!(reject, (!serials.is_empty()).then_some(Reject::CertificateRevoked));
                }
            }
        }
        // The list of the other key alone says nothing.
        let revocation = Some(RevocationLists::new(vec![list(&new, &[], 1, true)], RevocationScope::EndEntity));
        let chain = [old.issue(&Template::client("sender")), old_certificate];
        let refusal = verify(Profile { revocation, ..profile(&old_root, "sender") }, &chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::RevocationUnknown, "{refusal}");
        assert!(refusal.detail().contains("the list of that key"), "{refusal}");
    }
}

#[test]
fn a_newer_list_of_the_same_key_replaces_an_older_one_that_names_the_key() {
    let pki = Pki::new();
    let named = authority_key(&pki.issuing.key_identifier());
    let older = pki.issuing.revocation_list_with(&[named], &[], NOW - 2 * DAY, Some(NOW + DAY));
    let newer = pki.issuing.revocation_list(&[LEAF], NOW - DAY, NOW + DAY);
    let lists = vec![RevocationList::from_der(&older).unwrap(), newer];
    let refusal = verify(pki.profile(lists, RevocationScope::EndEntity), &pki.chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::CertificateRevoked);
}

#[test]
fn the_issuer_of_a_list_is_compared_as_a_name() {
    let pki = Pki::new();
    for spelled in ["Issuing", " issuing  "] {
        for tag in [UTF8_STRING, PRINTABLE_STRING] {
            let respelled = pki.issuing.renamed(name(&[&[("2.5.4.3", tag, spelled.as_bytes())]]));
            let list = |serials| vec![respelled.revocation_list(serials, NOW - DAY, NOW + DAY)];
            assert!(verify(pki.profile(list(&[]), RevocationScope::EndEntity), &pki.chain).is_ok(), "{spelled:?}");
            let refusal = verify(pki.profile(list(&[LEAF]), RevocationScope::EndEntity), &pki.chain).unwrap_err();
            assert_eq!(refusal.refusal.reject, Reject::CertificateRevoked, "{spelled:?}");
        }
    }
}

#[test]
fn a_part_of_a_list_covers_the_certificates_that_its_distribution_point_says() {
    let root = Authority::root("root");
    let full_name = |address: &str| tlv(0xa0, &[&tlv(0xa0, &[&uri(address)])]);
    let points = |address: &str| extension("2.5.29.31", false, &tlv(0x30, &[&tlv(0x30, &[&full_name(address)])]));
    let named = |address: &str| Template::client("sender").with(points(address));
    let part = |limits: &[u8]| {
        let scope = extension("2.5.29.28", true, &tlv(0x30, &[&full_name("http://a.example/1.crl"), limits]));
        RevocationList::from_der(&root.revocation_list_with(&[scope], &[], NOW - DAY, Some(NOW + DAY))).unwrap()
    };
    let (no_limit, users, authorities) = (&[][..], &[0x81, 0x01, 0xff][..], &[0x82, 0x01, 0xff][..]);
    let broken = Template::client("sender").with(extension("2.5.29.31", false, &[0x30, 0x02, 0x05, 0x00]));
    for (case, client, limits, covered) in [
        ("no points", Template::client("sender"), no_limit, true),
        ("this point", named("http://a.example/1.crl"), no_limit, true),
        ("another point", named("http://a.example/2.crl"), no_limit, false),
        ("broken points", broken, no_limit, false),
        ("end entities", named("http://a.example/1.crl"), users, true),
        ("authorities", named("http://a.example/1.crl"), authorities, false),
    ] {
        let revocation = Some(RevocationLists::new(vec![part(limits)], RevocationScope::Chain));
        let result = verify(Profile { revocation, ..profile(&root, "sender") }, &[root.issue(&client)]);
        let reject = result.err().map(|refusal| refusal.refusal.reject);
        assert_eq!(reject, (!covered).then_some(Reject::RevocationUnknown), "{case}");
    }
}

#[test]
fn a_path_is_found_beside_a_revoked_one() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let revoked = Template::new(common_name("issuing")).with(authority_extension(None)).serial(&[0x77]);
    let revoked = issuing.certified_by(&revoked, &root.subject, &root);
    let lists =
        [root.revocation_list(&[&[0x77]], NOW - DAY, NOW + DAY), issuing.revocation_list(&[], NOW - DAY, NOW + DAY)];
    let revocation = Some(RevocationLists::new(lists.to_vec(), RevocationScope::Chain));
    let profile = Profile { revocation, ..profile(&root, "sender") };
    let chain = [issuing.issue(&Template::client("sender")), revoked, issuing.certificate.clone()];
    assert!(verify(profile.clone(), &chain).is_ok());
    let refusal = verify(profile, &chain[..2]).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::CertificateRevoked);
    assert!(refusal.detail().contains("Certificate 2 of 2"), "{refusal}");
}

#[test]
fn a_list_of_an_issuer_without_crl_sign_covers_nothing() {
    let root = Authority::root("root");
    let template = Template::new(common_name("issuing")).with(authority_extension(None));
    let issuing = root.intermediate_by(template.with(certificates_only_extension()));
    let chain = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let list = issuing.revocation_list(&[], NOW - DAY, NOW + DAY);
    let revocation = Some(RevocationLists::new(vec![list], RevocationScope::EndEntity));
    let refusal = verify(Profile { revocation, ..profile(&root, "sender") }, &chain).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::RevocationUnknown, "{refusal}");
}

#[test]
fn a_list_has_its_issuer_and_dates() {
    let root = Authority::root("root, \u{e9}");
    let list = root.revocation_list(&[LEAF], NOW - DAY, NOW + DAY);
    assert_eq!(list.issuer(), "CN=root\\, \\C3\\A9");
    assert_eq!((list.this_update(), list.next_update()), (at(NOW - DAY), at(NOW + DAY)));

    let endless = root.revocation_list_der(&[LEAF], NOW - DAY, None);
    assert_eq!(RevocationList::from_der(&endless).unwrap_err(), RevocationListError::NextUpdateMissing);
    let mut trailing = root.revocation_list_der(&[], NOW - DAY, Some(NOW + DAY));
    trailing.push(0);
    assert_eq!(RevocationList::from_der(&trailing).unwrap_err(), RevocationListError::TrailingData);
    // The version, INTEGER 1, is the first element of tbsCertList.
    let mut old = root.revocation_list_der(&[], NOW - DAY, Some(NOW + DAY));
    let version = old.windows(3).position(|bytes| bytes == [0x02, 0x01, 0x01]).unwrap();
    old[version + 2] = 0;
    assert_eq!(RevocationList::from_der(&old).unwrap_err(), RevocationListError::Version);
    for bytes in [&b""[..], b"junk", &root.certificate] {
        assert_eq!(RevocationList::from_der(bytes).unwrap_err(), RevocationListError::Malformed);
    }
}

#[test]
fn a_list_that_is_not_supported_is_refused_in_plain_words() {
    let root = Authority::root("root");
    let scope = |fields: &[u8]| extension("2.5.29.28", true, &tlv(0x30, &[fields]));
    let cases = [
        (extension("1.3.6.1.4.1.99999.1", true, &[0x05, 0x00]), "critical extension"),
        (extension("2.5.29.20", false, &[0x02, 0x01, 0x80]), "cRLNumber is negative"),
        (scope(&[0x81, 0x01, 0xff]), "no full name"),
        (scope(&[0x83, 0x02, 0x07, 0x80]), "some reasons only"),
        (scope(&[0x84, 0x01, 0xff]), "indirect CRL"),
        (extension("2.5.29.27", true, &[0x02, 0x01, 0x01]), "delta CRL"),
    ];
    for (extension, words) in cases {
        let der = root.revocation_list_with(&[extension], &[], NOW - DAY, Some(NOW + DAY));
        let error = RevocationList::from_der(&der).unwrap_err().to_string();
        assert!(error.contains(words), "{words:?} is not in {error:?}");
        // No name of a Rust type.
        assert!(error.starts_with("it ") || error.starts_with("an ") || error.starts_with("its "), "{error}");
    }
}

#[test]
fn a_serial_number_is_found_by_its_whole_encoding() {
    let root = Authority::root("root");
    let serials: [&[u8]; 6] = [&[0], &[1], &[0, 0x9f, 1], &[0x7f; 20], &[0x80], &[0x9f, 1]];
    for (revoked, serial) in serials.iter().enumerate() {
        let lists = vec![root.revocation_list(&[serial], NOW - DAY, NOW + DAY)];
        let revocation = Some(RevocationLists::new(lists, RevocationScope::EndEntity));
        let profile = Profile { revocation, ..profile(&root, "sender") };
        for (presented, serial) in serials.iter().enumerate() {
            let chain = [root.issue(&Template::client("sender").serial(serial))];
            assert_eq!(verify(profile.clone(), &chain).is_err(), revoked == presented, "{serial:x?}");
        }
    }
}

#[test]
fn a_long_list_is_searched_like_a_short_one() {
    let root = Authority::root("root");
    let serials: Vec<Vec<u8>> = (0..10_000_u32).map(|serial| [&[1], &serial.to_be_bytes()[..]].concat()).collect();
    let serials: Vec<&[u8]> = serials.iter().map(Vec::as_slice).collect();
    let list = root.revocation_list(&serials, NOW - DAY, NOW + DAY);
    let revocation = Some(RevocationLists::new(vec![list], RevocationScope::Chain));
    let profile = Profile { revocation, ..profile(&root, "sender") };
    let good = [root.issue(&Template::client("sender").serial(&[2]))];
    assert!(verify(profile.clone(), &good).is_ok());
    let revoked = [root.issue(&Template::client("sender").serial(serials[9_999]))];
    assert_eq!(verify(profile, &revoked).unwrap_err().refusal.reject, Reject::CertificateRevoked);
}

#[test]
fn a_list_is_verified_once_for_each_key_and_looked_up_every_time() {
    let pki = Pki::new();
    let of_root = pki.root.revocation_list(&[], NOW - DAY, NOW + DAY);
    let of_issuing = pki.issuing.revocation_list(&[LEAF], NOW - DAY, NOW + DAY);
    let lists = RevocationLists::new(vec![of_root, of_issuing], RevocationScope::Chain);
    let check = |serial: &[u8], admitted: bool, remembered: usize| {
        let leaf = pki.issuing.issue(&Template::client("sender").serial(serial));
        let profile = Profile { revocation: Some(lists.clone()), ..profile(&pki.root, "sender") };
        let result = verify(profile, &[leaf, pki.issuing.certificate.clone()]);
        assert_eq!(result.is_ok(), admitted, "{serial:?}: {result:?}");
        assert_eq!(lists.signatures().remembered(), [remembered, 0], "{serial:?}");
    };
    assert_eq!(lists.signatures().remembered(), [0, 0]);
    check(&[0x33], true, 2);
    check(&[0x34], true, 2);
    check(LEAF, false, 2);

    // A list of an authority with the same name and another key is refused at every attempt, and verified once.
    let impostor = Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY);
    let lists = RevocationLists::new(vec![impostor], RevocationScope::EndEntity);
    for _ in 0..2 {
        let profile = Profile { revocation: Some(lists.clone()), ..profile(&pki.root, "sender") };
        assert_eq!(verify(profile, &pki.chain).unwrap_err().refusal.reject, Reject::RevocationUnknown);
        assert_eq!(lists.signatures().remembered(), [0, 1]);
    }
}

#[test]
fn a_list_tells_its_number_and_how_long_it_is() {
    let root = Authority::root("root");
    let list = root.revocation_list(&[&[1], &[2], &[3]], NOW - DAY, NOW + DAY);
    assert_eq!(list.number(), Some("1"));
    let shown = format!("{list:?}");
    assert!(shown.contains("issuer: \"CN=root\""), "{shown}");
    assert!(shown.contains("entries: 3"), "{shown}");
    assert!(shown.len() < 200, "{shown}");
}
