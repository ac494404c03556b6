//! Peers that take their answers slowly: what they hold, for how long, and what they leave to others.

use std::thread::sleep;
use std::time::{Duration, Instant};

use hookgate_testkit::handler::Behaviour;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsConnection, request};

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
