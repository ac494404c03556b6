//! What the certificate of a trust anchor allows its key to verify.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::fixture::*;
use crate::identity::{AnchorFlaw, AnchorUse, ConfiguredAnchor, Profile, RevocationLists, RevocationScope};
use crate::reject::Reject;

#[test]
fn the_certificate_of_an_anchor_says_what_its_key_verifies() {
    let authority = || Template::new(common_name("root")).with(authority_extension(None));
    let identifier = |last: u32, critical| extension(&format!("2.5.29.{last}"), critical, &[0x04, 0x00]);
    let nameless = Template { subject: name(&[]), ..authority() };
    let first = Template { version: 0, ..Template::new(common_name("root")) };
    let not_authority = extension("2.5.29.19", true, &tlv(0x30, &[]));
    let malformed = extension("2.5.29.15", true, &[0x05, 0x00]);
    let critical = |id: &str| Some(AnchorFlaw::CriticalExtension(id.to_owned()));
    for (template, flaw, signs_lists) in [
        (authority(), None, true),
        (first, None, true),
        (authority().with(key_usage(&[5, 6])), None, true),
        (authority().with(key_usage(&[5])), None, false),
        (authority().with(key_usage(&[6])), Some(AnchorFlaw::NotForCertificates), true),
        (authority().with(key_usage(&[0])), Some(AnchorFlaw::NotForCertificates), false),
        (Template::new(common_name("root")), Some(AnchorFlaw::NotAnAuthority), true),
        (Template::new(common_name("root")).with(not_authority), Some(AnchorFlaw::NotAnAuthority), true),
        (nameless, Some(AnchorFlaw::Nameless), true),
        (authority().with(identifier(35, false)), None, true),
        (authority().with(identifier(35, true)), critical("2.5.29.35"), true),
        (authority().with(identifier(14, true)), critical("2.5.29.14"), true),
        (authority().with(extension("1.2.3.4", true, &[])), critical("1.2.3.4"), true),
        (authority().with(extension("2.5.29.32", true, &[0x30, 0x00])), None, true),
        (authority().with(malformed), Some(AnchorFlaw::Unreadable), false),
        (authority().with(authority_extension(None)), Some(AnchorFlaw::Unreadable), false),
    ] {
        let root = Authority::root("root");
        let certificate = root.certified_by(&template, &template.subject, &root);
        let found = AnchorUse::of(&certificate);
        assert_eq!((found.flaw(), found.signs_lists()), (flaw.as_ref(), signs_lists), "{flaw:?}");
    }
    assert_eq!(AnchorUse::of(&CertificateDer::from(vec![0x30, 0x00])).flaw(), Some(&AnchorFlaw::Unreadable));
    let unrestricted = AnchorUse::unrestricted();
    assert_eq!((unrestricted.flaw(), unrestricted.signs_lists()), (None, true));
}

/// A profile whose only anchor is the certificate of `root` made by this template.
fn anchored(root: &Authority, template: &Template) -> Profile {
    let certificate = root.certified_by(template, &template.subject, root);
    Profile { trust_anchors: anchored_by(&certificate), ..profile(root, "sender") }
}

#[test]
fn an_anchor_that_is_no_authority_verifies_no_certificate_but_its_own() {
    let root = Authority::root("root");
    let issuing = root.intermediate("issuing");
    let usage = |bits: &[u8]| Template::new(common_name("root")).with(authority_extension(None)).with(key_usage(bits));
    for (template, words) in [
        (Template::client("root"), Some("is not a CA certificate")),
        (usage(&[0]), Some("has a key usage extension without keyCertSign")),
        (usage(&[5]), None),
        (
            usage(&[5]).with(extension("1.2.3.4", true, &[])),
            Some("has a critical extension that hookgate does not support (1.2.3.4)"),
        ),
    ] {
        for chain in [
            vec![root.issue(&Template::client("sender"))],
            vec![issuing.issue(&Template::client("sender")), issuing.certificate.clone()],
        ] {
            let refusal = verify(anchored(&root, &template), &chain).err().map(|refusal| refusal.refusal);
            let Some(words) = words else {
                assert_eq!(refusal, None);
                continue;
            };
            let refusal = refusal.unwrap();
            assert_eq!(refusal.reject, Reject::PathConstraint, "{refusal}");
            assert!(refusal.detail().contains("the trust anchor \"CN=root\""), "{refusal}");
            assert!(refusal.detail().contains(words), "{refusal}");
        }
    }
}

