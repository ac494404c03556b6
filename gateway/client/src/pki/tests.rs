//! The certificates, looked at as DER. The end-to-end tests verify them with OpenSSL and hookgate.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn shape(depth: u8) -> CertificateShape {
    CertificateShape {
        profile: "test".into(),
        subject: vec![(COUNTRY.to_vec(), "US".into()), (COMMON_NAME.to_vec(), "sender.example".into())],
        dns_names: vec!["*.sender.example".into()],
        uris: vec!["urn:sender".into()],
        anchors: Vec::new(),
        depth,
    }
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("hookgate-pki-{}-{}", std::process::id(), fastrand::u64(..)))
}

/// Subjects of the chain, and the names of the end entity.
fn names(identity: &Identity) -> (Vec<String>, String) {
    let parse = |der: &CertificateDer<'_>| {
        let (_, parsed) = X509Certificate::from_der(der).unwrap();
        (parsed.subject().to_string(), format!("{:?}", parsed.subject_alternative_name().unwrap()))
    };
    let subjects = identity.chain.iter().map(|der| parse(der).0).collect();
    (subjects, parse(&identity.chain[0]).1)
}

#[test]
fn chains_have_the_length_of_their_flaw() {
    for (depth, lengths) in [(1, [1, 2, 2, 1, 2]), (2, [2, 2, 2, 1, 3]), (3, [2, 2, 2, 1, 4])] {
        let folder = folder();
        let pki = Pki::open(&folder, &shape(depth)).unwrap();
        let flaws = [Flaw::None, Flaw::ForeignIssuer, Flaw::Impostor, Flaw::SelfSigned, Flaw::TooDeep];
        let found = flaws.map(|flaw| pki.client(flaw).unwrap().chain.len());
        assert_eq!(found, lengths, "{depth}");
        assert_eq!(pki.client(Flaw::MissingIntermediate).unwrap().chain.len(), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn names_are_those_of_the_shape_or_wrong_as_wanted() {
    let folder = folder();
    let pki = Pki::open(&folder, &shape(2)).unwrap();
    let (subjects, alternative) = names(&pki.client(Flaw::None).unwrap());
    assert_eq!(subjects[0], "C=US, CN=sender.example");
    assert!(alternative.contains("*.sender.example") && alternative.contains("urn:sender"), "{alternative}");
    let (subjects, alternative) = names(&pki.client(Flaw::WrongName).unwrap());
    assert_eq!(subjects[0], "C=US, CN=somebody-else.example");
    assert!(!alternative.contains("sender.example") && !alternative.contains("urn:sender\""), "{alternative}");
    let (subjects, _) = names(&pki.client(Flaw::NameAsPart).unwrap());
    assert_eq!(subjects[0], "C=US, CN=sender.example.attacker.example");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_is_read_back() {
    let folder = folder();
    let pki = Pki::open(&folder, &shape(2)).unwrap();
    assert!(pki.is_new());
    let again = Pki::open(&folder, &shape(2)).unwrap();
    assert!(!again.is_new());
    assert_eq!(pki.root.der, again.root.der);
    // What one run issued is below the root of the next.
    let identity = again.client(Flaw::None).unwrap();
    assert_eq!(identity.chain[1], pki.intermediate.as_ref().unwrap().der);
    let (_, key) = pki.write(&identity).unwrap();
    fs::write(&key, "somebody else's").unwrap();
    pki.write(&identity).unwrap();
    assert!(fs::read_to_string(&key).unwrap().starts_with("-----BEGIN PRIVATE KEY-----\n"));
    fs::remove_file(folder.join(INTERMEDIATE)).unwrap();
    let error = Pki::open(&folder, &shape(2)).unwrap_err().to_string();
    assert!(error.contains("has intermediate.key and no intermediate.pem"), "{error}");
    fs::remove_dir_all(folder).unwrap();
}
