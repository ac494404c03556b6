//! Requests whose peer resets the stream, or leaves: what has begun is finished, as over HTTP/1.

use std::thread::sleep;
use std::time::Duration;

use hookgate_testkit::handler::{Behaviour, Handler};
use hookgate_testkit::wait::wait_until;

use super::frames::{Http2, post, reset};
use super::{start, wait_requests, with_http2};
use crate::environment::{Environment, PATH, SOON, handler_socket};
use crate::test_gateway::TestGateway;

const ID: &str = "x-delivery";

/// A route on which requests with the same id are copies of one delivery.
fn route() -> String {
    format!("proof = \"certificate\"\nreplay = {{ id_header = \"{ID}\", duplicate_status = 208 }}")
}

fn delivery(stream: u32, id: &str) -> Vec<u8> {
    post(stream, PATH, &[(ID, id)], b"{}")
}

fn slow(milliseconds: u64) -> Behaviour {
    Behaviour::Delay(Duration::from_millis(milliseconds), Behaviour::Json.boxed())
}

/// How a peer gives a request up.
type Way = (&'static str, fn(Http2) -> Option<Http2>);

const WAYS: [Way; 2] = [
    ("a reset", |mut peer| {
        peer.send(reset(1)).unwrap();
        Some(peer)
    }),
    ("the end of the connection", |peer| {
        drop(peer);
        None
    }),
];

#[test]
fn a_copy_waits_for_the_handler_that_works_on_the_first() {
    let configuration = |environment: &Environment| with_http2(&environment.toml("", &route()));
    let gateway = TestGateway::with_toml(configuration).unwrap();
    gateway.handler().set_behaviour(slow(1500));
    for (round, (way, give_up)) in (1..).zip(WAYS) {
        let mut peer = Http2::connect(&gateway.client).unwrap();
        peer.send(delivery(1, way)).unwrap();
        gateway.handler().wait_for(round, SOON).unwrap();
        let kept = give_up(peer);
        let mut peer = kept.unwrap_or_else(|| Http2::connect(&gateway.client).unwrap());
        let copy = peer.ask(3, delivery(3, way)).unwrap();
        assert_eq!(copy.verdict(), (429, "delivery_in_flight".to_owned()), "{way}");
        let is_taken = || {
            let mut peer = Http2::connect(&gateway.client).unwrap();
            peer.ask(1, delivery(1, way)).unwrap().status == 208
        };
        wait_until("the handler has taken it", SOON, is_taken).unwrap();
        assert_eq!(gateway.handler().request_count(), round, "{way}");
    }
    gateway.wait_no_connection().unwrap();
}

#[test]
fn a_handler_keeps_its_place_until_it_answers() {
    let gateway = start("handler_max_in_flight = 1");
    gateway.handler().set_behaviour(slow(1000));
    for (round, (way, give_up)) in (1..).zip(WAYS) {
        let mut peer = Http2::connect(&gateway.client).unwrap();
        peer.send(post(1, PATH, &[], b"{}")).unwrap();
        gateway.handler().wait_for(2 * round - 1, SOON).unwrap();
        let kept = give_up(peer);
        // A request that has not begun is dropped.
        let mut waiting = Http2::connect(&gateway.client).unwrap();
        waiting.send(post(1, PATH, &[], b"never")).unwrap();
        wait_requests(&gateway, "waiting", 1.0);
        waiting.send(reset(1)).unwrap();
        wait_requests(&gateway, "waiting", 0.0);
        assert_eq!(gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap(), 1.0, "{way}");
        assert_eq!(gateway.handler().request_count(), 2 * round - 1, "{way}");
        assert_eq!(waiting.ask(3, post(3, PATH, &[], b"{}")).unwrap().status, 200, "{way}");
        drop(kept);
    }
    assert!(gateway.handler().requests().iter().all(|request| request.text() != "never"));
    gateway.wait_no_connection().unwrap();
    wait_requests(&gateway, "in_flight", 0.0);
}

#[test]
fn a_drain_waits_for_the_handler_of_a_peer_that_has_left() {
    let configuration = |environment: &Environment| with_http2(&environment.toml("", &route()));
    let mut gateway = TestGateway::with_toml(configuration).unwrap();
    gateway.handler().set_behaviour(slow(1500));
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(delivery(1, "1")).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    drop(peer);
    gateway.daemon.signal(rustix::process::Signal::TERM).unwrap();
    gateway.daemon.wait_exit(SOON).unwrap();
    let log = gateway.daemon.log();
    assert!(log.contains("status=200"), "{log}");
}

#[test]
fn a_handler_that_does_not_answer_impatient_senders_is_ejected() {
    let environment = Environment::new().unwrap();
    let other = Handler::start(&environment.path("other.sock"), Behaviour::Json).unwrap();
    let toml = with_http2(&environment.toml("handler_timeout_ms = 1000", ""));
    let list = format!("[{}, {}]", handler_socket(&environment.events), handler_socket(&other));
    let toml = toml.replace(&handler_socket(&environment.events), &list);
    // The other handler ends before its directory.
    let list = (other, TestGateway::in_environment(environment, |_| toml).unwrap());
    let gateway = &list.1;
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let label = gateway.handler().path().display().to_string();
    // Each takes its request back, long before the handler's time is up.
    let is_ejected = || {
        let mut peer = Http2::connect(&gateway.client).unwrap();
        peer.send(post(1, PATH, &[], b"{}")).unwrap();
        sleep(Duration::from_millis(100));
        drop(peer.send(reset(1)));
        gateway.daemon.metric("hookgate_handler_ejected", &[("handler", &label)]).unwrap() == 1.0
    };
    wait_until("the ejection", SOON, is_ejected).unwrap();
}
