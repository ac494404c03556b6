//! The handshake: versions, suites, application protocols, certificates by server name, authority names and tickets.

use std::fs;
use std::process::Command;

use hookgate_testkit::client::{OpenSsl, OpenSslOutcome, PAGERDUTY_CIPHERS, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PERCOLATE};
use hookgate_testkit::pki::{Authority, ClientIdentity, KeyKind, Sender, ServerIdentity, Variant};
use hookgate_testkit::process;

use crate::alert::{HANDSHAKE_FAILURE, NO_APPLICATION_PROTOCOL, PROTOCOL_VERSION};
use crate::environment::{Environment, SOON, handler_socket};
use crate::test_gateway::TestGateway;

fn pagerduty(gateway: &TestGateway) -> ClientIdentity {
    gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap()
}

/// Sends PagerDuty's request.
fn post(client: OpenSsl) -> OpenSslOutcome {
    client.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap()
}

fn expect_admitted(outcome: &OpenSslOutcome) {
    let status = outcome.response().map(|response| response.status);
    assert_eq!(status, Some(200), "{}{}", outcome.stderr, outcome.text());
}

/// Fails unless the handshake ended with this alert, before a certificate was presented, and was counted once.
fn expect_alert(gateway: &TestGateway, outcome: &OpenSslOutcome, alert: u8, before: f64) {
    assert_eq!((outcome.alert(), outcome.response()), (Some(alert), None), "{}{}", outcome.stderr, outcome.text());
    assert_eq!(gateway.wait_rejections("handshake_failed", before + 1.0).unwrap(), before + 1.0);
}

/// The daemon with a certificate for [`HOST`] of each of these keys, in this order.
fn with_keys(keys: &[KeyKind]) -> TestGateway {
    let environment = Environment::new().unwrap();
    let servers: Vec<ServerIdentity> =
        keys.iter().map(|key| environment.pki.server(&format!("{key:?}"), &[HOST], *key).unwrap()).collect();
    TestGateway::in_environment(environment, |environment| {
        let mut configuration = environment.configuration();
        configuration.certificates = servers.iter().collect();
        configuration.toml()
    })
    .unwrap()
}

#[test]
fn each_suite_that_pagerduty_and_rustls_share_is_negotiated() {
    let gateway = with_keys(&[KeyKind::P256, KeyKind::Rsa2048]);
    let identity = pagerduty(&gateway);
    for suite in PAGERDUTY_CIPHERS.split(':') {
        let outcome = post(gateway.openssl().version(TlsVersion::Tls12).ciphers(suite).identity(&identity));
        expect_admitted(&outcome);
        assert_eq!(outcome.cipher().as_deref(), Some(suite), "{}", outcome.text());
    }
}

#[test]
fn a_suite_is_negotiated_from_the_whole_list_of_pagerduty() {
    // The suites in PagerDuty's document that rustls does not support.
    const WHOLE: &str = "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:DHE-RSA-AES256-GCM-SHA384:\
                         DHE-RSA-AES256-SHA256:ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:\
                         DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES128-SHA256";
    for key in [KeyKind::P256, KeyKind::Rsa2048] {
        let gateway = with_keys(&[key]);
        let ciphers = format!("{WHOLE}:{PAGERDUTY_CIPHERS}");
        let client = gateway.openssl().version(TlsVersion::Tls12).ciphers(&ciphers).identity(&pagerduty(&gateway));
        let outcome = post(client);
        expect_admitted(&outcome);
        assert!(outcome.cipher().is_some_and(|cipher| cipher.contains("GCM")), "{}", outcome.text());
    }
}

#[test]
fn an_rsa_key_serves_both_versions() {
    let gateway = with_keys(&[KeyKind::Rsa2048]);
    let identity = pagerduty(&gateway);
    for version in TlsVersion::ALL {
        expect_admitted(&post(gateway.openssl().version(version).identity(&identity)));
    }
    let only_ecdsa = gateway.openssl().version(TlsVersion::Tls12).ciphers("ECDHE-ECDSA-AES256-GCM-SHA384");
    let before = gateway.rejections("handshake_failed").unwrap();
    expect_alert(&gateway, &post(only_ecdsa.identity(&identity)), HANDSHAKE_FAILURE, before);
}

