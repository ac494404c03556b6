//! Bytes that are no request, or that two parsers could understand differently: 400, and no handler sees them.

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::http::Response;

use crate::environment::{PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, request};

/// Sends each of `requests` on a new connection, and expects 400.
fn check(requests: &[&str]) {
    let gateway = TestGateway::with_limits("").unwrap();
    for bytes in requests {
        let response = gateway.exchange(bytes.replace("HOST", HOST)).unwrap();
        assert_problem(&response, 400, "malformed_request", bytes);
        assert_eq!(response.field("connection"), Some("close"), "{bytes:?}");
    }
    let count = requests.len() as f64;
    assert_eq!(gateway.wait_rejections("malformed_request", count).unwrap(), count);
    assert_eq!(gateway.handler().request_count(), 0, "a handler saw a malformed request");
    gateway.still_serves().unwrap();
}

#[test]
fn a_bad_request_line_is_malformed() {
    check(&[
        "this is not HTTP at all\r\n\r\n",
        "POST\r\n\r\n",
        "POST /any/hook\r\n\r\n",
        "POST /any/hook HTTP/3.0\r\nHost: HOST\r\n\r\n",
        "POST /any/hook HTTP/1.1 x\r\nHost: HOST\r\n\r\n",
        "P(ST /any/hook HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/ho\u{1}ok HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
    ]);
}

#[test]
fn a_bad_header_field_is_malformed() {
    check(&[
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nBad Name: x\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nX-Space : x\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nX-Folded: x\r\n more\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\n: no name\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nno colon\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nX-Zero: a\0b\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nX-Return: a\rb\r\n\r\n",
    ]);
}

#[test]
fn an_ambiguous_length_is_malformed() {
    check(&[
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2, 3\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x2\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length:\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /any/hook HTTP/1.0\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ]);
}

#[test]
fn a_bad_chunk_is_malformed() {
    let head = "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n";
    let requests: Vec<String> =
        ["zz\r\n", "\r\n", "-1\r\n", "fffffffffffffffff\r\n", "2\r\n{}XX0\r\n\r\n", "2 2\r\n{}\r\n"]
            .iter()
            .map(|body| format!("{head}{body}"))
            .collect();
    check(&requests.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_missing_or_doubled_host_is_malformed() {
    check(&[
        "POST /any/hook HTTP/1.1\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST\r\nHost: other\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: user@HOST\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST/path\r\n\r\n",
        "POST /any/hook HTTP/1.1\r\nHost: HOST HOST\r\n\r\n",
    ]);
}

#[test]
fn dot_segments_are_malformed() {
    check(&[
        "POST /any/../percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/./hook HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/%2e%2E/percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/.. HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/..%2fpercolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/..%5Cpercolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/..\\percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any//../percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/%252e%252e/percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/..;a=b/percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /nowhere/..%2fpercolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ]);
}

#[test]
fn a_path_that_handlers_read_in_different_ways_is_malformed() {
    check(&[
        "POST /any/a%00b HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/a%0d%0ab HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/100% HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/%u002e%u002e/percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/%c0%ae%c0%ae/percolate HTTP/1.1\r\nHost: HOST\r\n\r\n",
        "POST /any/a;%2fb HTTP/1.1\r\nHost: HOST\r\n\r\n",
    ]);
}

#[test]
fn a_head_that_breaks_off_is_malformed() {
    let gateway = TestGateway::with_limits("").unwrap();
    let mut connection = gateway.connect().unwrap();
    connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-Cu")).unwrap();
    connection.finish_sending().unwrap();
    assert_problem(&connection.response().unwrap(), 400, "malformed_request", "a head");
    assert_eq!(connection.end(SOON).unwrap().1, End::Orderly);
    assert_eq!(gateway.handler().request_count(), 0);
}

#[test]
fn a_body_that_breaks_off_is_malformed_and_reaches_no_handler() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |framing: &str, body: &str| {
        let mut connection = gateway.connect().unwrap();
        connection.send(format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}")).unwrap();
        connection.finish_sending().unwrap();
        assert_problem(&connection.response().unwrap(), 400, "malformed_request", framing);
    };
    check("Content-Length: 10", "{\"a\"");
    check("Content-Length: 10", "");
    check("Transfer-Encoding: chunked", "a\r\n{\"a\"");
    check("Transfer-Encoding: chunked", "2\r\n{}\r\n");
    check("Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n");
    assert_eq!(gateway.handler().request_count(), 0);
}

/// RFC 9112, section 6.1: hookgate undoes `chunked` alone, and a handler cannot know what else there was.
#[test]
fn a_transfer_coding_other_than_chunked_is_not_implemented() {
    let gateway = TestGateway::with_limits("").unwrap();
    let check = |fields: &str, status: u16, reason: &str| {
        let head = format!("POST /any/hook HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n\r\n");
        let response = gateway.exchange(head + "2\r\n{}\r\n0\r\n\r\n").unwrap();
        assert_problem(&response, status, reason, fields);
    };
    check("Transfer-Encoding: gzip, chunked", 501, "transfer_coding_unknown");
    check("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 501, "transfer_coding_unknown");
    check("Transfer-Encoding: identity, chunked", 501, "transfer_coding_unknown");
    check("Transfer-Encoding: chunked, chunked", 400, "malformed_request");
    check("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400, "malformed_request");
    assert_eq!(gateway.handler().request_count(), 0);
    let empty = "Transfer-Encoding: , Chunked ,\r\nConnection: close";
    let head = format!("POST /any/hook HTTP/1.1\r\nHost: {HOST}\r\n{empty}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
    assert!([200, 400].contains(&gateway.exchange(head).unwrap().status), "an empty element is nothing");
}

/// RFC 9112, section 6.3: Transfer-Encoding overrides Content-Length, and the connection is closed after the response, so that no
/// bytes after the body are parsed as a second request.
#[test]
fn content_length_beside_transfer_encoding_smuggles_nothing() {
    let gateway = TestGateway::with_limits("").unwrap();
    let smuggled = String::from_utf8(request("GET", "/any/smuggled", b"")).unwrap();
    let check = |framing: &str, body: &str, expected: &[u8]| {
        gateway.handler().forget();
        let bytes = format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}{smuggled}");
        let responses = gateway.admitted_openssl().send(bytes.as_bytes()).run().unwrap().responses();
        let statuses: Vec<_> = responses.iter().map(|response| response.status).collect();
        let seen = gateway.handler().requests();
        let targets: Vec<_> = seen.iter().map(|request| request.target.as_str()).collect();
        assert_eq!((statuses, targets), (vec![200], vec![PATH]), "{framing:?}");
        assert_eq!(seen[0].body, expected, "{framing:?}");
        let lengths: Vec<_> = seen[0].fields.all("content-length").collect();
        assert_eq!(lengths, [expected.len().to_string()], "{framing:?}");
        assert_eq!(seen[0].field("transfer-encoding"), None, "{framing:?}");
    };
    check("Content-Length: 4\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n", b"{}");
    check("Transfer-Encoding: chunked\r\nContent-Length: 4", "2\r\n{}\r\n0\r\n\r\n", b"{}");
    check("Content-Length: 5\r\nTransfer-Encoding: Chunked", "0\r\n\r\n", b"");
}

#[test]
fn a_response_is_no_request() {
    let gateway = TestGateway::with_limits("").unwrap();
    let response: Response = gateway.exchange("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_problem(&response, 400, "malformed_request", "a response");
}
