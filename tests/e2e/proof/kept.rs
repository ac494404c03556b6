//! Deliveries on the disk: what was taken is a duplicate after the process was killed, and a disk that takes nothing is a 503.

use std::fs;

use hookgate_testkit::documents::{PAGERDUTY, PAGERDUTY_SECRET};
use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Response;
use rusqlite::Connection;

use super::{ProofConfiguration, ProofGateway, hmac_hex, post, secret_file};
use crate::environment::{BINARY, Environment, SOON, quoted};
use crate::tls_client::TlsClient;

const BODY: &[u8] = PAGERDUTY.body.as_bytes();

/// PagerDuty's preset with its replay rule, and a state directory with these lines in its section.
fn configuration(environment: &Environment, lines: &str) -> ProofConfiguration {
    let secret = secret_file(environment, "webhook.secret", PAGERDUTY_SECRET);
    let provider = format!("signature = {{ secrets = [{secret}] }}");
    let sections = format!("[state]\ndirectory = {}\n{lines}\n", quoted(&environment.state_directory()));
    ProofConfiguration { sections, ..ProofConfiguration::of_provider(provider) }
}

fn start(lines: &str) -> ProofGateway {
    ProofGateway::new(PAGERDUTY, |environment| configuration(environment, lines)).unwrap()
}

fn kill(gateway: &mut ProofGateway) {
    gateway.base.daemon.signal(Signal::KILL).unwrap();
    gateway.base.daemon.wait_exit(SOON).unwrap();
}

/// Starts another daemon with the same files.
fn start_again(gateway: &mut ProofGateway, lines: &str) {
    let environment = &gateway.base.environment;
    let toml = configuration(environment, lines).toml(environment, &PAGERDUTY);
    gateway.base.daemon = Gateway::start(&toml, &GatewayOptions::new(BINARY)).unwrap();
    let (port, identity) = (gateway.base.daemon.port(), &gateway.base.identity);
    gateway.base.client = TlsClient::new(port, &gateway.base.environment.pki, identity).unwrap();
}

fn send(gateway: &ProofGateway, id: &str) -> Response {
    let signature = format!("v1={}", hmac_hex(PAGERDUTY_SECRET, BODY));
    let request = post(PAGERDUTY.path, &[("X-Webhook-Id", id), ("X-PagerDuty-Signature", &signature)], BODY);
    gateway.connect().ask(request).unwrap()
}

fn reason(response: &Response) -> (u16, Option<String>) {
    (response.status, response.reason())
}

#[test]
fn a_taken_delivery_is_a_duplicate_after_a_crash() {
    let mut gateway = start("");
    assert!(!send(&gateway, "one").body.is_empty());
    gateway.handler().set_behaviour(Behaviour::status(500, "later"));
    assert_eq!(send(&gateway, "failed").status, 500);
    gateway.handler().set_behaviour(Behaviour::Json);
    kill(&mut gateway);
    start_again(&mut gateway, "");
    assert_eq!(gateway.base.daemon.metric("hookgate_replay_deliveries", &[]).unwrap(), 1.0);
    let handled = gateway.handler().request_count();
    let duplicate = send(&gateway, "one");
    assert_eq!((duplicate.status, duplicate.text().as_str()), (200, ""));
    assert_eq!(gateway.handler().request_count(), handled, "the handler saw a copy");
    assert!(!send(&gateway, "failed").body.is_empty(), "a failed delivery is sent again");
    assert_eq!(gateway.base.daemon.metric("hookgate_deliveries_failing", &[]).unwrap(), 0.0);
}

#[test]
fn in_memory_alone_a_restart_forgets_and_says_so() {
    let lines = "deliveries = \"memory\"";
    let mut gateway = start(lines);
    gateway.base.daemon.wait_log("a restart forgets which were taken", SOON).unwrap();
    assert!(!send(&gateway, "one").body.is_empty());
    assert_eq!(send(&gateway, "one").text(), "");
    kill(&mut gateway);
    start_again(&mut gateway, lines);
    assert!(!send(&gateway, "one").body.is_empty());
    assert!(!gateway.base.environment.state_directory().join("deliveries.db").exists());
}

/// Another process holds the database, so that no write succeeds until it lets go.
#[test]
fn a_disk_that_takes_nothing_is_a_503_and_no_copy_reaches_the_handler() {
    let gateway = start("");
    let other = Connection::open(gateway.base.environment.state_directory().join("deliveries.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let unavailable = (503, Some("state_unavailable".to_owned()));
    let first = send(&gateway, "one");
    assert_eq!(reason(&first), unavailable);
    assert_eq!(first.field("retry-after").map(str::is_empty), Some(false), "{first:?}");
    assert_eq!(gateway.handler().request_count(), 1, "the handler took the first");
    assert_eq!(reason(&send(&gateway, "two")), unavailable);
    assert_eq!(gateway.handler().request_count(), 1, "no further one gets there");
    assert_eq!(gateway.base.rejections("state_unavailable").unwrap(), 2.0);
    gateway.base.daemon.wait_log("deliveries cannot be kept", SOON).unwrap();

    other.execute_batch("COMMIT").unwrap();
    gateway.base.daemon.wait_log("deliveries are kept again", SOON).unwrap();
    assert_eq!(send(&gateway, "one").text(), "", "it was taken, although its sender did not hear of it");
    assert!(!send(&gateway, "two").body.is_empty());
}

#[test]
fn a_disk_that_takes_nothing_admits_if_configured() {
    let gateway = start("on_state_failure = \"admit\"");
    let other = Connection::open(gateway.base.environment.state_directory().join("deliveries.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!send(&gateway, "one").body.is_empty());
    assert_eq!(send(&gateway, "one").text(), "");
    let not_kept = gateway.base.daemon.wait_metric("hookgate_deliveries_not_kept_total", &[], 1.0, SOON).unwrap();
    assert_eq!(not_kept, 1.0);
}

#[test]
fn a_damaged_file_is_put_aside_and_hookgate_starts() {
    let mut gateway = start("");
    assert!(!send(&gateway, "one").body.is_empty());
    kill(&mut gateway);
    let directory = gateway.base.environment.state_directory();
    for end in ["-wal", "-shm"] {
        drop(fs::remove_file(directory.join(format!("deliveries.db{end}"))));
    }
    fs::write(directory.join("deliveries.db"), "no database ".repeat(1000)).unwrap();
    start_again(&mut gateway, "");
    gateway.base.daemon.wait_log("was damaged and is put aside", SOON).unwrap();
    assert!(!send(&gateway, "one").body.is_empty(), "it is forgotten, which the log says");
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with("deliveries-damaged-")).count(), 1);
}
