//! Senders without a client certificate: their own host, a host that they share, and what a request has to show there.

use hookgate_testkit::client::{Curl, CurlOutcome, OpenSsl, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http::Request;
use hookgate_testkit::pki::{ClientIdentity, Sender, Variant};
use hookgate_testkit::wait::wait_until;

use super::{hmac_hex, post, secret_file};
use crate::environment::{Environment, SOON, handler_socket};
use crate::memory::{BURSTS, LEFT, MIB, Resident};
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// The host of the sender without a certificate alone.
const OWN_HOST: &str = "github.example.com";

pub(super) const SECRET: &str = "a secret of the sender without a certificate";

pub(super) const BODY: &[u8] = b"{\"action\":\"opened\"}";

pub(super) const SIGNATURE: &str = "x-hub-signature-256";

/// The sections of a provider without certificates that signs with `secret`, on a host of its own and on [`HOST`], where `/both` admits
/// Percolate too.
pub(super) fn sections(environment: &Environment, secret: &str) -> String {
    let secret = secret_file(environment, &format!("{secret}.secret"), secret);
    let handler = handler_socket(&environment.events);
    let route = |host: &str, path: &str, providers: &str| {
        format!("[[route]]\nhost = \"{host}\"\npath = \"{path}\"\nproviders = [{providers}]\nhandler = {handler}\n")
    };
    let provider = format!(
        "\n[[provider]]\nname = \"github\"\nclient_certificate = \"none\"\n[provider.proof.signature]\nform = \"hmac\"\n\
         header = \"{SIGNATURE}\"\nprefix = \"sha256=\"\nmessage = \"{{body}}\"\nsecrets = [{secret}]\n"
    );
    [
        provider,
        route(OWN_HOST, "/github", "\"github\""),
        route(HOST, "/github", "\"github\""),
        route(HOST, "/both", "\"github\", \"percolate\""),
    ]
    .concat()
}

fn gateway(on_failure: &str, limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| {
        let mut configuration = environment.configuration();
        configuration.on_failure = on_failure;
        configuration.limits = limits;
        configuration.toml() + &sections(environment, SECRET)
    })
    .unwrap()
}

pub(super) fn signature(body: &[u8]) -> String {
    format!("sha256={}", hmac_hex(SECRET, body))
}

/// A request of the sender, without a certificate.
fn curl(gateway: &TestGateway, host: &str, path: &str, signature: Option<&str>) -> Curl {
    let curl = Curl::new(host, gateway.daemon.port()).argument("--insecure").post(path, BODY);
    signature.map_or(curl.clone(), |signature| curl.field(SIGNATURE, signature))
}

/// The one request that the handler got of `curl`.
fn admitted(gateway: &TestGateway, curl: &Curl) -> Request {
    gateway.handler().forget();
    let outcome = curl.run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}\n{}", gateway.daemon.log());
    gateway.handler().requests().remove(0)
}

#[track_caller]
fn expect_refused(gateway: &TestGateway, curl: &Curl, (status, reason): (u16, &str)) {
    let handled = gateway.environment.handled();
    let outcome: CurlOutcome = curl.run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!((response.status, response.reason().as_deref()), (status, Some(reason)), "{}", response.text());
    assert_eq!(gateway.environment.handled(), handled, "a handler saw it");
}

/// What the handler is told of a sender without a certificate.
#[track_caller]
fn assert_github(request: &Request) {
    assert_eq!(request.field("x-hookgate-provider"), Some("github"));
    assert_eq!(request.field("x-hookgate-proof"), Some("signature"));
    for absent in ["client-cert", "client-cert-chain", "x-hookgate-subject"] {
        assert_eq!(request.field(absent), None, "{absent}");
    }
}

fn identity(gateway: &TestGateway, sender: Sender, variant: Variant) -> ClientIdentity {
    gateway.environment.identity(sender, variant).unwrap()
}

#[test]
fn a_host_of_senders_without_certificates_alone_asks_for_none() {
    let gateway = gateway("respond", "");
    let asks = |host: &str, version| {
        let openssl = OpenSsl::new(host, gateway.daemon.port()).version(version).argument("-msg");
        let outcome = openssl.post(host, "/github", BODY).run().unwrap();
        assert!(outcome.connected(), "{}", outcome.text());
        outcome.text().contains("CertificateRequest")
    };
    for version in TlsVersion::ALL {
        assert!(!asks(OWN_HOST, version), "{version:?}");
        assert!(asks(HOST, version), "{version:?}");
    }
}

