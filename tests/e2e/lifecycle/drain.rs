//! SIGTERM: the daemon accepts no more connections, and finishes the requests in flight, within a limit.

use std::io::ErrorKind;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use hookgate_testkit::gateway::{Gateway, GatewayOptions, Signal};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::pki::{Sender, Variant};

use super::managed::{HungThread, ManagedEnvironment, unit_sockets};
use crate::environment::{BINARY, Environment, PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, TlsClient, request};

/// Clients of each kind.
const CLIENTS: usize = 6;

fn delay(milliseconds: u64) -> Behaviour {
    Behaviour::Delay(Duration::from_millis(milliseconds), Behaviour::Json.boxed())
}

/// Sends each request on a new connection until connections fail. Returns the number of responses.
///
/// A connection that the kernel established, and that the daemon never accepted, is reset when the listener closes, and counts as
/// refused. The log tells whether the daemon had accepted it.
fn request_on_new_connections(client: &TlsClient) -> usize {
    for count in 0.. {
        let stream = match client.connect_tcp() {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
                return count;
            }
            Err(error) => unreachable!("connect: {error}"),
        };
        let Ok(mut connection) = client.handshake(stream) else { return count };
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        assert!(response.status == 200 && response.complete, "{response:?}");
    }
    unreachable!("the loop has no end")
}

/// Sends requests on one connection until the daemon announces its end. Returns the number of responses.
fn request_on_one_connection(client: &TlsClient) -> usize {
    let mut connection = client.connect().unwrap();
    for count in 1.. {
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        assert!(response.status == 200 && response.complete, "{response:?}");
        if response.field("connection") == Some("close") {
            assert_eq!(connection.end(SOON).unwrap().1, End::Orderly);
            return count;
        }
        sleep(Duration::from_millis(20));
    }
    unreachable!("the loop has no end")
}

#[test]
fn sigterm_under_load_loses_no_request() {
    let environment = Environment::new().unwrap();
    environment.events.set_behaviour(delay(100));
    let mut options = GatewayOptions::new(BINARY);
    options.environment.push(("HOOKGATE_LOG".into(), "debug".into()));
    let text = environment.toml("", "").replace("workers = 1", "workers = 2");
    let mut gateway = Gateway::start(&text, &options).unwrap();
    let identity = environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let client = TlsClient::new(gateway.port(), &environment.pki, &identity).unwrap();
    let answered: usize = thread::scope(|scope| {
        let fresh: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| request_on_new_connections(&client))).collect();
        let steady: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| request_on_one_connection(&client))).collect();
        environment.events.wait_for(40, SOON).unwrap();
        gateway.signal(Signal::TERM).unwrap();
        let status = gateway.wait_exit(SOON).unwrap();
        assert_eq!(status.code(), Some(0), "{}", gateway.log());
        fresh.into_iter().chain(steady).map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(answered as u64, environment.events.request_count(), "a handled request got no response");
    let log = gateway.log();
    assert!(!log.contains("handshake ended") && !log.contains("handshake refused"), "{log}");
    assert!(!log.contains("connections are cut"), "{log}");
}

#[test]
fn a_request_in_flight_is_finished_before_the_daemon_ends() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = TestGateway::with_limits("").unwrap();
        gateway.handler().set_behaviour(delay(500));
        let mut connection = gateway.connect().unwrap();
        connection.send(request("POST", PATH, b"{}")).unwrap();
        gateway.handler().wait_for(1, SOON).unwrap();
        gateway.daemon.signal(signal).unwrap();
        gateway.daemon.wait_log("draining", SOON).unwrap();
        let response = connection.response().unwrap();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")), "{signal:?}");
        assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
        assert_eq!(gateway.daemon.wait_exit(SOON).unwrap().code(), Some(0));
    }
}

#[test]
fn a_body_that_is_still_arriving_is_read_to_its_end() {
    let mut gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    let whole = request("POST", PATH, b"{\"slow\": true}");
    let (first, second) = whole.split_at(whole.len() - 5);
    connection.send(first).unwrap();
    sleep(Duration::from_millis(200));
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_log("draining", SOON).unwrap();
    sleep(Duration::from_millis(1200));
    assert_eq!(connection.ask(second).unwrap().status, 200);
    assert_eq!(gateway.daemon.wait_exit(SOON).unwrap().code(), Some(0));
}

#[test]
fn an_idle_connection_does_not_delay_the_end() {
    let mut gateway = TestGateway::with_limits("").unwrap();
    let mut idle = gateway.connect().unwrap();
    assert_eq!(idle.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    let start = Instant::now();
    gateway.daemon.signal(Signal::TERM).unwrap();
    assert_eq!(idle.end(SOON).unwrap(), (Vec::new(), End::Orderly));
    assert_eq!(gateway.daemon.wait_exit(SOON).unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

/// One worker accepts, and hands over to another that hangs. That one learns of the drain before it sees the first connection.
#[test]
fn connections_being_handed_over_are_served_in_a_drain() {
    let managed = ManagedEnvironment::new().unwrap();
    let (port, kept) = unit_sockets(1).unwrap();
    let mut gateway = managed.start_with(2, port, kept).unwrap();
    let client = managed.client(port).unwrap();
    let hung = HungThread::stop(&gateway, "worker-1").unwrap();
    let streams: Vec<_> = (0..28).map(|_| client.connect_tcp().unwrap()).collect();
    // The hung worker may have one connection already, and sixteen stay with the other.
    gateway.wait_metric("hookgate_connections_handed_over_total", &[], 10.0, SOON).unwrap();
    gateway.signal(Signal::TERM).unwrap();
    gateway.wait_log("draining", SOON).unwrap();
    hung.resume().unwrap();
    thread::scope(|scope| {
        let ask = |stream| client.handshake(stream).unwrap().ask(request("POST", PATH, b"{}")).unwrap();
        let asking: Vec<_> = streams.into_iter().map(|stream| scope.spawn(move || ask(stream))).collect();
        for response in asking.into_iter().map(|asking| asking.join().unwrap()) {
            assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        }
    });
    assert_eq!(gateway.wait_exit(SOON).unwrap().code(), Some(0));
    assert!(!gateway.log().contains("connections are cut"), "{}", gateway.log());
}

#[test]
fn a_draining_daemon_accepts_no_connection() {
    let mut gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(delay(700));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_log("draining", SOON).unwrap();
    sleep(Duration::from_millis(200));
    assert_eq!(gateway.client.connect_tcp().map(drop).map_err(|error| error.kind()), Err(ErrorKind::ConnectionRefused));
    assert_eq!(connection.response().unwrap().status, 200);
    gateway.daemon.wait_exit(SOON).unwrap();
}

#[test]
fn a_drain_beyond_its_timeout_is_cut() {
    let mut gateway = TestGateway::with_limits("drain_timeout_ms = 500").unwrap();
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let start = Instant::now();
    gateway.daemon.signal(Signal::TERM).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert_eq!((bytes.len(), end), (0, End::Cut));
    gateway.daemon.wait_exit(SOON).unwrap();
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(500) && elapsed < Duration::from_secs(4), "{elapsed:?}");
    assert!(gateway.daemon.log().contains("drain_timeout_ms passed"));
}

#[test]
fn a_second_sigterm_ends_a_drain_at_once() {
    let mut gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_log("draining", SOON).unwrap();
    let start = Instant::now();
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_exit(SOON).unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(connection.end(SOON).unwrap().1, End::Cut);
    assert!(gateway.daemon.log().contains("a second time"));
}
