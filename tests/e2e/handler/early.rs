//! Handlers that answer before they have read the request.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::{self, sleep};
use std::time::Duration;

use hookgate_testkit::wait::wait_until;

use crate::environment::{Environment, PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

static BODY: [u8; 1_000_000] = [b'x'; 1_000_000];

/// A gateway before a handler that reads a part of each request, writes `answer`, and closes after `open`.
fn gateway(answer: &'static [u8], open: Duration) -> TestGateway {
    let toml = |environment: &Environment| {
        let (old, new) = (environment.events.path().display().to_string(), environment.path("early.sock"));
        environment.toml("", "").replace(&old, &new.display().to_string())
    };
    let gateway = TestGateway::with_toml(toml).unwrap();
    let listener = UnixListener::bind(gateway.environment.path("early.sock")).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
                sleep(open);
            });
        }
    });
    gateway
}

/// RFC 9112, section 9.5. What was not read makes the kernel fail the sends of the gateway, but not its receives.
#[test]
fn an_answer_before_the_end_of_the_request_is_the_answer() {
    const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
    for open in [0, 1, 20] {
        let gateway = gateway(ANSWER, Duration::from_millis(open));
        let mut connection = gateway.connect().unwrap();
        for round in 0..40 {
            let response = connection.ask(request("POST", PATH, &BODY)).unwrap();
            assert_eq!((response.status, response.text().as_str()), (413, "big"), "round {round}, {open} ms");
        }
    }
}

/// The end of the connection is the end of such an answer, and here it is an error (unix(7)). A handler that fails may end so, too.
#[test]
fn an_answer_without_a_length_before_the_end_of_the_request_is_visibly_cut() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nearly";
    let gateway = gateway(ANSWER, Duration::from_millis(20));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, &BODY)).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("early") && !text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(end, End::Cut);
    assert_eq!(gateway.wait_rejections("handler_unavailable", 1.0).unwrap(), 1.0);
    let log = gateway.daemon.log();
    assert!(log.contains("closed its connection before it had read the whole request"), "{log}");
}

#[test]
fn a_handler_that_closes_before_the_end_of_the_request_and_does_not_answer_is_unavailable() {
    let gateway = gateway(b"", Duration::ZERO);
    let mut connection = gateway.connect().unwrap();
    for _ in 0..10 {
        let response = connection.ask(request("POST", PATH, &BODY)).unwrap();
        assert_problem(&response, 502, "handler_unavailable", "no answer");
    }
}

/// The rest of the request has not been sent, so the next one cannot follow it; nor may the connection stay open for it.
#[test]
fn a_connection_with_an_unfinished_request_is_closed_and_not_used_again() {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
    let gateway = gateway(ANSWER, Duration::from_secs(60));
    let descriptors = gateway.daemon.fd_count().unwrap();
    let mut connection = gateway.connect().unwrap();
    for _ in 0..10 {
        assert_eq!(connection.ask(request("POST", PATH, &BODY)).unwrap().text(), "early");
    }
    let connections = gateway.daemon.metric("hookgate_handler_connections_total", &[]).unwrap();
    assert_eq!(connections, 10.0);
    drop(connection);
    wait_until("closed sockets", SOON, || gateway.daemon.fd_count().unwrap() <= descriptors).unwrap();
}
