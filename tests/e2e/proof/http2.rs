//! Proofs over HTTP/2: signatures of peers without a certificate, tokens, and deliveries that come again.
//!
//! Owns what differs by the version: several requests at a time on one connection. Must not repeat the rules of each proof: the other files have
//! them for HTTP/1.

use std::process::Command;
use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{DIALOGFLOW_CX, Document, PAGERDUTY, PAGERDUTY_SECRET};
use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::http::Request;
use hookgate_testkit::process;
use serde_json::json;

use super::issuer::{self, bearer, dialogflow_token, good_bearer, key_file};
use super::no_certificate::{BODY, SECRET, SIGNATURE, sections, signature};
use super::{Fields, ProofConfiguration, ProofGateway, hmac_hex, secret_file};
use crate::environment::{Environment, SOON};
use crate::http2::frames::{
    DATA, END_STREAM, FLOW_CONTROL_ERROR, GOAWAY, Http2, INITIAL_WINDOW, NO_ERROR, REFUSED_STREAM, RST_STREAM,
    SETTINGS, frame, open_with, post,
};
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// The lines of `[listen]`.
const LISTEN: &str = "workers = 1\nhttp2 = true";

/// The path of the provider without certificates.
const PATH: &str = "/github";

/// The daemon with HTTP/2 and a provider without certificates, and a peer without one.
fn without_certificate() -> (TestGateway, Http2) {
    let gateway = TestGateway::with_toml(|environment| {
        let mut configuration = environment.configuration();
        configuration.listen = LISTEN;
        configuration.toml() + &sections(environment, SECRET)
    });
    let gateway = gateway.unwrap();
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    let peer = Http2::connect(&client).unwrap();
    (gateway, peer)
}

/// A request with the signature of `body`.
fn signed(stream: u32, body: &[u8]) -> Vec<u8> {
    post(stream, PATH, &[(SIGNATURE, &signature(body))], body)
}

fn verdict(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

#[test]
fn a_peer_without_a_certificate_signs_one_request_after_the_other() {
    let (gateway, mut peer) = without_certificate();
    assert_eq!(peer.ask(1, signed(1, BODY)).unwrap().status, 200);
    assert_eq!(peer.ask(3, signed(3, b"another body")).unwrap().status, 200);
    // Each request stands for itself, and the connection of a peer that has proven an earlier one goes on.
    let unsigned = post(5, PATH, &[], BODY);
    assert_eq!(peer.ask(5, unsigned).unwrap().verdict(), verdict(403, "signature_missing"));
    let of_another = post(7, PATH, &[(SIGNATURE, &signature(b"another body"))], BODY);
    assert_eq!(peer.ask(7, of_another).unwrap().verdict(), verdict(403, "signature_mismatch"));
    let elsewhere = post(9, "/percolate", &[(SIGNATURE, &signature(BODY))], BODY);
    assert_eq!(peer.ask(9, elsewhere).unwrap().verdict(), verdict(403, "no_certificate"));
    assert_eq!(peer.ask(11, signed(11, BODY)).unwrap().status, 200);
    assert_eq!(peer.count(GOAWAY), 0);
    let seen: Vec<Request> = gateway.handler().requests();
    assert_eq!(seen.len(), 3);
    for request in &seen {
        assert_eq!(request.field("x-hookgate-provider"), Some("github"));
        assert_eq!(request.field("x-hookgate-proof"), Some("signature"));
        assert_eq!(request.field("client-cert"), None);
    }
}

#[test]
fn a_peer_without_a_certificate_and_a_proof_has_one_answer() {
    let (gateway, mut peer) = without_certificate();
    let unsigned = post(1, PATH, &[], BODY);
    assert_eq!(peer.ask(1, unsigned).unwrap().verdict(), verdict(403, "signature_missing"));
    assert_eq!(peer.end().unwrap(), NO_ERROR);
    assert_eq!(gateway.environment.handled(), 0);
}

/// Until a request has proven the peer, and afterwards: the settings of a connection do not change.
#[test]
fn a_peer_without_a_certificate_has_one_stream_at_a_time() {
    let (gateway, mut peer) = without_certificate();
    for (first, second) in [(1, 3), (5, 7)] {
        peer.send(open_with(first, PATH, &[(SIGNATURE, &signature(BODY))])).unwrap();
        peer.send(signed(second, BODY)).unwrap();
        let reset = peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == second).unwrap();
        assert_eq!(reset.code(), REFUSED_STREAM);
        assert_eq!(peer.ask(first, frame(DATA, END_STREAM, first, BODY)).unwrap().status, 200);
    }
    assert_eq!(gateway.wait_rejections("stream_limit", 2.0).unwrap(), 2.0);
    // What was refused is sent again.
    assert_eq!(peer.ask(9, signed(9, BODY)).unwrap().status, 200);
    assert_eq!((gateway.handler().request_count(), peer.count(GOAWAY)), (3, 0));
}

