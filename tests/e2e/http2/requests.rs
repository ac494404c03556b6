//! Requests over HTTP/2, of curl and of peers that do not keep to its rules.

use std::process::Command;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Request;
use hookgate_testkit::pki::{Sender, Variant};
use hookgate_testkit::process;

use super::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, NO_ERROR, REFUSED_STREAM, RST_STREAM, field, frame, head,
    head_for, open, request,
};
use super::start;
use crate::environment::{PATH, SOON};
use crate::request::wildcard;
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// What curl says of one request: version and status.
fn curl(gateway: &TestGateway, arguments: &[&str]) -> String {
    curl_with(gateway, arguments, b"")
}

/// The same with a body, if the arguments say that it is on standard input.
fn curl_with(gateway: &TestGateway, arguments: &[&str], body: &[u8]) -> String {
    let port = gateway.daemon.port();
    let mut command = Command::new("curl");
    command.args([
        "--silent",
        "--show-error",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_version} %{response_code}",
    ]);
    command.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")]);
    command.arg("--cacert").arg(gateway.environment.pki.server_root().path());
    command.arg("--cert").arg(&gateway.identity.chain_path).arg("--key").arg(&gateway.identity.key_path);
    command.args(arguments).arg(format!("https://{HOST}:{port}{PATH}"));
    process::run(command, body, SOON).unwrap().stdout_text()
}

#[test]
fn http2_is_offered_only_if_the_configuration_says_so() {
    let gateway = TestGateway::with_limits("").unwrap();
    assert_eq!(curl(&gateway, &["--http2", "--data", "{}"]), "1.1 200");
    let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
    let protocol = |gateway: &TestGateway| {
        let connection = gateway.client.clone().speaking(&both).connect().unwrap();
        connection.protocol().map(<[u8]>::to_vec)
    };
    assert_eq!(protocol(&gateway).as_deref(), Some(&b"http/1.1"[..]));
    gateway.reload(&super::with_http2(&gateway.environment.toml("", ""))).unwrap();
    assert_eq!(protocol(&gateway).as_deref(), Some(&b"h2"[..]), "a reload is enough");
    assert_eq!(curl(&gateway, &["--http2", "--data", "{}"]), "2 200");
    assert_eq!(curl(&gateway, &["--http1.1", "--data", "{}"]), "1.1 200");
}

#[test]
fn a_handler_sees_the_same_request_over_both_versions() {
    let gateway = start("");
    let body = vec![b'x'; 300_000];
    for version in ["--http1.1", "--http2"] {
        let arguments = ["--data-binary", "@-", "-H", "Cookie: a=1; b=2", "-H", "X-Mine: é", "-H", "TE: trailers"];
        let said = curl_with(&gateway, &[&[version], &arguments[..]].concat(), &body);
        assert!(said.ends_with(" 200"), "{version}: {said}");
    }
    let requests = gateway.handler().requests();
    assert_eq!(requests.len(), 2);
    let shape = |request: &Request| {
        let mut fields: Vec<(String, String)> = request.fields.0.clone();
        fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
        fields.retain(|(name, _)| name != "x-request-id" && name != "expect");
        fields.sort();
        (request.method.clone(), request.target.clone(), fields, request.body.len())
    };
    assert_eq!(shape(&requests[0]), shape(&requests[1]));
    gateway.daemon.wait_log("http_version=2", SOON).unwrap();
}

#[test]
fn crumbs_of_cookies_become_one_field() {
    let gateway = start("");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let crumbs = [head(), field("cookie", "a=1"), field("cookie", "b=2")].concat();
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &crumbs)).unwrap();
    peer.answer(1).unwrap();
    let seen = &gateway.handler().requests()[0];
    assert_eq!(seen.fields.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
}

#[test]
fn requests_of_one_connection_are_at_their_handler_at_the_same_time() {
    let gateway = start("");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut peer = Http2::connect(&gateway.client).unwrap();
    for stream in 0..50 {
        peer.send(request(2 * stream + 1)).unwrap();
    }
    gateway.handler().wait_for(50, SOON).unwrap();
}

/// A whole request to a path of another host than [`HOST`].
fn request_to(stream: u32, authority: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head_for("POST", path, authority))
}

