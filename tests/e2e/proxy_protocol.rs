//! The PROXY protocol: who may convey the address of a peer, and what follows from it.
//!
//! The proxy of these tests is at [`PROXY`], an address of the loopback interface; everyone else is at 127.0.0.1.

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use hookgate_testkit::client::{OpenSsl, TlsVersion, raw};
use hookgate_testkit::configuration::HOST;
use socket2::{Domain, SockRef, Socket, Type};

use crate::command::hookgate;
use crate::environment::{Environment, PATH, SOON};
use crate::problem::assert_problem;
use crate::test_gateway::TestGateway;
use crate::tls_client::{TlsClient, TlsConnection, request};

/// The address of the proxy.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A fatal unexpected_message (RFC 8446, section 6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// A line of `[listen]`: the proxy is trusted.
pub(crate) const TRUSTED: &str = "proxy_protocol = { from = [\"127.0.0.9\"] }";

/// Few enough for a limit of 1,024 descriptors.
const STRANGERS: usize = 300;

/// A configuration with these lines in `[listen]`, in the table of Percolate, and in `[limits]`, and a log in JSON.
fn toml(environment: &Environment, listen: &str, provider: &str, limits: &str) -> String {
    let listen = format!("workers = 1\n{listen}");
    let mut configuration = environment.configuration();
    configuration.listen = &listen;
    configuration.limits = limits;
    configuration.proofs = vec![("percolate", format!("proof = \"certificate\"\n{provider}"))];
    let state = environment.state_directory();
    configuration.toml()
        + &environment.any_method_route("")
        + &format!("\n[log]\nformat = \"json\"\nlevel = \"debug\"\n\n[state]\ndirectory = \"{}\"\n", state.display())
}

fn start(provider: &str, limits: &str) -> TestGateway {
    TestGateway::with_toml(|environment| toml(environment, TRUSTED, provider, limits)).unwrap()
}

/// A connection from this address.
fn connect_from(gateway: &TestGateway, address: Ipv4Addr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&gateway.daemon.address().into()).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

/// A header of version 2 for a peer at `source`, with some additions.
fn conveying(source: &str) -> Vec<u8> {
    // NOOP, and the name that the client asked for.
    let additions = [4, 0, 2, 0, 0, 2, 0, 1, b'a'];
    match source.parse().unwrap() {
        SocketAddr::V4(source) => {
            let port = source.port().to_be_bytes();
            let addresses = [&source.ip().octets()[..], &[203, 0, 113, 7], &port, &[1, 0xBB], &additions].concat();
            binary(0x21, 0x11, &addresses)
        }
        SocketAddr::V6(source) => {
            let port = source.port().to_be_bytes();
            let addresses = [&source.ip().octets()[..], &[0; 16], &port, &[1, 0xBB], &additions].concat();
            binary(0x21, 0x21, &addresses)
        }
    }
}

/// A connection through the proxy, whose header is complete.
pub(crate) fn through_proxy(gateway: &TestGateway, header: &[u8]) -> TlsConnection {
    let mut stream = connect_from(gateway, PROXY);
    stream.write_all(header).unwrap();
    gateway.client.handshake(stream).unwrap()
}

/// The address that the handler gets for a request over a connection.
fn address_at_handler(gateway: &TestGateway, connection: &mut TlsConnection) -> String {
    gateway.handler().forget();
    assert_eq!(connection.ask(request("POST", PATH, b"{}")).unwrap().status, 200);
    gateway.handler().requests()[0].field("x-forwarded-for").unwrap().to_owned()
}

/// Runs `act` on a connection from `address`. Fails unless the daemon then closes it, counts it once for `reason`, and says why in one event.
/// Returns what the daemon sent.
fn refused(gateway: &TestGateway, address: Ipv4Addr, reason: &str, act: impl FnOnce(&mut TcpStream)) -> Vec<u8> {
    let before = gateway.rejections(reason).unwrap();
    let handshakes = [("result", reason)];
    let failed = gateway.daemon.metric("hookgate_handshakes_total", &handshakes).unwrap();
    let mut stream = connect_from(gateway, address);
    act(&mut stream);
    let ended = raw::read_to_end(&mut stream, SOON).unwrap();
    // The daemon waits half a second for that.
    drop(stream);
    assert!(ended.closed, "the connection was left open; the log:\n{}", gateway.daemon.log());
    assert_eq!(gateway.wait_rejections(reason, before + 1.0).unwrap(), before + 1.0, "{reason}");
    assert_eq!(gateway.daemon.metric("hookgate_handshakes_total", &handshakes).unwrap(), failed + 1.0, "{reason}");
    let expected = format!("\"reason\":\"{reason}\"");
    gateway.daemon.wait_log(&expected, SOON).unwrap();
    let log = gateway.daemon.log();
    let event = log.lines().rfind(|line| line.contains(&expected)).unwrap_or_default();
    assert!(event.contains(&format!("\"peer\":\"{address}:")) && event.contains("\"detail\":\""), "{event}");
    assert!(!event.contains("\"proxy\""), "no proxy has conveyed an address: {event}");
    ended.bytes
}

