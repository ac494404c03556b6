//! Peers that take their answers slowly: what they hold, for how long, and what they leave to others.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;
use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, TlsConnection, request};

const MEBIBYTE: usize = 1024 * 1024;

/// A peer that has asked for an answer of `length` bytes, and reads nothing of it.
fn asking(gateway: &TestGateway, length: usize) -> TlsConnection {
    gateway.handler().set_behaviour(Behaviour::Huge(length));
    let mut connection = gateway.client.connect_narrow().unwrap();
    let before = gateway.handler().request_count();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_for(before + 1, SOON).unwrap();
    connection
}

/// The kernel says that there is room only when a third of its buffer is free, which is minutes apart for such a peer.
#[test]
fn a_peer_that_reads_slowly_but_steadily_is_not_cut() {
    let gateway = TestGateway::with_limits("response_timeout_ms = 1500").unwrap();
    let mut connection = asking(&gateway, 8 * MEBIBYTE);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        sleep(Duration::from_millis(200));
        assert!(connection.discard(1000).unwrap() > 0, "cut after {:?}", began.elapsed());
    }
    assert_eq!(gateway.rejections("response_timeout").unwrap(), 0.0);
    // It stops, and the log says of which request.
    assert_eq!(gateway.wait_rejections("response_timeout", 1.0).unwrap(), 1.0);
    gateway.daemon.wait_log("reason=response_timeout", SOON).unwrap();
    let log = gateway.daemon.log();
    let line = log.lines().find(|line| line.contains("reason=response_timeout")).unwrap();
    assert!(
        line.contains("cause=sender") && line.contains("route=any") && line.contains("provider=percolate"),
        "{line}"
    );
    gateway.wait_no_connection().unwrap();
}

/// 256 bytes a second are the least.
#[test]
fn a_peer_that_reads_less_than_the_least_rate_is_cut() {
    let gateway = TestGateway::with_limits("response_timeout_ms = 1500").unwrap();
    let mut connection = asking(&gateway, 8 * MEBIBYTE);
    let began = Instant::now();
    while gateway.rejections("response_timeout").unwrap() < 1.0 {
        assert!(began.elapsed() < Duration::from_secs(15), "not cut");
        sleep(Duration::from_millis(500));
        // The buffers of the kernel outlive the connection.
        let _ = connection.discard(20);
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

/// Another request to the handler is answered while these peers read nothing.
fn check_place_is_free(gateway: &TestGateway) {
    gateway.handler().set_behaviour(Behaviour::status(200, "free"));
    let response = gateway.connect().unwrap().ask(request("POST", PATH, b"{}")).unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "free"));
}

#[test]
fn peers_that_read_nothing_do_not_keep_the_places_of_a_handler() {
    let limits = "handler_max_in_flight = 2\nhandler_timeout_ms = 3000\nresponse_timeout_ms = 20000";
    let gateway = TestGateway::with_limits(limits).unwrap();
    let length = 3 * MEBIBYTE;
    let mut connections = [asking(&gateway, length), asking(&gateway, length)];
    check_place_is_free(&gateway);
    let in_flight = || gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap();
    wait_until("the places", SOON, || in_flight() == 0.0).unwrap();
    // Nothing of the answers is lost, and the peers' time does not run on the handler's account.
    sleep(Duration::from_secs(4));
    for connection in &mut connections {
        let response = connection.response().unwrap();
        assert!(response.complete && response.body == vec![b'x'; length], "{} bytes", response.body.len());
    }
    assert_eq!(gateway.daemon.metric("hookgate_rejections_total", &[]).unwrap(), 0.0);
    assert_eq!(gateway.handler().connection_count(), 2, "the connections are used again");
}

/// The rest of an answer stays with the handler, whose time does not run while the peer is waited for.
#[test]
fn a_longer_answer_than_may_be_held_is_taken_as_fast_as_the_peer_reads() {
    let limits = "handler_max_in_flight = 1\nhandler_timeout_ms = 1000\nmax_answer_buffer_bytes = 1000000";
    let check = |limits: &str| {
        let gateway = TestGateway::with_limits(limits).unwrap();
        let length = 24 * MEBIBYTE;
        let before = gateway.daemon.rss_bytes().unwrap();
        let mut connection = asking(&gateway, length);
        sleep(Duration::from_secs(3));
        assert_eq!(gateway.daemon.metric("hookgate_handler_requests_in_flight", &[]).unwrap(), 1.0, "{limits}");
        let more = gateway.daemon.rss_bytes().unwrap().saturating_sub(before);
        assert!(more < 8 * MEBIBYTE as u64, "{limits}: {more} bytes more");
        let response = connection.response().unwrap();
        assert!(response.complete && response.body.len() == length, "{limits}: {} bytes", response.body.len());
        check_place_is_free(&gateway);
    };
    check(limits);
    check(&limits.replace("max_answer_buffer_bytes", "max_buffered_answer_bytes"));
    check(&limits.replace("1000000", "0"));
}

#[test]
fn an_answer_that_breaks_off_while_its_peer_reads_nothing_is_cut_after_what_came() {
    let gateway = TestGateway::with_limits("").unwrap();
    let length = 3 * MEBIBYTE;
    gateway.handler().set_behaviour(Behaviour::BreakOff { declared: length + 1, sent: length });
    let mut connection = gateway.client.connect_narrow().unwrap();
    connection.send(request("POST", PATH, b"{}")).unwrap();
    gateway.handler().wait_no_connection(SOON).unwrap();
    let (bytes, end) = connection.end(SOON).unwrap();
    assert_eq!(end, End::Cut);
    assert!(bytes.len() > length && bytes.ends_with(b"xxx"), "{} bytes", bytes.len());
    assert_eq!(gateway.wait_rejections("handler_unavailable", 1.0).unwrap(), 1.0);
}

#[test]
fn a_peer_that_leaves_gives_back_what_was_held_for_it() {
    let gateway = TestGateway::with_limits("max_buffered_answer_bytes = 4000000\nhandler_max_in_flight = 1").unwrap();
    for _ in 0..3 {
        let connection = asking(&gateway, 6 * MEBIBYTE);
        sleep(Duration::from_millis(600));
        connection.reset().unwrap();
        gateway.wait_no_connection().unwrap();
        check_place_is_free(&gateway);
    }
}
