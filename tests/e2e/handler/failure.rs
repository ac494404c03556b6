//! Handlers that are unreachable, or that answer wrongly, late, or not at all: 502, 503, 504.

use std::fs;
use std::io::{BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::{Gateway, GatewayOptions};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::{Request, Response};
use hookgate_testkit::pki::{Sender, Variant};

use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

/// The configuration with the socket `name` for the handler.
fn with_socket(environment: &Environment, name: &str) -> String {
    let (old, new) = (environment.events.path().display().to_string(), environment.path(name).display().to_string());
    environment.toml("handler_timeout_ms = 400", "").replace(&old, &new)
}

/// Posts to a handler with this behaviour, and expects a problem document.
fn check(gateway: &TestGateway, behaviour: Behaviour, status: u16, reason: &str) {
    let context = format!("{behaviour:?}");
    gateway.handler().set_behaviour(behaviour);
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    assert_problem(outcome.response().unwrap(), status, reason, &context);
}

/// The log names the socket and says what to do; the peer is told neither.
fn check_log(gateway: &TestGateway, response: &Response, words: &[&str]) {
    let id = response.field("x-request-id").unwrap();
    gateway.daemon.wait_log(id, SOON).unwrap();
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    for word in words {
        assert!(line.contains(word) && !response.text().contains(word), "{word}: {line}; {response:?}");
    }
}

#[test]
fn an_absent_socket_is_unavailable() {
    let gateway = TestGateway::with_toml(|environment| with_socket(environment, "absent.sock")).unwrap();
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "an absent socket");
    check_log(&gateway, response, &["absent.sock", "does not exist"]);
}

#[test]
fn a_socket_without_a_listener_is_unavailable_until_a_handler_listens() {
    let gateway = TestGateway::with_toml(|environment| {
        drop(UnixListener::bind(environment.path("left.sock")).unwrap());
        with_socket(environment, "left.sock")
    });
    let gateway = gateway.unwrap();
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "a socket that was left behind");
    check_log(&gateway, response, &["left.sock", "no process listens"]);
    let path = gateway.environment.path("left.sock");
    let _handler = hookgate_testkit::handler::Handler::start(&path, Behaviour::Json).unwrap();
    assert_eq!(gateway.admitted_curl().post(PATH, b"{}").run().unwrap().status(), Some(200));
}

/// root can write to every file, so the daemon starts without that capability (capabilities(7), CAP_DAC_OVERRIDE).
#[test]
fn a_socket_without_write_permission_is_unavailable() {
    let environment = Environment::new().unwrap();
    fs::set_permissions(environment.events.path(), fs::Permissions::from_mode(0o000)).unwrap();
    let mut options = GatewayOptions::new(BINARY);
    if rustix::process::geteuid().is_root() {
        let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-dac_override {BINARY} \"$@\"\n");
        options.binary = environment.write("unprivileged", script).unwrap();
        fs::set_permissions(&options.binary, fs::Permissions::from_mode(0o700)).unwrap();
    }
    let gateway = Gateway::start(&environment.toml("", ""), &options).unwrap();
    let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let curl = gateway.curl(hookgate_testkit::configuration::HOST, &environment.pki).identity(&identity);
    let outcome = curl.post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 502, "handler_unavailable", "a socket without permission");
    gateway.wait_log("may not write to the socket", SOON).unwrap();
    assert!(!response.text().contains("may not write"), "{response:?}");
}

/// A listener that does not accept queues one connection more than its backlog (listen(2)).
#[test]
fn a_handler_that_does_not_accept_is_overloaded() {
    let path_of = |environment: &Environment| environment.path("full.sock");
    let gateway = TestGateway::with_toml(|environment| with_socket(environment, "full.sock")).unwrap();
    let address = socket2::SockAddr::unix(path_of(&gateway.environment)).unwrap();
    let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let _filler = UnixStream::connect(path_of(&gateway.environment)).unwrap();
    let start = Instant::now();
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_problem(response, 503, "handler_overloaded", "a full accept queue");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert!(start.elapsed() >= Duration::from_millis(400), "it did not wait");
}

#[test]
fn a_response_that_is_not_http_is_malformed() {
    let gateway = TestGateway::with_limits("").unwrap();
    check(&gateway, Behaviour::Malformed, 502, "handler_malformed");
    check(&gateway, Behaviour::status(101, ""), 502, "handler_malformed");
    let field = |name: String, length: usize| (name, "x".repeat(length));
    let fixed = |fields| Behaviour::Fixed { status: 200, fields, body: b"{}".to_vec() };
    check(&gateway, fixed(vec![field("X-Long".into(), 400_000)]), 502, "handler_malformed");
    let many = (0..300).map(|index| field(format!("X-{index}"), 1)).collect();
    check(&gateway, fixed(many), 502, "handler_malformed");
    assert_eq!(gateway.wait_rejections("handler_malformed", 4.0).unwrap(), 4.0);
}