#[test]
fn an_anchor_without_a_name_is_no_issuer() {
    let root = Authority::root_named(name(&[]));
    let refusal = verify(profile(&root, "sender"), &[root.issue(&Template::client("sender"))]).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::PathConstraint);
    assert!(refusal.detail().contains("has an empty subject"), "{refusal}");
}

#[test]
fn a_client_that_is_its_own_anchor_does_not_certify_others() {
    let own = Authority::root("sender");
    let template = Template::client("sender");
    let profile = || anchored(&own, &template);
    assert!(verify(profile(), &[own.certified_by(&template, &own.subject, &own)]).is_ok());
    // The same key in a renewed certificate is still its own.
    let renewed = template.clone().serial(&[0x77]);
    assert!(verify(profile(), &[own.certified_by(&renewed, &own.subject, &own)]).is_ok());
    let refusal = verify(profile(), &[own.issue(&template)]).unwrap_err().refusal;
    assert_eq!(refusal.reject, Reject::PathConstraint);
    // Nor through an authority that it makes, also if that certifies the key of the anchor.
    let issuing = own.intermediate("issuing");
    for leaf in [issuing.issue(&template), own.certified_by(&template, &issuing.subject, &issuing)] {
        let refusal = verify(profile(), &[leaf, issuing.certificate.clone()]).unwrap_err().refusal;
        assert_eq!(refusal.reject, Reject::PathConstraint);
        assert!(refusal.detail().contains("is not a CA certificate"), "{refusal}");
    }
}

#[test]
fn another_anchor_of_the_same_name_and_key_is_found() {
    let root = Authority::root("root");
    let mut both = anchored(&root, &Template::client("root"));
    both.trust_anchors.push(ConfiguredAnchor::of(&root.certificate, NOW).unwrap());
    let chain = [root.issue(&Template::client("sender"))];
    assert_eq!(verify(both, &chain).unwrap().matches()[0].trust_anchor, 1);
}

#[test]
fn an_anchor_signs_lists_if_its_key_usage_allows_it() {
    let root = Authority::root("root");
    let chain = [root.issue(&Template::client("sender"))];
    for (bits, admitted) in [(&[5, 6][..], true), (&[5], false)] {
        let template = Template::new(common_name("root")).with(authority_extension(None)).with(key_usage(bits));
        let lists = vec![root.revocation_list(&[], NOW - DAY, NOW + DAY)];
        let revocation = Some(RevocationLists::new(lists, RevocationScope::Chain));
        let result = verify(Profile { revocation, ..anchored(&root, &template) }, &chain);
        assert_eq!(result.is_ok(), admitted, "{bits:?}");
        if let Err(refusal) = result {
            assert_eq!(refusal.refusal.reject, Reject::RevocationUnknown);
            assert!(refusal.refusal.detail().contains("lacks cRLSign"), "{}", refusal.refusal);
        }
    }
}

#[test]
fn the_roots_of_the_presets_verify_certificates() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../presets/roots");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let roots: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == "pem")).collect();
    assert!(roots.len() >= 15, "{roots:?}");
    for path in roots {
        for certificate in CertificateDer::pem_file_iter(&path).unwrap() {
            let found = AnchorUse::of(&certificate.unwrap());
            assert_eq!(found.flaw(), None, "{}", path.display());
        }
    }
}
