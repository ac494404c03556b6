//! Routes over HTTP/2: durable and public ones, and bounds of their own, as over HTTP/1.

use std::time::Duration;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;

use super::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, NO_ERROR, frame, head_for, post, request, reset,
};
use super::with_http2;
use crate::environment::{Environment, PATH, SOON, handler_socket, quoted};
use crate::test_gateway::TestGateway;
use crate::tls_client::TlsClient;

/// A path of a route without bounds of its own, with the same handler.
const OTHER: &str = "/percolate";

/// The daemon with HTTP/2, and these lines in the route of [`PATH`].
fn start_with_route(limits: &str, route: &str) -> (TestGateway, Http2) {
    let gateway = TestGateway::with_toml(|environment| with_http2(&environment.toml(limits, route))).unwrap();
    let peer = Http2::connect(&gateway.client).unwrap();
    (gateway, peer)
}

fn verdict(status: u16, reason: &str) -> (u16, String) {
    (status, reason.to_owned())
}

#[test]
fn deliveries_of_a_durable_route_are_accepted_and_handed_over() {
    const DELIVERIES: u32 = 5;
    const ORDERS: &str = "/orders";
    let configuration = |environment: &Environment| {
        let (handler, state) = (handler_socket(&environment.events), quoted(&environment.state_directory()));
        let route = format!(
            "\n[[route]]\nhost = \"{HOST}\"\npath = \"{ORDERS}\"\nproviders = [\"percolate\"]\nhandler = {handler}\n\
             delivery = \"durable\"\n\n[state]\ndirectory = {state}\n"
        );
        with_http2(&environment.toml("", "")) + &route
    };
    let gateway = TestGateway::with_toml(configuration).unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let streams = || (0..DELIVERIES).map(|number| 2 * number + 1);
    for stream in streams() {
        peer.send(post(stream, ORDERS, &[], format!("delivery {stream}").as_bytes())).unwrap();
    }
    for stream in streams() {
        let answer = peer.answer(stream).unwrap();
        assert_eq!((answer.status, answer.body.len()), (202, 0), "{stream}");
    }
    let mut bodies: Vec<_> =
        gateway.handler().wait_for(DELIVERIES.into(), SOON).unwrap().iter().map(|request| request.text()).collect();
    bodies.sort();
    assert_eq!(bodies, streams().map(|stream| format!("delivery {stream}")).collect::<Vec<_>>());
}

/// The daemon with HTTP/2 and a public route.
fn with_public_route() -> TestGateway {
    let public = format!("\n[[route]]\nname = \"up\"\nhost = \"{HOST}\"\npath = \"/healthz\"\nrespond = 200\n");
    TestGateway::with_toml(|environment| with_http2(&environment.toml("", "")) + &public).unwrap()
}

fn get(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &head_for("GET", path, HOST))
}

#[test]
fn anyone_gets_the_answer_of_a_public_route_and_one_answer() {
    let gateway = with_public_route();
    let stranger = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    for (path, expected) in [("/healthz", verdict(200, "")), (PATH, verdict(403, "no_certificate"))] {
        let mut peer = Http2::connect(&stranger).unwrap();
        assert_eq!(peer.ask(1, get(1, path)).unwrap().verdict(), expected, "{path}");
        assert_eq!(peer.end().unwrap(), NO_ERROR, "{path}");
    }
    let mut peer = Http2::connect(&gateway.client).unwrap();
    for stream in [1, 3] {
        assert_eq!(peer.ask(stream, get(stream, "/healthz")).unwrap().status, 200);
    }
    // A body is not read, and only its stream ends.
    let head = frame(HEADERS, END_HEADERS, 5, &head_for("GET", "/healthz", HOST));
    assert_eq!(peer.ask(5, [head, frame(DATA, 0, 5, b"{}")].concat()).unwrap().status, 200);
    assert_eq!(peer.ask(7, request(7)).unwrap().status, 200);
    assert_eq!((gateway.handler().request_count(), peer.count(GOAWAY)), (1, 0));
}

#[test]
fn a_body_has_the_bound_of_its_route() {
    let (gateway, mut peer) = start_with_route("max_body_bytes = 1000", "max_body_bytes = 2000");
    let mut streams = (1..).step_by(2);
    for (path, most) in [(PATH, 2000), (OTHER, 1000)] {
        for announced in [false, true] {
            for (length, expected) in [(most, verdict(200, "")), (most + 1, verdict(413, "body_too_large"))] {
                let stream = streams.next().unwrap();
                let announcement = length.to_string();
                let fields = [("content-length", announcement.as_str())];
                let fields = if announced { &fields[..] } else { &[] };
                let answer = peer.ask(stream, post(stream, path, fields, &vec![b'x'; length])).unwrap();
                // The answer to what is right is no problem document.
                assert_eq!(answer.verdict(), expected, "{path} {length} {announced}");
            }
        }
    }
    assert_eq!((gateway.handler().request_count(), peer.count(GOAWAY)), (4, 0));
    assert_eq!(gateway.wait_rejections("body_too_large", 4.0).unwrap(), 4.0);
}

#[test]
fn a_handler_has_the_time_of_the_route_for_each_stream() {
    let (gateway, mut peer) = start_with_route("", "handler_timeout_ms = 400");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(1500), Behaviour::Json.boxed()));
    peer.send([post(1, OTHER, &[], b"{}"), post(3, PATH, &[], b"{}")].concat()).unwrap();
    assert_eq!(peer.answer(3).unwrap().verdict(), verdict(504, "handler_timeout"));
    assert!(!peer.seen.iter().any(|frame| frame.ends(1)), "the other route has more time");
    assert_eq!(peer.answer(1).unwrap().status, 200);
    assert_eq!(peer.count(GOAWAY), 0);
}

#[test]
fn a_route_has_no_more_requests_with_its_handler_than_it_may() {
    let (gateway, mut peer) = start_with_route("handler_max_waiting = 0", "max_in_flight = 2");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(1500), Behaviour::Json.boxed()));
    peer.send([request(1), request(3)].concat()).unwrap();
    gateway.handler().wait_for(2, SOON).unwrap();
    assert_eq!(peer.ask(5, request(5)).unwrap().verdict(), verdict(503, "route_overloaded"));
    // The other places of the handler are for other routes.
    peer.send(post(7, OTHER, &[], b"{}")).unwrap();
    gateway.handler().wait_for(3, SOON).unwrap();
    for stream in [1, 3, 7] {
        assert_eq!(peer.answer(stream).unwrap().status, 200, "{stream}");
    }
    assert_eq!(peer.ask(9, request(9)).unwrap().status, 200);
    // A stream that its peer resets has its place until the handler is done.
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    peer.send([request(11), request(13)].concat()).unwrap();
    gateway.handler().wait_for(6, SOON).unwrap();
    peer.send(reset(11)).unwrap();
    assert_eq!(peer.ask(15, request(15)).unwrap().verdict(), verdict(503, "route_overloaded"));
    assert_eq!(gateway.rejections("route_overloaded").unwrap(), 2.0);
    assert_eq!(peer.count(GOAWAY), 0);
}
