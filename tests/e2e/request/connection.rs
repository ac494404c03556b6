//! Connections with more than one request: keep-alive, pipelining, half-close, and the end of a connection.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Response;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

#[test]
fn one_connection_serves_many_requests() {
    let gateway = TestGateway::with_limits("").unwrap();
    let curl = (0..5).fold(gateway.admitted_curl(), |curl, index| curl.post(&format!("/any/{index}"), b"{}"));
    let outcome = curl.run().unwrap();
    let connections: Vec<_> = outcome.transfers.iter().map(|transfer| transfer.new_connections).collect();
    assert_eq!(connections, [1, 0, 0, 0, 0]);
    assert!(outcome.transfers.iter().all(|transfer| transfer.response.status == 200), "{outcome:?}");
    assert_eq!(gateway.daemon.metric("hookgate_connections_total", &[]).unwrap(), 1.0);
}

#[test]
fn a_connection_survives_a_refused_request_whose_body_was_read() {
    let gateway = TestGateway::with_limits("handler_timeout_ms = 200").unwrap();
    gateway.handler().set_behaviour(Behaviour::sequence([Behaviour::NeverAnswer, Behaviour::Json]));
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 504);
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let gateway = TestGateway::with_limits("").unwrap();
    let slow = Behaviour::Delay(Duration::from_millis(100), Behaviour::Json.boxed());
    gateway.handler().set_behaviour(Behaviour::sequence([slow, Behaviour::Json]));
    let targets = ["/any/a", "/any/b", "/any/c"];
    let bytes: Vec<u8> = targets.iter().flat_map(|target| request("POST", target, b"{}")).collect();
    let mut connection = gateway.connect().unwrap();
    connection.send(bytes).unwrap();
    for target in targets {
        let response = connection.response().unwrap();
        assert!(response.status == 200 && response.text().contains(target), "{target}: {}", response.text());
    }
}

#[test]
fn an_absolute_target_names_the_host() {
    let gateway = TestGateway::with_limits("").unwrap();
    let head = format!(
        "POST https://{HOST}{PATH}?q HTTP/1.1\r\nHost: ignored.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    assert_eq!(gateway.exchange(head).unwrap().status, 200);
    let seen = &gateway.handler().requests()[0];
    assert_eq!(seen.target, format!("{PATH}?q"));
    assert_eq!((seen.field("host"), seen.field("x-forwarded-host")), (Some(HOST), Some(HOST)));
}

#[test]
fn http_1_0_is_served_and_closed() {
    let gateway = TestGateway::with_limits("").unwrap();
    let pieces = vec![b"one ".to_vec(), b"two".to_vec()];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_millis(20) });
    let mut connection = gateway.connect().unwrap();
    connection.send(format!("POST {PATH} HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n{{}}")).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert!(bytes.starts_with(b"HTTP/1.0 200 "), "{}", String::from_utf8_lossy(&bytes));
    let responses = Response::read_all(&bytes);
    assert_eq!(responses.len(), 1, "{responses:?}");
    assert_eq!(responses[0].field("transfer-encoding"), None, "{responses:?}");
    assert_eq!((responses[0].text().as_str(), end), ("one two", End::Orderly));
    assert_eq!(gateway.handler().requests()[0].text(), "{}");
}

#[test]
fn http_1_0_with_keep_alive_stays_open() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    let head = format!("GET {PATH} HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(connection.ask(&head).unwrap().field("connection"), Some("keep-alive"));
    assert_eq!(connection.ask(&head).unwrap().status, 200);
}

#[test]
fn connection_close_ends_the_connection_orderly() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    connection.send(format!("GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n")).unwrap();
    let response = connection.response().unwrap();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
}

#[test]
fn head_is_answered_without_a_body_and_with_its_length() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::status(200, "twelve bytes"));
    let outcome = gateway.admitted_curl().request("HEAD", PATH).request("GET", PATH).run().unwrap();
    let seen: Vec<_> =
        outcome.transfers.iter().map(|transfer| (&transfer.response, transfer.new_connections)).collect();
    assert_eq!((seen[0].0.status, seen[0].0.field("content-length"), seen[0].0.body.len()), (200, Some("12"), 0));
    // The connection to the handler was reused: the daemon waited for no body.
    assert_eq!((seen[1].0.text().as_str(), seen[1].1), ("twelve bytes", 0));
    assert_eq!(gateway.handler().connection_count(), 1);
}