#[test]
fn a_conveyed_address_is_the_peers_for_handlers_and_log() {
    let gateway = start("", "");
    for (header, address, peer) in [
        (b"PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\r\n".to_vec(), "192.0.2.1", "192.0.2.1:40000"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 40001 443\r\n".to_vec(), "2001:db8::1", "[2001:db8::1]:40001"),
        (conveying("192.0.2.2:40002"), "192.0.2.2", "192.0.2.2:40002"),
        (conveying("[2001:db8::3]:40003"), "2001:db8::3", "[2001:db8::3]:40003"),
        (conveying("[::ffff:192.0.2.4]:40004"), "192.0.2.4", "192.0.2.4:40004"),
    ] {
        let mut connection = through_proxy(&gateway, &header);
        assert_eq!(address_at_handler(&gateway, &mut connection), address);
        gateway.daemon.wait_log(&format!("\"peer\":\"{peer}\",\"proxy\":\"127.0.0.9:"), SOON).unwrap();
        // A refusal too has the address, and so has what is kept of it.
        let response = connection.ask(request("POST", "/nothing-here", b"{}")).unwrap();
        assert_problem(&response, 404, "no_route", peer);
        let path = gateway.daemon.configuration_path();
        let recent = hookgate(&[OsStr::new("explain"), OsStr::new("--config"), path.as_os_str()]);
        let expected = format!("no_route  peer={peer}  proxy=127.0.0.9:");
        assert!(recent.stdout_text().contains(&expected), "{}{}", recent.stdout_text(), recent.stderr_text());
    }
    // A connection without a proxy is what it was.
    assert_eq!(address_at_handler(&gateway, &mut gateway.connect().unwrap()), "127.0.0.1");
    gateway.daemon.wait_log("\"peer\":\"127.0.0.1:", SOON).unwrap();
    let log = gateway.daemon.log();
    let direct = log.lines().find(|line| line.contains("\"peer\":\"127.0.0.1:")).unwrap();
    assert!(!direct.contains("\"proxy\""), "{direct}");
}

#[test]
fn a_proxy_that_conveys_no_address_keeps_its_own() {
    let gateway = start("", "");
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 203.0.113.7 40000 443\r\n".to_vec(),
        binary(0x20, 0, &[]),
        binary(0x20, 0x11, &[192, 0, 2, 1, 203, 0, 113, 7, 0, 1, 0, 2]),
        binary(0x21, 0, &[]),
    ] {
        let mut connection = through_proxy(&gateway, &header);
        assert_eq!(address_at_handler(&gateway, &mut connection), "127.0.0.9", "{}", header.escape_ascii());
    }
}

#[test]
fn a_health_check_of_a_proxy_is_no_refusal() {
    let gateway = start("", "");
    for header in [b"".to_vec(), b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0, &[])] {
        for resets in [false, true] {
            let mut check = connect_from(&gateway, PROXY);
            check.write_all(&header).unwrap();
            if resets {
                // As HAProxy ends its checks.
                SockRef::from(&check).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(check);
            gateway.wait_no_connection().unwrap();
        }
    }
    let log = gateway.daemon.log();
    assert!(log.contains("handshake ended") && !log.contains("handshake refused"), "{log}");
    assert_eq!(gateway.rejections("proxy_header_missing").unwrap(), 0.0);
}

