//! The clients, tested with OpenSSL's server, which demands a client certificate.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Curl, OpenSsl, PAGERDUTY_CIPHERS, TlsVersion, raw};
use crate::gateway::free_port;
use crate::pki::{KeyKind, Pki, Sender, ServerIdentity, Variant};
use crate::process::KilledOnDrop;
use crate::wait::wait_until;

const HOST: &str = "hooks.example.com";

/// `openssl s_server -WWW`: answers GET with the files of its directory, and demands a certificate below the root of `sender`.
struct Server {
    _child: KilledOnDrop,
    port: u16,
}

impl Server {
    fn start(pki: &Pki, server: &ServerIdentity, sender: Sender) -> Self {
        let port = free_port().unwrap();
        let root = pki.sender(sender).root.path();
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-WWW", "-verify_return_error", "-Verify", "3", "-accept"])
            .arg(format!("127.0.0.1:{port}"));
        command
            .arg("-cert")
            .arg(&server.chain_path)
            .arg("-cert_chain")
            .arg(pki.directory().join("server-intermediate.pem"));
        command.arg("-key").arg(&server.key_path).arg("-CAfile").arg(root).current_dir(pki.directory());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = KilledOnDrop(command.spawn().unwrap());
        wait_until("s_server listens", Duration::from_secs(5), || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        })
        .unwrap();
        Self { _child: child, port }
    }
}

/// A PKI, a file to request, and a server.
fn set_up() -> (tempfile::TempDir, Pki, Server) {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::new(directory.path()).unwrap();
    fs::write(directory.path().join("hook.txt"), "answer").unwrap();
    let identity = pki.server("server", &[HOST], KeyKind::P256).unwrap();
    let server = Server::start(&pki, &identity, Sender::PagerDuty);
    (directory, pki, server)
}

#[test]
fn curl_reports_a_response_or_a_refusal() {
    let (_directory, pki, server) = set_up();
    let check = |variant: Option<Variant>, version: TlsVersion, status: Option<u16>| {
        let mut curl = Curl::new(HOST, server.port).trusting(pki.server_root().path()).version(version);
        if let Some(variant) = variant {
            curl = curl.identity(&pki.sender(Sender::PagerDuty).variant(variant).unwrap());
        }
        let outcome = curl.request("GET", "/hook.txt").run().unwrap();
        assert_eq!(outcome.status(), status, "{variant:?} {version:?}: {outcome:?}");
        assert_eq!(outcome.exit_code == Some(0), status.is_some(), "{outcome:?}");
        if status.is_some() {
            assert_eq!(outcome.response().unwrap().text(), "answer");
        }
    };
    for version in TlsVersion::ALL {
        check(Some(Variant::Good), version, Some(200));
        check(Some(Variant::Expired), version, None);
        check(Some(Variant::MissingIntermediate), version, None);
        check(None, version, None);
    }
}

#[test]
fn openssl_reports_handshake_alert_and_response() {
    let (_directory, pki, server) = set_up();
    let client = |version| OpenSsl::new(HOST, server.port).trusting(pki.server_root().path()).version(version);
    let identity = |variant| pki.sender(Sender::PagerDuty).variant(variant).unwrap();
    for (version, name) in [(TlsVersion::Tls12, "TLSv1.2"), (TlsVersion::Tls13, "TLSv1.3")] {
        let get = b"GET /hook.txt HTTP/1.0\r\n\r\n";
        let good = client(version).identity(&identity(Variant::Good)).send(get).run().unwrap();
        assert_eq!(good.protocol().as_deref(), Some(name), "{}", good.stderr);
        assert!(good.response().unwrap().text().starts_with("answer"), "{}", good.text());
        assert_eq!(good.alert(), None);
        assert_eq!(good.server_certificates().len(), 2);
        assert_eq!(good.authority_names().len(), 1, "{}", good.text());
        // RFC 8446, section 6: certificate_expired(45), unknown_ca(48), certificate_required(116); TLS 1.2 has
        // handshake_failure(40) for the last.
        let none = if version == TlsVersion::Tls12 { 40 } else { 116 };
        let expired = client(version).identity(&identity(Variant::Expired)).send(get).run().unwrap();
        assert_eq!(expired.alert(), Some(45), "{}", expired.stderr);
        let stranger = client(version).identity(&identity(Variant::MissingIntermediate)).send(get).run().unwrap();
        assert_eq!(stranger.alert(), Some(48), "{}", stranger.stderr);
        assert_eq!(client(version).send(get).run().unwrap().alert(), Some(none));
    }
}

#[test]
fn openssl_resumes_a_session_in_either_version() {
    let (directory, pki, server) = set_up();
    let identity = pki.sender(Sender::PagerDuty).variant(Variant::Good).unwrap();
    for version in TlsVersion::ALL {
        let session: PathBuf = directory.path().join(format!("{version:?}.session"));
        let client = || {
            let client = OpenSsl::new(HOST, server.port).trusting(pki.server_root().path()).version(version);
            client.identity(&identity).send(b"GET /hook.txt HTTP/1.0\r\n\r\n")
        };
        let first = client().save_session(&session).run().unwrap();
        assert!(first.connected() && !first.reused(), "{}", first.text());
        let second = client().resume_session(&session).run().unwrap();
        assert!(second.reused() && second.response().is_some(), "{version:?}: {}", second.text());
    }
}

#[test]
fn openssl_offers_pagerdutys_suites() {
    let (_directory, pki, server) = set_up();
    let identity = pki.sender(Sender::PagerDuty).variant(Variant::Good).unwrap();
    let client = OpenSsl::new(HOST, server.port).trusting(pki.server_root().path()).version(TlsVersion::Tls12);
    let client = client.ciphers(PAGERDUTY_CIPHERS).identity(&identity).send(b"GET /hook.txt HTTP/1.0\r\n\r\n");
    let outcome = client.until("answer").run().unwrap();
    assert_eq!(outcome.cipher().as_deref(), Some("ECDHE-ECDSA-AES256-GCM-SHA384"), "{}", outcome.text());
}

#[test]
fn bare_tcp_sees_when_the_peer_closes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut stream = raw::connect(listener.local_addr().unwrap().port()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    assert_eq!(raw::send_slowly(&mut stream, b"slow", 1, Duration::from_millis(1)), 4);
    assert!(!raw::read_to_end(&mut stream, Duration::from_millis(20)).unwrap().closed);
    drop(peer);
    assert!(raw::read_to_end(&mut stream, Duration::from_secs(2)).unwrap().closed);
}
