//! Lists of ranges that the daemon fetches from their publisher, a real HTTPS server.

use std::ffi::OsStr;
use std::fs;

use hookgate_testkit::configuration::{FourProviders, IO, LISTEN_PORT, METRICS_PORT};
use hookgate_testkit::gateway::Signal;
use hookgate_testkit::wait::wait_until;

use crate::command::hookgate;
use crate::environment::{Environment, PATH, SOON, quoted};
use crate::problem::assert_problem;
use crate::publisher::{Answer, Publisher};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

const HERE: &[u8] = b"127.0.0.0/8\n";
const ELSEWHERE: &[u8] = b"192.0.2.0/24\n";

fn list(ranges: &[u8]) -> Answer {
    Answer::ok("Cache-Control: max-age=3600\r\n", ranges)
}

/// The configuration with the list of `publisher` for the provider of the certificate.
fn configuration(environment: &Environment, publisher: &Publisher, end: &str) -> String {
    let mut configuration: FourProviders<'_> = environment.configuration();
    configuration.proofs = vec![("percolate", format!("proof = \"certificate\"\n{}", publisher.list()))];
    configuration.toml() + &environment.any_method_route("") + end
}

fn status(gateway: &TestGateway) -> Option<u16> {
    gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status()
}

#[test]
fn a_provider_is_admitted_from_the_ranges_that_its_publisher_lists() {
    for (ranges, expected) in [(HERE, 200), (ELSEWHERE, 403)] {
        let environment = Environment::new().unwrap();
        let publisher = Publisher::start(&environment.pki, list(ranges)).unwrap();
        let toml = |environment: &Environment| configuration(environment, &publisher, "");
        let gateway = TestGateway::in_environment(environment, toml).unwrap();
        // The first request waits for nothing: the list was there before the first connection.
        let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
        let response = outcome.response().unwrap();
        match expected {
            403 => assert_problem(response, 403, "source_not_in_ranges", "another list"),
            status => assert_eq!(response.status, status),
        }
        assert_eq!(publisher.requests(), 1);
    }
}

#[test]
fn a_list_that_comes_late_takes_effect_without_a_new_generation() {
    let environment = Environment::new().unwrap();
    let publisher = Publisher::start(&environment.pki, Answer::status("500 Internal Server Error", "")).unwrap();
    let toml = |environment: &Environment| configuration(environment, &publisher, "");
    let gateway = TestGateway::in_environment(environment, toml).unwrap();
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    assert_problem(outcome.response().unwrap(), 503, "ranges_unavailable", "no list yet");
    let log = gateway.daemon.log();
    assert!(log.contains("not fetched; there is no copy to use") && log.contains("status 500"), "{log}");
    assert!(log.contains("there is no state directory"), "{log}");
    publisher.set(list(HERE));
    wait_until("the list is in force", SOON, || status(&gateway) == Some(200)).unwrap();
    assert_eq!(gateway.daemon.metric("hookgate_config_generation", &[]).unwrap(), 1.0);
    let ok: f64 = gateway.daemon.metric("hookgate_fetches_total", &[("result", "ok")]).unwrap();
    assert_eq!(ok, 1.0);
}

/// A sender that keeps its connection open is judged by the new list from its next request on.
#[test]
fn a_list_takes_effect_for_connections_that_are_open() {
    let environment = Environment::new().unwrap();
    let publisher = Publisher::start(&environment.pki, list(HERE)).unwrap();
    let toml = |environment: &Environment, timeout_ms: u32| {
        let table = publisher.table("ranges", &format!(", timeout_ms = {timeout_ms}"));
        let mut configuration: FourProviders<'_> = environment.configuration();
        configuration.proofs = vec![("percolate", format!("proof = \"certificate\"\nsource_range_urls = [{table}]\n"))];
        configuration.toml() + &environment.any_method_route("")
    };
    let gateway = TestGateway::in_environment(environment, |environment| toml(environment, 5000)).unwrap();
    // The fetch of this reload fails, and is made again by itself.
    publisher.set(Answer::Close);
    gateway.reload(&toml(&gateway.environment, 5001)).unwrap();
    let mut connection = gateway.connect().unwrap();
    let post = || request("POST", PATH, b"");
    assert_eq!(connection.ask(post()).unwrap().status, 200);
    publisher.set(list(b"127.64.0.0/10\n127.128.0.0/9\n"));
    wait_until("the list is in force", SOON, || status(&gateway) == Some(403)).unwrap();
    assert_problem(&connection.ask(post()).unwrap(), 403, "source_not_in_ranges", "the open connection");
    assert_eq!(gateway.daemon.metric("hookgate_config_generation", &[]).unwrap(), 2.0);
}

#[test]
fn a_restart_without_network_uses_the_kept_list() {
    let environment = Environment::new().unwrap();
    let kept = environment.state_directory();
    let publisher = Publisher::start(&environment.pki, list(HERE)).unwrap();
    let state = format!("\n[state]\ndirectory = {}\n", quoted(&kept));
    let toml = configuration(&environment, &publisher, &state);
    let mut gateway = TestGateway::in_environment(environment, |_| toml.clone()).unwrap();
    assert_eq!(status(&gateway), Some(200));
    let is_copy = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().starts_with("ranges-");
    let copies = || fs::read_dir(&kept).unwrap().filter(|entry| is_copy(entry.as_ref().unwrap())).count();
    wait_until("the copy is kept", SOON, || copies() == 1).unwrap();
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_exit(SOON).unwrap();
    drop(publisher);
    let TestGateway { daemon, environment, .. } = gateway;
    drop(daemon);

    let gateway = TestGateway::in_environment(environment, |_| toml).unwrap();
    assert_eq!(status(&gateway), Some(200));
    let log = gateway.daemon.log();
    assert!(log.contains("using the kept copy"), "{log}");
}

#[test]
fn fetch_says_what_came_from_each_source() {
    let environment = Environment::new().unwrap();
    let publisher = Publisher::start(&environment.pki, list(HERE)).unwrap();
    let text = configuration(&environment, &publisher, "");
    let text = text.replace(LISTEN_PORT, "18443").replace(METRICS_PORT, "19464").replace(IO, "auto");
    let file = environment.write("fetched.toml", text).unwrap();
    let fetch = || hookgate(&[OsStr::new("fetch"), OsStr::new("--config"), file.as_os_str()]);
    let finished = fetch();
    assert!(finished.status.unwrap().success(), "{}", finished.stderr_text());
    assert!(
        finished.stdout_text().contains("/ranges (percolate): 1 range, fresh for 3600 s"),
        "{}",
        finished.stdout_text()
    );
    publisher.set(Answer::ok("", b"<html>"));
    let finished = fetch();
    assert_eq!(finished.status.unwrap().code(), Some(1));
    let stderr = finished.stderr_text();
    assert!(
        stderr.contains("/ranges (percolate): the document cannot be used: it is a page of HTML or XML"),
        "{stderr}"
    );
}
