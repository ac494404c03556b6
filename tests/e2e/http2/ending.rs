//! How connections of HTTP/2 end: a drain, a change of trust, a peer that leaves.

use std::time::Duration;

use hookgate_testkit::handler::Behaviour;
use rustix::process::Signal;

use super::frames::{GOAWAY, Http2, NO_ERROR, PING, frame, request, reset};
use super::{start, wait_requests, with_http2};
use crate::environment::SOON;

#[test]
fn a_drain_answers_what_is_open_and_sends_the_peer_away() {
    let mut gateway = start("");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(500), Behaviour::Json.boxed()));
    let mut idle = Http2::connect(&gateway.client).unwrap();
    idle.send(request(1)).unwrap();
    idle.answer(1).unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send([request(1), request(3)].concat()).unwrap();
    gateway.handler().wait_for(3, SOON).unwrap();
    gateway.daemon.signal(Signal::TERM).unwrap();
    gateway.daemon.wait_log("draining", SOON).unwrap();
    let goes_away = peer.wait(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(goes_away.code(), NO_ERROR);
    // As a client does: h2 waits for it before it says which stream was the last.
    let ping = peer.wait(|frame| frame.kind == PING).unwrap();
    peer.send(frame(PING, 1, 0, &ping.payload)).unwrap();
    assert_eq!(peer.end().unwrap(), NO_ERROR);
    assert!([1, 3].iter().all(|stream| peer.seen.iter().any(|frame| frame.ends(*stream))), "{:?}", peer.seen);
    assert_eq!(idle.end().unwrap(), NO_ERROR);
    assert_eq!(gateway.daemon.wait_exit(SOON).unwrap().code(), Some(0));
}

/// As for HTTP/1: what has begun ends under the snapshot of its beginning, and the next request is judged by the new one.
#[test]
fn a_peer_that_a_reload_refuses_gets_its_answers_and_is_sent_away() {
    let gateway = start("");
    gateway.handler().set_behaviour(Behaviour::Delay(Duration::from_millis(700), Behaviour::Json.boxed()));
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    let toml = with_http2(&gateway.environment.toml("", ""));
    let other = toml.replace(&percolate_root(&gateway), &pagerduty_root(&gateway));
    assert_ne!(toml, other);
    gateway.reload_permitting(&other).unwrap();
    peer.send(request(3)).unwrap();
    assert_eq!(peer.end().unwrap(), NO_ERROR);
    assert!([1, 3].iter().all(|stream| peer.seen.iter().any(|frame| frame.ends(*stream))), "{:?}", peer.seen);
    assert_eq!(gateway.handler().request_count(), 1);
    assert_eq!(gateway.wait_rejections("unknown_issuer", 1.0).unwrap(), 1.0);
    gateway.wait_no_connection().unwrap();
}

fn percolate_root(gateway: &crate::test_gateway::TestGateway) -> String {
    gateway.environment.pki.sender(hookgate_testkit::pki::Sender::Percolate).root.path().display().to_string()
}

fn pagerduty_root(gateway: &crate::test_gateway::TestGateway) -> String {
    gateway.environment.pki.sender(hookgate_testkit::pki::Sender::PagerDuty).root.path().display().to_string()
}

#[test]
fn a_handler_that_does_not_answer_a_peer_that_leaves_or_resets_is_free_when_its_time_is_up() {
    let gateway = start("handler_max_in_flight = 1\nhandler_timeout_ms = 1000");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    peer.send(reset(1)).unwrap();
    wait_requests(&gateway, "in_flight", 0.0);
    peer.send(request(3)).unwrap();
    gateway.handler().wait_for(2, SOON).unwrap();
    peer.finish_sending().unwrap();
    gateway.wait_no_connection().unwrap();
    gateway.daemon.wait_metric("hookgate_requests_total", &[("status", "504")], 2.0, SOON).unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.still_serves().unwrap();
}