#[test]
fn responses_without_a_body_keep_the_connection_usable() {
    let gateway = TestGateway::with_limits("").unwrap();
    let statuses = [204, 304, 205, 200];
    gateway.handler().set_behaviour(Behaviour::sequence(statuses.map(|status| Behaviour::status(status, ""))));
    let mut connection = gateway.connect().unwrap();
    for status in statuses {
        assert_eq!(connection.ask(request("GET", PATH, b"")).unwrap().status, status);
    }
    assert_eq!(gateway.handler().connection_count(), 1);
}

#[test]
fn interim_responses_of_a_handler_are_not_forwarded() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Informational(Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    let first = connection.read_until("\r\n", SOON).unwrap();
    assert_eq!(first, "HTTP/1.1 200 OK\r\n");
}

#[test]
fn a_peer_that_closed_its_sending_direction_still_gets_its_response() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(200), Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.finish_sending().unwrap();
    let response = connection.response().unwrap();
    assert!(response.status == 200 && response.complete, "{response:?}");
    assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
}

#[test]
fn an_idle_connection_is_closed_orderly() {
    let gateway = TestGateway::with_limits("idle_timeout_ms = 400").unwrap();
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    sleep(Duration::from_millis(150));
    assert_eq!(
        connection.ask(request("POST", PATH, b"{}")).unwrap().status,
        200,
        "it was idle for less than the timeout"
    );
    let start = Instant::now();
    assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    assert_eq!(gateway.rejections("request_timeout").unwrap(), 0.0);
}

/// Longer than a connection is silent before the daemon puts it to rest.
const SILENCE: Duration = Duration::from_millis(1400);

#[test]
fn a_connection_at_rest_serves_further_requests_and_is_closed_orderly() {
    let gateway = TestGateway::with_limits("idle_timeout_ms = 1800").unwrap();
    let mut connection = gateway.connect().unwrap();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    for body in [b"{}".to_vec(), vec![b' '; 100_000]] {
        sleep(SILENCE);
        assert_eq!(connection.ask(request("POST", PATH, &body)).unwrap().status, 200, "{} bytes", body.len());
    }
    sleep(SILENCE);
    assert_eq!(connection.end(SOON).unwrap().1, End::Orderly);
    assert_eq!(gateway.daemon.metric("hookgate_connections_total", &[]).unwrap(), 1.0);
}

#[test]
fn the_beginning_of_a_request_is_kept_at_rest() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    let next = request("POST", PATH, b"{}");
    let (beginning, end) = next.split_at(20);
    connection.send([&request("POST", PATH, b"{}")[..], beginning].concat()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    sleep(SILENCE);
    connection.send(end).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
    assert_eq!(gateway.handler().requests().len(), 2);
}

#[test]
fn at_the_connection_limit_an_idle_connection_is_closed_for_a_new_one() {
    let gateway = TestGateway::with_limits("max_connections = 2").unwrap();
    let mut connections: Vec<_> = (0..2).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    }
    let mut third = gateway.connect().unwrap();
    assert_eq!(third.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let ends: Vec<_> =
        connections.iter_mut().map(|connection| connection.end(Duration::from_millis(300)).unwrap().1).collect();
    assert_eq!(ends.iter().filter(|end| **end == End::Orderly).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| **end == End::Open).count(), 1, "{ends:?}");
    assert_eq!(gateway.rejections("connection_limit").unwrap(), 0.0);
}

#[test]
fn at_the_connection_limit_without_an_idle_one_new_connections_are_refused_and_counted() {
    let gateway = TestGateway::with_limits("max_connections = 2").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(800), Behaviour::Json.boxed()));
    let mut connections: Vec<_> = (0..2).map(|_| gateway.connect().unwrap()).collect();
    for connection in &mut connections {
        connection.send(request("POST", PATH, b"{}")).unwrap();
    }
    gateway.handler().wait_for(2, SOON).unwrap();
    assert!(gateway.connect().is_err());
    assert_eq!(gateway.wait_rejections("connection_limit", 1.0).unwrap(), 1.0);
    for connection in &mut connections {
        assert_eq!(connection.response().unwrap().status, 200);
    }
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
}
