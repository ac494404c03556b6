//! Peers that are not admitted: what they can hold, and whom they can push out.

use std::io::Write;
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use hookgate_testkit::client::raw;
use hookgate_testkit::pki::{LeafOptions, Sender};
use hookgate_testkit::wait::wait_until;

use crate::environment::{PATH, SOON};
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, TlsConnection, request};

/// Few enough for a limit of 1,024 descriptors.
const STRANGERS: usize = 600;

const MIB: u64 = 1024 * 1024;

/// The first 16,000 bytes of a ClientHello that is just short enough.
fn unfinished_hello() -> Vec<u8> {
    let mut hello = vec![b'x'; 16_000];
    // RFC 8446, sections 5.1 and 4: a record of 16,384 bytes, with the beginning of a ClientHello of 17,000.
    hello[..11].copy_from_slice(&[22, 3, 1, 0x40, 0, 1, 0, 0x42, 0x68, 3, 3]);
    hello
}

fn ask(connection: &mut TlsConnection) -> u16 {
    connection.ask(request("POST", PATH, b"{}")).unwrap().status
}

/// Connections that have carried a request, and are at rest.
fn idle_senders(gateway: &TestGateway, count: usize) -> Vec<TlsConnection> {
    let mut senders: Vec<_> = (0..count).map(|_| gateway.connect().unwrap()).collect();
    assert!(senders.iter_mut().all(|sender| ask(sender) == 200));
    senders
}

fn silent(gateway: &TestGateway, count: usize) -> Vec<TcpStream> {
    let accepted = || gateway.daemon.metric("hookgate_connections_total", &[]).unwrap();
    let before = accepted();
    let strangers = (0..count).map(|_| raw::connect(gateway.daemon.port()).unwrap()).collect();
    wait_until("the accepts", SOON, || accepted() >= before + count as f64).unwrap();
    strangers
}

#[test]
fn the_memory_of_unfinished_hellos_is_bounded_and_given_back_and_a_sender_gets_in() {
    let gateway = TestGateway::with_limits("max_unadmitted_bytes = 4194304\nhandshake_timeout_ms = 60000").unwrap();
    gateway.still_serves().unwrap();
    let before = gateway.daemon.rss_bytes().unwrap();
    let hello = unfinished_hello();
    let mut strangers = silent(&gateway, STRANGERS);
    for stranger in &mut strangers {
        // It fails if the daemon has closed the connection already.
        let _ = stranger.write_all(&hello);
    }
    // 74 of them hold 56,192 bytes each. Without a bound, all of them together need 16 MiB.
    gateway.wait_rejections("unadmitted_limit", STRANGERS as f64 - 74.0).unwrap();
    let grown = gateway.daemon.rss_bytes().unwrap().saturating_sub(before);
    assert!(grown < 8 * MIB, "{grown} bytes");
    assert_eq!(ask(&mut gateway.connect().unwrap()), 200);
    drop(strangers);
    gateway.wait_no_connection().unwrap();
    let given_back = || gateway.daemon.rss_bytes().is_ok_and(|now| now < before + 2 * MIB);
    wait_until("the return of memory", SOON, given_back).unwrap();
}

#[test]
fn the_memory_of_refused_peers_is_bounded() {
    let gateway = TestGateway::with_limits("max_unadmitted_bytes = 1048576\nrequest_head_timeout_ms = 60000").unwrap();
    let stranger = gateway.environment.pki.sender(Sender::PagerDuty).leaf(
        "stranger",
        &LeafOptions {
            dns_names: Some(vec!["stranger.example".to_owned()]),
            subject: Some(hookgate_testkit::pki::Subject::common_name("stranger")),
            ..LeafOptions::default()
        },
    );
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &stranger.unwrap()).unwrap();
    let mut refused: Vec<_> = (0..60).map(|_| client.connect().unwrap()).collect();
    for connection in &mut refused {
        let _ = connection.send("POST / HTTP/1.1\r\nX-Long: ".to_owned() + &"x".repeat(12_000));
    }
    // 16 of them hold 64 KiB each.
    gateway.wait_rejections("unadmitted_limit", 60.0 - 16.0).unwrap();
    assert_eq!(ask(&mut gateway.connect().unwrap()), 200);
}

#[test]
fn idle_senders_stay_when_silent_strangers_fill_the_connections() {
    let gateway = TestGateway::with_limits("max_connections = 20\nhandshake_timeout_ms = 60000").unwrap();
    let mut senders = idle_senders(&gateway, 10);
    let _strangers = silent(&gateway, 40);
    assert_eq!(senders.iter_mut().filter_map(|sender| sender.ask(request("POST", PATH, b"{}")).ok()).count(), 10);
    assert_eq!(ask(&mut gateway.connect().unwrap()), 200, "a new one gets in");
    assert_eq!(gateway.rejections("connection_limit").unwrap(), 31.0, "the oldest strangers made room");
}

#[test]
fn strangers_take_an_eighth_of_the_connections_from_idle_senders_at_most() {
    let gateway = TestGateway::with_limits("max_connections = 16\nhandshake_timeout_ms = 60000").unwrap();
    let mut senders = idle_senders(&gateway, 16);
    let _strangers = silent(&gateway, 30);
    // So that those that were closed see it before they send.
    sleep(Duration::from_millis(100));
    let stayed = senders.iter_mut().filter_map(|sender| sender.ask(request("POST", PATH, b"{}")).ok()).count();
    assert_eq!(stayed, 14);
}
