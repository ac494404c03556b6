//! Revocation lists: their issuers, what they cover, when they expire.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::{
    AwaitedLists, ListSigner, PeerChain, Profile, Provenance, RevocationList, RevocationListError, RevocationLists,
    RevocationScope, distribution_points,
};
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
        (scope(&[0x85, 0x01, 0xff]), "onlyContainsAttributeCerts"),
        (extension("2.5.29.27", true, &[0x02, 0x01, 0x01]), "delta CRL"),
        // The fixture has a number.
        (extension("2.5.29.20", false, &[0x02, 0x01, 0x02]), "present twice"),
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
fn the_version_of_a_list_is_named() {
    let list = Authority::root("root").revocation_list_der(&[], NOW - DAY, Some(NOW + DAY));
    let place = list.windows(3).position(|part| part == [0x02, 0x01, 0x01]).unwrap();
    for (version, words) in [(0, "it is of version 1,"), (2, "of a version that RFC 5280 does not define")] {
        let mut list = list.clone();
        list[place + 2] = version;
        let error = RevocationList::from_der(&list).unwrap_err().to_string();
        assert!(error.contains(words), "{version}: {error}");
    }
}

#[test]
fn a_serial_number_is_found_in_every_encoding() {
    let root = Authority::root("root");
    let numbers: [&[&[u8]]; 4] = [
        &[&[0x11], &[0, 0x11], &[0, 0, 0, 0x11]],
        &[&[0x91], &[0xff, 0x91], &[0xff, 0xff, 0x91]],
        &[&[0, 0x91], &[0, 0, 0x91]],
        &[&[0], &[0, 0]],
    ];
    for (revoked, forms) in numbers.iter().enumerate() {
        for form in *forms {
            let list = root.revocation_list(&[form], NOW - DAY, NOW + DAY);
            for (presented, forms) in numbers.iter().enumerate() {
                let found = forms.iter().map(|form| list.revokes(form)).filter(|found| *found).count();
                let expected = if revoked == presented { forms.len() } else { 0 };
                assert_eq!(found, expected, "{form:x?} in {forms:x?}");
            }
        }
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
    let check = |serial: &[u8], admitted: bool, signature_checks: usize| {
        let leaf = pki.issuing.issue(&Template::client("sender").serial(serial));
        let profile = Profile { revocation: Some(lists.clone()), ..profile(&pki.root, "sender") };
        let (identity, scope) = policy(vec![provider("sender", vec![profile])]);
        let chain = [leaf, pki.issuing.certificate.clone()];
        let verification = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW));
        assert_eq!(verification.result.is_ok(), admitted, "{serial:?}: {:?}", verification.result);
        // Beside those of the two certificates.
        assert_eq!(verification.work.signature_checks, 2 + signature_checks, "{serial:?}");
    };
    assert!(lists.lists().iter().all(|list| list.signer().is_none()));
    check(&[0x33], true, 2);
    assert!(lists.lists().iter().all(|list| list.signer().is_some() && list.last_used() == NOW));
    check(&[0x34], true, 0);
    check(LEAF, false, 0);

    // A list of an authority with the same name and another key is refused at every attempt, and verified once.
    let impostor = Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY);
    let lists = RevocationLists::new(vec![impostor], RevocationScope::EndEntity);
    for _ in 0..2 {
        let profile = Profile { revocation: Some(lists.clone()), ..profile(&pki.root, "sender") };
        assert_eq!(verify(profile, &pki.chain).unwrap_err().refusal.reject, Reject::RevocationUnknown);
        assert_eq!((lists.lists()[0].signer(), lists.failed().remembered()), (None, 1));
    }
}

/// The distribution point extension with these URIs.
fn points(addresses: &[&str]) -> Vec<u8> {
    let names: Vec<Vec<u8>> = addresses.iter().map(|address| uri(address)).collect();
    let full_name = tlv(0xa0, &[&tlv(0xa0, &[&names.concat()])]);
    extension("2.5.29.31", false, &tlv(0x30, &[&tlv(0x30, &[&full_name])]))
}

