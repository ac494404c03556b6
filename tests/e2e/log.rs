//! What peers can cause to be logged is bounded per second, and hides nothing that an operator needs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookgate_testkit::client::{OpenSsl, raw};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

/// Lines per second about strangers, and as many about proven senders and about handlers.
const LIMIT: u64 = 50;

/// Lines per second of libraries.
const LIBRARY_LIMIT: u64 = 5;

/// Many times more than are logged in the time that they take.
const FLOOD: usize = 600;

const SUPPRESSED: &str = "hookgate_log_events_suppressed_total";

/// Acts [`FLOOD`] times, each of which would be logged. Fails unless some of it is, not more than the limits allow, and the number of
/// the others is logged and counted under `cause`.
fn check(gateway: &TestGateway, what: &str, cause: &str, mut act: impl FnMut()) {
    let lines = || gateway.daemon.log().lines().count() as u64;
    let suppressed = || gateway.daemon.metric(SUPPRESSED, &[("cause", cause)]).unwrap();
    let (lines_before, suppressed_before, began) = (lines(), suppressed(), Instant::now());
    (0..FLOOD).for_each(|_| act());
    gateway.daemon.wait_metric(SUPPRESSED, &[("cause", cause)], suppressed_before + 1.0, SOON).unwrap();
    // The report of the last second.
    thread::sleep(Duration::from_millis(1500));
    let windows = began.elapsed().as_secs() + 2;
    let logged = lines() - lines_before;
    let bound = windows * (LIMIT + LIBRARY_LIMIT + 1);
    println!("{what}: {FLOOD} in {:?}, {logged} lines of at most {bound}", began.elapsed());
    // Nothing but the lines of the library, if the peer goes away in the handshake.
    let least = if cause == "library" { LIBRARY_LIMIT } else { 10 };
    assert!((least..=bound).contains(&logged), "{what}: {logged} lines of at most {bound}");
    let report = "log events suppressed: more than the limit per second";
    let log = gateway.daemon.log();
    let reports = log.lines().skip(usize::try_from(lines_before).unwrap()).filter(|line| line.contains(report));
    assert!(reports.filter(|line| line.contains(&format!(" {cause}="))).count() > 0, "{what}: no report");
}

/// Sends `bytes` as a stranger would, and closes.
fn send(port: u16, bytes: &[u8]) {
    let mut stream = raw::connect(port).unwrap();
    stream.write_all(bytes).unwrap();
    // Read until the daemon has answered, so that the flood is not faster than it is.
    stream.set_read_timeout(Some(SOON)).unwrap();
    let _ = stream.read(&mut [0; 16]);
}

fn hello(server_name: &str) -> Vec<u8> {
    raw::client_hello(|port| OpenSsl::new(server_name, port)).unwrap()
}

/// The ClientHello for [`HOST`], with other bytes of the same length in its place.
fn hello_for(name: &[u8]) -> Vec<u8> {
    let mut hello = hello(HOST);
    let place = hello.windows(HOST.len()).position(|window| window == HOST.as_bytes()).unwrap();
    hello[place..place + HOST.len()].copy_from_slice(name);
    hello
}

#[test]
fn strangers_cannot_flood_the_log() {
    let gateway = TestGateway::start().unwrap();
    let port = gateway.daemon.port();
    let alerts = [b"\x15\x03\x01\x00\x02\x01\x70".repeat(4), hello(HOST)].concat();
    let rows: [(&str, &str, Vec<u8>); 6] = [
        ("no TLS", "stranger", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a label is empty", "stranger", hello_for(b"hooks..xample.com")),
        ("a port in the name", "stranger", hello_for(b"hooks.example:443")),
        ("a name beyond ASCII", "stranger", hello_for("hooks.exämple.co".as_bytes())),
        ("alerts before the ClientHello", "stranger", alerts),
        // The handshake would go on, so the library alone says something.
        ("an address as name", "library", hello("192.0.2.77")),
    ];
    for (what, cause, bytes) in rows {
        check(&gateway, what, cause, || send(port, &bytes));
    }
    gateway.still_serves().unwrap();
}

/// Sends a request with each call, on one connection for as long as the daemon keeps it open.
fn asking<'client>(client: &'client TlsClient, path: &'static str, status: u16) -> impl FnMut() + use<'client> {
    let mut connection = None;
    move || {
        let mut open = connection.take().unwrap_or_else(|| client.connect().unwrap());
        let response = open.ask(request("PUT", path, b"{}")).unwrap();
        assert_eq!(response.status, status, "{response:?}");
        connection = (response.field("connection") != Some("close")).then_some(open);
    }
}

#[test]
fn requests_cannot_flood_the_log() {
    let gateway = TestGateway::with_limits("").unwrap();
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let expired = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    check(&gateway, "an expired certificate", "stranger", asking(&expired, PATH, 403));
    check(&gateway, "no route", "sender", asking(&gateway.client, "/nowhere", 404));
    gateway.handler().set_behaviour(Behaviour::Malformed);
    check(&gateway, "a broken handler", "handler", asking(&gateway.client, PATH, 502));
}

#[test]
fn connections_beyond_the_limit_cannot_flood_the_log() {
    let gateway = TestGateway::configured(|configuration| configuration.limits = "max_connections = 1").unwrap();
    let _held = raw::connect(gateway.daemon.port()).unwrap();
    check(&gateway, "no free slot", "stranger", || send(gateway.daemon.port(), b"?"));
}

/// Sends what is no TLS to `port` until it is dropped.
struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Flood {
    fn start(port: u16) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let flood = {
            let over = Arc::clone(&over);
            move || {
                while !over.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                    let sent = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
                    let _ = sent.and_then(|()| stream.read(&mut [0; 16]).map(drop));
                }
            }
        };
        Self { over, thread: Some(thread::spawn(flood)) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().map(thread::JoinHandle::join);
    }
}

#[test]
fn a_flood_of_strangers_hides_no_reload_no_sender_and_no_handler() {
    let gateway = TestGateway::with_limits("").unwrap();
    let configuration = gateway.environment.toml("", "");
    let _flood = Flood::start(gateway.daemon.port());
    gateway.daemon.wait_metric(SUPPRESSED, &[("cause", "stranger")], 100.0, SOON).unwrap();
    for generation in 2..5 {
        gateway.reload(&configuration).unwrap();
        gateway.daemon.wait_log(&format!("configuration reloaded generation={generation}"), SOON).unwrap();
    }
    (0..30).for_each(|_| asking(&gateway.client, "/nowhere", 404)());
    gateway.handler().set_behaviour(Behaviour::Malformed);
    (0..30).for_each(|_| asking(&gateway.client, PATH, 502)());
    let line = |reason: &str| format!("request refused reason={reason} ");
    let logged = |reason: &str| gateway.daemon.log().matches(&line(reason)).count();
    let all = || logged("no_route") == 30 && logged("handler_malformed") == 30;
    wait_until("a line for each refusal", SOON, all).unwrap();
    let log = gateway.daemon.log();
    let mut lines = log.lines().filter(|text| text.contains(&line("handler_malformed")));
    assert!(lines.all(|text| text.ends_with(" cause=handler")), "{log}");
}