#[test]
fn a_signed_request_without_a_certificate_is_admitted_and_counted_and_nothing_can_be_forged() {
    let gateway = gateway("respond", "");
    for host in [OWN_HOST, HOST] {
        let forged =
            ["Client-Cert", "Client-Cert-Chain", "X-Hookgate-Subject", "X_Hookgate_Subject", "X-Hookgate-Proof"];
        let curl = curl(&gateway, host, "/github", Some(&signature(BODY)));
        let curl = forged.iter().fold(curl, |curl, name| curl.field(name, "forged"));
        assert_github(&admitted(&gateway, &curl));
    }
    let requests = [("provider", "github"), ("status", "200")];
    assert_eq!(gateway.daemon.metric("hookgate_requests_total", &requests).unwrap(), 2.0);
    assert_eq!(gateway.daemon.metric("hookgate_verifications_total", &[]).unwrap(), 0.0, "nothing was verified");
}

#[test]
fn a_request_without_a_certificate_needs_the_proof_of_its_provider() {
    let gateway = gateway("respond", "");
    for host in [OWN_HOST, HOST] {
        expect_refused(&gateway, &curl(&gateway, host, "/github", None), (403, "signature_missing"));
        let of_another = signature(b"{}");
        expect_refused(&gateway, &curl(&gateway, host, "/github", Some(&of_another)), (403, "signature_mismatch"));
    }
    gateway.still_serves().unwrap();
}

#[test]
fn without_a_certificate_only_the_routes_that_need_none_are_there() {
    let gateway = gateway("respond", "");
    let signed = signature(BODY);
    for path in ["/percolate", "/pagerduty", "/no-such-route"] {
        expect_refused(&gateway, &curl(&gateway, HOST, path, Some(&signed)), (403, "no_certificate"));
    }
    expect_refused(&gateway, &curl(&gateway, OWN_HOST, "/no-such-route", Some(&signed)), (404, "no_route"));
}

#[test]
fn on_a_route_of_both_kinds_a_certificate_counts_for_its_own_provider_alone() {
    let gateway = gateway("respond", "");
    let signed = signature(BODY);
    let with = |sender, variant, signature| {
        curl(&gateway, HOST, "/both", signature).identity(&identity(&gateway, sender, variant))
    };
    let request = admitted(&gateway, &with(Sender::Percolate, Variant::Good, None));
    assert_eq!(request.field("x-hookgate-provider"), Some("percolate"));
    assert_eq!(request.field("x-hookgate-proof"), Some("certificate"));
    expect_refused(&gateway, &curl(&gateway, HOST, "/both", None), (403, "signature_missing"));
    // Certificates that are admitted at this host, or not, but prove no provider of the route.
    for (sender, variant) in [
        (Sender::PagerDuty, Variant::Good),
        (Sender::PagerDuty, Variant::Expired),
        (Sender::Percolate, Variant::Stranger),
    ] {
        expect_refused(&gateway, &with(sender, variant, None), (403, "signature_missing"));
        assert_github(&admitted(&gateway, &with(sender, variant, Some(&signed))));
    }
    // A refused certificate of the host says why where one is needed.
    let expired = curl(&gateway, HOST, "/pagerduty", Some(&signed));
    let expired = expired.identity(&identity(&gateway, Sender::PagerDuty, Variant::Expired));
    expect_refused(&gateway, &expired, (403, "certificate_expired"));
}

#[test]
fn abort_ends_no_handshake_for_want_of_a_certificate_if_a_provider_needs_none() {
    let gateway = gateway("abort", "");
    let signed = signature(BODY);
    assert_github(&admitted(&gateway, &curl(&gateway, HOST, "/github", Some(&signed))));
    // It has the identity of no provider.
    let stranger = identity(&gateway, Sender::PagerDuty, Variant::WrongSubject);
    expect_refused(&gateway, &curl(&gateway, HOST, "/percolate", None), (403, "no_certificate"));
    expect_refused(&gateway, &curl(&gateway, HOST, "/github", None).identity(&stranger), (403, "signature_missing"));
    // It has the identity of PagerDuty, which wants an alert.
    let expired = identity(&gateway, Sender::PagerDuty, Variant::Expired);
    let outcome =
        curl(&gateway, HOST, "/github", Some(&signed)).identity(&expired).argument("--verbose").run().unwrap();
    assert_eq!((outcome.status(), outcome.alert()), (None, Some(45)), "{outcome:?}");
}

