//! The bounds of a route of its own: `max_body_bytes`, `handler_timeout_ms`, `max_in_flight`.

use std::ffi::OsStr;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;

use crate::command::hookgate;
use crate::environment::{Environment, PATH, SOON, quoted};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// A path of a route that has no bound of its own, with the same handler.
const OTHER: &str = "/percolate";

/// These lines in `[limits]`, and these in the route of [`PATH`].
fn start(limits: &str, route: &str) -> TestGateway {
    TestGateway::with_toml(|environment| with_state(environment, &environment.toml(limits, route))).unwrap()
}

/// `hookgate explain` asks a daemon that has a state directory.
fn with_state(environment: &Environment, toml: &str) -> String {
    format!("{toml}\n[state]\ndirectory = {}\n", quoted(&environment.state_directory()))
}

fn delay(milliseconds: u64) -> Behaviour {
    Behaviour::Delay(Duration::from_millis(milliseconds), Behaviour::Json.boxed())
}

/// What `hookgate explain` says of the request of this answer.
fn explained(gateway: &TestGateway, id: &str) -> String {
    let path = gateway.daemon.configuration_path();
    let finished = hookgate(&[OsStr::new("explain"), OsStr::new("--config"), path.as_os_str(), OsStr::new(id)]);
    finished.stdout_text() + &finished.stderr_text()
}

#[test]
fn the_body_of_a_request_has_the_bound_of_its_route() {
    let gateway = start("max_body_bytes = 1000\nmax_buffered_bytes = 2000", "max_body_bytes = 2000");
    let mut id = String::new();
    for (target, most) in [(PATH, 2000), (OTHER, 1000)] {
        for chunked in [false, true] {
            for (length, status) in [(most, 200), (most + 1, 413)] {
                let body = vec![b'x'; length];
                let curl = gateway.admitted_curl().post(target, &body);
                let curl = if chunked { curl.field("Transfer-Encoding", "chunked") } else { curl };
                let outcome = curl.run().unwrap();
                assert_eq!(outcome.status(), Some(status), "{target} {length}");
                let response = outcome.response().unwrap();
                if status == 413 {
                    assert_problem(response, 413, "body_too_large", target);
                    assert!(response.text().contains(&format!("longer than {most} bytes")), "{response:?}");
                }
                if (target, status) == (PATH, 413) {
                    response.field("x-request-id").unwrap().clone_into(&mut id);
                }
            }
        }
    }
    assert_eq!(gateway.handler().request_count(), 4);
    let text = explained(&gateway, &id);
    let toml = std::fs::read_to_string(gateway.daemon.configuration_path()).unwrap();
    let line = toml.lines().position(|line| line == "max_body_bytes = 2000").unwrap() + 1;
    let place = format!("hookgate.toml:{line}: max_body_bytes\n");
    assert!(text.contains(&place), "{place} is not in\n{text}");
}

#[test]
fn the_handler_has_the_time_of_the_route() {
    let gateway = start("handler_timeout_ms = 30000", "handler_timeout_ms = 400");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let start = Instant::now();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "the route has less time");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400) && elapsed < Duration::from_secs(5), "{elapsed:?}");
    gateway.daemon.wait_log("within 400 ms (handler_timeout_ms)", SOON).unwrap();
    gateway.handler().set_behaviour(delay(1000));
    assert_eq!(gateway.connect().unwrap().ask(request("POST", OTHER, b"{}")).unwrap().status, 200);
}

#[test]
fn a_route_takes_no_more_places_of_its_handler_than_it_may() {
    let gateway = start("handler_max_waiting = 0", "max_in_flight = 1");
    gateway.handler().set_behaviour(delay(1500));
    let mut first = gateway.connect().unwrap();
    first.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let in_flight = || gateway.daemon.metric("hookgate_route_requests_in_flight", &[("route", "any")]).unwrap();
    assert_eq!(in_flight(), 1.0);
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "route_overloaded", "a second request");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert!(!response.text().contains("max_in_flight"), "the bound is nothing for the peer: {response:?}");
    // The other places are for other routes.
    assert_eq!(gateway.connect().unwrap().ask(request("POST", OTHER, b"{}")).unwrap().status, 200);
    assert_eq!(first.response().unwrap().status, 200);
    gateway.handler().set_behaviour(Behaviour::Json);
    for _ in 0..3 {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    assert_eq!(in_flight(), 0.0);
    let labels = [("reason", "route_overloaded"), ("blame", "handler"), ("route", "any")];
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &labels).unwrap(), 1.0);
    let text = explained(&gateway, response.field("x-request-id").unwrap());
    assert!(text.contains(": max_in_flight\n"), "{text}");
}

#[test]
fn a_request_that_finds_no_place_in_its_route_waits_within_the_time_of_the_handler() {
    let gateway = start("handler_max_waiting = 1", "max_in_flight = 1\nhandler_timeout_ms = 1200");
    gateway.handler().set_behaviour(delay(800));
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect().unwrap()).collect();
    connections[0].send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    connections[1].send(request("POST", PATH, b"{}")).unwrap();
    let waiting = [("route", "any")];
    gateway.daemon.wait_metric("hookgate_route_requests_waiting", &waiting, 1.0, SOON).unwrap();
    let response = connections[2].ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "route_overloaded", "a third request");
    // One that waits for its route takes no place at the handler, nor a turn of those that wait there.
    assert_eq!(gateway.daemon.metric("hookgate_handler_requests_waiting", &[]).unwrap(), 0.0);
    assert_eq!(connections[0].response().unwrap().status, 200);
    // It has waited for 0.8 s, and the handler would need as much again.
    assert_problem(&connections[1].response().unwrap(), 504, "handler_timeout", "a request that waited");
}

#[test]
fn what_is_with_the_handler_counts_over_a_reload() {
    let gateway = start("handler_max_waiting = 0", "max_in_flight = 2");
    gateway.handler().set_behaviour(delay(3000));
    let mut connections: Vec<_> = (0..2).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    gateway.handler().wait_for(2, SOON).unwrap();
    let toml = gateway.environment.toml("handler_max_waiting = 0\nmax_headers = 99", "max_in_flight = 2");
    gateway.reload(&with_state(&gateway.environment, &toml)).unwrap();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "route_overloaded", "after a reload");
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}

#[test]
fn the_places_of_a_route_are_counted_over_all_workers() {
    const CONNECTIONS: usize = 24;
    let gateway = TestGateway::with_toml(|environment| {
        environment.toml("handler_max_waiting = 0", "max_in_flight = 4").replace("workers = 1", "workers = 3")
    });
    let gateway = gateway.unwrap();
    gateway.handler().set_behaviour(delay(2000));
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    let statuses: Vec<_> = connections.iter_mut().map(|one| one.response().unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 4, "{statuses:?}");
    assert_eq!(gateway.handler().request_count(), 4);
    assert_eq!(gateway.rejections("route_overloaded").unwrap(), (CONNECTIONS - 4) as f64);
}
