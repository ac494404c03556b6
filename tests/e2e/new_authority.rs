//! A sender that changes its authority without notice: a delay while the operator acts, and nothing for impostors.
//!
//! The new chain is that of an authority which no provider trusts, with the names of PagerDuty's certificate: a forged chain looks the
//! same. So what distinguishes the two tests of each pair is the evidence alone.

mod accounts;

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET};
use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::http::Response;
use hookgate_testkit::operator;
use hookgate_testkit::pagerduty::Subscription;
use hookgate_testkit::pki::{
    ClientIdentity, ExtendedKeyUsage, LeafIssuer, LeafOptions, Presented, RevocationListOptions, Sender, Subject,
    Variant,
};
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
    let state = environment.state_directory();
    let secret = environment.write("pagerduty.secret", PAGERDUTY_SECRET)?;
    let mut configuration = environment.configuration();
    let proof = format!("signature = {{ secrets = [{{ file = {} }}] }}", quoted(&secret));
    configuration.proofs = vec![(PAGERDUTY.provider, proof)];
    let text = configuration.toml();
    let (before, rest) = text.split_once("name = \"pagerduty\"").unwrap();
    let rest = rest.replacen("on_failure = \"respond\"", lines, 1);
    Ok(format!("{before}name = \"pagerduty\"{rest}\n[state]\ndirectory = {}\n", quoted(&state)))
}

/// The configuration with these lines, and with PagerDuty's preset as it is: a file, whose two profiles have throwaway roots. The older profile
/// has another root than the sender.
fn preset_configuration(environment: &Environment, lines: &str) -> Result<String> {
    let text = configuration(environment, lines)?;
    let root = |sender| environment.pki.sender(sender).root.path().to_owned();
    let own = format!("trust_anchors = [{}]\n", quoted(&root(Sender::PagerDuty)));
    assert_eq!(text.matches(&own).count(), 1, "{text}");
    let directory = environment.path("presets");
    if !directory.exists() {
        fs::create_dir_all(directory.join("roots"))?;
        fs::copy(root(Sender::Percolate), directory.join("roots/DigiCert_Global_Root_CA.pem"))?;
        fs::copy(root(Sender::PagerDuty), directory.join("roots/DigiCert_Global_Root_G2.pem"))?;
        fs::write(directory.join("pagerduty.toml"), include_str!("../../gateway/presets/pagerduty.toml"))?;
    }
    Ok(format!("{}\n[presets]\ndirectories = [{}]\n", text.replace(&own, ""), quoted(&directory)))
}

/// A daemon with [`configuration`], started with `options`.
fn start(lines: &str, options: impl FnOnce(&Environment, &mut GatewayOptions)) -> TestGateway {
    start_with(&|environment| configuration(environment, lines).unwrap(), options)
}

fn start_with(
    text: &dyn Fn(&Environment) -> String,
    options: impl FnOnce(&Environment, &mut GatewayOptions),
) -> TestGateway {
    let environment = Environment::new().unwrap();
    let mut all = GatewayOptions::new(BINARY);
    options(&environment, &mut all);
    let daemon = Gateway::start(&text(&environment), &all).unwrap();
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

/// The output of `hookgate trust …` for the configuration of `gateway`.
#[track_caller]
fn trust(gateway: &TestGateway, arguments: &[&str]) -> String {
    let path = gateway.daemon.configuration_path();
    let path = path.to_str().unwrap();
    // What is printed names the file itself.
    let own: &[&str] = if arguments.contains(&"-c") { &[] } else { &["--config", path] };
    let finished = hookgate(&[&["trust"], arguments, own].concat());
    assert!(finished.success(), "{}", finished.stderr_text());
    finished.stdout_text()
}

/// The configuration `text` after an operator did what was `shown`.
fn follow(gateway: &TestGateway, shown: &str, text: &str) -> String {
    let run = &mut |arguments: &[&str]| Ok(trust(gateway, arguments));
    operator::follow(shown, text, gateway.daemon.directory(), run).unwrap()
}

fn expect_delay(response: &Response, context: &str) {
    expect_delay_by("unknown_issuer", response, context);
}

fn expect_delay_by(reason: &str, response: &Response, context: &str) {
    assert_problem(response, 503, reason, context);
    assert_eq!(response.field("retry-after"), Some("60"), "{context}");
}

/// A rotation from its first webhook to its last: the sender presents another chain, is told to wait, and waits as PagerDuty documents it; the
/// operator does what is printed; everything arrives, once. Returns the configuration that the operator wrote.
fn play(gateway: &TestGateway, text: &str, new: &ClientIdentity, reason: &str) -> String {
    let old = &gateway.identity;
    let mut subscription = Subscription::default();
    subscription.event("event-1");
    subscription.attempt(|id| Some(send_with(gateway, old, id, PAGERDUTY_SECRET).status));
    assert_eq!(subscription.delivered(), ["event-1"]);

    // The sender changes, and nobody knows.
    ["event-2", "event-3", "event-4", "event-5"].iter().for_each(|id| subscription.event(id));
    for _ in 0..4 {
        subscription.attempt(|id| {
            let response = send_with(gateway, new, id, PAGERDUTY_SECRET);
            expect_delay_by(reason, &response, id);
            Some(response.status)
        });
    }
    assert_eq!((gateway.handler().request_count(), subscription.waiting()), (1, 4));
    gateway.daemon.wait_metric(SUSPECTED, &PROVIDER, 1.0, SOON).unwrap();
    gateway.daemon.wait_log("rotation suspected", SOON).unwrap();
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains("rotation suspected")).unwrap();
    assert!(line.contains("trust_anchors = [") && line.contains("SHA-256"), "{line}");
    assert!(line.contains("evidence=proof") && line.contains(&format!("reason={reason}")), "{line}");
    assert_eq!(log.matches("rotation suspected").count(), 1, "once for a chain");
    wait_until("the record", SOON, || records(gateway).len() == 1).unwrap();

    // The operator looks, compares, does what is printed, and reloads.
    let listed = trust(gateway, &["pending"]);
    assert!(listed.starts_with(&format!("1  pagerduty  {reason}  evidence proof")), "{listed}");
    let shown = trust(gateway, &["show", "1"]);
    assert!(shown.ends_with("# With these lines, a reload admits the chain.\n"), "{shown}");
    let text = follow(gateway, &shown, text);
    gateway.reload(&text).unwrap();

    // The sender tries again.
    subscription.attempt(|id| Some(send_with(gateway, new, id, PAGERDUTY_SECRET).status));
    assert_eq!(subscription.delivered(), ["event-1", "event-2", "event-3", "event-4", "event-5"]);
    assert!(subscription.dropped().is_empty() && !subscription.is_disabled());
    assert_eq!(gateway.handler().request_count(), 5);
    assert_eq!(gateway.daemon.metric(SUSPECTED, &PROVIDER).unwrap(), 0.0);
    assert_eq!(records(gateway), Vec::<PathBuf>::new());
    assert!(trust(gateway, &["pending"]).contains("no chain is pending"));
    // The old chain is still admitted: the sender changes region by region.
    assert_eq!(send_with(gateway, old, "event-6", PAGERDUTY_SECRET).status, 200);
    text
}