#[test]
fn a_chain_that_lacks_lists_alone_says_which() {
    const ISSUING_LIST: &str = "http://crl.example/issuing.crl";
    const ROOT_LIST: &str = "http://crl.example/root.crl";
    let root = Authority::root("root");
    let named = Template::new(common_name("issuing")).with(authority_extension(None)).with(points(&[ROOT_LIST]));
    let issuing = root.intermediate_by(named.serial(ISSUING));
    let addresses =
        ["ldap://crl.example/", ISSUING_LIST, "http://crl.example/2", "HTTPS://c/3", "http://c/4", "http://c/5"];
    let client = |name: &str| issuing.issue(&Template::client(name).serial(LEAF).with(points(&addresses)));
    let chain = |name: &str| [client(name), issuing.certificate.clone()];
    let of_root = |serials: &[&[u8]]| root.revocation_list(serials, NOW - DAY, NOW + DAY);
    let of_issuing = |serials: &[&[u8]]| issuing.revocation_list(serials, NOW - DAY, NOW + DAY);
    let certificates = AwaitedLists { from_certificates: true, ..AwaitedLists::default() };
    let urls = AwaitedLists { from_urls: true, ..AwaitedLists::default() };
    let incomplete = AwaitedLists { incomplete: true, ..urls };
    let (unknown, unavailable) = (Reject::RevocationUnknown, Reject::RevocationListUnavailable);
    let impostor = || Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY);
    let check = |case: &str, awaited, lists, name: &str, expected: (Reject, &[&str])| {
        let revocation = Some(RevocationLists::new(lists, RevocationScope::Chain).awaiting(awaited));
        let refusal = verify(Profile { revocation, ..profile(&root, "sender") }, &chain(name)).unwrap_err();
        let missing = refusal.missing.iter().flat_map(|missing| &missing.lists);
        let found: Vec<&str> = missing.clone().map(|list| list.points.first().map_or("", |first| first)).collect();
        assert_eq!((refusal.refusal.reject, &*found), expected, "{case}: {}", refusal.refusal);
        for list in missing {
            let own = [of_root(&[]), of_issuing(&[])];
            let signed =
                own.iter().filter(|own| own.provenance(std::slice::from_ref(&list.signer)) == Provenance::Signed);
            assert_eq!(signed.count(), 1, "{case}");
        }
    };
    check("none", certificates, vec![], "sender", (unavailable, &[ISSUING_LIST, ROOT_LIST]));
    check("one", certificates, vec![of_issuing(&[])], "sender", (unavailable, &[ROOT_LIST]));
    check("another key", certificates, vec![of_root(&[]), impostor()], "sender", (unavailable, &[ISSUING_LIST]));
    check("urls, none yet", incomplete, vec![], "sender", (unavailable, &[ISSUING_LIST, ROOT_LIST]));
    check("urls, another key", urls, vec![of_root(&[]), impostor()], "sender", (unavailable, &[ISSUING_LIST]));
    check("urls, all there", urls, vec![of_root(&[])], "sender", (unknown, &[ISSUING_LIST]));
    // Nothing is learned of a chain that another reason refuses, nor where nothing is fetched.
    check("revoked issuer", certificates, vec![of_root(&[ISSUING])], "sender", (Reject::CertificateRevoked, &[]));
    check("files", AwaitedLists::default(), vec![], "sender", (unknown, &[]));
    check("another name", certificates, vec![], "somebody", (unavailable, &[]));
    let usable: Vec<Box<str>> = distribution_points(&client("sender"));
    assert_eq!(usable.iter().map(|point| &**point).collect::<Vec<_>>(), addresses[1..5]);

    // The sentence says where the list is missing: in files, or at every URL.
    for (awaited, words) in [(urls, "no URL of crl_urls serves a list"), (AwaitedLists::default(), "must add the list")]
    {
        let revocation = Some(RevocationLists::new(vec![of_root(&[])], RevocationScope::Chain).awaiting(awaited));
        let refusal = verify(Profile { revocation, ..profile(&root, "sender") }, &chain("sender")).unwrap_err().refusal;
        assert!(refusal.detail().contains(words), "{words}: {refusal}");
    }

    // A certificate that names no list can have none.
    let silent = [issuing.issue(&Template::client("sender")), issuing.certificate.clone()];
    let revocation = Some(RevocationLists::new(vec![of_root(&[])], RevocationScope::Chain).awaiting(certificates));
    let refusal = verify(Profile { revocation, ..profile(&root, "sender") }, &silent).unwrap_err();
    assert_eq!(refusal.refusal.reject, unknown);
}

