//! The PKI, tested with OpenSSL.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

/// The error of `openssl verify` for `identity` below the sender's root; empty if there is none.
fn verify(pki: &SenderPki, identity: &ClientIdentity, more: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["verify", "-purpose", "sslclient", "-no-CApath", "-no-CAstore", "-CAfile"]).arg(pki.root.path());
    if let Some(issuers) = &identity.issuers_path {
        command.arg("-untrusted").arg(issuers);
    }
    command.args(more).arg(&identity.certificate_path);
    let finished = process::run(command, &[], Duration::from_secs(10)).unwrap();
    if finished.success() { String::new() } else { finished.stderr_text() + &finished.stdout_text() }
}

fn openssl_text(arguments: &[&str], path: &Path) -> String {
    let mut command = Command::new("openssl");
    command.args(arguments).arg("-in").arg(path);
    process::run(command, &[], Duration::from_secs(10)).unwrap().stdout_text()
}

#[test]
fn openssl_judges_every_variant_of_every_sender_as_named() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    for sender in Sender::ALL {
        let pki = pki.sender(sender);
        for variant in Variant::ALL {
            let verdict = verify(pki, &pki.variant(variant).unwrap(), &[]);
            let expected = match variant {
                Variant::Expired => "certificate has expired",
                Variant::NotYetValid => "certificate is not yet valid",
                Variant::Impostor | Variant::MissingIntermediate => "unable to get local issuer certificate",
                Variant::Stranger | Variant::SelfSigned => "self-signed certificate",
                Variant::ServerAuthOnly => "unsuitable certificate purpose",
                _ => "",
            };
            match expected {
                "" => assert_eq!(verdict, "", "{sender:?} {variant:?}"),
                expected => assert!(verdict.contains(expected), "{sender:?} {variant:?}: {verdict}"),
            }
        }
    }
}

#[test]
fn subjects_are_those_of_the_documents() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    let check = |sender: Sender, variant: Variant, expected: &str| {
        let identity = pki.sender(sender).variant(variant).unwrap();
        let text = openssl_text(&["x509", "-noout", "-subject", "-nameopt", "compat"], &identity.certificate_path);
        assert_eq!(text.trim(), format!("subject={expected}"), "{sender:?} {variant:?}");
    };
    let percolate = "/C=US/ST=New York/L=New York/O=Percolate Industries, Inc./CN=Percolate Industries, Inc.";
    check(Sender::Percolate, Variant::Good, percolate);
    check(Sender::PagerDuty, Variant::Good, "/CN=webhooks.pagerduty.com");
    check(Sender::Dialogflow, Variant::Good, "/CN=*.dialogflow.com");
    check(Sender::PagerDuty, Variant::RightSubjectAsPrefix, "/CN=webhooks.pagerduty.com.evil.example");
    check(Sender::PagerDuty, Variant::RightSubjectAsSuffix, "/CN=evilwebhooks.pagerduty.com");
    check(Sender::PagerDuty, Variant::TwoCommonNames, "/CN=webhooks.pagerduty.com/CN=somebody.example");
}

#[test]
fn revocation_lists_revoke_what_they_name_and_expire() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    let pki = pki.sender(Sender::PagerDuty);
    let (good, revoked) = (pki.variant(Variant::Good).unwrap(), pki.variant(Variant::Revoked).unwrap());
    let check = |lists: &[PathBuf; 2], identity: &ClientIdentity, expected: &str| {
        let [intermediate, root] = lists.each_ref().map(|path| path.to_str().unwrap());
        let verdict = verify(pki, identity, &["-crl_check_all", "-CRLfile", intermediate, "-CRLfile", root]);
        assert!(verdict.contains(expected) && verdict.is_empty() == expected.is_empty(), "{expected}: {verdict}");
    };
    let lists = pki.revoke(&[&revoked]).unwrap();
    check(&lists, &good, "");
    check(&lists, &revoked, "certificate revoked");
    check(&pki.revocation_lists(&RevocationListOptions::expired()).unwrap(), &good, "CRL has expired");
    let long = RevocationListOptions { filler_entries: 5000, ..RevocationListOptions::default() };
    check(&pki.revocation_lists(&long).unwrap(), &revoked, "");
}

#[test]
fn server_certificates_are_for_their_names_with_either_key() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    for (key, expected) in [(KeyKind::P256, "id-ecPublicKey"), (KeyKind::Rsa2048, "rsaEncryption")] {
        let server = pki.server("server", &["hooks.example.com"], key).unwrap();
        let text = openssl_text(&["x509", "-noout", "-text"], &server.chain_path);
        assert!(text.contains(expected) && text.contains("DNS:hooks.example.com, IP Address:127.0.0.1"), "{text}");
        let mut command = Command::new("openssl");
        command.args(["verify", "-purpose", "sslserver", "-verify_hostname", "hooks.example.com", "-CAfile"]);
        command.arg(pki.server_root().path()).arg("-untrusted").arg(&server.chain_path).arg(&server.chain_path);
        assert!(process::run(command, &[], Duration::from_secs(10)).unwrap().success());
    }
}
