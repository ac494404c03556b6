//! Handlers whose answers do not say clearly where they end: no cut answer looks whole, and no rest of one answers another request.

use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

/// Asks a handler that answers with exactly these bytes, and expects 502.
fn check_refused(gateway: &TestGateway, bytes: &str, reason: &str) {
    gateway.handler().set_behaviour(Behaviour::raw(bytes));
    let before = gateway.rejections(reason).unwrap();
    let mut connection = gateway.connect().unwrap();
    let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
    assert_problem(&response, 502, reason, bytes);
    assert_eq!(gateway.wait_rejections(reason, before + 1.0).unwrap(), before + 1.0, "{bytes}");
    // Nothing of the answer is left for the next request.
    gateway.handler().wait_no_connection(SOON).unwrap();
    gateway.handler().set_behaviour(Behaviour::status(200, "mine"));
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().text(), "mine", "{bytes}");
}

#[test]
fn an_answer_of_ambiguous_length_is_refused_and_its_connection_closed() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |fields: &str, body: &str| {
        check_refused(&gateway, &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{body}"), "handler_ambiguous");
    };
    let (chunked, ten) = ("Transfer-Encoding: chunked", "a\r\n0123456789\r\n0\r\n\r\n");
    check(&format!("{chunked}\r\nContent-Length: 4"), ten);
    check(&format!("Content-Length: 4\r\n{chunked}"), ten);
    check(&format!("Content-Length: 40\r\n{chunked}"), ten);
    check(&format!("{chunked}\r\n{chunked}"), ten);
    check("Transfer-Encoding: gzip, chunked", ten);
    check("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", ten);
    check("Transfer-Encoding: chunked, chunked", ten);
    check("Transfer-Encoding: gzip", "evil");
    check("Transfer-Encoding: identity", "evil");
    check("Content-Length: 4, 4", "evil");
    check("Content-Length: 4\r\nContent-Length: 4", "evil");
}

#[test]
fn an_answer_that_no_reader_should_accept_is_malformed() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |bytes: &str| check_refused(&gateway, bytes, "handler_malformed");
    check("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!");
    check("HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nevil");
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n");
    check("HTTP/1.1 200 OK\r\nX-Folded: one\r\n two\r\nContent-Length: 4\r\n\r\nevil");
    check("HTTP/1.1 200 OK\r\nX-Space : one\r\nContent-Length: 4\r\n\r\nevil");
    check("HTTP/1.1 700 Unknown\r\nContent-Length: 4\r\n\r\nevil");
    check("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n");
}

#[test]
fn interim_answers_are_skipped_up_to_a_bound() {
    let gateway = TestGateway::with_limits("").unwrap();
    gateway.handler().set_behaviour(Behaviour::Informational(Behaviour::status(200, "final").boxed()));
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().text(), "final");
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
    let few = interim.repeat(1000) + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal";
    gateway.handler().set_behaviour(Behaviour::raw(&few));
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().text(), "final");
    check_refused(&gateway, &interim.repeat(100_000), "handler_malformed");
}

/// RFC 9112, section 2.3, and section 9.3: an HTTP/1.0 status line would end the peer's connection.
#[test]
fn an_answer_in_http_10_becomes_http_11() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |behaviour: Behaviour| {
        gateway.handler().set_behaviour(behaviour);
        let mut connection = gateway.connect().unwrap();
        for _ in 0..3 {
            connection.send(request("POST", PATH, b"{}")).unwrap();
            let head = connection.read_until("old", SOON).unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("connection:"), "{head}");
            if head.contains("chunked") {
                connection.read_until("0\r\n\r\n", SOON).unwrap();
            }
        }
    };
    let sized = Behaviour::raw("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    check(sized.clone());
    check(Behaviour::ThenCloseSilently(sized.boxed()));
    check(Behaviour::ThenCloseSilently(Behaviour::raw("HTTP/1.0 200 OK\r\n\r\nold").boxed()));
    check(Behaviour::raw("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold"));
}

