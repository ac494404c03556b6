//! Which requests have an event: `access`, its sample and its rate, and what a reload changes.

use hookgate_testkit::gateway::Gateway;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::wait::wait_until;

use super::events::{Event, wait_for};
use super::{options, start, with_log};
use crate::environment::{Environment, PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// One request that is answered, one that is refused, and one whose handler fails.
fn one_of_each(gateway: &TestGateway) {
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(connection.ask(request("POST", "/nowhere", b"")).unwrap().status, 404);
    gateway.handler().set_behaviour(Behaviour::Malformed);
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 502);
    gateway.handler().set_behaviour(Behaviour::Json);
}

#[test]
fn access_selects_which_requests_have_an_event_and_a_reload_applies_it() {
    let gateway = start("format = \"json\"", "");
    let reload = |log: &str| {
        let toml = with_log(&gateway.environment, &format!("format = \"json\"\n{log}"), "");
        gateway.reload(&toml).unwrap();
    };
    let mut expected: Vec<&str> = Vec::new();
    let steps: [(&str, &[&str]); 4] = [
        ("access = true", &["request answered", "request refused", "request refused"]),
        ("access = \"refused\"", &["request refused", "request refused"]),
        ("access = false", &["request refused"]),
        ("level = \"warn\"", &["request refused", "request refused"]),
    ];
    for (log, logged) in steps {
        reload(log);
        one_of_each(&gateway);
        expected.extend(logged);
        let found = wait_for(&gateway.daemon, expected.len(), Event::is_of_access);
        let found: Vec<&str> = found.iter().map(|event| event.text("event")).collect();
        assert_eq!(found, expected, "{log}");
    }
    let faults = wait_for(&gateway.daemon, 4, |event| event.text("reason") == "handler_malformed");
    assert!(faults.iter().all(|event| event.text("cause") == "handler"), "{faults:?}");
}

#[test]
fn the_path_can_be_left_out() {
    let gateway = start("format = \"json\"\npath = false", "");
    one_of_each(&gateway);
    let events = wait_for(&gateway.daemon, 3, Event::is_of_access);
    assert!(events.iter().all(|event| !event.has("path") && event.has("method")), "{events:?}");
    assert!(!gateway.daemon.log().contains("/nowhere"), "{}", gateway.daemon.log());
}

#[test]
fn one_of_several_answered_requests_is_logged_and_every_refusal() {
    let gateway = start("format = \"json\"\naccess_sample = 4", "");
    for _ in 0..10 {
        let mut connection = gateway.connect().unwrap();
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        // The answer ends the connection, because a body may follow.
        assert_eq!(connection.ask(request("POST", "/nowhere", b"")).unwrap().status, 404);
    }
    wait_for(&gateway.daemon, 10, |event| event.text("event") == "request refused");
    let answered = wait_for(&gateway.daemon, 3, |event| event.text("event") == "request answered");
    assert!(answered.iter().all(|event| event.number("sample") == Some(4.0)), "{answered:?}");
}

#[test]
fn answered_requests_beyond_the_rate_are_counted_and_hide_no_refusal() {
    let gateway = start("format = \"json\"\naccess_per_s = 5", "");
    let suppressed =
        || gateway.daemon.metric("hookgate_log_events_suppressed_total", &[("cause", "answered")]).unwrap();
    let mut connection = gateway.connect().unwrap();
    let mut sent = 0_u32;
    wait_until("suppressed events", SOON, || {
        for _ in 0..50 {
            assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
        }
        sent += 50;
        suppressed() > 0.0
    })
    .unwrap();
    assert_eq!(gateway.connect().unwrap().ask(request("POST", "/nowhere", b"")).unwrap().status, 404);
    wait_for(&gateway.daemon, 1, |event| event.text("event") == "request refused");
    gateway.daemon.wait_log("log events suppressed: more than the limit per second", SOON).unwrap();
    let is_complete = |event: &Event| event.text("event") == "request answered";
    wait_until("all events", SOON, || {
        let log = super::complete_lines(&gateway.daemon);
        let logged = super::objects(&log).iter().filter(|event| is_complete(event)).count();
        logged as f64 + suppressed() == f64::from(sent)
    })
    .unwrap();
    // A reload raises the rate.
    let toml = with_log(&gateway.environment, "format = \"json\"\naccess_per_s = 100000", "");
    gateway.reload(&toml).unwrap();
    let before = suppressed();
    for _ in 0..200 {
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    drop(connection);
    gateway.wait_no_connection().unwrap();
    assert_eq!(suppressed(), before);
}

#[test]
fn a_reload_says_what_it_does_not_apply() {
    let gateway = start("format = \"json\"", "");
    let toml = |log: &str| with_log(&gateway.environment, log, "");
    gateway.reload(&toml("format = \"text\"")).unwrap();
    gateway.daemon.wait_log("[log] format has changed; restart hookgate to apply the change", SOON).unwrap();
    gateway.daemon.wait_log("log.format: \\\"json\\\" → \\\"text\\\" (needs a restart)", SOON).unwrap();
    let generation = gateway.daemon.metric("hookgate_config_generation", &[]).unwrap();
    gateway.daemon.write_configuration(&toml("level = \"verbose\"")).unwrap();
    gateway.daemon.signal(hookgate_testkit::gateway::Signal::HUP).unwrap();
    gateway.daemon.wait_log("is no level; write off", SOON).unwrap();
    assert_eq!(gateway.daemon.metric("hookgate_config_generation", &[]).unwrap(), generation, "nothing has changed");

    let environment = Environment::new().unwrap();
    let toml = |log: &str| with_log(&environment, log, "");
    let daemon = Gateway::start(&toml("level = \"info\""), &options(&["--log", "info"], None)).unwrap();
    daemon.reload(&toml("level = \"error\""), SOON).unwrap();
    let words = "[log] level has changed, but another level is stated elsewhere, which stays in force";
    daemon.wait_log(words, SOON).unwrap();
    daemon.wait_log("place=--log", SOON).unwrap();
    daemon.wait_log("configuration reloaded", SOON).unwrap();
}
