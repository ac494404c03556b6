//! A sender that changes its authority without notice: a delay while the operator acts, and nothing for impostors.
//!
//! The new chain is that of an authority which no provider trusts, with the names of PagerDuty's certificate: a forged chain looks the
//! same. So what distinguishes the two tests of each pair is the evidence alone.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::Result;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::http::Response;
use hookgate_testkit::pagerduty::Subscription;
use hookgate_testkit::pki::{ClientIdentity, Sender, Variant};
use hookgate_testkit::wait::wait_until;

use crate::command::hookgate;
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::memory::{BURSTS, MIB, Resident};
use crate::problem::assert_problem;
use crate::proof::hmac_hex;
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, TlsConnection};

const SUSPECTED: &str = "hookgate_rotation_suspected";
const PROVIDER: [(&str, &str); 1] = [("provider", "pagerduty")];

/// The configuration, with these lines in place of PagerDuty's `on_failure`.
fn configuration(environment: &Environment, lines: &str) -> Result<String> {
    let state = environment.path("state");
    if !state.exists() {
        fs::create_dir(&state)?;
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700))?;
    }
    let secret = environment.write("pagerduty.secret", PAGERDUTY_SECRET)?;
    let mut configuration = environment.configuration();
    let proof = format!("signature = {{ secrets = [{{ file = {} }}] }}", quoted(&secret));
    configuration.proofs = vec![(PAGERDUTY.provider, proof)];
    let text = configuration.toml();
    let (before, rest) = text.split_once("name = \"pagerduty\"").unwrap();
    let rest = rest.replacen("on_failure = \"respond\"", lines, 1);
    Ok(format!("{before}name = \"pagerduty\"{rest}\n[state]\ndirectory = {}\n", quoted(&state)))
}

/// A daemon with [`configuration`], started with `options`.
fn start(lines: &str, options: impl FnOnce(&Environment, &mut GatewayOptions)) -> TestGateway {
    let environment = Environment::new().unwrap();
    let mut all = GatewayOptions::new(BINARY);
    options(&environment, &mut all);
    let daemon = Gateway::start(&configuration(&environment, lines).unwrap(), &all).unwrap();
    TestGateway::new(daemon, environment, Sender::PagerDuty).unwrap()
}

/// The certificate of the new authority, or of an impostor.
fn new_chain(gateway: &TestGateway) -> ClientIdentity {
    gateway.environment.identity(Sender::PagerDuty, Variant::Stranger).unwrap()
}

/// A signed event, or one with another signature.
fn event(id: &str, secret: &str) -> String {
    let (path, body) = (PAGERDUTY.path, PAGERDUTY.body);
    let signature = hmac_hex(secret, body.as_bytes());
    format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nX-Webhook-Id: {id}\r\nX-PagerDuty-Signature: v1={signature}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send_with(gateway: &TestGateway, identity: &ClientIdentity, id: &str, secret: &str) -> Response {
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, identity).unwrap();
    client.connect().unwrap().ask(event(id, secret)).unwrap()
}

fn records(gateway: &TestGateway) -> Vec<PathBuf> {
    let entries = fs::read_dir(gateway.environment.path("state")).unwrap();
    // Not the temporary file, from which a record is made.
    let is_record = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    entries.map(|entry| entry.unwrap().path()).filter(is_record).collect()
}

fn expect_no_alarm(gateway: &TestGateway) {
    assert_eq!(gateway.daemon.metric(SUSPECTED, &PROVIDER).unwrap_or(0.0), 0.0);
    assert_eq!(records(gateway), Vec::<PathBuf>::new());
    assert!(!gateway.daemon.log().contains("rotation suspected"), "{}", gateway.daemon.log());
}

fn expect_delay(response: &Response, context: &str) {
    assert_problem(response, 503, "unknown_issuer", context);
    assert_eq!(response.field("retry-after"), Some("60"), "{context}");
}

fn trust(gateway: &TestGateway, arguments: &[&str]) -> String {
    let path = gateway.daemon.configuration_path();
    let config = path.to_str().unwrap();
    let finished = hookgate(&[&["trust"], arguments, &["--config", config]].concat());
    assert!(finished.status.is_some_and(|status| status.success()), "{}", finished.stderr_text());
    finished.stdout_text()
}

