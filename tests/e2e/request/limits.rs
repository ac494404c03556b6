//! Requests that are too large or too slow: 408, 413, 431.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::pki::{Sender, Variant};

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, TlsClient, request};

const MIB: usize = 1024 * 1024;

#[test]
fn a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let gateway = TestGateway::with_limits("max_body_bytes = 1000").unwrap();
    let check = |chunked: bool, length: usize, status: u16| {
        let body = vec![b'x'; length];
        let curl = gateway.admitted_curl().post(PATH, &body);
        let curl = if chunked { curl.field("Transfer-Encoding", "chunked") } else { curl };
        let outcome = curl.run().unwrap();
        match status {
            413 => assert_problem(outcome.response().unwrap(), 413, "body_too_large", &length.to_string()),
            _ => assert_eq!(outcome.status(), Some(status), "{outcome:?}"),
        }
    };
    for chunked in [false, true] {
        check(chunked, 1000, 200);
        check(chunked, 1001, 413);
        check(chunked, 600_000, 413);
    }
    assert_eq!(gateway.handler().request_count(), 2);
    assert!(gateway.handler().requests().iter().all(|request| request.body.len() == 1000));
}

/// A request whose body is as long as it says, all of it in one write.
fn long_request(length: usize) -> Vec<u8> {
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'x'; length]].concat()
}

#[test]
fn a_sender_that_writes_its_whole_body_before_it_reads_hears_the_early_answer() {
    let gateway = TestGateway::with_limits("").unwrap();
    for length in [2 * MIB, 50 * MIB] {
        let mut connection = gateway.connect().unwrap();
        connection.send(long_request(length)).unwrap();
        assert_problem(&connection.response().unwrap(), 413, "body_too_large", &format!("{length} bytes"));
        assert_eq!(connection.end(SOON).unwrap(), (Vec::new(), End::Orderly));
    }
    // curl writes on until it sees an answer.
    let outcome = gateway.admitted_curl().post(PATH, &vec![b'x'; 50 * MIB]).field("Expect", "").run().unwrap();
    assert_problem(outcome.response().unwrap(), 413, "body_too_large", "curl");
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn a_stranger_hears_the_early_answer_after_a_body_of_moderate_length() {
    let gateway = TestGateway::with_limits("").unwrap();
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    let mut connection = client.connect().unwrap();
    connection.send(long_request(2 * MIB)).unwrap();
    assert_problem(&connection.response().unwrap(), 403, "certificate_expired", "2 MiB");
    drop(connection);
    gateway.wait_no_connection().unwrap();
}

#[test]
fn what_is_discarded_after_an_early_answer_is_bounded() {
    let gateway = TestGateway::with_limits("").unwrap();
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let stranger = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    // What the kernel buffers comes on top of each bound.
    for (client, bound) in [(&stranger, 4 * MIB), (&gateway.client, 64 * MIB)] {
        let mut connection = client.connect().unwrap();
        assert!(connection.send(long_request(bound + 32 * MIB)).is_err(), "{bound} bytes and many more");
        drop(connection);
        gateway.wait_no_connection().unwrap();
    }
    gateway.still_serves().unwrap();
}

#[test]
fn a_body_that_will_be_refused_is_not_requested() {
    let gateway = TestGateway::with_limits("max_body_bytes = 1000").unwrap();
    let check = |target: &str, length: usize, status: u16, reason: &str| {
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        );
        let outcome = gateway.admitted_openssl().send(head.as_bytes()).run().unwrap();
        assert!(!outcome.text().contains("100 Continue"), "{}", outcome.text());
        assert_problem(&outcome.response().unwrap(), status, reason, target);
    };
    check(PATH, 1001, 413, "body_too_large");
    check("/nowhere", 10, 404, "no_route");
}

#[test]
fn a_body_that_will_be_read_is_requested() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    connection.send(head).unwrap();
    assert_eq!(connection.read_until("\r\n\r\n", SOON).unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(connection.ask("{}").unwrap().status, 200);
    let seen = &gateway.handler().requests()[0];
    assert_eq!((seen.text().as_str(), seen.field("expect")), ("{}", None));
}