#[test]
fn an_error_response_of_the_handler_is_forwarded_unchanged() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::status(503, "later"));
    let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert_eq!((response.status, response.text().as_str(), response.reason()), (503, "later", None));
    assert_eq!(response.field("retry-after"), None);
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_handler_that_closes_before_its_response_is_unavailable_and_not_retried() {
    let gateway = TestGateway::with_limits("").unwrap();
    for (index, behaviour) in [Behaviour::CloseBeforeAnswering, Behaviour::BreakOffHead].into_iter().enumerate() {
        check(&gateway, behaviour, 502, "handler_unavailable");
        assert_eq!(gateway.handler().request_count(), index as u64 + 1);
    }
    // An idempotent method is not retried either: the connection was not stale.
    gateway.handler().set_behaviour(Behaviour::CloseBeforeAnswering);
    let outcome = gateway.admitted_curl().request("GET", PATH).run().unwrap();
    assert_problem(outcome.response().unwrap(), 502, "handler_unavailable", "GET");
    assert_eq!(gateway.handler().request_count(), 3);
    assert_eq!(gateway.daemon.metric("hookgate_handler_retries_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_late_handler_times_out_and_its_connection_is_closed() {
    let gateway = TestGateway::with_limits("handler_timeout_ms = 400").unwrap();
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut connection = gateway.connect().unwrap();
    let start = Instant::now();
    let response = connection.ask(request("PUT", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "a late handler");
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(400) && elapsed < Duration::from_secs(3), "{elapsed:?}");
    assert_eq!(
        (gateway.handler().request_count(), gateway.handler().connection_count()),
        (1, 1),
        "the request was repeated"
    );
    assert_eq!(gateway.wait_rejections("handler_timeout", 1.0).unwrap(), 1.0);
    gateway.handler().set_behaviour(Behaviour::Json);
    assert_eq!(connection.ask(request("PUT", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(gateway.handler().connection_count(), 2, "the late connection was reused");
}

#[test]
fn a_handler_beyond_its_limits_is_overloaded() {
    let gateway = TestGateway::with_limits("handler_max_in_flight = 1\nhandler_max_waiting = 0").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(500), Behaviour::Json.boxed()));
    let mut first = gateway.connect().unwrap();
    first.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "handler_overloaded", "a second request");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert_eq!(first.response().unwrap().status, 200);
    assert_eq!(gateway.handler().request_count(), 1);
    gateway.still_serves().unwrap();
}

#[test]
fn a_request_within_the_limit_waits_for_its_turn() {
    let gateway = TestGateway::with_limits("handler_max_in_flight = 1\nhandler_max_waiting = 1").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(500), Behaviour::Json.boxed()));
    let mut connections: Vec<_> = (0..3).map(|_| gateway.connect().unwrap()).collect();
    connections[0].send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    connections[1].send(request("POST", PATH, b"{}")).unwrap();
    thread::sleep(Duration::from_millis(150));
    let response = connections[2].ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 503, "handler_overloaded", "a third request");
    assert_eq!(gateway.handler().request_count(), 1, "the second request did not wait");
    assert_eq!(connections[0].response().unwrap().status, 200);
    assert_eq!(connections[1].response().unwrap().status, 200);
    assert_eq!(gateway.handler().connection_count(), 1);
}

#[test]
fn waiting_for_a_turn_counts_as_waiting_for_the_handler() {
    let gateway = TestGateway::with_limits("handler_max_in_flight = 1\nhandler_timeout_ms = 600").unwrap();
    // Constant progress, so that the first request never times out.
    let pieces = vec![b"x".to_vec(); 8];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_millis(200) });
    let mut first = gateway.connect().unwrap();
    first.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 504, "handler_timeout", "a request that waited");
    let first = first.response().unwrap();
    assert!(first.complete && first.body == b"xxxxxxxx", "{first:?}");
}

/// What a handler writes after its response must not become the response to another request.
#[test]
fn bytes_after_a_response_never_answer_the_next_request() {
    let gateway = TestGateway::with_toml(|environment| with_socket(environment, "twice.sock")).unwrap();
    let path = gateway.environment.path("twice.sock");
    answering_twice(&path);
    let mut connection = gateway.connect().unwrap();
    for _ in 0..5 {
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        assert!(response.status == 502 || response.text() == "mine", "{response:?}");
    }
}

/// Answers every request with one response too many.
fn answering_twice(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                while let Ok(Some(_)) = Request::read(&mut reader, 1) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine\
                                   HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nothers";
                    if (&stream).write_all(answer).is_err() {
                        break;
                    }
                }
            });
        }
    });
}
