//! Every refusal of a client certificate, by a problem document or by a TLS alert, as `on_failure` says.
//!
//! Owns [`check`], which defines a refusal in both modes, for both clients, in both versions. Must not test revocation, which has
//! its own file.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hookgate_testkit::client::{PAGERDUTY_CIPHERS, TlsVersion};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::PAGERDUTY;
use hookgate_testkit::http::Response;
use hookgate_testkit::pki::{ClientIdentity, LeafOptions, OddExtension, Sender, Variant};
use hookgate_testkit::process;
use hookgate_testkit::wait::wait_until;
use serde_json::Value;

use crate::alert::{
    ACCESS_DENIED, BAD_CERTIFICATE, CERTIFICATE_EXPIRED, CERTIFICATE_REQUIRED, DECRYPT_ERROR, UNKNOWN_CA,
    UNRECOGNIZED_NAME, UNSUPPORTED_CERTIFICATE,
};
use crate::environment::{Environment, SOON};
use crate::test_gateway::TestGateway;

/// The values of `on_failure`.
pub(crate) const MODES: [&str; 2] = ["respond", "abort"];

/// The expected refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// The reason in the problem document, in the metric and in the log line.
    pub(crate) reason: &'static str,
    /// The status of the problem document.
    pub(crate) status: u16,
    /// The number of the alert (RFC 8446, section 6.2).
    pub(crate) alert: u8,
    /// The place in the presented chain of the certificate at fault, if there is one. The refusal names it.
    pub(crate) at_fault: Option<usize>,
}

/// A refusal with 403 that names the certificate at `at_fault`.
const fn forbidden(reason: &'static str, alert: u8, at_fault: usize) -> Expected {
    Expected { reason, status: 403, alert, at_fault: Some(at_fault) }
}

/// The two kinds of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Curl,
    OpenSsl,
}

/// What one client saw.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) response: Option<Response>,
    pub(crate) alert: Option<u8>,
    exit_code: Option<i32>,
    /// For the message of a failed test.
    stderr: String,
}

/// Sends PagerDuty's request with `client` to `server_name`.
fn send(
    gateway: &TestGateway,
    client: Client,
    version: TlsVersion,
    server_name: &str,
    identity: Option<&ClientIdentity>,
) -> Result<Seen> {
    let (path, body) = (PAGERDUTY.path, PAGERDUTY.body.as_bytes());
    match client {
        Client::Curl => {
            let mut curl =
                gateway.daemon.curl(server_name, &gateway.environment.pki).version(version).argument("--verbose");
            if server_name != HOST {
                // The server certificate is for HOST only.
                curl = curl.argument("--insecure");
            }
            if version == TlsVersion::Tls12 {
                curl = curl.ciphers(PAGERDUTY_CIPHERS);
            }
            if let Some(identity) = identity {
                curl = curl.identity(identity);
            }
            let outcome = curl.document(&PAGERDUTY).run()?;
            let (alert, exit_code) = (outcome.alert(), outcome.exit_code);
            let response = outcome.transfers.into_iter().next().map(|transfer| transfer.response);
            Ok(Seen { response, alert, exit_code, stderr: outcome.stderr })
        }
        Client::OpenSsl => {
            let mut openssl = gateway.daemon.openssl(server_name, &gateway.environment.pki).version(version);
            if version == TlsVersion::Tls12 {
                openssl = openssl.ciphers(PAGERDUTY_CIPHERS);
            }
            if let Some(identity) = identity {
                openssl = openssl.identity(identity);
            }
            let outcome = openssl.post(server_name, path, body).run()?;
            let (response, alert) = (outcome.response(), outcome.alert());
            Ok(Seen { response, alert, exit_code: outcome.exit_code, stderr: outcome.stderr })
        }
    }
}

/// Sends with every client in every version to a `gateway` whose providers all have this `on_failure`. Fails unless every request
/// is refused as expected: answered, counted, logged, and kept from the handlers.
pub(crate) fn check(gateway: &TestGateway, on_failure: &str, identity: Option<&ClientIdentity>, expected: &Expected) {
    check_at(gateway, HOST, on_failure == "abort", identity, expected);
}