#[test]
fn a_head_with_too_many_bytes_is_too_large() {
    let gateway = TestGateway::with_limits("max_head_bytes = 8192").unwrap();
    let field = |length: usize| format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}\r\n", "x".repeat(length));
    let response = gateway.exchange(field(9000) + "\r\n").unwrap();
    assert_problem(&response, 431, "head_too_large", "one field");
    let response = gateway.exchange(format!("GET /any/{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", "x".repeat(9000))).unwrap();
    assert_problem(&response, 431, "head_too_large", "the target");
    // The refusal comes as soon as the limit is passed, not at the end of the head.
    let response = gateway.exchange(field(100_000)).unwrap();
    assert_problem(&response, 431, "head_too_large", "a head without end");
    let response = gateway.exchange(field(7000) + "Connection: close\r\n\r\n").unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(gateway.wait_rejections("head_too_large", 3.0).unwrap(), 3.0);
}

#[test]
fn a_head_with_too_many_fields_is_too_large() {
    let gateway = TestGateway::with_limits("max_headers = 10").unwrap();
    let head = |fields: usize| {
        let fields: String = (0..fields).map(|index| format!("X-{index}: x\r\n")).collect();
        format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n{fields}\r\n")
    };
    assert_eq!(gateway.exchange(head(8)).unwrap().status, 200);
    assert_problem(&gateway.exchange(head(9)).unwrap(), 431, "head_too_large", "eleven fields");
}

#[test]
fn a_head_that_arrives_too_slowly_times_out() {
    let gateway = TestGateway::with_limits("request_head_timeout_ms = 400").unwrap();
    let mut connection = gateway.connect().unwrap();
    let start = Instant::now();
    // Constant progress does not help: the timeout is for the whole head.
    for piece in ["POST ", PATH, " HTTP/1.1\r\n", "Host: ", HOST, "\r\nX-A"] {
        sleep(Duration::from_millis(50));
        connection.send(piece).unwrap();
    }
    assert_problem(&connection.response().unwrap(), 408, "request_timeout", "a head");
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    assert_eq!(connection.end(Duration::from_secs(7)).unwrap().1, End::Orderly);
    assert_eq!(gateway.wait_rejections("request_timeout", 1.0).unwrap(), 1.0);
}

#[test]
fn a_connection_without_a_request_is_closed_without_a_response() {
    let gateway = TestGateway::with_limits("request_head_timeout_ms = 300").unwrap();
    let mut connection = gateway.connect().unwrap();
    let start = Instant::now();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert_eq!((bytes.len(), end), (0, End::Orderly));
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    assert_eq!(gateway.rejections("request_timeout").unwrap(), 0.0);
}

#[test]
fn a_body_that_arrives_too_slowly_times_out() {
    let gateway = TestGateway::with_limits("request_timeout_ms = 400").unwrap();
    let check = |framing: &str, piece: &str| {
        let mut connection = gateway.connect().unwrap();
        let start = Instant::now();
        connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n")).unwrap();
        for _ in 0..5 {
            sleep(Duration::from_millis(50));
            connection.send(piece).unwrap();
        }
        assert_problem(&connection.response().unwrap(), 408, "request_timeout", framing);
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    };
    check("Content-Length: 100", "x");
    check("Transfer-Encoding: chunked", "1\r\nx\r\n");
    check("Content-Length: 100\r\nExpect: 100-continue", "x");
    assert_eq!(gateway.wait_rejections("request_timeout", 3.0).unwrap(), 3.0);
    assert_eq!(gateway.handler().request_count(), 0);
    gateway.still_serves().unwrap();
}

#[test]
fn bodies_beyond_the_buffer_limit_are_refused_with_a_retry_after() {
    let gateway = TestGateway::with_limits("max_body_bytes = 1000\nmax_buffered_bytes = 1000").unwrap();
    let mut first = gateway.connect().unwrap();
    first.send(format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 600\r\n\r\n")).unwrap();
    // The daemon reserves the memory when it reads the head, which the first connection cannot see.
    sleep(Duration::from_millis(200));
    let mut second = gateway.connect().unwrap();
    let response = second.ask(request("POST", PATH, &[b'y'; 600])).unwrap();
    assert_problem(&response, 503, "buffer_limit", "a second body");
    assert_eq!(response.field("retry-after"), Some("5"));
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, &[b'y'; 400])).unwrap().status, 200);
    assert_eq!(first.ask([b'x'; 600]).unwrap().status, 200);
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, &[b'y'; 600])).unwrap().status, 200);
    assert_eq!(gateway.rejections("buffer_limit").unwrap(), 1.0);
}