/// curl opens more connections if one has no room, and sends again what was refused, sometimes only after a second.
#[test]
fn a_client_that_sends_many_signed_requests_at_a_time_has_all_of_them_answered() {
    let (gateway, _) = without_certificate();
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(50), Behaviour::Json.boxed()));
    let port = gateway.daemon.port();
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--http2", "--parallel", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_version} %{response_code}\n", "--data-binary", "@-"]);
    command.args(["--resolve", &format!("{HOST}:{port}:127.0.0.1"), "--header"]);
    command.arg(format!("{SIGNATURE}: {}", signature(BODY)));
    command.arg("--cacert").arg(gateway.environment.pki.server_root().path());
    command.arg(format!("https://{HOST}:{port}{PATH}?number=[1-4]"));
    let finished = process::run(command, BODY, 3 * SOON).unwrap();
    let said = finished.stdout_text();
    assert_eq!(said, "2 200\n".repeat(4), "{}", finished.stderr_text());
    assert_eq!(gateway.handler().request_count(), 4);
}

/// 1 byte of the window of 16 KiB is used, and is no reason to open it again.
#[test]
fn a_peer_that_sends_more_than_its_window_has_its_stream_reset() {
    let (gateway, mut peer) = without_certificate();
    peer.acknowledge().unwrap();
    peer.send(open_with(1, PATH, &[(SIGNATURE, &signature(BODY))])).unwrap();
    peer.send([frame(DATA, 0, 1, b"x"), frame(DATA, 0, 1, &[b'x'; 16_384])].concat()).unwrap();
    let reset = peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == 1).unwrap();
    assert_eq!(reset.code(), FLOW_CONTROL_ERROR);
    assert_eq!(gateway.wait_rejections("malformed_request", 1.0).unwrap(), 1.0);
    drop(peer);
    gateway.wait_no_connection().unwrap();
    assert_eq!(gateway.rejections("malformed_request").unwrap(), 1.0);
    assert_eq!(gateway.environment.handled(), 0);
    gateway.still_serves().unwrap();
}

/// Many small windows are many round trips for a long body.
#[test]
fn a_peer_that_has_proven_itself_has_the_window_of_every_sender() {
    let (gateway, mut peer) = without_certificate();
    peer.acknowledge().unwrap();
    let windows = |peer: &Http2| {
        let settings = peer.seen.iter().filter(|frame| frame.kind == SETTINGS && frame.flags == 0);
        settings.filter_map(|frame| frame.setting(INITIAL_WINDOW)).collect::<Vec<_>>()
    };
    assert_eq!(peer.ask(1, signed(1, BODY)).unwrap().status, 200);
    assert_eq!(windows(&peer), [16_384], "one request needs no more");
    peer.send(open_with(3, PATH, &[(SIGNATURE, &signature(&[b'x'; 65_000]))])).unwrap();
    peer.wait(|frame| frame.kind == SETTINGS && frame.setting(INITIAL_WINDOW) == Some(65_535)).unwrap();
    peer.acknowledge().unwrap();
    let parts = [b'x'; 65_000].chunks(13_000).map(|part| frame(DATA, 0, 3, part)).collect::<Vec<_>>().concat();
    peer.send(parts).unwrap();
    assert_eq!(peer.ask(3, frame(DATA, END_STREAM, 3, b"")).unwrap().status, 200);
    assert_eq!(peer.ask(5, signed(5, BODY)).unwrap().status, 200);
    assert_eq!(windows(&peer), [16_384, 65_535], "once");
    assert_eq!((gateway.handler().request_count(), peer.count(GOAWAY)), (3, 0));
}