fn check_at(
    gateway: &TestGateway,
    server_name: &str,
    aborts: bool,
    identity: Option<&ClientIdentity>,
    expected: &Expected,
) {
    let (handled, before) = (gateway.environment.handled(), gateway.rejections(expected.reason).unwrap());
    let refused = [("result", "refused"), ("reason", expected.reason), ("cache", "miss")];
    let judged = gateway.daemon.metric("hookgate_verifications_total", &refused).unwrap();
    let named = match (expected.at_fault, identity) {
        (Some(place), Some(identity)) => descriptions(&identity.chain[place]).unwrap(),
        _ => Vec::new(),
    };
    let mut sent = 0;
    for version in TlsVersion::ALL {
        for client in [Client::Curl, Client::OpenSsl] {
            let seen = send(gateway, client, version, server_name, identity).unwrap();
            let context =
                format!("{client:?} {version:?}: {seen:?}\n{}\nthe log:\n{}", seen.stderr, gateway.daemon.log());
            if aborts {
                check_alert(&seen, client, expected, &context);
            } else {
                check_problem(&seen, client, expected, &named, &context);
            }
            sent += 1;
        }
    }
    let counted = gateway.wait_rejections(expected.reason, before + f64::from(sent)).unwrap();
    assert_eq!(counted, before + f64::from(sent), "rejections counted for {}", expected.reason);
    if expected.at_fault.is_some() {
        let now = gateway.daemon.metric("hookgate_verifications_total", &refused).unwrap();
        assert_eq!(now, judged + f64::from(sent), "verifications counted for {}", expected.reason);
    }
    assert_eq!(gateway.environment.handled(), handled, "a handler saw a refused request");
    check_log(gateway, aborts, sent, &named, expected);
}

/// The response is a problem document that names the fault and the certificate.
fn check_problem(seen: &Seen, client: Client, expected: &Expected, named: &[String], context: &str) {
    assert_eq!(seen.alert, None, "{context}");
    if client == Client::Curl {
        assert_eq!(seen.exit_code, Some(0), "{context}");
    }
    let response = seen.response.as_ref().context("no response").unwrap();
    assert!(response.complete, "{context}");
    assert_eq!(response.status, expected.status, "{context}");
    assert_eq!(response.field("content-type"), Some("application/problem+json"), "{context}");
    assert_eq!(response.field("retry-after").is_some(), expected.status == 503, "{context}");
    let problem: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(problem["reason"], expected.reason, "{context}");
    assert_eq!(problem["status"], expected.status, "{context}");
    assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{context}");
    let request_id = problem["request_id"].as_str().unwrap();
    assert!(!request_id.is_empty() && response.field("x-request-id") == Some(request_id), "{context}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(!detail.is_empty(), "{context}");
    for words in named {
        assert!(detail.contains(words), "{words} is not in: {detail}");
    }
}

/// The handshake ended with the alert and without a response.
fn check_alert(seen: &Seen, client: Client, expected: &Expected, context: &str) {
    assert_eq!(seen.response, None, "{context}");
    assert_eq!(seen.alert, Some(expected.alert), "{context}");
    // In libcurl-errors(3): SSL_CONNECT_ERROR or, for some alerts, PEER_FAILED_VERIFICATION and SSL_CLIENTCERT. With TLS 1.3 the
    // client has finished its handshake by then: RECV_ERROR, or SEND_ERROR if it has more to send.
    let codes: &[i32] = match client {
        Client::Curl => &[35, 55, 56, 60, 98],
        Client::OpenSsl => &[1],
    };
    assert!(seen.exit_code.is_some_and(|code| codes.contains(&code)), "{context}");
}

/// The log has a line for each refusal, with the peer and the reason.
fn check_log(gateway: &TestGateway, aborts: bool, count: u32, named: &[String], expected: &Expected) {
    let event = if aborts { "handshake refused" } else { "request refused" };
    let reason = format!("reason={} ", expected.reason);
    let tells = |line: &str| {
        // The log quotes the sentence, and escapes quotation marks and backslashes in it.
        let line = line.replace("\\\"", "\"").replace("\\\\", "\\");
        line.contains(event)
            && line.contains(&reason)
            && line.contains("peer=127.0.0.1:")
            && named.iter().all(|words| line.contains(words))
    };
    let lines = || gateway.daemon.log().lines().filter(|line| tells(line)).count();
    let came = wait_until("the log", SOON, || lines() >= count as usize);
    came.with_context(|| format!("of {count} lines with {event}, {reason}, {named:?}:\n{}", gateway.daemon.log()))
        .unwrap();
}

/// Subject, issuer, serial number and end of validity, read by OpenSSL, in the form in which a refusal names them.
fn descriptions(der: &[u8]) -> Result<Vec<String>> {
    let mut command = Command::new("openssl");
    command.args(["x509", "-inform", "DER", "-noout", "-subject", "-issuer", "-serial", "-enddate"]);
    command.args(["-nameopt", "RFC2253", "-dateopt", "iso_8601"]);
    let text = process::run(command, der, SOON)?.stdout_text();
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).context("no such line from openssl x509");
    let serial: Vec<String> =
        value("serial=")?.as_bytes().chunks(2).map(|byte| String::from_utf8_lossy(byte).into_owned()).collect();
    Ok(vec![
        format!("subject \"{}\"", value("subject=")?),
        format!("issuer \"{}\"", value("issuer=")?),
        format!("serial {}", serial.join(":")),
        format!("not after {}", value("notAfter=")?.replace(' ', "T")),
    ])
}