#[test]
fn versions_before_1_2_are_refused() {
    let gateway = TestGateway::start().unwrap();
    let identity = pagerduty(&gateway);
    for version in ["-tls1", "-tls1_1"] {
        let before = gateway.rejections("tls_version").unwrap();
        // OpenSSL offers these versions only at security level 0.
        let client = gateway.openssl().argument(version).ciphers("ALL:@SECLEVEL=0").identity(&identity);
        let outcome = post(client);
        assert_eq!((outcome.alert(), outcome.response()), (Some(PROTOCOL_VERSION), None), "{}", outcome.stderr);
        assert_eq!(gateway.wait_rejections("tls_version", before + 1.0).unwrap(), before + 1.0);
    }
    gateway.still_serves().unwrap();
}

#[test]
fn a_peer_that_does_not_trust_our_certificate_is_told_from_one_that_fails() {
    let gateway = TestGateway::start().unwrap();
    let identity = pagerduty(&gateway);
    // A root that our certificate does not have.
    let other = gateway.environment.pki.sender(Sender::Percolate).root.path().to_owned();
    for version in TlsVersion::ALL {
        let before = gateway.rejections("server_certificate_refused").unwrap();
        let outcome = post(gateway.openssl().version(version).identity(&identity).trusting(&other));
        assert_eq!(outcome.response(), None, "{}", outcome.text());
        gateway.wait_rejections("server_certificate_refused", before + 1.0).unwrap();
    }
    gateway.daemon.wait_log("The client does not accept the certificate of this server", SOON).unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn suites_without_forward_secrecy_or_authenticated_encryption_are_refused() {
    let gateway = with_keys(&[KeyKind::P256, KeyKind::Rsa2048]);
    let identity = pagerduty(&gateway);
    for suite in
        ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES256-SHA384", "DHE-RSA-AES256-GCM-SHA384"]
    {
        let before = gateway.rejections("handshake_failed").unwrap();
        let client = gateway.openssl().version(TlsVersion::Tls12).ciphers(suite).identity(&identity);
        expect_alert(&gateway, &post(client), HANDSHAKE_FAILURE, before);
    }
    gateway.still_serves().unwrap();
}

#[test]
fn a_client_with_an_unsupported_key_share_is_asked_for_another() {
    let gateway = TestGateway::start().unwrap();
    let client = gateway.openssl().version(TlsVersion::Tls13).argument("-groups").argument("P-521:P-256");
    expect_admitted(&post(client.identity(&pagerduty(&gateway))));
}

#[test]
fn only_http_1_1_is_negotiated() {
    let gateway = TestGateway::start().unwrap();
    let identity = pagerduty(&gateway);
    for version in TlsVersion::ALL {
        let client = || gateway.openssl().version(version).identity(&identity);
        let check = |offered: &str| {
            let outcome = post(client().application_protocols(offered));
            assert_eq!(outcome.application_protocol().as_deref(), Some("http/1.1"), "{}", outcome.text());
            expect_admitted(&outcome);
        };
        check("http/1.1");
        check("http/1.0,http/1.1");
        let without = post(client());
        assert_eq!(without.application_protocol(), None, "{}", without.text());
        expect_admitted(&without);
        let before = gateway.rejections("handshake_failed").unwrap();
        let other = post(client().application_protocols("spdy/3"));
        expect_alert(&gateway, &other, NO_APPLICATION_PROTOCOL, before);
    }
}

/// The subject of `authority`, as OpenSSL prints it.
fn subject(authority: &Authority) -> String {
    let mut command = Command::new("openssl");
    command.args(["x509", "-noout", "-subject", "-in"]).arg(authority.path());
    let text = process::run(command, &[], SOON).unwrap().stdout_text();
    text.trim().strip_prefix("subject=").unwrap().to_owned()
}

#[test]
fn the_authorities_of_a_server_names_providers_are_named_in_the_handshake() {
    const OTHER: &str = "percolate.example.com";
    let gateway = TestGateway::with_toml(|environment| {
        let handler = handler_socket(&environment.events);
        let route = format!(
            "[[route]]\nname = \"other\"\nhost = \"{OTHER}\"\npath = \"/\"\nproviders = [\"percolate\"]\nhandler = {handler}\n"
        );
        environment.configuration().toml() + &route
    })
    .unwrap();
    let roots = |senders: &[Sender]| {
        let mut names: Vec<_> =
            senders.iter().map(|sender| subject(&gateway.environment.pki.sender(*sender).root)).collect();
        names.sort_unstable();
        names
    };
    for version in TlsVersion::ALL {
        for (server_name, senders) in [(HOST, &Sender::ALL[..]), (OTHER, &[Sender::Percolate])] {
            let client = gateway.daemon.openssl(server_name, &gateway.environment.pki).version(version);
            let mut names = client.send(b"GET / HTTP/1.0\r\n\r\n").run().unwrap().authority_names();
            names.sort_unstable();
            assert_eq!(names, roots(senders), "{server_name} {version:?}");
        }
    }
}

/// `text` without white space, to compare certificates.
fn without_white_space(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_server_certificate_is_chosen_by_server_name() {
    let environment = Environment::new().unwrap();
    let server = |file: &str, names: &[&str]| environment.pki.server(file, names, KeyKind::P256).unwrap();
    let default = server("default", &[HOST]);
    let wildcard = server("wildcard", &["*.example.org"]);
    let exact = server("exact", &["exact.example.org"]);
    let gateway = TestGateway::in_environment(environment, |environment| {
        let mut configuration = environment.configuration();
        configuration.certificates = vec![&default, &wildcard, &exact];
        configuration.toml()
    })
    .unwrap();
    let check = |server_name: &str, expected: &ServerIdentity| {
        for version in TlsVersion::ALL {
            let client = gateway.daemon.openssl(server_name, &gateway.environment.pki).version(version);
            let outcome = client.send(b"GET / HTTP/1.0\r\n\r\n").run().unwrap();
            let sent = without_white_space(&outcome.server_certificates().concat());
            let chain = without_white_space(&fs::read_to_string(&expected.chain_path).unwrap());
            assert!(sent == chain, "{server_name} {version:?} got another certificate or order: {}", outcome.text());
        }
    };
    check(HOST, &default);
    check("any.example.org", &wildcard);
    check("ANY.Example.org", &wildcard);
    check("exact.example.org", &exact);
    check("two.labels.example.org", &default);
    check("example.org", &default);
    check("elsewhere.example.net", &default);
}

/// curl sends no server name for an IP address. The host of the request then selects the route.
#[test]
fn a_client_without_a_server_name_gets_the_default_certificate_and_its_route() {
    let gateway = TestGateway::start().unwrap();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let curl = gateway.daemon.curl("127.0.0.1", &gateway.environment.pki).identity(&identity);
    let outcome = curl.post(PERCOLATE.path, b"{}").field("Host", HOST).run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
}

#[test]
fn exactly_one_ticket_is_issued() {
    let gateway = TestGateway::start().unwrap();
    let identity = pagerduty(&gateway);
    let outcome = post(gateway.openssl().version(TlsVersion::Tls13).identity(&identity));
    expect_admitted(&outcome);
    assert_eq!(outcome.text().matches("Post-Handshake New Session Ticket arrived").count(), 1, "{}", outcome.text());
    let outcome = post(gateway.openssl().version(TlsVersion::Tls12).identity(&identity));
    expect_admitted(&outcome);
    assert_eq!(outcome.text().matches("TLS session ticket:").count(), 1, "{}", outcome.text());
}