#[test]
fn a_list_knows_its_signer_and_its_age() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let impostor = Authority::root("root");
    let list = |serials: &[&[u8]], issued: u64| root.revocation_list(serials, issued, NOW + DAY);
    let signers = |authorities: &[&Authority]| -> Vec<ListSigner> {
        authorities.iter().map(|it| ListSigner::of_certificate(&it.certificate).unwrap()).collect()
    };
    for (known, expected) in [
        (vec![], Provenance::Unknown),
        (vec![&other], Provenance::Unknown),
        (vec![&impostor, &other], Provenance::Foreign),
        (vec![&impostor, &root], Provenance::Signed),
    ] {
        let list = list(&[], NOW);
        assert_eq!(list.provenance(&signers(&known)), expected);
        assert_eq!(list.signer().is_some(), expected == Provenance::Signed);
    }
    let signed = list(&[], NOW);
    assert_eq!(ListSigner::of_anchor(&root.anchor()).name(), "CN=root");
    assert_eq!(signed.provenance(&[ListSigner::of_anchor(&root.anchor())]), Provenance::Signed);
    let again = ListSigner::of_key(&signed, signed.signer().unwrap().to_vec());
    assert_eq!(vec![again], signers(&[&root]));

    let numbered = |number: &[u8], issued: u64, named: bool| {
        let key = if named { vec![authority_key(&root.key_identifier())] } else { Vec::new() };
        let number = extension("2.5.29.20", false, &tlv(0x02, &[number]));
        let der = root.revocation_list_numbered(&number, &key, &[], issued, Some(NOW + DAY));
        RevocationList::from_der(&der).unwrap()
    };
    let older = |left: &RevocationList, right: &RevocationList| left.is_older_than(right);
    assert!(older(&list(&[], NOW - 1), &list(&[], NOW)) && !older(&list(&[], NOW), &list(&[], NOW)));
    let (five, hundred, wide) =
        (numbered(&[5], NOW, false), numbered(&[100], NOW, false), numbered(&[1, 0], NOW, false));
    assert!(older(&five, &hundred) && older(&hundred, &wide) && !older(&wide, &five) && !older(&five, &five));
    assert_eq!((five.number(), wide.number()), (Some("5"), Some("256")));
    // A number that goes back is a replay, whatever the date; of another key, it is counted anew.
    assert!(older(&numbered(&[5], NOW + 1, false), &hundred));
    assert!(!older(&numbered(&[5], NOW + 1, true), &hundred));
}

#[test]
fn verdicts_outlive_a_list_only_if_nothing_more_is_revoked() {
    let root = Authority::root("root");
    let list = |serials: &[&[u8]], issued: u64| root.revocation_list(serials, issued, NOW + DAY);
    let part = |address: &str, serials: &[&[u8]]| {
        let full_name = tlv(0xa0, &[&tlv(0xa0, &[&uri(address)])]);
        let scope = extension("2.5.29.28", true, &tlv(0x30, &[&full_name]));
        RevocationList::from_der(&root.revocation_list_with(&[scope], serials, NOW, Some(NOW + DAY))).unwrap()
    };
    let by_key = |serials: &[&[u8]]| {
        let named = authority_key(&root.key_identifier());
        RevocationList::from_der(&root.revocation_list_with(&[named], serials, NOW, Some(NOW + DAY))).unwrap()
    };
    let of_other = |serials: &[&[u8]]| Authority::root("other").revocation_list(serials, NOW, NOW + DAY);
    let lists = |lists: &[RevocationList]| RevocationLists::new(lists.to_vec(), RevocationScope::Chain);
    let check = |case: &str, before: &[RevocationList], after: &[RevocationList], expected: bool| {
        assert_eq!(lists(after).may_revoke_more_than(&lists(before)), expected, "{case}");
    };
    let old = list(&[&[1], &[3], &[5]], NOW - DAY);
    check("first", &[], std::slice::from_ref(&old), false);
    check("the same", std::slice::from_ref(&old), std::slice::from_ref(&old), false);
    check("reissued", std::slice::from_ref(&old), &[list(&[&[5], &[1], &[3]], NOW)], false);
    check("one less", std::slice::from_ref(&old), &[list(&[&[1], &[5]], NOW)], false);
    for more in [0, 2, 4, 6] {
        check("one more", std::slice::from_ref(&old), &[list(&[&[1], &[3], &[5], &[more]], NOW)], true);
        check("another", std::slice::from_ref(&old), &[list(&[&[more]], NOW)], true);
    }
    check("empty", std::slice::from_ref(&old), &[list(&[], NOW)], false);
    check("first of another issuer", std::slice::from_ref(&old), &[old.clone(), of_other(&[&[9]])], false);
    check("of another key", std::slice::from_ref(&old), &[by_key(&[&[1]])], true);
    check("empty, of another key", std::slice::from_ref(&old), &[by_key(&[])], false);
    // The newest of two decides, so an entry of the other one says nothing.
    check("beside another", &[old.clone(), list(&[], NOW - 1)], &[list(&[&[1]], NOW)], true);
    let (first, second) = (part("http://c/1", &[&[1]]), part("http://c/2", &[&[2]]));
    check("one part", &[first.clone(), second.clone()], &[first.clone(), part("http://c/2", &[&[2]])], false);
    check("more in a part", &[first.clone(), second.clone()], &[first, part("http://c/2", &[&[1]])], true);
    check("a part of a whole", &[old], &[second], true);
}