/// Fails unless a gateway in each mode refuses the identity that `make` makes.
fn check_both(make: impl Fn(&Environment) -> Result<Option<ClientIdentity>>, expected: &Expected) {
    check_both_with("", make, expected);
}

/// As [`check_both`], with these `[limits]`.
fn check_both_with(
    limits: &'static str,
    make: impl Fn(&Environment) -> Result<Option<ClientIdentity>>,
    expected: &Expected,
) {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| {
            configuration.on_failure = on_failure;
            configuration.limits = limits;
        })
        .unwrap();
        let identity = make(&gateway.environment).unwrap();
        check(&gateway, on_failure, identity.as_ref(), expected);
        gateway.still_serves().unwrap();
    }
}

fn check_variant(variant: Variant, expected: &Expected) {
    check_both(|environment| environment.identity(Sender::PagerDuty, variant).map(Some), expected);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let expected = Expected { reason: "no_certificate", status: 403, alert: CERTIFICATE_REQUIRED, at_fault: None };
    check_both(|_| Ok(None), &expected);
}

#[test]
fn an_expired_certificate_is_refused() {
    check_variant(Variant::Expired, &forbidden("certificate_expired", CERTIFICATE_EXPIRED, 0));
}

#[test]
fn a_certificate_that_is_not_yet_valid_is_refused() {
    check_variant(Variant::NotYetValid, &forbidden("certificate_not_yet_valid", CERTIFICATE_EXPIRED, 0));
}

#[test]
fn an_authority_of_the_right_name_with_another_key_is_refused() {
    check_variant(Variant::Impostor, &forbidden("bad_signature", DECRYPT_ERROR, 1));
}

#[test]
fn a_certificate_of_a_foreign_authority_is_refused() {
    check_variant(Variant::Stranger, &forbidden("unknown_issuer", UNKNOWN_CA, 1));
}

#[test]
fn a_chain_without_its_intermediate_is_refused() {
    check_variant(Variant::MissingIntermediate, &forbidden("unknown_issuer", UNKNOWN_CA, 0));
}

#[test]
fn a_self_signed_certificate_is_refused() {
    check_variant(Variant::SelfSigned, &forbidden("unknown_issuer", UNKNOWN_CA, 0));
}

