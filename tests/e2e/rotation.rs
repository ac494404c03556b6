//! Rotation warnings in the log and in the metrics: what expires soon, and which chains the senders present.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{DAY, LeafOptions, RevocationListOptions, Sender, Validity, Variant};
use hookgate_testkit::wait::wait_until;

use crate::environment::{Environment, PATH, SOON};
use crate::test_gateway::TestGateway;

const CERTIFICATES: &str = "hookgate_certificate_not_after_timestamp_seconds";
const LISTS: &str = "hookgate_revocation_list_next_update_timestamp_seconds";
const CLIENTS: &str = "hookgate_client_certificate_not_after_timestamp_seconds";
const CHAINS: &str = "hookgate_client_chains_total";

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs_f64().floor()
}

/// A configuration with a self-signed server certificate that expires at `until`.
fn with_certificate_until(environment: &Environment, until: SystemTime) -> String {
    environment.with_certificate_until(&environment.configuration().toml(), until).unwrap()
}

#[test]
fn a_certificate_that_expires_in_five_days_is_logged_and_measured() {
    let until = SystemTime::now() + 5 * DAY + Duration::from_secs(3600);
    let gateway = TestGateway::with_toml(|environment| with_certificate_until(environment, until)).unwrap();
    let words = format!("the certificate of {HOST} (");
    gateway.daemon.wait_log(&words, SOON).unwrap();
    let log = gateway.daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(&words)).collect();
    assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains(", in 5 days: renew it"), "{log}");
    assert!(!log.contains("expires on"), "a second warning: {log}");
    let labels = [("kind", "server"), ("name", HOST)];
    assert_eq!(gateway.daemon.metric(CERTIFICATES, &labels).unwrap(), seconds(until));
    // A reload warns again. A renewed certificate causes no warning.
    gateway.reload(&with_certificate_until(&gateway.environment, until)).unwrap();
    let count = || gateway.daemon.log().matches(&words).count();
    wait_until("the second warning", SOON, || count() >= 2).unwrap();
    let renewed = SystemTime::now() + 90 * DAY;
    gateway.reload(&with_certificate_until(&gateway.environment, renewed)).unwrap();
    gateway.daemon.wait_metric(CERTIFICATES, &labels, seconds(renewed), SOON).unwrap();
    assert_eq!(count(), 2);
}

#[test]
fn anchors_and_lists_are_measured_until_a_reload_removes_them() {
    let environment = Environment::new().unwrap();
    let sender = environment.pki.sender(Sender::PagerDuty);
    let options = RevocationListOptions { next_update: SystemTime::now() + DAY, ..RevocationListOptions::default() };
    let options = RevocationListOptions { this_update: SystemTime::now() - 6 * DAY, ..options };
    let lists = sender.revocation_lists(&options).unwrap();
    let gateway = TestGateway::in_environment(environment, |environment| {
        let mut configuration = environment.configuration();
        configuration.revocation_lists = vec![(Sender::PagerDuty, lists.to_vec())];
        configuration.toml()
    });
    let gateway = gateway.unwrap();
    gateway.daemon.wait_log("the revocation list of CN=", SOON).unwrap();
    gateway.daemon.wait_log(" for pagerduty (", SOON).unwrap();
    gateway.daemon.wait_log("ends soon what=revocation_list provider=pagerduty subject=", SOON).unwrap();
    let list = [("provider", "pagerduty")];
    let anchor = [("kind", "trust_anchor"), ("provider", "pagerduty")];
    let metrics = gateway.daemon.metrics().unwrap();
    assert_eq!(metrics.sum(LISTS, &list), 2.0 * seconds(options.next_update), "of intermediate and root");
    assert!(metrics.sum(CERTIFICATES, &anchor) > seconds(SystemTime::now() + 3000 * DAY));
    gateway.reload_permitting(&gateway.environment.configuration().toml()).unwrap();
    let metrics = gateway.daemon.metrics().unwrap();
    assert!(!metrics.has(LISTS, &list), "a date without a list");
    assert!(metrics.sum(CERTIFICATES, &anchor) > 0.0, "the anchor is gone");
}

#[test]
fn the_chains_that_senders_present_are_counted_and_logged() {
    let gateway = TestGateway::with_limits("").unwrap();
    let environment = &gateway.environment;
    let chains = |provider: &str| gateway.daemon.metric(CHAINS, &[("provider", provider)]).unwrap();
    assert_eq!((chains("percolate"), chains("dialogflow-cx")), (0.0, 0.0));
    let until = SystemTime::now() + 9 * DAY;
    let options = LeafOptions { validity: Validity::Between(SystemTime::now() - DAY, until), ..LeafOptions::default() };
    let soon = environment.pki.sender(Sender::Percolate).leaf("soon", &options).unwrap();
    assert_eq!(gateway.curl().identity(&soon).post(PATH, b"{}").run().unwrap().status(), Some(200));
    assert_eq!(gateway.curl().identity(&soon).post(PATH, b"{}").run().unwrap().status(), Some(200));
    let labels = [("provider", "percolate"), ("profile", "digicert-assured-id")];
    gateway.daemon.wait_metric(CHAINS, &labels, 2.0, SOON).unwrap();
    let last = gateway.daemon.metric(CLIENTS, &[("provider", "percolate")]).unwrap();
    assert_eq!(last, seconds(until));
    gateway.daemon.wait_log("the newest client certificate seen from percolate ends on ", SOON).unwrap();
    // Google's older chain. Its profile has an end date, so the daemon warns.
    let older = environment.identity(Sender::Dialogflow, Variant::Good).unwrap();
    assert_eq!(gateway.curl().identity(&older).post("/shirts-agent-webhook", b"{}").run().unwrap().status(), Some(200));
    let words = "dialogflow-cx still sends the chain of profile google-trust-services (anchor ";
    gateway.daemon.wait_log(words, SOON).unwrap();
    gateway.daemon.wait_log("2026-12-01", SOON).unwrap();
    let counts = (chains("percolate"), chains("dialogflow-cx"));
    gateway.reload(&environment.toml("", "")).unwrap();
    assert_eq!(
        ((chains("percolate"), chains("dialogflow-cx")), counts),
        (counts, (2.0, 1.0)),
        "a reload changed the counts"
    );
}

#[test]
fn chains_that_a_stricter_rule_would_refuse_are_warned_of_with_the_day_that_matters() {
    let gateway = TestGateway::start().unwrap();
    let lenient = gateway.environment.identity(Sender::PagerDuty, Variant::NoExtendedKeyUsage).unwrap();
    assert_eq!(gateway.curl().identity(&lenient).post("/pagerduty", b"{}").run().unwrap().status(), Some(200));
    gateway.daemon.wait_log("stops issuing clientAuth on 2027-03-01", SOON).unwrap();
    let log = gateway.daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("clientAuth on 2027")).collect();
    assert!(lines.len() == 1 && lines[0].contains("chains of pagerduty (profile "), "{log}");
    assert!(lines[0].contains("client-auth"), "{log}");
}