#[test]
fn an_unannounced_authority_delays_webhooks_and_loses_none() {
    let gateway = start("", |_, _| {});
    let (old, new) = (&gateway.identity, &new_chain(&gateway));
    let mut subscription = Subscription::default();
    subscription.event("event-1");
    subscription.attempt(|id| Some(send_with(&gateway, old, id, PAGERDUTY_SECRET).status));
    assert_eq!(subscription.delivered(), ["event-1"]);

    // The sender changes, and nobody knows.
    ["event-2", "event-3", "event-4", "event-5"].iter().for_each(|id| subscription.event(id));
    for _ in 0..4 {
        subscription.attempt(|id| {
            let response = send_with(&gateway, new, id, PAGERDUTY_SECRET);
            expect_delay(&response, id);
            Some(response.status)
        });
    }
    assert_eq!((gateway.handler().request_count(), subscription.waiting()), (1, 4));
    gateway.daemon.wait_metric(SUSPECTED, &PROVIDER, 1.0, SOON).unwrap();
    gateway.daemon.wait_log("rotation suspected", SOON).unwrap();
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains("rotation suspected")).unwrap();
    assert!(line.contains("trust_anchors = [") && line.contains("identity"), "{line}");
    assert!(line.contains("evidence=proof") && line.contains("SHA-256"), "{line}");
    assert_eq!(log.matches("rotation suspected").count(), 1, "once for a chain");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();

    // The operator looks, compares, writes what is printed, and reloads.
    let listed = trust(&gateway, &["pending"]);
    assert!(listed.starts_with("1  pagerduty  unknown_issuer  evidence proof"), "{listed}");
    let shown = trust(&gateway, &["show", "1"]);
    let anchors = shown.lines().find(|line| line.starts_with("trust_anchors = ")).unwrap();
    let file = anchors.rsplit('"').nth(1).unwrap();
    assert!(shown.contains("BEGIN CERTIFICATE") && shown.contains(&format!("--anchor > {file}")), "{shown}");
    let anchor = trust(&gateway, &["show", "1", "--anchor"]);
    fs::write(gateway.daemon.directory().join(file), anchor).unwrap();
    let own = format!("trust_anchors = [{}]", quoted(gateway.environment.pki.sender(Sender::PagerDuty).root.path()));
    let text = configuration(&gateway.environment, "").unwrap();
    assert_eq!(text.matches(&own).count(), 1, "{text}");
    gateway.reload(&text.replace(&own, anchors)).unwrap();

    // The sender tries again.
    subscription.attempt(|id| Some(send_with(&gateway, new, id, PAGERDUTY_SECRET).status));
    assert_eq!(subscription.delivered().len(), 5);
    assert!(subscription.dropped().is_empty() && !subscription.is_disabled());
    assert_eq!(gateway.handler().request_count(), 5);
    assert_eq!(gateway.daemon.metric(SUSPECTED, &PROVIDER).unwrap(), 0.0);
    assert_eq!(records(&gateway), Vec::<PathBuf>::new());
    assert!(trust(&gateway, &["pending"]).contains("no chain is pending"));
}

#[test]
fn a_thousand_impostors_without_evidence_raise_no_alarm_and_leave_no_file() {
    let gateway = start("", |_, _| {});
    let impostor = new_chain(&gateway);
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &impostor).unwrap();
    for number in 0..1000 {
        let response = client.connect().unwrap().ask(event(&format!("event-{number}"), "guess")).unwrap();
        assert_problem(&response, 403, "unknown_issuer", "an impostor");
        assert_eq!(response.field("retry-after"), None);
    }
    expect_no_alarm(&gateway);
    assert_eq!(gateway.handler().request_count(), 0);
    gateway.still_serves().unwrap();
}

#[test]
fn an_impostor_with_a_body_beyond_the_bound_is_refused_without_it() {
    let gateway = start("", |_, _| {});
    let impostor = new_chain(&gateway);
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &impostor).unwrap();
    let head = format!("POST {} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 262145\r\n\r\n", PAGERDUTY.path);
    let response = client.connect().unwrap().ask(head).unwrap();
    assert_problem(&response, 403, "unknown_issuer", "a long body");
    expect_no_alarm(&gateway);
}

#[test]
fn a_source_in_the_ranges_of_the_provider_is_evidence() {
    let gateway = start("source_ranges = [\"127.0.0.0/8\"]", |_, _| {});
    expect_delay(&send_with(&gateway, &new_chain(&gateway), "event-1", "guess"), "in the ranges");
    gateway.daemon.wait_log("evidence=source_range", SOON).unwrap();
    let elsewhere = start("source_ranges = [\"192.0.2.0/24\"]", |_, _| {});
    let response = send_with(&elsewhere, &new_chain(&elsewhere), "event-1", "guess");
    assert_problem(&response, 403, "unknown_issuer", "outside of the ranges");
    expect_no_alarm(&elsewhere);
}

