//! Resident memory: it follows what is in use, and comes back after every burst.
//!
//! Owns what a burst may leave. The rooms that a burst is about (strangers, bodies) test their own bounds.

use std::fs;
use std::net::Ipv4Addr;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON, quoted};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, request};

pub(crate) const MIB: u64 = 1024 * 1024;

/// What bursts may leave, however many there were: tables that have grown, and blocks of 64 KiB of which a part is in use.
///
/// Of 25 bursts of bodies on an idle host, the first left 1.4 MiB, the tenth 2.0 and the last 2.1; of three on a busy one, 3.1 were seen. A leak of
/// 15 KB a connection would leave more than this after three bursts.
pub(crate) const LEFT: u64 = 4 * MIB;

/// How often a test lets a burst come and go. What one of them leaves, the next one uses.
pub(crate) const BURSTS: usize = 3;

/// The resident memory of a daemon, compared with what it had after its first request.
pub(crate) struct Resident<'g> {
    gateway: &'g TestGateway,
    before: u64,
}

impl<'g> Resident<'g> {
    /// Begins with what is resident now.
    pub(crate) fn of(gateway: &'g TestGateway) -> Self {
        gateway.still_serves().unwrap();
        Self { gateway, before: gateway.daemon.rss_bytes().unwrap() }
    }

    /// Bytes that are resident beyond that.
    pub(crate) fn grown(&self) -> u64 {
        self.gateway.daemon.rss_bytes().unwrap().saturating_sub(self.before)
    }

    /// Waits until all connections have ended, and their memory has come back.
    pub(crate) fn comes_back(&self) {
        self.gateway.wait_no_connection().unwrap();
        let most = self.grown();
        let came_back = wait_until("the return of memory", SOON, || self.grown() < LEFT);
        assert!(came_back.is_ok(), "{} of {most} bytes stayed", self.grown());
    }
}

#[test]
fn the_memory_of_peers_that_send_long_heads_comes_back_on_every_worker() {
    let gateway = TestGateway::configured(|configuration| {
        configuration.listen = "workers = 2";
        configuration.limits = "request_head_timeout_ms = 60000";
    })
    .unwrap();
    let client = TlsClient::without_certificate(gateway.daemon.port(), &gateway.environment.pki).unwrap();
    let resident = Resident::of(&gateway);
    for _ in 0..BURSTS {
        let mut refused: Vec<_> = (0..200).map(|_| client.connect().unwrap()).collect();
        for connection in &mut refused {
            connection.send("POST / HTTP/1.1\r\nX-Long: ".to_owned() + &"x".repeat(12_000)).unwrap();
        }
        wait_until("the heads", SOON, || resident.grown() > 7 * MIB).unwrap();
        drop(refused);
        resident.comes_back();
    }
}

#[test]
fn the_memory_of_bodies_comes_back() {
    let gateway = TestGateway::with_limits("max_body_bytes = 1048576").unwrap();
    let resident = Resident::of(&gateway);
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000001\r\n\r\n");
    let unfinished = head + &"x".repeat(1_000_000);
    for _ in 0..BURSTS {
        let mut senders: Vec<_> = (0..20).map(|_| gateway.connect().unwrap()).collect();
        for sender in &mut senders {
            sender.send(&unfinished).unwrap();
        }
        wait_until("the bodies", SOON, || resident.grown() > 19 * MIB).unwrap();
        for sender in &mut senders {
            assert_eq!(sender.ask("x").unwrap().status, 200);
        }
        drop(senders);
        resident.comes_back();
    }
}

#[test]
fn the_memory_of_senders_comes_back() {
    let gateway = TestGateway::with_limits("").unwrap();
    let resident = Resident::of(&gateway);
    for _ in 0..BURSTS {
        let mut senders = Vec::new();
        // On a busy machine the first ones rest before the last have come, and hold less.
        while senders.len() < 300 || (resident.grown() <= 2 * LEFT && senders.len() < 900) {
            let mut sender = gateway.connect().unwrap();
            assert_eq!(sender.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
            senders.push(sender);
        }
        assert!(resident.grown() > 6 * MIB, "{} of {} senders", resident.grown(), senders.len());
        drop(senders);
        resident.comes_back();
    }
}

#[test]
fn the_memory_of_an_earlier_configuration_comes_back() {
    let gateway = TestGateway::with_limits("").unwrap();
    let resident = Resident::of(&gateway);
    let ranges: String = (0..100_000).map(|number| format!("{}\n", Ipv4Addr::from(number << 8))).collect();
    let file = gateway.environment.write("ranges", ranges).unwrap();
    let small = gateway.environment.toml("", "");
    let lines =
        format!("name = \"percolate\"\nsource_range_files = [{}]\nsource_ranges_check = \"count\"", quoted(&file));
    let large = small.replacen("name = \"percolate\"", &lines, 1);
    for _ in 0..BURSTS {
        gateway.reload(&large).unwrap();
        assert!(resident.grown() > 6 * MIB, "{}", resident.grown());
        gateway.reload_permitting(&small).unwrap();
        resident.comes_back();
    }
}

#[test]
fn memory_is_resident_in_small_pages() {
    let gateway = TestGateway::start().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.daemon.process_id())).unwrap();
    // proc(5): since Linux 5.0. It says whether the process may use huge pages if the host enables them.
    assert!(status.lines().any(|line| line.split_whitespace().eq(["THP_enabled:", "0"])), "{status}");
}
