//! Peers that do the handshake wrong, slowly, or not at all: each is counted, and none does harm.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use hookgate_testkit::client::{OpenSsl, TlsVersion, raw};
use hookgate_testkit::configuration::HOST;
use hookgate_testkit::documents::{PAGERDUTY, PERCOLATE};
use hookgate_testkit::pki::{Sender, Variant};
use rustls::AlertDescription;

use crate::environment::SOON;
use crate::test_gateway::TestGateway;
use crate::tls_client::{End, TlsClient, request};

/// Content type of an alert record (RFC 8446, section 5.1).
const ALERT: u8 = 21;

/// Content type of a handshake record.
const HANDSHAKE: u8 = 22;

/// A short limit, so that the tests wait little.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(400);

fn start() -> TestGateway {
    TestGateway::configured(|configuration| configuration.limits = "handshake_timeout_ms = 400").unwrap()
}

fn hello(version: TlsVersion) -> Vec<u8> {
    raw::client_hello(|port| OpenSsl::new(HOST, port).version(version)).unwrap()
}

/// Runs `act` on a connection. Fails unless the daemon then closes it, counts it once for `reason`, releases it, and still serves
/// others. Returns what the daemon sent.
fn check(gateway: &TestGateway, reason: &str, act: impl FnOnce(&mut TcpStream)) -> Vec<u8> {
    let before = gateway.rejections(reason).unwrap();
    let handshakes = [("result", reason)];
    let failed = gateway.daemon.metric("hookgate_handshakes_total", &handshakes).unwrap();
    let mut stream = raw::connect(gateway.daemon.port()).unwrap();
    act(&mut stream);
    let ended = raw::read_to_end(&mut stream, SOON).unwrap();
    assert!(ended.closed, "the connection was left open; the log:\n{}", gateway.daemon.log());
    assert_eq!(gateway.wait_rejections(reason, before + 1.0).unwrap(), before + 1.0, "{reason}");
    assert_eq!(gateway.daemon.metric("hookgate_handshakes_total", &handshakes).unwrap(), failed + 1.0, "{reason}");
    drop(stream);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
    ended.bytes
}

#[test]
fn plain_http_is_answered_in_plain_http() {
    let gateway = start();
    for method in ["GET", "POST", "OPTIONS"] {
        let said = check(&gateway, "plain_http", |stream| {
            let body = "x".repeat(3000);
            write!(stream, "{method} / HTTP/1.1\r\nHost: hooks.example.com\r\nContent-Length: 3000\r\n\r\n{body}")
                .unwrap();
        });
        let said = String::from_utf8_lossy(&said);
        let (head, body) = said.split_once("\r\n\r\n").unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 400 ") && head.contains("connection: close"), "{said}");
        assert!(head.contains(&format!("content-length: {}", body.len())) && body.contains("speaks TLS"), "{said}");
    }
}

#[test]
fn a_first_message_that_is_no_client_hello_is_answered_with_an_alert() {
    let gateway = start();
    // HelloRequest, ServerHelloDone, ClientKeyExchange, Finished, an unknown one (RFC 8446, section 4), then other records.
    let messages = [0, 14, 16, 20, 74].map(|kind| vec![HANDSHAKE, 3, 1, 0, 4, kind, 0, 0, 0]);
    let records = [vec![20, 3, 3, 0, 1, 1], vec![23, 3, 3, 0, 1, 0]];
    for bytes in messages.into_iter().chain(records) {
        let said = check(&gateway, "handshake_failed", |stream| stream.write_all(&bytes).unwrap());
        assert_eq!(said, [ALERT, 3, 3, 0, 2, 2, 10], "{bytes:?}");
    }
}

