//! Hostile bytes: no input may panic, and only the genuine chain may pass.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fixture::*;
use crate::identity::diagnosis::MAX_DETAIL_BYTES;
use crate::identity::{Condition, PeerChain, Profile, RevocationList, RevocationLists, RevocationScope};

/// A chain of another encoder than that of `fixture`, with more extensions, and a profile that admits it.
fn genuine() -> (Profile, Vec<CertificateDer<'static>>) {
    let authority = |common: &str| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CountryName, "US");
        params.distinguished_name.push(DnType::CommonName, common);
        params
    };
    let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
    let issuing = CertifiedIssuer::signed_by(authority("issuing"), KeyPair::generate().unwrap(), &root).unwrap();
    let mut params = CertificateParams::new(vec!["client.example.com".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
    params.distinguished_name.push(DnType::CommonName, "client.example.com");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuing).unwrap();
    let profile = Profile {
        trust_anchors: anchored_by(root.der()),
        identity: vec![rule(vec![
            Condition::subject("/O=Example, Inc./CN=client.example.com").unwrap(),
            Condition::subject_cn("client.example.com").unwrap(),
            Condition::san_dns("*.example.com").unwrap(),
        ])],
        ..profile(&Authority::root("-"), "-")
    };
    (profile, vec![leaf.der().clone(), issuing.der().clone()])
}

/// Every truncation, and one flipped bit in every byte, of each certificate, under policies with different checks.
#[test]
fn damaged_certificates_are_refused_without_a_panic() {
    let (good, chain) = genuine();
    assert!(verify(good.clone(), &chain).is_ok());
    let listed = RevocationLists::new(
        vec![Authority::root("issuing").revocation_list(&[], NOW - DAY, NOW + DAY)],
        RevocationScope::Chain,
    );
    let foreign = profile(&Authority::root("elsewhere"), "client.example.com");
    let profiles = [good.clone(), foreign, Profile { revocation: Some(listed), ..good }];
    for (place, certificate) in chain.iter().enumerate() {
        let flips = (0..certificate.len()).map(|index| {
            let mut damaged = certificate.to_vec();
            damaged[index] ^= 1 << (index % 8);
            damaged
        });
        let truncations = (0..certificate.len()).map(|length| certificate[..length].to_vec());
        for damaged in flips.chain(truncations) {
            let mut chain = chain.clone();
            chain[place] = damaged.clone().into();
            for profile in &profiles {
                let refusal = verify(profile.clone(), &chain).expect_err("damaged, but admitted").refusal;
                assert!(refusal.detail().len() <= MAX_DETAIL_BYTES && refusal.detail().is_ascii(), "{refusal}");
            }
        }
    }
}

#[test]
fn damaged_revocation_lists_are_errors_or_cover_nothing() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("sender"))];
    let der = root.revocation_list_der(&[&[0x0a, 0x1b]], NOW - DAY, Some(NOW + DAY));
    for index in 0..der.len() {
        let mut damaged = der.clone();
        damaged[index] ^= 1 << (index % 8);
        assert!(RevocationList::from_der(&der[..index]).is_err());
        let Ok(list) = RevocationList::from_der(&damaged) else { continue };
        let revocation = Some(RevocationLists::new(vec![list], RevocationScope::Chain));
        assert!(verify(Profile { revocation, ..profile(&root, "sender") }, &chain).is_err(), "byte {index}");
    }
}

#[test]
fn the_presets_roots_are_anchors_with_readable_names() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../presets/roots");
    let mut found = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        for certificate in CertificateDer::pem_file_iter(&path).unwrap() {
            let certificate = certificate.unwrap();
            let (identity, scope) = policy(vec![provider(
                "sender",
                vec![Profile { trust_anchors: anchored_by(&certificate), ..profile(&Authority::root("-"), "x") }],
            )]);
            let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
            assert_eq!(identity.authority_names(&scope), [parsed.subject().as_raw().to_vec()], "{}", path.display());
            // The refusal of a root that a client presents names it.
            let refusal = identity
                .verify(&scope, PeerChain::unsafe_assumed(std::slice::from_ref(&certificate)), at(NOW))
                .result
                .unwrap_err()
                .refusal;
            assert!(refusal.detail().contains("Certificate 1 of 1 presented (subject \""), "{refusal}");
            found += 1;
        }
    }
    assert!(found >= 9, "{found} roots");
}