/// The issuing distribution point (RFC 5280, section 5.2.5) with these URIs, and whether it is about end entities alone.
fn part_of(addresses: &[&str], end_entities_only: bool) -> Vec<u8> {
    let names: Vec<Vec<u8>> = addresses.iter().map(|address| uri(address)).collect();
    let full_name = tlv(0xa0, &[&tlv(0xa0, &[&names.concat()])]);
    let only = if end_entities_only { tlv(0x81, &[&[0xff]]) } else { Vec::new() };
    extension("2.5.29.28", true, &tlv(0x30, &[&full_name, &only]))
}

#[test]
fn a_list_that_names_two_algorithms_is_refused_in_plain_words() {
    let mut der = Authority::root("root").revocation_list_der(&[], NOW - DAY, Some(NOW + DAY));
    // The second one follows tbsCertList.
    let algorithm = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let last = (0..der.len()).rev().find(|at| der[*at..].starts_with(&algorithm)).unwrap();
    der[last + 7] = 3;
    let error = RevocationList::from_der(&der).unwrap_err().to_string();
    assert!(error.contains("one algorithm in signatureAlgorithm and another in tbsCertList"), "{error}");
}

/// RFC 3279, section 2.2.3: ecdsa-with-SHA1 is 1.2.840.10045.4.1, beside ecdsa-with-SHA2 (RFC 5758, section 3.2).
#[test]
fn a_list_whose_signature_no_path_can_verify_is_told() {
    let der = Authority::root("root").revocation_list_der(&[], NOW - DAY, Some(NOW + DAY));
    let accepts = |last: u8| {
        let mut der = der.clone();
        let algorithm = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
        let places: Vec<usize> = (0..der.len()).filter(|at| der[*at..].starts_with(&algorithm)).collect();
        assert_eq!(places.len(), 2);
        places.into_iter().for_each(|at| der[at + 7] = last);
        RevocationList::from_der(&der).unwrap().has_accepted_algorithm()
    };
    // SHA-224, SHA-256, SHA-384, and an unknown one.
    assert_eq!([1, 2, 3, 9].map(accepts), [false, true, true, false]);
}

#[test]
fn lists_are_about_the_same_certificates_if_issuer_and_part_are_the_same() {
    let (root, other) = (Authority::root("root"), Authority::root("other"));
    let of = |issuer: &Authority, parts: &[Vec<u8>]| {
        RevocationList::from_der(&issuer.revocation_list_with(parts, &[], NOW, Some(NOW + DAY))).unwrap()
    };
    let whole = of(&root, &[]);
    let one = of(&root, &[part_of(&["http://c/1"], false)]);
    let two = of(&root, &[part_of(&["http://c/2"], false)]);
    let both = of(&root, &[part_of(&["http://c/1", "http://c/2"], false)]);
    let clients = of(&root, &[part_of(&["http://c/1"], true)]);
    let elsewhere = of(&other, &[]);
    let lists = [&whole, &one, &two, &both, &clients, &elsewhere];
    for (place, list) in lists.into_iter().enumerate() {
        let same: Vec<usize> = (0..lists.len()).filter(|other| list.is_about_those_of(lists[*other])).collect();
        assert_eq!(same, [place]);
    }
    let covered = |list: &RevocationList| lists.map(|other| list.covers_those_of(other));
    assert_eq!(covered(&whole), [true, true, true, true, true, false]);
    assert_eq!(covered(&one), [false, true, false, false, false, false]);
    assert_eq!(covered(&both), [false, true, true, true, false, false]);
    assert_eq!(covered(&clients), [false, false, false, false, true, false]);
    assert_eq!(covered(&elsewhere), [false, false, false, false, false, true]);
}

#[test]
fn a_list_tells_its_number_and_how_long_it_is() {
    let root = Authority::root("root");
    let list = root.revocation_list(&[&[1], &[2], &[3]], NOW - DAY, NOW + DAY);
    assert_eq!((list.number(), list.entries()), (Some("1"), 3));
    let shown = format!("{list:?}");
    assert!(shown.contains("issuer: \"CN=root\""), "{shown}");
    assert!(shown.contains("entries: 3"), "{shown}");
    assert!(shown.len() < 200, "{shown}");
}