#[test]
fn a_certificate_with_another_subject_is_refused() {
    check_variant(Variant::WrongSubject, &forbidden("identity_mismatch", ACCESS_DENIED, 0));
}

#[test]
fn a_subject_that_begins_with_the_right_one_is_refused() {
    check_variant(Variant::RightSubjectAsPrefix, &forbidden("identity_mismatch", ACCESS_DENIED, 0));
}

#[test]
fn a_subject_that_ends_with_the_right_one_is_refused() {
    check_variant(Variant::RightSubjectAsSuffix, &forbidden("identity_mismatch", ACCESS_DENIED, 0));
}

#[test]
fn a_subject_with_two_common_names_is_refused() {
    check_variant(Variant::TwoCommonNames, &forbidden("identity_mismatch", ACCESS_DENIED, 0));
}

#[test]
fn a_certificate_for_servers_only_is_refused() {
    check_variant(Variant::ServerAuthOnly, &forbidden("extended_key_usage", UNSUPPORTED_CERTIFICATE, 0));
}

#[test]
fn a_path_with_one_intermediate_too_many_is_refused() {
    check_variant(Variant::TooDeep, &forbidden("path_too_long", UNKNOWN_CA, 0));
}

#[test]
fn a_malformed_certificate_is_refused() {
    let make = |environment: &Environment| odd(environment, OddExtension::Twice);
    check_both(make, &forbidden("certificate_malformed", BAD_CERTIFICATE, 0));
}

#[test]
fn a_certificate_whose_key_usage_does_not_allow_it_to_sign_is_refused() {
    let make = |environment: &Environment| {
        let options = LeafOptions { key_agreement_only: true, ..LeafOptions::default() };
        environment.pki.sender(Sender::PagerDuty).leaf("agreement", &options).map(Some)
    };
    check_both(make, &forbidden("path_constraint", BAD_CERTIFICATE, 0));
}

/// The TLS library does not read the key of such a certificate, so the handshake cannot be completed for a problem document.
#[test]
fn a_certificate_with_an_unknown_critical_extension_is_refused_by_an_alert_in_either_mode() {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
        let identity = odd(&gateway.environment, OddExtension::UnknownCritical).unwrap();
        check_at(&gateway, HOST, true, identity.as_ref(), &forbidden("path_constraint", BAD_CERTIFICATE, 0));
    }
}

fn odd(environment: &Environment, extension: OddExtension) -> Result<Option<ClientIdentity>> {
    let options = LeafOptions { odd_extension: Some(extension), ..LeafOptions::default() };
    environment.pki.sender(Sender::PagerDuty).leaf("odd", &options).map(Some)
}

const TOO_LARGE: Expected = Expected { reason: "chain_too_large", status: 403, alert: BAD_CERTIFICATE, at_fault: None };

#[test]
fn a_chain_of_too_many_certificates_is_refused() {
    // Eight copies of the intermediate and the end entity: one certificate more than the default limit.
    let make = |environment: &Environment| {
        let identity = environment.identity(Sender::PagerDuty, Variant::Good)?;
        let issuers = identity.issuers_path.as_ref().context("a chain with an intermediate")?;
        let issuers = fs::read_to_string(issuers)?.repeat(8);
        let chain = fs::read_to_string(&identity.certificate_path)? + &issuers;
        Ok(Some(ClientIdentity {
            chain_path: environment.write("too-many.pem", chain)?,
            issuers_path: Some(environment.write("too-many-issuers.pem", issuers)?),
            ..identity
        }))
    };
    check_both(make, &TOO_LARGE);
}

#[test]
fn a_chain_of_too_many_bytes_is_refused() {
    let make = |environment: &Environment| {
        let dns_names = (0..60).map(|number| format!("name-{number}.{}.example", "a".repeat(50))).collect();
        let options = LeafOptions { dns_names: Some(dns_names), ..LeafOptions::default() };
        environment.pki.sender(Sender::PagerDuty).leaf("large", &options).map(Some)
    };
    check_both_with("max_presented_bytes = 3000", make, &TOO_LARGE);
}

