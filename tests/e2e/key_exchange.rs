//! Key exchange and policies of `[tls]`: the hybrid group with ML-KEM first, clients without it, and what a policy refuses.

use std::net::Ipv4Addr;
use std::sync::Arc;

use hookgate_client::hello::{Answer, Hello};
use hookgate_client::suite;
use hookgate_testkit::client::{OpenSsl, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::pki::{KeyKind, Sender, Variant};
use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};

use crate::alert::{HANDSHAKE_FAILURE, PROTOCOL_VERSION};
use crate::environment::{PATH, SOON, quoted};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// The daemon with these lines in `[tls]`.
fn with_tls(lines: &str) -> TestGateway {
    TestGateway::with_toml(|environment| environment.toml("", &format!("[tls]\n{lines}\n"))).unwrap()
}

/// Completed handshakes with this group.
fn counted(gateway: &TestGateway, group: &str) -> f64 {
    gateway.daemon.metric("hookgate_handshakes_total", &[("group", group), ("result", "ok")]).unwrap_or(0.0)
}

/// A client whose groups are those of `provider`, the first of which it shares a key for.
fn client(gateway: &TestGateway, provider: CryptoProvider) -> TlsClient {
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    TlsClient::of_provider(gateway.daemon.port(), &gateway.environment.pki, &identity, Arc::new(provider)).unwrap()
}

fn expect_admitted(client: &TlsClient) {
    assert_eq!(client.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}

#[test]
fn a_reload_changes_the_groups_of_new_handshakes() {
    let gateway = with_tls("key_exchange = [\"P-384\"]");
    expect_admitted(&client(&gateway, ring::default_provider()));
    assert_eq!((counted(&gateway, "P-384"), counted(&gateway, "X25519")), (1.0, 0.0));
    gateway.reload(&gateway.environment.toml("", "[tls]\nkey_exchange = [\"X25519\"]\n")).unwrap();
    expect_admitted(&client(&gateway, ring::default_provider()));
    assert_eq!((counted(&gateway, "P-384"), counted(&gateway, "X25519")), (1.0, 1.0));
}

/// The status of the answer to a request of `client`, or the alert that ended its handshake.
fn outcome(client: OpenSsl) -> Result<u16, u8> {
    let outcome = client.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap();
    outcome.response().map(|response| response.status).ok_or_else(|| outcome.alert().unwrap())
}

#[test]
fn a_policy_serves_its_versions_and_suites_alone() {
    let check = |policy: &str, version: TlsVersion, suites: Option<&str>, expected: Result<u16, u8>| {
        let gateway = with_tls(&format!("policy = \"{policy}\""));
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let client = gateway.openssl().version(version).identity(&identity);
        let client = suites.into_iter().fold(client, |client, suites| client.ciphers(suites));
        assert_eq!(outcome(client), expected, "{policy} {version:?} {suites:?}");
        if expected == Err(PROTOCOL_VERSION) {
            gateway.wait_rejections("tls_version", 1.0).unwrap();
            let served = if policy == "modern" { "1.3 only" } else { "1.2 only" };
            gateway
                .daemon
                .wait_log(&format!("that this server serves: {served}, as policy in [tls] says"), SOON)
                .unwrap();
        }
    };
    check("modern", TlsVersion::Tls13, None, Ok(200));
    check("modern", TlsVersion::Tls12, None, Err(PROTOCOL_VERSION));
    check("pagerduty", TlsVersion::Tls12, Some("ECDHE-ECDSA-AES128-GCM-SHA256"), Ok(200));
    check("pagerduty", TlsVersion::Tls12, Some("ECDHE-ECDSA-CHACHA20-POLY1305"), Err(HANDSHAKE_FAILURE));
    check("pagerduty", TlsVersion::Tls13, None, Err(PROTOCOL_VERSION));
    check("intermediate", TlsVersion::Tls12, Some("ECDHE-ECDSA-CHACHA20-POLY1305"), Ok(200));
}

/// Every suite with a name that the gateway takes in this version: it is asked until it takes none of those that are left.
fn taken(port: u16, version: suite::TlsVersion) -> Vec<String> {
    let mut left: Vec<CipherSuite> = suite::named().collect();
    let mut taken = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    loop {
        let hello = Hello { versions: &[version], suites: &left, server_name: Some(HOST) };
        let answer = runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            hello.ask(&mut stream).await.unwrap()
        });
        match answer {
            Answer::Selected(selected, suite) => {
                assert!(selected == version && left.contains(&suite), "{selected:?} {suite:?}");
                left.retain(|other| *other != suite);
                taken.push(suite::name(suite));
            }
            answer => {
                assert!(matches!(answer, Answer::Alert(_)), "{answer:?}");
                taken.sort();
                return taken;
            }
        }
    }
}