#[test]
fn a_resumed_session_without_a_certificate_needs_the_proof_again() {
    let gateway = gateway("respond", "");
    for (host, version) in [OWN_HOST, HOST].into_iter().flat_map(|host| TlsVersion::ALL.map(|version| (host, version)))
    {
        let session = gateway.environment.path(&format!("{host}-{version:?}.session"));
        let send = |openssl: OpenSsl, signature: &str| {
            let fields = [(SIGNATURE, signature), ("Connection", "close")];
            let request = hookgate_testkit::http::request("POST", "/github", host, &fields, BODY);
            let outcome = openssl.version(version).send(&request).run().unwrap();
            let status = outcome.response().map(|response| response.status);
            (outcome.reused(), status)
        };
        let openssl = || OpenSsl::new(host, gateway.daemon.port());
        assert_eq!(send(openssl().save_session(&session), &signature(BODY)), (false, Some(200)), "{host} {version:?}");
        assert_eq!(send(openssl().resume_session(&session), "sha256=00"), (true, Some(403)), "{host} {version:?}");
        assert_eq!(send(openssl().resume_session(&session), &signature(BODY)), (true, Some(200)), "{host} {version:?}");
    }
}

#[test]
fn a_kept_connection_without_a_certificate_is_judged_by_the_current_configuration() {
    let gateway = gateway("respond", "");
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    let mut connection = client.connect().unwrap();
    let request = post("/github", &[(SIGNATURE, &signature(BODY))], BODY);
    assert_eq!(connection.ask(&request).unwrap().status, 200);
    let unsigned = post("/github", &[], BODY);
    assert_eq!(connection.ask(&unsigned).unwrap().reason().as_deref(), Some("signature_missing"));
    assert_eq!(connection.ask(&request).unwrap().status, 200, "each request stands for itself");
    let other =
        gateway.environment.configuration().toml() + &sections(&gateway.environment, "another secret of the sender");
    gateway.reload(&other).unwrap();
    assert_eq!(connection.ask(&request).unwrap().reason().as_deref(), Some("signature_mismatch"));
}

#[test]
fn a_long_body_of_a_peer_without_a_certificate_arrives_as_fast_as_it_is_sent() {
    let gateway = gateway("respond", "max_body_bytes = 1048576");
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    for length in [60_000, 200_000, 400_000, 1_048_576] {
        let body = vec![b' '; length];
        let request = post("/github", &[(SIGNATURE, &signature(&body))], &body);
        for _ in 0..4 {
            assert_eq!(client.connect().unwrap().ask(&request).unwrap().status, 200, "{length}");
        }
    }
}

#[test]
fn bodies_of_peers_without_a_certificate_are_bounded_and_take_nothing_from_senders() {
    let limits = "max_unadmitted_bytes = 1048576\nmax_body_bytes = 65536\nmax_buffered_bytes = 65536";
    let gateway = gateway("respond", limits);
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    let mut strangers: Vec<_> = (0..20).map(|_| client.connect().unwrap()).collect();
    let body = vec![b' '; 60_000];
    let head = format!("POST /github HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 65536\r\n\r\n");
    for connection in &mut strangers {
        // It fails if the connection had to give way.
        let _ = connection.send(&head);
        let _ = connection.send(&body);
    }
    // Each holds 40 KiB and three times what it sent beyond 4 KiB, so at most 5 have room.
    gateway.wait_rejections("unadmitted_limit", 15.0).unwrap();
    let full = |path, fields: &[(&str, &str)]| post(path, fields, &body);
    assert_eq!(gateway.connect().unwrap().ask(full("/percolate", &[])).unwrap().status, 200, "a certificate's share");
    let signed = full("/github", &[(SIGNATURE, &signature(&body))]);
    assert_eq!(client.connect().unwrap().ask(signed).unwrap().status, 200, "the newest goes on");
}

#[test]
fn the_memory_of_bodies_of_peers_without_a_certificate_comes_back() {
    let limits = "max_unadmitted_bytes = 16777216\nmax_body_bytes = 1048576\nrequest_head_timeout_ms = 60000";
    let gateway = gateway("respond", limits);
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    let resident = Resident::of(&gateway);
    let unfinished =
        format!("POST /github HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 65536\r\n\r\n{}", " ".repeat(60_000));
    for burst in 1..=BURSTS {
        let mut strangers: Vec<_> = (0..100).map(|_| client.connect().unwrap()).collect();
        for connection in &mut strangers {
            // It fails if the connection had to give way.
            let _ = connection.send(&unfinished);
        }
        // Each holds 40 KiB and three times what it sent beyond 4 KiB, so 80 have room.
        gateway.wait_rejections("unadmitted_limit", 20.0 * burst as f64).unwrap();
        // What they hold now, and what was freed within the last second or two.
        assert!((5 * MIB..21 * MIB).contains(&resident.grown()), "{} bytes", resident.grown());
        let is_bounded = wait_until("the bound", SOON, || resident.grown() < 16 * MIB + LEFT);
        assert!(is_bounded.is_ok(), "{} bytes", resident.grown());
        drop(strangers);
        resident.comes_back();
    }
}