/// The body would be taken for the head of the answer to the next request.
#[test]
fn a_body_that_must_not_be_there_answers_no_other_request() {
    let gateway = TestGateway::with_limits("").unwrap();
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let check = |method: &str, head: &str, status: u16, body: &str| {
        let surplus = format!("{head}Content-Length: {}\r\n\r\n{body}", forged.len());
        gateway.handler().set_behaviour(Behaviour::raw(&surplus));
        let mut connection = gateway.connect().unwrap();
        connection.send(request(method, PATH, b"")).unwrap();
        let answer = connection.read_until("\r\n\r\n", SOON).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(status == 200, answer.contains("content-length"), "{answer}");
        gateway.handler().wait_no_connection(SOON).unwrap();
        gateway.handler().set_behaviour(Behaviour::status(200, "mine"));
        assert_eq!(connection.ask(request("POST", PATH, b"")).unwrap().text(), "mine");
        // The next round has a new connection.
        gateway.handler().close_connections();
    };
    check("HEAD", "HTTP/1.1 200 OK\r\n", 200, forged);
    for body in [forged, ""] {
        check("POST", "HTTP/1.1 204 No Content\r\n", 204, body);
        check("POST", "HTTP/1.1 304 Not Modified\r\n", 304, body);
    }
}

#[test]
fn chunk_extensions_and_trailers_end_at_the_gateway() {
    let gateway = TestGateway::with_limits("").unwrap();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  4;name=value\r\nbody\r\n0\r\nX-Sum: 1\r\nX-Request-Id: forged\r\n\r\n";
    gateway.handler().set_behaviour(Behaviour::raw(answer));
    let mut connection = gateway.connect().unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: {}\r\nTE: trailers\r\nConnection: TE\r\n", HOST);
    for _ in 0..2 {
        connection.send(format!("{head}Content-Length: 2\r\n\r\n{{}}")).unwrap();
        let text = connection.read_until("0\r\n\r\n", SOON).unwrap();
        assert!(text.contains("\r\n4\r\nbody\r\n0\r\n\r\n") && !text.to_lowercase().contains("x-sum"), "{text}");
        assert!(!text.contains("forged"), "{text}");
    }
    assert_eq!(gateway.handler().connection_count(), 1);
}

#[test]
fn fields_of_the_connection_to_the_handler_and_our_own_are_not_the_handlers_to_send() {
    let gateway = TestGateway::with_limits("").unwrap();
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine, Content-Length\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
                  Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nX-Request-Id: forged\r\nX-Request-Id: twice\r\n\
                  X-Own: kept\r\nContent-Length: 2\r\n\r\nok";
    gateway.handler().set_behaviour(Behaviour::raw(answer));
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_eq!((response.status, response.text().as_str(), response.field("x-own")), (200, "ok", Some("kept")));
    for absent in ["connection", "x-mine", "keep-alive", "upgrade", "proxy-authenticate"] {
        assert_eq!(response.field(absent), None, "{absent}: {response:?}");
    }
    let ids: Vec<_> = response.fields.all("x-request-id").collect();
    assert!(ids.len() == 1 && ids[0].len() == 32, "{ids:?}");
}

/// A body without a length ends with its connection, and the end of one that took too long is the gateway's own doing.
#[test]
fn an_answer_without_a_length_that_stalls_is_visibly_cut() {
    let gateway = TestGateway::with_limits("handler_timeout_ms = 300").unwrap();
    gateway.handler().set_behaviour(Behaviour::raw("HTTP/1.1 200 OK\r\n\r\nfirst"));
    let mut connection = gateway.connect().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.contains("first") && !text.ends_with("0\r\n\r\n"), "{text}");
    assert_eq!(end, End::Cut);
    assert_eq!(gateway.wait_rejections("handler_timeout", 1.0).unwrap(), 1.0);
    // A handler that ends it is not late.
    let ended = Behaviour::raw("HTTP/1.1 200 OK\r\n\r\nwhole");
    let ended = Behaviour::Delay(Duration::from_millis(100), Behaviour::ThenCloseSilently(ended.boxed()).boxed());
    gateway.handler().set_behaviour(ended);
    assert_eq!(gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap().text(), "whole");
}