#[test]
fn an_unannounced_authority_delays_webhooks_and_loses_none() {
    let gateway = start("", |_, _| {});
    let text = configuration(&gateway.environment, "").unwrap();
    let text = play(&gateway, &text, &new_chain(&gateway), "unknown_issuer");
    let anchors =
        text.lines().find(|line| line.starts_with("trust_anchors = ") && line.contains("pagerduty-")).unwrap();
    assert_eq!(anchors.matches(".pem\"").count(), 2, "{anchors}");
}

#[test]
fn a_preset_takes_an_unannounced_authority_and_keeps_its_pairs() {
    let gateway = start_with(&|environment| preset_configuration(environment, "").unwrap(), |_, _| {});
    let text = preset_configuration(&gateway.environment, "").unwrap();
    let sender = gateway.environment.pki.sender(Sender::PagerDuty);
    let european = |issuer| {
        let subject = Some(Subject::common_name("webhooks.eu.pagerduty.com"));
        let dns_names = Some(vec!["webhooks.eu.pagerduty.com".to_owned()]);
        sender.leaf("european", &LeafOptions { subject, dns_names, issuer, ..LeafOptions::default() }).unwrap()
    };
    let send = |identity: &ClientIdentity, id: &str| send_with(&gateway, identity, id, PAGERDUTY_SECRET);
    let text = play(&gateway, &text, &new_chain(&gateway), "unknown_issuer");
    assert!(text.contains("[[provider.profile]]\nname = ") && !text.contains("trust_anchors = [\"builtin"), "{text}");
    // No profile of the preset trusts the new authority now.
    assert_eq!(send(&european(LeafIssuer::Intermediate), "event-7").status, 200);
    let european = european(LeafIssuer::Stranger);
    assert_problem(&send(&european, "event-8"), 503, "unknown_issuer", "a name that the new profile does not have");
    // The lines for it are of another profile.
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let shown = trust(&gateway, &["show", "1"]);
    gateway.reload(&follow(&gateway, &shown, &text)).unwrap();
    assert_eq!(send(&european, "event-8").status, 200, "{shown}");
}

#[test]
fn an_authority_with_another_key_delays_webhooks_and_loses_none() {
    let rekeyed = |gateway: &TestGateway, presented| {
        let options = LeafOptions { issuer: LeafIssuer::Impostor, presented, ..LeafOptions::default() };
        gateway.environment.pki.sender(Sender::PagerDuty).leaf("rekeyed", &options).unwrap()
    };
    for presented in [Presented::WithRoot, Presented::WithoutRoot] {
        let gateway = start("", |_, _| {});
        let text = configuration(&gateway.environment, "").unwrap();
        play(&gateway, &text, &rekeyed(&gateway, presented), "bad_signature");
    }
    let gateway = start_with(&|environment| preset_configuration(environment, "").unwrap(), |_, _| {});
    let text = preset_configuration(&gateway.environment, "").unwrap();
    play(&gateway, &text, &rekeyed(&gateway, Presented::WithoutRoot), "bad_signature");
    // Without evidence, the same chain is a forgery.
    let gateway = start("", |_, _| {});
    let forged = rekeyed(&gateway, Presented::WithRoot);
    assert_problem(&send_with(&gateway, &forged, "event-1", "guess"), 403, "bad_signature", "a forgery");
    expect_no_alarm(&gateway);
}