#[test]
fn a_request_for_another_host_is_misdirected_and_the_others_go_on() {
    let gateway = start("");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let answer = peer.ask(1, request_to(1, "other.example.com", PATH)).unwrap();
    assert_eq!(answer.verdict(), (421, "misdirected".to_owned()));
    assert_eq!(peer.ask(3, request(3)).unwrap().status, 200);
    assert_eq!(gateway.wait_rejections("misdirected", 1.0).unwrap(), 1.0);
    // A request without a host is none.
    peer.send(request_to(5, "", PATH)).unwrap();
    peer.send(request(7)).unwrap();
    assert_eq!(peer.answer(7).unwrap().status, 200);
    assert_eq!(gateway.handler().request_count(), 2);
    assert_eq!(peer.count(GOAWAY), 0);
}

/// Two names of one certificate, with other providers: a client may send requests for both on one connection (RFC 9113, section 9.1.1).
#[test]
fn a_request_for_a_name_of_another_scope_is_misdirected_and_the_others_go_on() {
    const TENANT: &str = "a.tenants.example.com";
    const VIP: &str = "vip.tenants.example.com";
    let configuration = |environment: &_| super::with_http2(&wildcard::configuration(environment));
    let gateway = TestGateway::with_toml(configuration).unwrap();
    let pagerduty = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    let pagerduty = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &pagerduty).unwrap();
    let mut counted = 0.0;
    let mut check = |client: &TlsClient, (name, path): (&'static str, &str), others: &[(&str, &str)]| {
        let handled = gateway.handler().request_count();
        let mut peer = Http2::connect(&client.clone().at(name)).unwrap();
        assert_eq!(peer.ask(1, request_to(1, name, path)).unwrap().status, 200, "{name}");
        for (stream, (other, path)) in (3..).step_by(2).zip(others) {
            let answer = peer.ask(stream, request_to(stream, other, path)).unwrap();
            assert_eq!(answer.verdict(), (421, "misdirected".to_owned()), "{other}{path} at {name}");
            counted += 1.0;
            assert_eq!(gateway.wait_rejections("misdirected", counted).unwrap(), counted, "{other}{path} at {name}");
        }
        assert_eq!(peer.ask(99, request_to(99, name, path)).unwrap().status, 200, "{name}");
        assert_eq!(peer.count(GOAWAY), 0, "{name}");
        assert_eq!(gateway.handler().request_count(), handled + 2, "{name}");
    };
    // The certificate is admitted at the other name for a path that both share, and not for the other.
    check(&gateway.client, (TENANT, "/all"), &[(VIP, "/own"), (VIP, "/shared/a"), (HOST, "/percolate")]);
    // It is not admitted at the other name at all.
    check(&pagerduty, (VIP, "/own"), &[(TENANT, "/all"), (TENANT, "/own"), (HOST, "/pagerduty")]);
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), counted);
}

#[test]
fn a_head_beyond_the_limits_is_refused_and_counted() {
    let gateway = start("max_head_bytes = 8192\nmax_headers = 10");
    let fields = |count: usize| (0..count).flat_map(|index| field(&format!("x-{index}"), "x")).collect::<Vec<u8>>();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let mut send = |stream, more: &[u8]| {
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, &[&head(), more].concat())).unwrap();
        peer.answer(stream).unwrap()
    };
    send(1, &fields(10));
    assert_eq!(gateway.handler().request_count(), 1);
    send(3, &fields(11));
    assert_eq!(gateway.wait_rejections("head_too_large", 1.0).unwrap(), 1.0, "too many fields");
    // h2 refuses it by itself.
    send(5, &field("x-long", &"x".repeat(10_000)));
    assert_eq!(gateway.wait_rejections("head_too_large", 2.0).unwrap(), 2.0, "too many bytes");
    send(7, &field("x-long", &"x".repeat(7000)));
    assert_eq!(gateway.handler().request_count(), 2);
    let long = [head(), field("x-long", &"x".repeat(10_000))].concat();
    let many =
        |from: u32| (from..).step_by(2).take(40).map(|stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &long));
    peer.send(many(9).collect::<Vec<_>>().concat()).unwrap();
    assert_eq!(peer.ask(89, request(89)).unwrap().status, 200, "they end no connection");
    assert_eq!(gateway.wait_rejections("head_too_large", 42.0).unwrap(), 42.0, "many at once");
    assert_eq!(gateway.rejections("malformed_request").unwrap(), 0.0, "the reset after an answer of h2 is none");
}