/// The lists are those of Mozilla's configurations (version 5.7) without DHE, and what PagerDuty documents, without CBC, DHE and static keys.
#[test]
fn a_policy_takes_the_suites_of_its_source_and_no_other() {
    let new: &[&str] = &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
    let aes: &[&str] = &["AES_128_GCM_SHA256", "AES_256_GCM_SHA384"];
    let with_chacha: &[&str] = &["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"];
    for (policy, of_tls13, of_tls12) in
        [("intermediate", new, with_chacha), ("modern", new, &[]), ("pagerduty", &[], aes)]
    {
        // A handshake of TLS 1.2 has the suites of the certificate's key alone.
        for (key, name) in [(KeyKind::P256, "ECDSA"), (KeyKind::Rsa2048, "RSA")] {
            let gateway = TestGateway::with_toml(|environment| {
                let server = environment.pki.server("other", &[HOST], key).unwrap();
                let text = environment.toml("", &format!("[tls]\npolicy = \"{policy}\"\n"));
                let text = text.replace(&quoted(&environment.server.chain_path), &quoted(&server.chain_path));
                text.replace(&quoted(&environment.server.key_path), &quoted(&server.key_path))
            });
            let gateway = gateway.unwrap();
            let port = gateway.daemon.port();
            assert_eq!(taken(port, suite::TlsVersion::Tls13), of_tls13, "{policy} {name}");
            let of_tls12: Vec<String> =
                of_tls12.iter().map(|cipher| format!("TLS_ECDHE_{name}_WITH_{cipher}")).collect();
            assert_eq!(taken(port, suite::TlsVersion::Tls12), of_tls12, "{policy} {name}");
            assert!(taken(port, suite::TlsVersion::Tls11).is_empty(), "{policy} {name}");
        }
    }
}

#[cfg(feature = "aws-lc")]
mod hybrid {
    use std::ffi::OsString;
    use std::fs;
    use std::io::Write as _;
    use std::net::{SocketAddr, TcpStream};
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::Duration;