#[test]
fn garbage_is_counted_and_cut() {
    let gateway = start();
    // A multiplicative sequence: the same bytes each time, without a pattern that a parser could accept as a record.
    let noise: Vec<u8> = (1..=2048_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    let rows: [(&str, &[u8]); 6] = [
        ("noise", &noise),
        ("zeros", &[0; 512]),
        ("a record longer than allowed", &[HANDSHAKE, 3, 1, 0xFF, 0xFF, 1, 0]),
        ("an empty handshake record", &[HANDSHAKE, 3, 1, 0, 0]),
        ("a ServerHello", &[HANDSHAKE, 3, 3, 0, 4, 2, 0, 0, 0]),
        ("an alert", &[ALERT, 3, 3, 0, 2, 2, 40]),
    ];
    for (what, bytes) in rows {
        println!("{what}");
        check(&gateway, "handshake_failed", |stream| {
            stream.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
    }
}

#[test]
fn a_client_hello_with_a_flipped_bit_does_no_harm() {
    let gateway = start();
    let hello = hello(TlsVersion::Tls13);
    // Type and length of the message, version, session id, suites and what follows them.
    for place in [5, 6, 8, 9, 43, 78, 80, 120] {
        let mut stream = raw::connect(gateway.daemon.port()).unwrap();
        let mut damaged = hello.clone();
        damaged[place] ^= 0x80;
        stream.write_all(&damaged).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(raw::read_to_end(&mut stream, SOON).unwrap().closed, "byte {place}");
    }
    gateway.still_serves().unwrap();
}

#[test]
fn a_client_hello_that_is_too_long_is_refused_as_soon_as_that_shows() {
    let gateway = start();
    // A record of 16,384 bytes, with the beginning of a ClientHello of 65,535.
    let announced = [HANDSHAKE, 3, 1, 0x40, 0, 1, 0, 0xFF, 0xFF].to_vec();
    // A ClientHello of 17,000 bytes in records of one byte, each with a header of five.
    let message: Vec<u8> = [&[1, 0, 0x42, 0x68, 3, 3][..], &[0; 16_000]].concat();
    let split: Vec<u8> = message.iter().flat_map(|byte| [HANDSHAKE, 3, 1, 0, 1, *byte]).take(20_000).collect();
    for bytes in [announced, split] {
        let said = check(&gateway, "hello_too_large", |stream| stream.write_all(&bytes).unwrap());
        // A fatal illegal_parameter.
        assert_eq!(said, [ALERT, 3, 3, 0, 2, 2, 47]);
    }
}

#[test]
fn a_client_that_sends_nothing_is_cut_in_time() {
    let gateway = start();
    check(&gateway, "handshake_timeout", |_| {});
}

#[test]
fn a_client_that_falls_silent_in_its_hello_is_cut_in_time() {
    let gateway = start();
    let hello = hello(TlsVersion::Tls13);
    check(&gateway, "handshake_timeout", |stream| stream.write_all(&hello[..hello.len() / 2]).unwrap());
}

#[test]
fn a_client_that_falls_silent_after_its_hello_is_cut_in_time() {
    let gateway = start();
    for version in TlsVersion::ALL {
        let hello = hello(version);
        let said = check(&gateway, "handshake_timeout", |stream| stream.write_all(&hello).unwrap());
        assert_eq!(said.first(), Some(&HANDSHAKE), "{version:?}: {said:?}");
    }
}

#[test]
fn a_client_that_sends_byte_by_byte_gains_no_time() {
    let gateway = start();
    let hello = hello(TlsVersion::Tls13);
    check(&gateway, "handshake_timeout", |stream| {
        let pause = HANDSHAKE_TIMEOUT / 20;
        let sent = raw::send_slowly(stream, &hello, 1, pause);
        assert!(sent < hello.len(), "all {sent} bytes were accepted");
    });
}

#[test]
fn a_client_that_closes_in_the_middle_is_counted() {
    let gateway = start();
    for version in TlsVersion::ALL {
        let hello = hello(version);
        for length in [0, 3, hello.len() / 2, hello.len()] {
            println!("{version:?}: {length} bytes");
            check(&gateway, "handshake_failed", |stream| {
                stream.write_all(&hello[..length]).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
        }
    }
}

#[test]
fn a_handshake_that_arrives_byte_by_byte_succeeds() {
    let gateway = TestGateway::start().unwrap();
    let identity = gateway.environment.identity(Sender::PagerDuty, Variant::Good).unwrap();
    for version in TlsVersion::ALL {
        let port = raw::trickle(gateway.daemon.port(), Duration::from_micros(100)).unwrap();
        let client = OpenSsl::new(HOST, port).trusting(gateway.environment.pki.server_root().path()).version(version);
        let outcome = client.identity(&identity).post(HOST, PAGERDUTY.path, b"{}").run().unwrap();
        let status = outcome.response().map(|response| response.status);
        assert_eq!(status, Some(200), "{version:?}: {}{}", outcome.stderr, outcome.text());
    }
}

/// RFC 8446, section 5.1: a handshake message may be split over any number of records.
#[test]
fn a_client_hello_in_records_of_one_byte_is_understood() {
    let gateway = start();
    let hello = hello(TlsVersion::Tls13);
    let records: Vec<u8> = hello[5..].iter().flat_map(|byte| [HANDSHAKE, 3, 1, 0, 1, *byte]).collect();
    let mut stream = raw::connect(gateway.daemon.port()).unwrap();
    stream.write_all(&records).unwrap();
    let said = raw::read_to_end(&mut stream, HANDSHAKE_TIMEOUT / 2).unwrap().bytes;
    // The answer begins with a ServerHello.
    assert_eq!((said.first(), said.get(5)), (Some(&HANDSHAKE), Some(&2)), "{said:?}");
}

/// The record is one of application data, and no key decrypts it. What follows it is never read.
#[test]
fn a_record_that_cannot_be_decrypted_is_answered_with_an_alert() {
    let gateway = start();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let client = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &identity).unwrap();
    let garbage = [&[23, 3, 3, 0, 40][..], &[7; 40], &[9; 30_000]].concat();
    let whole = request("POST", PERCOLATE.path, b"{}");
    // After the handshake, in a head, in a body, and between two requests.
    for sent in [&[][..], &whole[..20], &whole[..whole.len() - 1], &whole] {
        let mut connection = client.connect().unwrap();
        if sent.len() == whole.len() {
            assert_eq!(connection.ask(sent).unwrap().status, 200);
        } else {
            connection.send(sent).unwrap();
        }
        connection.send_raw(&garbage).unwrap();
        let alert = connection.alert().unwrap();
        assert_eq!(alert, AlertDescription::BadRecordMac, "after {} bytes", sent.len());
    }
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

/// A request while other connections hold incomplete handshakes.
#[test]
fn good_requests_are_served_between_bad_handshakes() {
    // Longer than curl takes on a busy machine.
    let limits = "handshake_timeout_ms = 3000";
    let gateway = TestGateway::configured(|configuration| configuration.limits = limits).unwrap();
    let identity = gateway.environment.identity(Sender::Percolate, Variant::Good).unwrap();
    let mut silent: Vec<TcpStream> = (0..50).map(|_| raw::connect(gateway.daemon.port()).unwrap()).collect();
    for (index, stream) in silent.iter_mut().enumerate() {
        if index % 2 == 0 {
            stream.write_all(&[HANDSHAKE, 3, 1]).unwrap();
        }
    }
    let outcome = gateway.curl().identity(&identity).post(PERCOLATE.path, b"{}").run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    gateway.wait_rejections("handshake_timeout", 50.0).unwrap();
}

/// rustls counts how many such records come in a row. A byte of content begins a new row, so without a bound a refused peer could have keys
/// derived for as long as it likes.
#[test]
fn key_updates_of_a_refused_peer_have_a_bound() {
    let gateway = TestGateway::start().unwrap();
    let expired = gateway.environment.identity(Sender::Percolate, Variant::Expired).unwrap();
    let refused = TlsClient::new(gateway.daemon.port(), &gateway.environment.pki, &expired).unwrap();
    for has_content in [false, true] {
        let mut connection = refused.connect().unwrap();
        connection.send("POST / HTTP/1.1\r\nx-a: ").unwrap();
        // Some 48 bytes each, of which the kernel may take a few hundred KiB ahead.
        let sent = connection.update_keys(50_000, has_content);
        let end = connection.end(SOON);
        assert!(sent.is_err() || end.is_err() || end.is_ok_and(|(_, end)| end != End::Open), "{has_content}");
    }
    gateway.wait_no_connection().unwrap();
    // A sender may update its keys as it goes.
    let mut connection = gateway.connect().unwrap();
    for _ in 0..20 {
        connection.update_keys(20, false).unwrap();
        assert_eq!(connection.ask(request("POST", PERCOLATE.path, b"{}")).unwrap().status, 200);
    }
}

/// What comes with the ClientHello in one segment is not forgotten until more comes.
#[test]
fn an_alert_behind_the_client_hello_ends_the_handshake_at_once() {
    let gateway =
        TestGateway::configured(|configuration| configuration.limits = "handshake_timeout_ms = 60000").unwrap();
    // user_canceled and handshake_failure as fatal alerts, and a message that no client sends here.
    for tail in [&[ALERT, 3, 3, 0, 2, 2, 90][..], &[ALERT, 3, 3, 0, 2, 2, 40], &[HANDSHAKE, 3, 3, 0, 4, 20, 0, 0, 0]] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            check(&gateway, "handshake_failed", |stream| {
                stream.write_all(&[&hello(version)[..], tail].concat()).unwrap();
            });
        }
    }
}
