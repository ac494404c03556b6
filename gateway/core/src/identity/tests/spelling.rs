//! Names of issuers that are equal by RFC 5280, section 7.1, but not the same bytes.

use rustls_pki_types::CertificateDer;

use super::fixture::*;
use crate::identity::{PeerChain, Profile, PublicRoots, Work};
use crate::reject::Reject;

/// A name of an organization and a common name, in these string types.
fn spelled(organization: (u8, &[u8]), common: (u8, &[u8])) -> Vec<u8> {
    name(&[&[("2.5.4.10", organization.0, organization.1)], &[("2.5.4.3", common.0, common.1)]])
}

fn utf8() -> Vec<u8> {
    spelled((UTF8_STRING, b"Acme Ltd"), (UTF8_STRING, b"Issuing 1"))
}

/// Other spellings of [`utf8`].
fn others() -> Vec<Vec<u8>> {
    const BMP_STRING: u8 = 0x1e;
    let wide: Vec<u8> = "Issuing 1".encode_utf16().flat_map(u16::to_be_bytes).collect();
    vec![
        spelled((PRINTABLE_STRING, b"Acme Ltd"), (PRINTABLE_STRING, b"Issuing 1")),
        spelled((UTF8_STRING, b"ACME LTD"), (UTF8_STRING, b"issuing 1")),
        spelled((UTF8_STRING, b" Acme   Ltd "), (PRINTABLE_STRING, b"Issuing  1")),
        spelled((UTF8_STRING, b"Acme Ltd"), (BMP_STRING, &wide)),
    ]
}

fn authority(subject: &[u8]) -> Template {
    Template::new(subject.to_vec()).with(authority_extension(None))
}

#[test]
fn an_issuer_is_found_by_its_name_in_any_spelling() {
    let root = Authority::p384_root(utf8());
    let client = Template::client("sender");
    for other in others() {
        let respelled = root.renamed(other.clone());
        // The anchor in two spellings; each is that of the other's certificates.
        for (anchor, signer) in [(&root, &respelled), (&respelled, &root)] {
            let direct = vec![signer.issue(&client)];
            // The intermediate has a name like the anchor's, in both spellings.
            let issuing = signer.intermediate_by(authority(&common_name("Sub")));
            let shouted = issuing.renamed(name(&[&[("2.5.4.3", PRINTABLE_STRING, b"SUB")]]));
            let below = vec![shouted.issue(&client), issuing.certificate.clone()];
            let unordered = vec![shouted.issue(&client), anchor.certificate.clone(), issuing.certificate.clone()];
            for (chain, depth) in [(direct, 1), (below, 2), (unordered, 2)] {
                let verified = verify(profile(anchor, "sender"), &chain).unwrap();
                let found = &verified.matches()[0];
                assert_eq!((found.trust_anchor_depth, found.trust_anchor), (depth, 0));
                // As the anchor spells it.
                let shown = profile(anchor, "sender").trust_anchors[0].subject.to_vec();
                let shown = crate::identity::name::Name::from_contents(&shown).unwrap().to_string();
                assert_eq!(&*found.trust_anchor_subject, shown);
                assert_eq!(verified.certificates(), chain);
                assert_eq!(verified.subject(), "CN=sender");
            }
        }
    }
}

#[test]
fn one_chain_proves_the_providers_of_every_spelling() {
    let root = Authority::root_named(utf8());
    let anchors: Vec<_> = std::iter::once(utf8()).chain(others()).map(|name| root.renamed(name)).collect();
    let providers = anchors.iter().map(|anchor| provider("sender", vec![profile(anchor, "sender")])).collect();
    let (identity, scope) = policy(providers);
    for signer in &anchors {
        let chain = [signer.issue(&Template::client("sender"))];
        let verification = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW));
        assert_eq!(verification.work, Work { signature_checks: 1, ..Work::default() });
        assert_eq!(verification.result.unwrap().matches().len(), anchors.len());
    }
}

#[test]
fn names_that_differ_are_not_joined() {
    let root = Authority::root_named(utf8());
    for other in [
        spelled((UTF8_STRING, b"Acme Ltd"), (UTF8_STRING, b"Issuing 2")),
        spelled((UTF8_STRING, b"AcmeLtd"), (UTF8_STRING, b"Issuing 1")),
        // Not in the characters of PrintableString, and a NUL, which cannot be decoded.
        spelled((PRINTABLE_STRING, b"Acme_Ltd"), (UTF8_STRING, b"Issuing 1")),
        spelled((UTF8_STRING, b"Acme Ltd\0"), (UTF8_STRING, b"Issuing 1")),
        name(&[&[("2.5.4.3", UTF8_STRING, b"Issuing 1")], &[("2.5.4.10", UTF8_STRING, b"Acme Ltd")]]),
        name(&[&[("2.5.4.10", UTF8_STRING, b"Acme Ltd"), ("2.5.4.3", UTF8_STRING, b"Issuing 1")]]),
    ] {
        let refusal = verify(profile(&root, "sender"), &[root.renamed(other).issue(&Template::client("sender"))]);
        assert_eq!(refusal.unwrap_err().refusal.reject, Reject::UnknownIssuer);
    }
    // The attributes of one relative name have no order.
    let (first, second) = (("2.5.4.10", UTF8_STRING, b"Acme".as_slice()), ("2.5.4.3", UTF8_STRING, b"x".as_slice()));
    let root = Authority::root_named(name(&[&[first, second]]));
    let chain = [root.renamed(name(&[&[second, first]])).issue(&Template::client("sender"))];
    assert!(verify(profile(&root, "sender"), &chain).is_ok());
}

