//! Peers of HTTP/2 that are slow: a stream has its own time, and one that is out of it does not end the others.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;

use super::frames::{
    CANCEL, DATA, END_STREAM, GOAWAY, HEADERS, Http2, INITIAL_WINDOW, LARGEST_WINDOW, NO_ERROR, PING, RST_STREAM,
    credit, frame, head, open, request,
};
use super::start;
use crate::environment::SOON;
use crate::test_gateway::TestGateway;

#[test]
fn a_body_that_comes_too_slowly_costs_its_stream_and_no_other() {
    let gateway = start("request_timeout_ms = 1000");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send([open(1), frame(0, 0, 1, b"{"), request(3)].concat()).unwrap();
    peer.answer(3).unwrap();
    peer.answer(1).unwrap();
    assert_eq!(gateway.wait_rejections("request_timeout", 1.0).unwrap(), 1.0);
    peer.send(request(5)).unwrap();
    peer.answer(5).unwrap();
    assert_eq!(gateway.handler().request_count(), 2);
}

#[test]
fn an_answer_for_which_a_peer_makes_no_room_is_reset_and_the_handler_is_free() {
    let gateway = start("response_timeout_ms = 1500\nhandler_max_in_flight = 1");
    gateway.handler().set_behaviour(Behaviour::Huge(1_000_000));
    let mut peer = Http2::without_window(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    peer.wait(|frame| frame.kind == HEADERS && frame.stream == 1).unwrap();
    // The handler's one place is free while the peer still has time.
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.still_serves().unwrap();
    let reset = peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == 1).unwrap();
    assert_eq!(reset.code(), CANCEL);
    assert_eq!(gateway.wait_rejections("response_timeout", 1.0).unwrap(), 1.0);
    // The connection goes on.
    peer.send(frame(PING, 0, 0, &[1; 8])).unwrap();
    peer.wait(|frame| frame.kind == PING).unwrap();
    gateway.daemon.wait_log("answer cut", SOON).unwrap();
}

/// The window of the connection is that of RFC 9113, section 6.9.2, which no setting changes.
#[test]
fn an_answer_for_which_only_its_stream_has_room_is_reset_and_the_connection_goes_on() {
    let gateway = start("response_timeout_ms = 1500\nhandler_max_in_flight = 1");
    gateway.handler().set_behaviour(Behaviour::Huge(1_000_000));
    let connection = gateway.client.clone().speaking(&[b"h2"]).connect().unwrap();
    let mut peer = Http2::over(connection, &[(INITIAL_WINDOW, LARGEST_WINDOW)]).unwrap();
    peer.send(request(1)).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.still_serves().unwrap();
    let reset = peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == 1).unwrap();
    assert_eq!(reset.code(), CANCEL);
    let sent: usize = peer.seen.iter().filter(|frame| frame.kind == DATA).map(|frame| frame.payload.len()).sum();
    assert_eq!(sent, 65_535, "the window was used");
    assert_eq!(gateway.wait_rejections("response_timeout", 1.0).unwrap(), 1.0);
    // Another answer has no room either, until the peer makes some.
    peer.send(request(3)).unwrap();
    peer.wait(|frame| frame.kind == HEADERS && frame.stream == 3).unwrap();
    peer.send(credit(0, 1000)).unwrap();
    assert_eq!(peer.answer(3).unwrap().status, 200);
    assert_eq!(gateway.rejections("response_timeout").unwrap(), 1.0);
    assert_eq!(peer.count(GOAWAY), 0);
}

/// A peer whose windows have room for everything, and whose kernel takes little. It has asked for an answer of `length` bytes.
fn narrow(gateway: &TestGateway, length: usize) -> Http2 {
    gateway.handler().set_behaviour(Behaviour::Huge(length));
    let connection = gateway.client.clone().speaking(&[b"h2"]).connect_narrow().unwrap();
    let mut peer = Http2::over(connection, &[(INITIAL_WINDOW, LARGEST_WINDOW)]).unwrap();
    peer.send([credit(0, LARGEST_WINDOW - 65_535), request(1)].concat()).unwrap();
    gateway.handler().wait_for(1, SOON).unwrap();
    peer
}

#[test]
fn a_peer_that_takes_nothing_does_not_keep_the_place_of_its_handler() {
    let gateway = start("response_timeout_ms = 60000\nhandler_max_in_flight = 1");
    let mut peer = narrow(&gateway, 3_000_000);
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.still_serves().unwrap();
    let answer = peer.answer(1).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 3_000_000), "nothing is lost");
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
}

#[test]
fn a_peer_that_takes_nothing_of_its_answers_is_cut() {
    let gateway = start("response_timeout_ms = 1500");
    let peer = narrow(&gateway, 3_000_000);
    assert_eq!(gateway.wait_rejections("response_timeout", 1.0).unwrap(), 1.0);
    gateway.wait_no_connection().unwrap();
    gateway.daemon.wait_log("reason=response_timeout", SOON).unwrap();
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains("reason=response_timeout")).unwrap();
    assert!(line.contains("route=any") && line.contains("provider=percolate"), "{line}");
    drop(peer);
}

#[test]
fn a_peer_that_takes_its_answer_slowly_but_steadily_is_not_cut() {
    let gateway = start("response_timeout_ms = 1000");
    let mut peer = narrow(&gateway, 3_000_000);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        sleep(Duration::from_millis(100));
        assert!(peer.discard(1000).unwrap() > 0, "cut after {:?}", began.elapsed());
    }
    assert_eq!(gateway.rejections("response_timeout").unwrap(), 0.0);
    // It stops.
    assert_eq!(gateway.wait_rejections("response_timeout", 1.0).unwrap(), 1.0);
    gateway.wait_no_connection().unwrap();
}

#[test]
fn a_head_that_comes_too_slowly_ends_the_connection() {
    let gateway = start("request_head_timeout_ms = 1000");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    peer.answer(1).unwrap();
    peer.send(&frame(HEADERS, END_STREAM, 3, &head())[..20]).unwrap();
    while peer.next().unwrap().is_some() {}
    assert_eq!(gateway.wait_rejections("request_timeout", 1.0).unwrap(), 1.0);
    gateway.wait_no_connection().unwrap();
}

#[test]
fn a_peer_without_a_request_is_cut_in_time_whatever_else_it_sends() {
    let gateway = start("request_head_timeout_ms = 1000\nidle_timeout_ms = 1000");
    // Before the first request, and after it.
    for streams in [0, 1] {
        let mut peer = Http2::connect(&gateway.client).unwrap();
        for _ in 0..streams {
            peer.send(request(1)).unwrap();
            peer.answer(1).unwrap();
        }
        let began = Instant::now();
        while peer.send(frame(PING, 0, 0, &[1; 8])).is_ok() && began.elapsed() < SOON {
            if peer.next().unwrap().is_none() {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        assert!(began.elapsed() < SOON, "{streams}");
        gateway.wait_no_connection().unwrap();
    }
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    assert_eq!(peer.end().unwrap(), NO_ERROR, "an idle peer is told");
}