#[test]
fn an_unknown_server_name_is_refused() {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
        let expected =
            Expected { reason: "unknown_server_name", status: 421, alert: UNRECOGNIZED_NAME, at_fault: None };
        check_at(&gateway, "other.example.com", on_failure == "abort", Some(&identity), &expected);
        gateway.still_serves().unwrap();
    }
}

/// Chain and handshake are good. Only the route does not admit the provider, and the route is known after the handshake.
#[test]
fn another_providers_certificate_is_refused_by_the_route_in_either_mode() {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
        let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
        let expected = Expected { reason: "provider_not_admitted", status: 403, alert: ACCESS_DENIED, at_fault: None };
        check_at(&gateway, HOST, false, Some(&identity), &expected);
        let seen = send(&gateway, Client::Curl, TlsVersion::Tls13, HOST, Some(&identity)).unwrap();
        let text = seen.response.unwrap().text();
        assert!(text.contains("percolate") && text.contains("pagerduty"), "does not name both providers: {text}");
    }
}

#[test]
fn a_certificate_without_extended_key_usage_is_admitted_and_counted_as_lenient() {
    for on_failure in MODES {
        let gateway = TestGateway::configured(|configuration| configuration.on_failure = on_failure).unwrap();
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::NoExtendedKeyUsage).unwrap();
        let seen = send(&gateway, Client::Curl, TlsVersion::Tls12, HOST, Some(&identity)).unwrap();
        assert_eq!(seen.response.unwrap().status, 200);
        let counted = [("provider", "pagerduty")];
        gateway.daemon.wait_metric("hookgate_lenient_admissions_total", &counted, 1.0, SOON).unwrap();
    }
}

#[test]
fn a_certificate_without_extended_key_usage_is_refused_if_it_must_be_explicit() {
    for on_failure in MODES {
        let gateway = TestGateway::with_toml(|environment| {
            let mut configuration = environment.configuration();
            configuration.on_failure = on_failure;
            let explicit = "preset = \"pagerduty\"\nextended_key_usage = \"client-auth-explicit\"";
            configuration.toml().replace("preset = \"pagerduty\"", explicit)
        })
        .unwrap();
        let identity = gateway.environment.identity(Sender::PagerDuty, Variant::NoExtendedKeyUsage).unwrap();
        check(&gateway, on_failure, Some(&identity), &forbidden("extended_key_usage", UNSUPPORTED_CERTIFICATE, 0));
    }
}

/// Under one server name, refusals of PagerDuty abort, and those of Percolate get a problem document, as do those of an unknown
/// sender.
#[test]
fn each_provider_of_a_server_name_has_its_own_failure_mode() {
    let gateway = TestGateway::with_toml(|environment| {
        let text = environment.configuration().toml();
        let (before, pagerduty) = text.split_once("name = \"pagerduty\"").unwrap();
        format!("{before}name = \"pagerduty\"{}", pagerduty.replacen("\"respond\"", "\"abort\"", 1))
    })
    .unwrap();
    let expired = forbidden("certificate_expired", CERTIFICATE_EXPIRED, 0);
    let pagerduty = gateway.environment.identity(Sender::PagerDuty, Variant::Expired).unwrap();
    check_at(&gateway, HOST, true, Some(&pagerduty), &expired);
    let percolate = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    check_at(&gateway, HOST, false, Some(&percolate), &expired);
    let nobody = gateway.environment.identity(Sender::PagerDuty, Variant::WrongSubject).unwrap();
    check_at(&gateway, HOST, false, Some(&nobody), &forbidden("identity_mismatch", ACCESS_DENIED, 0));
    let none = Expected { reason: "no_certificate", status: 403, alert: CERTIFICATE_REQUIRED, at_fault: None };
    check_at(&gateway, HOST, false, None, &none);
    gateway.still_serves().unwrap();
}