#[test]
fn a_path_that_is_too_long_and_not_for_clients_is_admitted_by_one_profile() {
    let gateway = start_with(&|environment| preset_configuration(environment, "").unwrap(), |_, _| {});
    let text = preset_configuration(&gateway.environment, "").unwrap();
    let options = LeafOptions {
        issuer: LeafIssuer::SecondIntermediate,
        extended_key_usage: ExtendedKeyUsage::ServerAuth,
        ..LeafOptions::default()
    };
    let longer = gateway.environment.pki.sender(Sender::PagerDuty).leaf("longer", &options).unwrap();
    expect_delay_by("extended_key_usage", &send_with(&gateway, &longer, "event-1", PAGERDUTY_SECRET), "longer");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let shown = trust(&gateway, &["show", "1"]);
    let profile = "[[provider.profile]]\nname = \"digicert-global-root-g2-2\"\n";
    assert!(shown.contains(profile) && shown.ends_with("a reload admits the chain.\n"), "{shown}");
    gateway.reload(&follow(&gateway, &shown, &text)).unwrap();
    assert_eq!(send_with(&gateway, &longer, "event-1", PAGERDUTY_SECRET).status, 200);
}

#[test]
fn a_laxer_demand_of_a_new_authority_is_no_demand_of_the_old_one() {
    let gateway = start("", |_, _| {});
    let text = configuration(&gateway.environment, "").unwrap();
    let certificate = |name, issuer| {
        let usage = ExtendedKeyUsage::ServerAuth;
        let options = LeafOptions { issuer, extended_key_usage: usage, ..LeafOptions::default() };
        gateway.environment.pki.sender(Sender::PagerDuty).leaf(name, &options).unwrap()
    };
    let (new, old) = (certificate("new", LeafIssuer::Stranger), certificate("old", LeafIssuer::Intermediate));
    expect_delay(&send_with(&gateway, &new, "event-1", PAGERDUTY_SECRET), "new");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let shown = trust(&gateway, &["show", "1"]);
    assert!(shown.contains(" --anchor -c ") && shown.contains("\n#- trust_anchors = ["), "{shown}");
    assert!(
        shown.contains("accept_weaker") || shown.ends_with("# With these lines, a reload admits the chain.\n"),
        "{shown}"
    );
    let followed = follow(&gateway, &shown, &text);
    match shown.contains("accept_weaker") {
        true => gateway.reload_permitting(&followed).unwrap(),
        false => gateway.reload(&followed).unwrap(),
    }
    assert_eq!(send_with(&gateway, &new, "event-1", PAGERDUTY_SECRET).status, 200, "{followed}");
    assert_eq!(send_with(&gateway, &gateway.identity, "event-2", PAGERDUTY_SECRET).status, 200, "{followed}");
    expect_delay_by("extended_key_usage", &send_with(&gateway, &old, "event-3", PAGERDUTY_SECRET), "old");
    assert!(gateway.daemon.log().contains("a chain that was refused is admitted now"));
}

#[test]
fn lines_that_are_not_enough_are_said_to_be_and_lead_to_the_next() {
    let lists = |environment: &Environment| {
        let sender = environment.pki.sender(Sender::PagerDuty);
        let lists = sender.revocation_lists(&RevocationListOptions::default()).unwrap();
        let lists = lists.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ");
        configuration(environment, &format!("crls = [{lists}]")).unwrap()
    };
    let gateway = start_with(&lists, |_, _| {});
    let (new, text) = (new_chain(&gateway), lists(&gateway.environment));
    let send = || send_with(&gateway, &new, "event-1", PAGERDUTY_SECRET);
    expect_delay_by("unknown_issuer", &send(), "the first time");
    wait_until("the record", SOON, || records(&gateway).len() == 1).unwrap();
    let shown = trust(&gateway, &["show", "1"]);
    assert!(shown.contains("# These lines do not admit the chain as it is: revocation_unknown. "), "{shown}");
    let text = follow(&gateway, &shown, &text);
    gateway.reload(&text).unwrap();
    expect_delay_by("revocation_unknown", &send(), "the second time");
    wait_until("the next reason", SOON, || trust(&gateway, &["pending"]).contains("  revocation_unknown  ")).unwrap();
    assert!(trust(&gateway, &["show", "1"]).contains("install the current list of each issuer"));
    wait_until("two lines", SOON, || gateway.daemon.log().matches("rotation suspected").count() == 2).unwrap();
    let without = text.lines().filter(|line| !line.starts_with("crls = ")).collect::<Vec<_>>().join("\n");
    gateway.reload_permitting(&without).unwrap();
    assert_eq!(send().status, 200);
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
