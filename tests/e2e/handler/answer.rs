//! The handler's response on its way to the peer: streamed, complete, or visibly cut.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

const MEBIBYTE: usize = 1024 * 1024;

#[test]
fn a_response_is_streamed() {
    let gateway = TestGateway::with_limits("").unwrap();
    let pieces = vec![b"first".to_vec(), b"second".to_vec()];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_millis(500) });
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.read_until("first", SOON).unwrap();
    let first = Instant::now();
    connection.read_until("second", SOON).unwrap();
    assert!(first.elapsed() >= Duration::from_millis(300), "the first piece arrived with the second");
}

#[test]
fn a_response_that_makes_progress_never_times_out() {
    let gateway = TestGateway::with_limits("handler_timeout_ms = 400").unwrap();
    let pieces = vec![b"x".to_vec(); 8];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_millis(100) });
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert!(response.complete && response.body == b"xxxxxxxx", "{response:?}");
}

/// curl(1): 18, a partial file; 56, a failure in receiving.
#[test]
fn a_response_that_breaks_off_is_visibly_cut_after_what_came_of_it() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |behaviour: Behaviour, came: &str| {
        let context = format!("{behaviour:?}");
        gateway.handler().set_behaviour(behaviour);
        let outcome = gateway.admitted_curl().post(PATH, b"{}").run().unwrap();
        assert!(matches!(outcome.exit_code, Some(18 | 56)), "{context}: {outcome:?}");
        let mut connection = gateway.connect().unwrap();
        connection.send(request("POST", PATH, b"{}")).unwrap();
        let (bytes, end) = connection.end(SOON).unwrap();
        assert_eq!(end, End::Cut, "{context}: a close_notify means that the response is complete");
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with(came), "{context}: {text}");
    };
    check(Behaviour::BreakOff { declared: 100, sent: 5 }, "\r\n\r\nxxxxx");
    check(Behaviour::BreakOffChunked, "\r\n\r\n5\r\nhello\r\n");
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n";
    check(Behaviour::raw(broken), "\r\n\r\n5\r\nhello\r\n");
    assert_eq!(gateway.wait_rejections("handler_unavailable", 4.0).unwrap(), 4.0);
    assert_eq!(gateway.wait_rejections("handler_malformed", 2.0).unwrap(), 2.0);
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains("the connection to the peer was cut")).unwrap();
    assert!(line.contains("cause=handler") && line.contains("route=") && line.contains("request_id="), "{line}");
}

/// The sender tries again after a 502, and so does the replay check let it.
#[test]
fn a_response_that_ends_before_its_first_byte_is_refused() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |behaviour: Behaviour, reason: &str| {
        for _ in 0..20 {
            gateway.handler().set_behaviour(behaviour.clone());
            let mut connection = gateway.connect().unwrap();
            let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
            assert_problem(&response, 502, reason, &format!("{behaviour:?}"));
            gateway.handler().set_behaviour(Behaviour::Json);
            assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200, "the connection is kept");
        }
    };
    check(Behaviour::BreakOff { declared: 100, sent: 0 }, "handler_unavailable");
    let chunked = |rest: &str| Behaviour::raw(&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}"));
    check(Behaviour::ThenCloseSilently(chunked("").boxed()), "handler_unavailable");
    check(chunked("zz\r\nevil\r\n0\r\n\r\n"), "handler_malformed");
}

#[test]
fn the_part_before_a_response_breaks_off_is_forwarded() {
    let gateway = TestGateway::with_limits("").unwrap();
    let pieces = vec![b"first".to_vec(); 100];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_millis(100) });
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.read_until("first", SOON).unwrap();
    gateway.handler().close_connections();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert_eq!(end, End::Cut);
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_response_that_stalls_is_visibly_cut() {
    let gateway = TestGateway::with_limits("handler_timeout_ms = 300").unwrap();
    let pieces = vec![b"second".to_vec()];
    gateway.handler().set_behaviour(Behaviour::Chunked { pieces, pause: Duration::from_secs(20) });
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK") && !text.contains("second"), "{text}");
    assert_eq!(end, End::Cut);
    assert_eq!(gateway.wait_rejections("handler_timeout", 1.0).unwrap(), 1.0);
}

#[test]
fn a_huge_response_arrives_complete() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Huge(64 * MEBIBYTE));
    let outcome = gateway.admitted_curl().limit(Duration::from_secs(60)).post(PATH, b"{}").run().unwrap();
    let response = outcome.response().unwrap();
    assert!(response.complete, "{:?} {}", outcome.exit_code, outcome.stderr);
    assert_eq!(response.body.len(), 64 * MEBIBYTE);
    assert!(response.body.iter().all(|byte| *byte == b'x'));
    // It was streamed: a worker never held much of it.
    let rss = gateway.daemon.rss_bytes().unwrap();
    assert!(rss < 64 * MEBIBYTE as u64, "{rss} bytes resident");
}

#[test]
fn a_peer_that_reads_nothing_of_its_response_is_cut() {
    let gateway = TestGateway::with_limits("response_timeout_ms = 400").unwrap();
    gateway.handler().set_behaviour(Behaviour::Huge(32 * MEBIBYTE));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    assert_eq!(gateway.handler().open_connections(), 1);
    gateway.handler().wait_no_connection(Duration::from_secs(5)).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert!(bytes.len() < 32 * MEBIBYTE && end == End::Cut, "{} bytes, {end:?}", bytes.len());
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.still_serves().unwrap();
}

#[test]
fn a_peer_that_reads_its_response_slowly_gets_all_of_it() {
    let gateway = TestGateway::with_limits("response_timeout_ms = 400").unwrap();
    // More than the buffers of the sockets hold, so that the daemon must wait several times.
    let length = 16 * MEBIBYTE;
    gateway.handler().set_behaviour(Behaviour::Huge(length));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.read_until("\r\n\r\n", SOON).unwrap();
    let mut count = 0;
    let start = Instant::now();
    while count < length {
        sleep(Duration::from_millis(50));
        let (bytes, end) = connection.take(MEBIBYTE.min(length - count)).unwrap();
        assert_eq!(end, End::Open, "after {count} bytes");
        count += bytes.len();
    }
    assert!(count == length && start.elapsed() > Duration::from_millis(600), "{count} in {:?}", start.elapsed());
}

#[test]
fn a_peer_that_leaves_during_its_response_frees_the_handler() {
    let gateway = TestGateway::with_limits("").unwrap();
    let endless = Behaviour::Chunked { pieces: vec![vec![b'x'; 1000]; 1000], pause: Duration::from_millis(20) };
    gateway.handler().set_behaviour(endless);
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    connection.read_until("xxx", SOON).unwrap();
    connection.reset().unwrap();
    gateway.handler().wait_no_connection(Duration::from_secs(5)).unwrap();
    assert_eq!(gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap(), 0.0);
}

#[test]
fn a_peer_that_leaves_before_its_response_occupies_nothing() {
    let gateway = TestGateway::with_limits("handler_max_in_flight = 1").unwrap();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(400), Behaviour::Json.boxed()));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    connection.reset().unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    assert_eq!(gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap(), 0.0);
    gateway.wait_no_connection().unwrap();
}