/// A self-signed certificate with this subject and a key of this kind, as arguments of `openssl req`.
fn of_key(gateway: &TestGateway, subject: &str, kind: &[&str]) -> ClientIdentity {
    let good = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let (key, certificate) = (gateway.environment.path("odd.key"), gateway.environment.path("odd.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-subj", subject, "-addext", "basicConstraints=CA:FALSE"]);
    command.args(kind).arg("-keyout").arg(&key).arg("-out").arg(&certificate);
    let made = process::run(command, b"", SOON).unwrap();
    assert!(certificate.exists(), "{}", made.stdout_text());
    // It is valid from this second on, and the clock of a busy worker lags.
    thread::sleep(Duration::from_secs(1));
    ClientIdentity {
        chain_path: certificate.clone(),
        certificate_path: certificate,
        issuers_path: None,
        key_path: key,
        ..good
    }
}

#[test]
fn a_client_whose_key_cannot_sign_a_handshake_is_told_which_keys_can() {
    let gateway = TestGateway::start().unwrap();
    let accepted = "ECDSA on P-256 or P-384, RSA of 2048 to 8192 bits, or Ed25519";
    let post = |identity: &ClientIdentity, version| {
        let client = gateway.openssl().version(version).ciphers("ALL:@SECLEVEL=0").identity(identity);
        client.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap()
    };
    // OpenSSL sends no certificate if it shares no signature scheme for the key with the server.
    let p521 = of_key(&gateway, "/CN=odd", &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    let answered = post(&p521, TlsVersion::Tls13);
    assert!(answered.text().contains("no_certificate") && answered.text().contains(accepted), "{}", answered.text());
    let rsa = of_key(&gateway, "/CN=odd", &["-newkey", "rsa:1024"]);
    for (count, version) in [(1, TlsVersion::Tls12), (2, TlsVersion::Tls13)] {
        assert_eq!(post(&rsa, version).alert(), Some(BAD_CERTIFICATE), "{version:?}");
        let tells = |line: &&str| line.contains("an RSA key of 1024 bits") && line.contains(accepted);
        let came = wait_until("the log", SOON, || gateway.daemon.log().lines().filter(tells).count() == count);
        came.with_context(|| gateway.daemon.log()).unwrap();
    }
    gateway.still_serves().unwrap();
}

#[test]
fn the_signature_of_a_handshake_is_not_checked_if_that_and_the_refusal_are_expensive() {
    let gateway = TestGateway::with_toml(|environment| {
        let provider = "[[provider]]\nname = \"google\"\ntrust_anchors = [\"builtin:GTS_Root_R4\"]\n\
                        identity = [{ subject_cn = \"hooks\" }]\n";
        let route = environment.any_method_route("").replace("/any/", "/google/").replace("percolate", "google");
        environment.configuration().toml() + provider + &route
    });
    let gateway = gateway.unwrap();
    let post = |subject, curve, version| {
        let curve = format!("ec_paramgen_curve:{curve}");
        let identity = of_key(&gateway, subject, &["-newkey", "ec", "-pkeyopt", &curve]);
        let client = gateway.openssl().version(version).identity(&identity);
        let seen = client.post(HOST, PAGERDUTY.path, PAGERDUTY.body.as_bytes()).run().unwrap();
        (seen.alert(), seen.response().map(|response| response.status), seen.text())
    };
    let anchor = "/C=US/O=Google Trust Services LLC/CN=GTS Root R4";
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let (alert, status, text) = post(anchor, "P-384", version);
        assert_eq!((alert, status), (Some(DECRYPT_ERROR), None), "{version:?} {text}");
        for (subject, curve, reason) in [(anchor, "P-256", "bad_signature"), ("/CN=nobody", "P-384", "unknown_issuer")]
        {
            let (alert, status, text) = post(subject, curve, version);
            assert_eq!((alert, status), (None, Some(403)), "{version:?} {subject} {curve} {text}");
            assert!(text.contains(reason), "{text}");
        }
    }
    gateway.still_serves().unwrap();
}