#[test]
fn curl_as_a_proxy_conveys_an_address() {
    let gateway = start("", "");
    let curl = || gateway.admitted_curl().argument("--interface").argument(PROXY.to_string()).post(PATH, b"{}");
    let outcome = curl().argument("--haproxy-protocol").run().unwrap();
    assert_eq!(outcome.status(), Some(200), "{outcome:?}");
    assert_eq!(gateway.handler().requests()[0].field("x-forwarded-for"), Some("127.0.0.9"));
    let outcome = curl().argument("--verbose").run().unwrap();
    assert_eq!((outcome.status(), outcome.exit_code), (None, Some(35)), "{outcome:?}");
    assert_eq!(outcome.alert(), Some(10), "{}", outcome.stderr);
}

#[test]
fn a_proxy_must_send_a_header() {
    let gateway = start("", "");
    let hello = raw::client_hello(|port| OpenSsl::new(HOST, port).version(TlsVersion::Tls13)).unwrap();
    for bytes in [&hello[..], b"POST /any/hook HTTP/1.1\r\n\r\n", b"proxy TCP4 ", &[0; 300], b"\r\n\r\n\r\n"] {
        let said = refused(&gateway, PROXY, "proxy_header_missing", |stream| stream.write_all(bytes).unwrap());
        assert_eq!(said, UNEXPECTED_MESSAGE, "{}", bytes.escape_ascii());
    }
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn no_other_source_can_convey_an_address() {
    let ranged = "source_ranges = [\"192.0.2.0/24\"]";
    let gateway = start(ranged, "");
    let without = TestGateway::with_toml(|environment| toml(environment, "", ranged, "")).unwrap();
    let hello = raw::client_hello(|port| OpenSsl::new(HOST, port).version(TlsVersion::Tls13)).unwrap();
    for header in [b"PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\r\n".to_vec(), conveying("192.0.2.1:40000")] {
        for (gateway, address) in
            [(&gateway, Ipv4Addr::LOCALHOST), (&gateway, Ipv4Addr::new(127, 0, 0, 10)), (&without, PROXY)]
        {
            let bytes = [&header[..], &hello].concat();
            let said = refused(gateway, address, "proxy_header_unexpected", |stream| stream.write_all(&bytes).unwrap());
            assert_eq!(said, UNEXPECTED_MESSAGE, "{address}");
            let said =
                refused(gateway, address, "proxy_header_unexpected", |stream| stream.write_all(&header).unwrap());
            assert_eq!(said, UNEXPECTED_MESSAGE, "{address}");
        }
        // Nor can a client of the proxy, by a header of its own behind that of the proxy.
        let bytes = [&conveying("198.51.100.1:1"), &header[..], &hello].concat();
        let mut stream = connect_from(&gateway, PROXY);
        let before = gateway.rejections("proxy_header_unexpected").unwrap();
        stream.write_all(&bytes).unwrap();
        assert_eq!(raw::read_to_end(&mut stream, SOON).unwrap().bytes, UNEXPECTED_MESSAGE);
        drop(stream);
        gateway.wait_rejections("proxy_header_unexpected", before + 1.0).unwrap();
        gateway.daemon.wait_log("\"peer\":\"198.51.100.1:1\",\"proxy\":\"127.0.0.9:", SOON).unwrap();
    }
    assert_eq!(gateway.environment.handled() + without.environment.handled(), 0);
}

#[test]
fn what_follows_a_header_is_judged_as_without_a_proxy() {
    let gateway = start("", "");
    let rows: [(&str, &[u8], &[u8]); 3] = [
        ("plain_http", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        // The beginning of a ClientHello of TLS 1.0, and of one that is too long.
        ("tls_version", &[22, 3, 1, 0, 60, 1, 0, 0, 56, 3, 1, 0, 0], &[21, 3, 3, 0, 2, 2, 70]),
        ("hello_too_large", &[22, 3, 1, 0x40, 0, 1, 0, 0xFF, 0xFF], &[21, 3, 3, 0, 2, 2, 47]),
    ];
    for (reason, bytes, said) in rows {
        let before = gateway.rejections(reason).unwrap();
        let mut stream = connect_from(&gateway, PROXY);
        stream.write_all(&[&conveying("192.0.2.1:40000"), bytes].concat()).unwrap();
        let ended = raw::read_to_end(&mut stream, SOON).unwrap();
        drop(stream);
        assert!(ended.closed && ended.bytes.starts_with(said), "{reason}: {ended:?}");
        gateway.wait_rejections(reason, before + 1.0).unwrap();
        let event = format!("\"reason\":\"{reason}\",\"peer\":\"192.0.2.1:40000\",\"proxy\":\"127.0.0.9:");
        gateway.daemon.wait_log(&event, SOON).unwrap();
    }
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn a_header_arrives_in_any_pieces_also_with_the_client_hello() {
    // A busy host takes long for a hundred pieces.
    let gateway = start("", "handshake_timeout_ms = 60000");
    for header in [b"PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\r\n".to_vec(), conveying("192.0.2.1:40000")] {
        let check = |split: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
            let mut client = gateway.client.connection().unwrap();
            let mut all = header.clone();
            client.write_tls(&mut all).unwrap();
            let mut stream = connect_from(&gateway, PROXY);
            for piece in split(&all) {
                stream.write_all(&piece).unwrap();
                thread::sleep(Duration::from_millis(1));
            }
            let mut connection = TlsClient::proceed(client, stream).unwrap();
            assert_eq!(address_at_handler(&gateway, &mut connection), "192.0.2.1");
        };
        check(&|all| vec![all.to_vec()]);
        check(&|all| {
            let (slow, rest) = all.split_at(header.len() + 20);
            slow.chunks(1).chain([rest]).map(<[u8]>::to_vec).collect()
        });
        for end in [1, 5, 6, 12, 13, 15, 16, 20, header.len() - 1, header.len(), header.len() + 1, header.len() + 5] {
            check(&|all| vec![all[..end].to_vec(), all[end..].to_vec()]);
        }
    }
}

#[test]
fn a_header_that_is_malformed_or_too_long_is_refused_at_once() {
    let gateway = start("", "");
    let mut rows: Vec<Vec<u8>> = vec![
        b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\n".to_vec(),
        b"PROXY TCP4 2001:db8::1 2001:db8::2 40000 443\r\n".to_vec(),
        b"PROXY UNIX /run/a.sock\r\n".to_vec(),
        // An AF_UNIX stream, a datagram, an unknown command, version 3, addresses that are cut.
        binary(0x21, 0x31, &[0; 216]),
        binary(0x21, 0x12, &[0; 12]),
        binary(0x22, 0x11, &[0; 12]),
        binary(0x31, 0x11, &[0; 12]),
        binary(0x21, 0x11, &[0; 11]),
    ];
    // The line never ends; the block announces 4,081 bytes, and 65,535.
    rows.push([&b"PROXY "[..], &[b'x'; 101]].concat());
    rows.extend([[0x0F, 0xF1], [0xFF, 0xFF]].map(|length| [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..]].concat()));
    for bytes in rows {
        let said = refused(&gateway, PROXY, "proxy_header_invalid", |stream| stream.write_all(&bytes).unwrap());
        assert_eq!(said, UNEXPECTED_MESSAGE, "{}", bytes.escape_ascii());
    }
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
    // The longest that is taken.
    let addresses = [192, 0, 2, 1, 203, 0, 113, 7, 0, 1, 0, 2];
    let longest = binary(0x21, 0x11, &[&addresses[..], &[0; 4096 - 16 - 12]].concat());
    assert_eq!(address_at_handler(&gateway, &mut through_proxy(&gateway, &longest)), "192.0.2.1");
}

#[test]
fn a_slow_header_gains_no_time() {
    let gateway = start("", "handshake_timeout_ms = 400");
    let header = conveying("192.0.2.1:40000");
    let pause = Duration::from_millis(40);
    refused(&gateway, PROXY, "handshake_timeout", |_| {});
    refused(&gateway, PROXY, "handshake_timeout", |stream| stream.write_all(&header[..20]).unwrap());
    refused(&gateway, PROXY, "handshake_timeout", |stream| {
        assert!(raw::send_slowly(stream, &header, 1, pause) < header.len(), "the whole header was taken");
    });
    // What the header takes is gone for the handshake: of 400 ms, 320. The sweep may be late by 200.
    let before = gateway.rejections("handshake_timeout").unwrap();
    let mut stream = connect_from(&gateway, PROXY);
    raw::send_slowly(&mut stream, &header, header.len().div_ceil(8), pause);
    let ended = raw::read_to_end(&mut stream, SOON).unwrap();
    assert!(ended.closed && ended.after < Duration::from_millis(390), "{ended:?}");
    gateway.wait_rejections("handshake_timeout", before + 1.0).unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn the_memory_of_unfinished_headers_is_bounded_and_a_sender_gets_in() {
    let gateway = start("", "max_unadmitted_bytes = 4194304\nhandshake_timeout_ms = 60000");
    let unfinished = &binary(0x21, 0x11, &[0; 4080])[..4000];
    let mut strangers: Vec<_> = (0..STRANGERS).map(|_| connect_from(&gateway, PROXY)).collect();
    for stranger in &mut strangers {
        // It fails if the daemon has closed the connection already.
        let _ = stranger.write_all(unfinished);
    }
    // 171 of them hold 24,480 bytes each: what a silent one holds, and the part of its header.
    gateway.wait_rejections("unadmitted_limit", STRANGERS as f64 - 171.0).unwrap();
    assert_eq!(gateway.rejections("unadmitted_limit").unwrap(), STRANGERS as f64 - 171.0);
    assert_eq!(address_at_handler(&gateway, &mut through_proxy(&gateway, &conveying("192.0.2.1:1"))), "192.0.2.1");
    drop(strangers);
    gateway.wait_no_connection().unwrap();
}

#[test]
fn the_ranges_of_a_provider_are_about_the_conveyed_address() {
    let gateway = start("source_ranges = [\"192.0.2.0/24\", \"2001:db8::/32\"]", "");
    let check = |mut connection: TlsConnection, status: u16, what: &str| {
        let response = connection.ask(request("POST", PATH, b"{}")).unwrap();
        match status {
            403 => assert_problem(&response, 403, "source_not_in_ranges", what),
            _ => assert_eq!(response.status, status, "{what}"),
        }
    };
    for (source, status) in [
        ("192.0.2.1:1", 200),
        ("[2001:db8::1]:1", 200),
        ("[::ffff:192.0.2.1]:1", 200),
        ("198.51.100.1:1", 403),
        ("[2001:db9::1]:1", 403),
        ("[::ffff:198.51.100.1]:1", 403),
        ("127.0.0.9:1", 403),
    ] {
        check(through_proxy(&gateway, &conveying(source)), status, source);
    }
    check(through_proxy(&gateway, b"PROXY UNKNOWN\r\n"), 403, "the proxy's own address");
    check(gateway.connect().unwrap(), 403, "without a proxy");
}

#[test]
fn a_reload_changes_the_proxies_for_new_connections() {
    let gateway = start("", "");
    let header = conveying("192.0.2.1:1");
    let mut kept = through_proxy(&gateway, &header);
    assert_eq!(address_at_handler(&gateway, &mut kept), "192.0.2.1");
    let other = Ipv4Addr::new(127, 0, 0, 8);
    let moved = toml(&gateway.environment, "proxy_protocol = { from = [\"127.0.0.8\"] }", "", "");
    // One more source would name addresses.
    let error = gateway.reload(&moved).unwrap_err().to_string();
    assert!(error.contains("demands less"), "{error}");
    gateway.daemon.wait_log("listen: proxy_protocol: 127.0.0.8/32 may name any address as its peer's", SOON).unwrap();
    gateway.reload_permitting(&moved).unwrap();
    refused(&gateway, PROXY, "proxy_header_unexpected", |stream| stream.write_all(&header).unwrap());
    let mut stream = connect_from(&gateway, other);
    stream.write_all(&header).unwrap();
    let mut connection = gateway.client.handshake(stream).unwrap();
    assert_eq!(address_at_handler(&gateway, &mut connection), "192.0.2.1");
    assert_eq!(address_at_handler(&gateway, &mut kept), "192.0.2.1", "a connection keeps the address of its peer");
    let log = gateway.daemon.log();
    assert!(log.contains("listen.proxy_protocol.from: [\\\"127.0.0.9\\\"] → [\\\"127.0.0.8\\\"]"), "{log}");
    // Without the key no source names an address, which is not less.
    gateway.reload(&toml(&gateway.environment, "", "", "")).unwrap();
    refused(&gateway, other, "proxy_header_unexpected", |stream| stream.write_all(&header).unwrap());
    let mut direct = gateway.client.handshake(connect_from(&gateway, PROXY)).unwrap();
    assert_eq!(address_at_handler(&gateway, &mut direct), "127.0.0.9");
    let log = gateway.daemon.log();
    assert!(!log.contains("needs a restart") && !log.contains("[listen] has changed"), "{log}");
}
