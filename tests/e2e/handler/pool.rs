//! Connections to handlers: kept, reused and closed, without a lost or a repeated request.

use std::thread::sleep;
use std::time::Duration;

use hookgate_testkit::handler::{Behaviour, Handler};

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::request;

fn retries(gateway: &TestGateway) -> f64 {
    gateway.daemon.metric("hookgate_handler_retries_total", &[]).unwrap()
}

/// Sends `count` requests on one connection, with a pause before each, and expects 200 each time.
fn ask_often(gateway: &TestGateway, count: usize, pause: Duration) {
    let mut connection = gateway.connect().unwrap();
    for index in 0..count {
        sleep(pause);
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        assert_eq!(response.status, 200, "request {index}: {}", response.text());
    }
}

#[test]
fn sequential_requests_share_one_connection() {
    let gateway = TestGateway::with_limits("").unwrap();
    ask_often(&gateway, 20, Duration::ZERO);
    for _ in 0..5 {
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    assert_eq!((gateway.handler().request_count(), gateway.handler().connection_count()), (25, 1));
    assert_eq!(gateway.daemon.metric("hookgate_handler_connections_total", &[]).unwrap(), 1.0);
}

#[test]
fn a_connection_that_the_handler_announced_to_close_is_not_reused() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::ThenClose(Behaviour::Json.boxed()));
    ask_often(&gateway, 5, Duration::ZERO);
    assert_eq!((gateway.handler().request_count(), gateway.handler().connection_count()), (5, 5));
    assert_eq!(retries(&gateway), 0.0);
}

#[test]
fn an_idle_connection_that_the_handler_closed_loses_no_request() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::ThenCloseSilently(Behaviour::Json.boxed()));
    ask_often(&gateway, 10, Duration::from_millis(30));
    assert_eq!((gateway.handler().request_count(), gateway.handler().connection_count()), (10, 10));
}

#[test]
fn a_handler_that_restarts_loses_no_request() {
    let mut gateway = TestGateway::with_limits("").unwrap();
    ask_often(&gateway, 2, Duration::ZERO);
    let path = gateway.handler().path().to_owned();
    for _ in 0..3 {
        // The old handler must end first: it removes the socket.
        let placeholder = Handler::start(&gateway.environment.path("placeholder.sock"), Behaviour::Json).unwrap();
        drop(std::mem::replace(&mut gateway.environment.events, placeholder));
        drop(std::mem::replace(&mut gateway.environment.events, Handler::start(&path, Behaviour::Json).unwrap()));
        assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    assert_eq!(gateway.handler().request_count(), 1);
}

/// RFC 9110, section 9.2.2: the handler may have acted on it.
#[test]
fn a_post_that_was_written_to_a_stale_connection_is_not_repeated() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::OncePerConnection(Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"1")).unwrap().status, 200);
    let response = connection.ask(request("POST", PATH, b"2")).unwrap();
    assert_problem(&response, 502, "handler_unavailable", "a stale connection");
    let bodies: Vec<_> = gateway.handler().requests().iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["1", "2"]);
    assert_eq!(retries(&gateway), 0.0);
    assert_eq!(connection.ask(request("POST", PATH, b"3")).unwrap().status, 200, "on a new connection");
}

#[test]
fn an_idempotent_request_that_was_written_to_a_stale_connection_is_repeated_once() {
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let gateway = TestGateway::with_limits("").unwrap();
        gateway.handler().set_behaviour(Behaviour::OncePerConnection(Behaviour::status(204, "").boxed()));
        let mut connection = gateway.connect().unwrap();
        assert_eq!(connection.ask(request(method, PATH, b"1")).unwrap().status, 204);
        assert_eq!(connection.ask(request(method, PATH, b"2")).unwrap().status, 204, "{method}");
        let seen: Vec<_> =
            gateway.handler().requests().iter().map(|request| (request.text(), request.connection)).collect();
        assert_eq!(seen, [("1".to_owned(), 1), ("2".to_owned(), 1), ("2".to_owned(), 2)], "{method}");
        assert_eq!(retries(&gateway), 1.0);
    }
}

#[test]
fn a_repeated_request_is_not_repeated_again() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::sequence([Behaviour::Json, Behaviour::CloseBeforeAnswering]));
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("PUT", PATH, b"1")).unwrap().status, 200);
    let response = connection.ask(request("PUT", PATH, b"2")).unwrap();
    assert_problem(&response, 502, "handler_unavailable", "twice");
    assert_eq!((gateway.handler().request_count(), retries(&gateway)), (3, 1.0));
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout() {
    let gateway = TestGateway::with_limits("handler_idle_timeout_ms = 200").unwrap();
    ask_often(&gateway, 2, Duration::ZERO);
    assert_eq!(gateway.handler().open_connections(), 1);
    gateway.handler().wait_no_connection(SOON).unwrap();
    ask_often(&gateway, 2, Duration::ZERO);
    assert_eq!(gateway.handler().connection_count(), 2);
}

#[test]
fn no_more_idle_connections_are_kept_than_configured() {
    let gateway = TestGateway::with_limits("handler_idle_connections = 0").unwrap();
    ask_often(&gateway, 3, Duration::ZERO);
    assert_eq!(gateway.handler().connection_count(), 3);
}
