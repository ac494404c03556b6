//! Peers of HTTP/2 that are slow: a stream has its own time, and one that is out of it does not end the others.

use hookgate_testkit::handler::Behaviour;

use super::frames::{CANCEL, END_STREAM, HEADERS, Http2, NO_ERROR, PING, RST_STREAM, frame, head, open, request};
use super::start;
use crate::environment::SOON;

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
        let began = std::time::Instant::now();
        while peer.send(frame(PING, 0, 0, &[1; 8])).is_ok() && began.elapsed() < SOON {
            if peer.next().unwrap().is_none() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(began.elapsed() < SOON, "{streams}");
        gateway.wait_no_connection().unwrap();
    }
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.send(request(1)).unwrap();
    assert_eq!(peer.end().unwrap(), NO_ERROR, "an idle peer is told");
}