#[test]
fn a_public_root_of_the_host_is_evidence() {
    let gateway = start("", |environment, options| {
        // Made with the authorities, before any certificate is.
        let root = environment.pki.directory().join("pagerduty-stranger.pem");
        options.environment.push(("SSL_CERT_FILE".into(), root.into()));
    });
    expect_delay(&send_with(&gateway, &new_chain(&gateway), "event-1", "guess"), "a public root");
    gateway.daemon.wait_log("evidence=public_root", SOON).unwrap();
}

#[test]
fn a_resumed_session_and_a_kept_connection_get_the_same_answer() {
    let gateway = start("", |_, _| {});
    let new = new_chain(&gateway);
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &new).unwrap();
    for id in ["event-1", "event-2", "event-3"] {
        expect_delay(&client.connect().unwrap().ask(event(id, PAGERDUTY_SECRET)).unwrap(), id);
    }
    // A reload removes the anchor under an open connection.
    let mut open: TlsConnection = gateway.connect().unwrap();
    assert_eq!(open.ask(event("event-4", PAGERDUTY_SECRET)).unwrap().status, 200);
    let mut idle: TlsConnection = gateway.connect().unwrap();
    assert_eq!(idle.ask(event("event-5", PAGERDUTY_SECRET)).unwrap().status, 200);
    let own = quoted(gateway.environment.pki.sender(Sender::PagerDuty).root.path());
    let other = quoted(gateway.environment.pki.sender(Sender::Percolate).root.path());
    let text = configuration(&gateway.environment, "").unwrap().replace(&own, &other);
    gateway.reload_permitting(&text).unwrap();
    expect_delay(&open.ask(event("event-6", PAGERDUTY_SECRET)).unwrap(), "after a reload");
    assert_problem(&idle.ask(event("event-7", "guess")).unwrap(), 403, "unknown_issuer", "after a reload");
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn the_answer_is_as_the_provider_wants_it() {
    let check = |lines: &str, status: Option<u16>, detail: bool, alarm: bool| {
        let gateway = start(&format!("{lines}\nsource_ranges = [\"127.0.0.0/8\"]"), |_, _| {});
        let outcome = gateway.curl().identity(&new_chain(&gateway)).post(PAGERDUTY.path, b"{}").run().unwrap();
        assert_eq!(outcome.status(), status, "{lines}: {}", outcome.stderr);
        if status.is_some() {
            let text = outcome.response().unwrap().text();
            assert_eq!(text.contains("\"detail\""), detail, "{lines}: {text}");
        }
        match alarm {
            true => drop(gateway.daemon.wait_metric(SUSPECTED, &PROVIDER, 1.0, SOON).unwrap()),
            false => expect_no_alarm(&gateway),
        }
    };
    check("refusal = \"retry\"", Some(503), true, true);
    check("refusal = \"deny\"", Some(403), true, true);
    check("refusal = \"terse\"", Some(403), false, true);
    // The operator's word counts more than the preset's.
    check("on_failure = \"abort\"", None, false, false);
    check("on_failure = \"abort\"\nrefusal = \"retry\"", Some(503), true, true);
}

#[test]
fn a_suspected_chain_outlives_a_restart() {
    let gateway = start("", |_, _| {});
    expect_delay(&send_with(&gateway, &new_chain(&gateway), "event-1", PAGERDUTY_SECRET), "before");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let TestGateway { daemon, environment, .. } = gateway;
    drop(daemon);
    let again = Gateway::start(&configuration(&environment, "").unwrap(), &GatewayOptions::new(BINARY)).unwrap();
    again.wait_metric(SUSPECTED, &PROVIDER, 1.0, SOON).unwrap();
    assert!(!again.log().contains("rotation suspected"), "it was logged before");
}

#[test]
fn the_memory_of_bodies_of_impostors_comes_back() {
    let gateway = start("refusal = \"retry\"", |_, _| {});
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &new_chain(&gateway)).unwrap();
    let resident = Resident::of(&gateway);
    let path = PAGERDUTY.path;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {HOST}\r\nX-PagerDuty-Signature: v1=00\r\nContent-Length: 250001\r\n\r\n"
    );
    let unfinished = head + &" ".repeat(250_000);
    for _ in 0..BURSTS {
        let mut impostors: Vec<_> = (0..30).map(|_| client.connect().unwrap()).collect();
        for impostor in &mut impostors {
            impostor.send(&unfinished).unwrap();
        }
        wait_until("the bodies", SOON, || resident.grown() > 8 * MIB).unwrap();
        drop(impostors);
        resident.comes_back();
    }
}