/// The daemon with HTTP/2 and this proof of the provider of `document`, and a peer with its certificate.
fn certified(document: Document, write: impl FnOnce(&Environment) -> ProofConfiguration) -> (ProofGateway, Http2) {
    let write = |environment: &_| ProofConfiguration { listen: LISTEN.to_owned(), ..write(environment) };
    let gateway = ProofGateway::new(document, write).unwrap();
    let peer = Http2::connect(&gateway.base.client).unwrap();
    (gateway, peer)
}

#[test]
fn each_request_of_a_connection_needs_its_token() {
    let issuer = issuer::issuer("key-1");
    let (gateway, mut peer) = certified(DIALOGFLOW_CX, |environment| ProofConfiguration {
        provider: dialogflow_token(),
        sections: key_file(environment, "google", &[&issuer]),
        ..ProofConfiguration::default()
    });
    let path = DIALOGFLOW_CX.path;
    let good = good_bearer(&issuer);
    let wrong = bearer(&issuer, &[("aud", json!("https://evil.example"))]);
    let cases: [(&Fields<'_>, (u16, &str)); 4] = [
        (&[("authorization", &good)], (200, "")),
        (&[], (401, "token_missing")),
        (&[("authorization", &wrong)], (401, "token_wrong_audience")),
        (&[("authorization", &good), ("x-hookgate-token-email", "forged")], (200, "")),
    ];
    // At the same time, and one after the other.
    let requests = |from: u32| (from..).step_by(2).zip(cases);
    for (stream, (fields, _)) in requests(1) {
        peer.send(post(stream, path, fields, issuer::BODY)).unwrap();
    }
    for (stream, (_, (status, reason))) in requests(1) {
        assert_eq!(peer.answer(stream).unwrap().verdict(), verdict(status, reason), "{stream}");
    }
    for (stream, (fields, (status, reason))) in requests(11) {
        let answer = peer.ask(stream, post(stream, path, fields, issuer::BODY)).unwrap();
        assert_eq!(answer.verdict(), verdict(status, reason), "{stream}");
    }
    let seen = gateway.handler().requests();
    assert_eq!(seen.len(), 4);
    for request in &seen {
        assert_eq!(request.field("x-hookgate-proof"), Some("certificate, token"));
        assert!(!request.fields.0.iter().any(|(_, value)| value == "forged"), "{:?}", request.fields);
    }
}

#[test]
fn of_copies_of_a_delivery_on_one_connection_one_reaches_the_handler() {
    let (gateway, mut peer) = certified(PAGERDUTY, |environment| {
        let secret = secret_file(environment, "webhook.secret", PAGERDUTY_SECRET);
        ProofConfiguration::of_provider(format!("signature = {{ secrets = [{secret}] }}"))
    });
    let body = PAGERDUTY.body.as_bytes();
    let signature = format!("v1={}", hmac_hex(PAGERDUTY_SECRET, body));
    let delivery = |stream, id: &str| {
        post(stream, PAGERDUTY.path, &[("x-webhook-id", id), ("x-pagerduty-signature", &signature)], body)
    };
    assert_eq!(peer.ask(1, delivery(1, "one")).unwrap().status, 200);
    let again = peer.ask(3, delivery(3, "one")).unwrap();
    assert_eq!((again.status, again.body.len()), (200, 0), "a duplicate has an empty answer");
    assert_eq!(gateway.handler().request_count(), 1);
    // While the first copy is with the handler.
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(300), Behaviour::Json.boxed()));
    peer.send([delivery(5, "two"), delivery(7, "two"), delivery(9, "three")].concat()).unwrap();
    assert_eq!(peer.answer(5).unwrap().status, 200);
    assert_eq!(peer.answer(7).unwrap().verdict(), verdict(429, "delivery_in_flight"));
    assert_eq!(peer.answer(9).unwrap().status, 200);
    assert_eq!(gateway.handler().request_count(), 3);
}
