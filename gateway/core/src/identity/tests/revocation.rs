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
            Err((Reject::RevocationUnknown, "signature does not verify")),
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
    for bytes in [&b""[..], b"junk", &root.certificate] {
        assert_eq!(RevocationList::from_der(bytes).unwrap_err(), RevocationListError::Malformed);
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
        assert_eq!(lists.signatures().remembered(), remembered, "{serial:?}");
    };
    assert_eq!(lists.signatures().remembered(), 0);
    check(&[0x33], true, 2);
    check(&[0x34], true, 2);
    check(LEAF, false, 2);

    // A list of an authority with the same name and another key is refused at every attempt, and never remembered.
    let impostor = Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY);
    let lists = RevocationLists::new(vec![impostor], RevocationScope::EndEntity);
    for _ in 0..2 {
        let profile = Profile { revocation: Some(lists.clone()), ..profile(&pki.root, "sender") };
        assert_eq!(verify(profile, &pki.chain).unwrap_err().refusal.reject, Reject::RevocationUnknown);
        assert_eq!(lists.signatures().remembered(), 0);
    }
}