#[test]
fn a_request_that_contradicts_itself_is_malformed_and_the_others_go_on() {
    let gateway = start("");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let host = [head(), field("host", "other.example.com")].concat();
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &host)).unwrap();
    peer.answer(1).unwrap();
    assert_eq!(gateway.wait_rejections("malformed_request", 1.0).unwrap(), 1.0, "Host and :authority");
    for (stream, value) in [(7, " x"), (9, "x "), (11, "\tx"), (13, "x\t"), (15, " ")] {
        let padded = [head(), field("x-id", value)].concat();
        let answer = peer.ask(stream, frame(HEADERS, END_HEADERS | END_STREAM, stream, &padded)).unwrap();
        assert_eq!(answer.verdict(), (400, "malformed_request".to_owned()), "{value:?}");
    }
    let connection = [head(), field("connection", "close")].concat();
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 17, &connection)).unwrap();
    peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == 17).unwrap();
    assert_eq!(gateway.wait_rejections("malformed_request", 7.0).unwrap(), 7.0, "a field of the connection");
    peer.send([open(19), frame(0, END_STREAM, 19, b"{}")].concat()).unwrap();
    peer.answer(19).unwrap();
    assert_eq!(gateway.handler().request_count(), 1);
}

#[test]
fn a_body_beyond_its_limit_is_refused_and_the_others_go_on() {
    let gateway = start("max_body_bytes = 1000");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send([open(1), frame(0, 0, 1, &[b'x'; 1001])].concat()).unwrap();
    peer.answer(1).unwrap();
    assert_eq!(gateway.wait_rejections("body_too_large", 1.0).unwrap(), 1.0);
    peer.send([open(3), frame(0, END_STREAM, 3, &[b'x'; 1000])].concat()).unwrap();
    peer.answer(3).unwrap();
    assert_eq!((gateway.handler().request_count(), peer.count(GOAWAY)), (1, 0));
}

/// What a body is counted against does not depend on how its sender cuts it.
#[test]
fn a_body_in_many_small_parts_is_read() {
    let gateway = start("");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    for (stream, length) in (1..).step_by(2).zip([1, 16, 50, 100, 200]) {
        let parts = frame(DATA, 0, stream, &vec![b'x'; length]).repeat(40_000 / length);
        let body = [open(stream), parts, frame(DATA, END_STREAM, stream, b"")].concat();
        assert_eq!(peer.ask(stream, body).unwrap().status, 200, "parts of {length} bytes");
        let seen = gateway.handler().requests().pop().unwrap();
        assert_eq!(seen.body.len(), 40_000 / length * length, "parts of {length} bytes");
    }
    assert_eq!(peer.count(GOAWAY), 0);
}

#[test]
fn bodies_of_all_streams_share_the_memory_for_bodies() {
    let gateway = start("max_body_bytes = 1000000\nmax_buffered_bytes = 1000000");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let announced = [head(), field("content-length", "600000")].concat();
    for stream in [1, 3] {
        peer.send(frame(HEADERS, END_HEADERS, stream, &announced)).unwrap();
    }
    peer.answer(3).unwrap();
    assert_eq!(gateway.wait_rejections("buffer_limit", 1.0).unwrap(), 1.0);
}

#[test]
fn a_refused_peer_has_one_stream_and_one_answer() {
    let gateway = start("");
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    let mut peer = Http2::connect(&client).unwrap();
    peer.send([open(1), request(3), request(5)].concat()).unwrap();
    assert_eq!(peer.end().unwrap(), NO_ERROR);
    let resets = peer.seen.iter().filter(|frame| frame.kind == RST_STREAM && frame.stream > 1);
    assert!(resets.clone().all(|frame| frame.code() == REFUSED_STREAM), "{:?}", peer.seen);
    assert_eq!(resets.count(), 2);
    assert!(peer.seen.iter().any(|frame| frame.ends(1)), "{:?}", peer.seen);
    assert_eq!(gateway.wait_rejections("certificate_expired", 1.0).unwrap(), 1.0);
    assert_eq!(gateway.wait_rejections("stream_limit", 2.0).unwrap(), 2.0);
    gateway.wait_no_connection().unwrap();
}