/// A respelled certificate is only read: each signature is verified as presented.
#[test]
fn a_respelled_chain_is_refused_for_the_reason_of_the_presented_one() {
    let root = Authority::root_named(utf8());
    let signer = root.renamed(others()[0].clone());
    let impostor = Authority::root_named(others()[0].clone());
    let issuing = signer.intermediate_by(authority(&common_name("Sub")));
    let shouted = issuing.renamed(name(&[&[("2.5.4.3", PRINTABLE_STRING, b"SUB")]]));
    let client = Template::client("sender");
    let mut damaged = shouted.issue(&client).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let expired = client.clone().between(NOW - 2 * DAY, NOW - DAY);
    let above = issuing.certificate.clone();
    let check = |chain: &[CertificateDer<'_>], reject: Reject, words: &[&str]| {
        let refusal = verify(profile(&root, "sender"), chain).unwrap_err().refusal;
        assert_eq!(refusal.reject, reject, "{refusal}");
        words.iter().for_each(|words| assert!(refusal.detail().contains(words), "{refusal}"));
    };
    check(&[damaged.into(), above.clone()], Reject::BadSignature, &["Certificate 1 of 2", "issuer \"CN=SUB\""]);
    check(
        &[impostor.issue(&client)],
        Reject::BadSignature,
        &["Certificate 1 of 1", "issuer \"CN=Issuing 1,O=Acme Ltd\""],
    );
    check(&[shouted.issue(&expired), above.clone()], Reject::CertificateExpired, &["Certificate 1 of 2"]);
    check(&[shouted.issue(&Template::client("Sender")), above], Reject::IdentityMismatch, &["subject \"CN=Sender\""]);
    check(&[shouted.issue(&client)], Reject::UnknownIssuer, &["its issuer \"CN=SUB\""]);
}

#[test]
fn spellings_do_not_raise_what_a_self_made_chain_costs() {
    let root = Authority::p384_root(utf8());
    let impostors: Vec<_> = others().into_iter().map(Authority::p384_root).collect();
    let mut chain = vec![impostors[0].issue(&Template::client("sender"))];
    for impostor in &impostors {
        chain.push(impostors[0].intermediate_by(authority(&impostor.subject)).certificate);
    }
    let one = Profile { ..profile(&root, "sender") };
    let (identity, scope) = policy((0..50).map(|_| provider("sender", vec![one.clone()])).collect());
    let work = identity.verify(&scope, PeerChain::unsafe_assumed(&chain), at(NOW)).work;
    assert_eq!((work.signature_checks, work.failed_checks), (1, 1));
}

#[test]
fn key_identifiers_and_revocation_work_across_spellings() {
    use crate::identity::{RevocationLists, RevocationScope};
    let (old, new) = (Authority::p384_root(utf8()), Authority::p384_root(others()[0].clone()));
    let issuing = Authority::root_named(others()[1].clone());
    let certify = |signer: &Authority| {
        let template = authority(&common_name("Sub")).with(authority_key(&signer.key_identifier()));
        issuing.certified_by(&template.serial(&[0x42]), &signer.subject, signer)
    };
    let client = issuing.renamed(common_name("SUB")).issue(&Template::client("sender").serial(&[0x11]));
    let chain = [client, certify(&old), certify(&new)];
    let listed = |serials: &[&[u8]]| {
        let lists = vec![
            new.renamed(utf8()).revocation_list(serials, NOW - DAY, NOW + DAY),
            issuing.renamed(common_name("suB")).revocation_list(serials, NOW - DAY, NOW + DAY),
        ];
        Profile { revocation: Some(RevocationLists::new(lists, RevocationScope::Chain)), ..profile(&new, "sender") }
    };
    assert!(verify(listed(&[]), &chain).is_ok());
    for serial in [&[0x11][..], &[0x42]] {
        assert_eq!(verify(listed(&[serial]), &chain).unwrap_err().refusal.reject, Reject::CertificateRevoked);
    }
}

/// A chain whose names are the same bytes costs no copy of its certificates.
#[test]
fn only_a_chain_that_needs_it_is_respelled() {
    use crate::identity::presented::PresentedChain;
    use crate::identity::spelling::AnchorNames;
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let printable = || name(&[&[("2.5.4.3", PRINTABLE_STRING, b"ISSUING")]]);
    let respelled = issuing.renamed(printable());
    let providers = [provider("a", vec![profile(&root, "sender")])];
    let names = AnchorNames::new(&providers, &PublicRoots::none());
    let client = Template::client("sender");
    let constrained = Template::new(common_name("narrow")).with(authority_extension(None));
    let constrained = root.intermediate_by(constrained.with(permitted_domain("example.com")));
    for (chain, needs) in [
        (vec![issuing.issue(&client), issuing.certificate.clone()], false),
        // Each name twice, and one that is empty.
        (vec![issuing.issue(&client), issuing.certificate.clone(), root.certificate.clone()], false),
        (vec![issuing.issue(&client), issuing.certificate.clone(), issuing.certificate.clone()], false),
        (vec![constrained.issue(&client), constrained.certificate.clone()], false),
        (vec![issuing.issue(&client), root.certified_by(&Template::client("-"), &name(&[]), &root)], false),
        (vec![respelled.issue(&client), issuing.certificate.clone()], true),
    ] {
        let presented = PresentedChain::new(&chain);
        assert_eq!(names.respell(&presented).is_some(), needs, "{} certificates", chain.len());
    }
}