    use hookgate_testkit::gateway::free_port;
    use hookgate_testkit::http;
    use hookgate_testkit::process::KilledOnDrop;
    use hookgate_testkit::wait::wait_until;
    use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};

    use super::*;

    /// With the hybrid group first, as browsers and Go have it; `others` follow.
    fn sharing_hybrid(others: usize) -> CryptoProvider {
        let groups = [X25519MLKEM768 as _, X25519 as _, SECP256R1 as _];
        CryptoProvider { kx_groups: groups[..=others].to_vec(), ..ring::default_provider() }
    }

    #[test]
    fn the_hybrid_group_is_used_with_clients_that_know_it_and_no_other() {
        let gateway = with_tls("");
        let before = [counted(&gateway, "X25519MLKEM768"), counted(&gateway, "X25519")];
        expect_admitted(&client(&gateway, sharing_hybrid(0)));
        expect_admitted(&client(&gateway, sharing_hybrid(2)));
        expect_admitted(&client(&gateway, ring::default_provider()));
        let after = [counted(&gateway, "X25519MLKEM768"), counted(&gateway, "X25519")];
        assert_eq!([after[0] - before[0], after[1] - before[1]], [2.0, 1.0]);
    }

    #[test]
    fn a_hello_with_a_hybrid_share_may_come_in_two_segments() {
        let gateway = with_tls("");
        let client = client(&gateway, sharing_hybrid(2));
        let mut hello = Vec::new();
        let mut stream = client.connect_tcp().unwrap();
        let mut connection = client.connection().unwrap();
        connection.write_tls(&mut hello).unwrap();
        assert!(hello.len() > 1_300, "a share of ML-KEM-768 has 1,184 bytes, and the hello {}", hello.len());
        for part in hello.chunks(1_000) {
            stream.write_all(part).unwrap();
            sleep(Duration::from_millis(60));
        }
        let mut connection = TlsClient::proceed(connection, stream).unwrap();
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }

    /// `openssl` 3.5 or newer: the installed one, or the one that `cargo xtask setup test` unpacked.
    fn newest_openssl() -> Vec<OsString> {
        let installed = Command::new("openssl").args(["list", "-kem-algorithms"]).output();
        if installed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("X25519MLKEM768")) {
            return vec!["openssl".into()];
        }
        unpacked("usr/bin/openssl")
    }

    /// A program of Debian 13 that `cargo xtask setup test` unpacked.
    fn unpacked(program: &str) -> Vec<OsString> {
        // This program is in target/debug/deps.
        let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
        let root = target.join("trixie/root");
        let libraries = ["x86_64", "aarch64"].map(|machine| root.join(format!("usr/lib/{machine}-linux-gnu")));
        let libraries = libraries.iter().find(|libraries| libraries.is_dir());
        let libraries = libraries.expect("programs of Debian 13 are there: cargo xtask setup test");
        let linker = fs::read_dir(libraries).unwrap().map(|entry| entry.unwrap().path());
        let linker =
            linker.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("ld-linux"));
        vec![linker.unwrap().into(), "--library-path".into(), libraries.into(), root.join(program).into()]
    }

    /// Caddy, built with Go 1.24, as a sender: it passes what it gets on to the gateway with a client certificate.
    struct Caddy {
        _process: KilledOnDrop,
        address: SocketAddr,
    }

    impl Caddy {
        fn start(gateway: &TestGateway, hybrid: bool) -> Self {
            let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
            let port = free_port().unwrap();
            let name = format!("caddy-{port}");
            let (chain, key) = (&identity.chain_path, &identity.key_path);
            let trust = gateway.environment.pki.server_root().path();
            let text = format!(
                "{{\nadmin off\nauto_https off\n}}\nhttp://:{port} {{\nbind 127.0.0.1\nreverse_proxy https://127.0.0.1:{} {{\nheader_up Host {HOST}\n\
                 transport http {{\ntls_client_auth {} {}\ntls_trusted_ca_certs {}\ntls_server_name {HOST}\n}}\n}}\n}}\n",
                gateway.daemon.port(),
                chain.display(),
                key.display(),
                trust.display(),
            );
            let file = gateway.environment.write(&name, &text).unwrap();
            let mut words = unpacked("usr/bin/caddy").into_iter();
            let mut command = Command::new(words.next().unwrap());
            command.args(words).args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
            // What Go decides by the version that a module asks for, and Caddy asks for an older one.
            command.env("GODEBUG", format!("tlsmlkem={}", u8::from(hybrid)));
            command.env("HOME", gateway.environment.path(&name)).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().unwrap();
            Self { _process: KilledOnDrop(child), address: (Ipv4Addr::LOCALHOST, port).into() }
        }

        /// The status of the answer to a webhook.
        fn send(&self) -> u16 {
            let post =
                http::request("POST", PAGERDUTY.path, HOST, &[("Connection", "close")], PAGERDUTY.body.as_bytes());
            wait_until("Caddy", SOON, || TcpStream::connect(self.address).is_ok()).unwrap();
            let response = http::ask(self.address, &post, SOON).unwrap();
            assert!(response.field("x-request-id").is_some(), "it is the gateway's: {response:?}");
            response.status
        }
    }

    #[test]
    fn a_sender_in_go_uses_the_hybrid_group_if_it_has_it() {
        let gateway = with_tls("");
        for (hybrid, group) in [(true, "X25519MLKEM768"), (false, "X25519")] {
            let before = counted(&gateway, group);
            assert_eq!(Caddy::start(&gateway, hybrid).send(), 200, "{group}");
            assert_eq!(counted(&gateway, group), before + 1.0, "{group}");
        }
        // It shares keys of these two alone, and is asked for one of another.
        let other = with_tls("key_exchange = [\"P-256\"]");
        for (hybrid, handshakes) in [(true, 1.0), (false, 2.0)] {
            assert_eq!(Caddy::start(&other, hybrid).send(), 200, "{hybrid}");
            assert_eq!(counted(&other, "P-256"), handshakes, "{hybrid}");
        }
    }

    #[test]
    fn openssl_uses_the_hybrid_group_also_if_it_must_be_asked_for_it() {
        let gateway = with_tls("");
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let program = newest_openssl();
        let check = |groups: &[&str], group: &str| {
            let before = counted(&gateway, group);
            let client = gateway.openssl().by(program.clone()).version(TlsVersion::Tls13).identity(&identity);
            let client = groups.iter().fold(client, |client, argument| client.argument(*argument));
            assert_eq!(outcome(client), Ok(200), "{groups:?}");
            assert_eq!(counted(&gateway, group), before + 1.0, "{groups:?}");
        };
        check(&[], "X25519MLKEM768");
        // It shares a key for the first group alone, and is asked for one of the hybrid.
        check(&["-groups", "secp521r1:X25519MLKEM768"], "X25519MLKEM768");
        check(&["-groups", "X25519"], "X25519");
        check(&["-groups", "P-384"], "P-384");
    }

    #[test]
    fn a_client_that_shares_a_key_of_another_group_is_asked_again() {
        let gateway = with_tls("key_exchange = [\"P-256\"]");
        // Its first flight has keys for the hybrid and X25519 alone.
        expect_admitted(&client(&gateway, sharing_hybrid(2)));
        assert_eq!(counted(&gateway, "P-256"), 1.0);
        assert!(client(&gateway, sharing_hybrid(1)).connect().is_err(), "there is no group in common");
        gateway.daemon.wait_log("no key exchange group (see key_exchange in [tls])", SOON).unwrap();
    }
}
