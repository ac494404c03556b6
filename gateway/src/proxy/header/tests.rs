//! A header that is right is read as it was meant, and no other one is.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use proptest::prelude::*;

use super::*;

/// A header of version 2 with these addresses and additions.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// Addresses and ports of IPv4, of 192.0.2.1:40000.
const IPV4: [u8; 12] = [192, 0, 2, 1, 203, 0, 113, 7, 0x9C, 0x40, 1, 0xBB];

/// Addresses and ports of IPv6, of `source`, port 40000.
fn ipv6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &[0x20, 1, 0xD, 0xB8], &[0; 12], &[0x9C, 0x40, 1, 0xBB]].concat()
}

fn address(text: &str) -> Option<SocketAddr> {
    Some(text.parse().unwrap())
}

/// Headers that are taken, and what they convey.
fn good() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
    let line = |line: &str| format!("PROXY {line}\r\n").into_bytes();
    let additions = [&IPV4[..], &[3, 0, 4, 1, 2, 3, 4], &[0xE0, 0, 2, 7, 7], &[9]].concat();
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    vec![
        (line("TCP4 192.0.2.1 203.0.113.7 40000 443"), address("192.0.2.1:40000")),
        (line("TCP6 2001:db8::1 2001:db8::2 40000 443"), address("[2001:db8::1]:40000")),
        (line("TCP6 ::ffff:192.0.2.1 ::ffff:203.0.113.7 40000 443"), address("192.0.2.1:40000")),
        (line("UNKNOWN"), None),
        (line(&format!("UNKNOWN {longest} {longest} 65535 65535")), None),
        (line("UNKNOWN and what is ignored, however many words it has"), None),
        (binary(0x21, 0x11, &IPV4), address("192.0.2.1:40000")),
        (binary(0x21, 0x11, &additions), address("192.0.2.1:40000")),
        (binary(0x21, 0x21, &ipv6("2001:db8::1")), address("[2001:db8::1]:40000")),
        (binary(0x21, 0x21, &ipv6("::ffff:192.0.2.1")), address("192.0.2.1:40000")),
        (binary(0x21, 0x11, &[&IPV4[..], &[0; MAXIMUM_BYTES - FIXED_BYTES - 12]].concat()), address("192.0.2.1:40000")),
        (binary(0x21, 0, &[]), None),
        (binary(0x21, 0, &IPV4), None),
        (binary(0x20, 0, &[]), None),
        (binary(0x20, 0x11, &IPV4), None),
        (binary(0x20, 0x31, &[0; 216]), None),
        (binary(0x20, 0x99, &[1]), None),
    ]
}

#[test]
fn a_header_conveys_the_address_of_the_peer_wherever_the_bytes_are_split() {
    for (bytes, source) in good() {
        let expected = Header { length: bytes.len(), source };
        let shown = bytes[..bytes.len().min(80)].escape_ascii().to_string();
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), Ok(None), "{shown}: {end} bytes");
        }
        for after in [&b""[..], &[22, 3, 1, 2, 0], b"\r\n\r\n\n", b"PROXY UNKNOWN\r\n"] {
            assert_eq!(read(&[&bytes, after].concat()), Ok(Some(expected)), "{shown}");
        }
    }
}

/// Expects this flaw, and not before the first `least` bytes.
#[track_caller]
fn check(bytes: &[u8], least: usize, flaw: Flaw) {
    for end in 0..=bytes.len() {
        let expected = if end < least { Ok(None) } else { Err(flaw) };
        assert_eq!(read(&bytes[..end]), expected, "{}: {end} bytes", bytes.escape_ascii());
    }
}

#[test]
fn what_is_no_header_is_seen_at_once() {
    for bytes in [&[22, 3, 1, 2, 0, 1][..], b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"proxy TCP4", &[0; 20]] {
        check(bytes, 1, Flaw::Missing);
    }
    check(b"POST / HTTP/1.1\r\n", 2, Flaw::Missing);
    check(b"PROXYTCP4 192.0.2.1", 6, Flaw::Missing);
    check(b"\r\n\r\n\0\r\nQUIX\n", 11, Flaw::Missing);
}

#[test]
fn a_line_that_is_malformed_or_too_long_is_refused() {
    let longest = MAXIMUM_LINE_BYTES - TEXT.len();
    check(&[TEXT, &vec![b'x'; longest]].concat(), MAXIMUM_LINE_BYTES, Flaw::LongLine);
    let unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAXIMUM_LINE_BYTES));
    check(unknown.as_bytes(), MAXIMUM_LINE_BYTES, Flaw::LongLine);
    for line in [
        "\r\n",
        "TCP4\r\n",
        "TCP4 192.0.2.1 203.0.113.7 40000\r\n",
        "TCP4 192.0.2.1 203.0.113.7 40000 443 1\r\n",
        "TCP4 192.0.2.1 203.0.113.7 40000 443 \r\n",
        "TCP4  192.0.2.1 203.0.113.7 40000 443\r\n",
        "TCP4 192.0.2.1 203.0.113.7 40000 443\n",
        "TCP4 192.0.2.1 203.0.113.7 40000 443\rx\n",
        "TCP4 192.0.2.256 203.0.113.7 40000 443\r\n",
        "TCP4 192.0.2.01 203.0.113.7 40000 443\r\n",
        "TCP4 192.0.2.1 203.0.113.7 65536 443\r\n",
        "TCP4 192.0.2.1 203.0.113.7 040000 443\r\n",
        "TCP4 2001:db8::1 2001:db8::2 40000 443\r\n",
        "TCP6 192.0.2.1 203.0.113.7 40000 443\r\n",
        "TCP6 fe80::1%eth0 2001:db8::2 40000 443\r\n",
        "TCP4 \u{661}92.0.2.1 203.0.113.7 40000 443\r\n",
        "TCP5 192.0.2.1 203.0.113.7 40000 443\r\n",
        "UDP4 192.0.2.1 203.0.113.7 40000 443\r\n",
        "tcp4 192.0.2.1 203.0.113.7 40000 443\r\n",
        "UNKNOWNS\r\n",
        "UNKNOWN\n",
    ] {
        let bytes = [TEXT, line.as_bytes()].concat();
        check(&bytes, bytes.len(), Flaw::MalformedLine);
    }
}

#[test]
fn a_binary_header_that_is_not_taken_is_refused_as_soon_as_that_shows() {
    for family in (0..=u8::MAX).filter(|family| ![0, 0x11, 0x21].contains(family)) {
        check(&binary(0x21, family, &[0; 216]), FIXED_BYTES, Flaw::Family(family));
    }
    for command in (0..=u8::MAX).filter(|command| ![0x20, 0x21].contains(command)) {
        check(&binary(command, 0x11, &IPV4), FIXED_BYTES, Flaw::Command(command));
    }
    for command in [0x20, 0x21] {
        let long = [SIGNATURE, &[command, 0x11], &4081_u16.to_be_bytes()].concat();
        check(&long, FIXED_BYTES, Flaw::Long { length: 4097 });
        let longest = [SIGNATURE, &[command, 0x11, 0xFF, 0xFF]].concat();
        check(&longest, FIXED_BYTES, Flaw::Long { length: FIXED_BYTES + 65_535 });
    }
    let short = binary(0x21, 0x11, &IPV4[..11]);
    check(&short, short.len(), Flaw::ShortAddresses);
    let short = binary(0x21, 0x21, &ipv6("::1")[..35]);
    check(&short, short.len(), Flaw::ShortAddresses);
}

#[test]
fn each_flaw_has_a_sentence_without_bytes_of_the_proxy() {
    for (flaw, words) in [
        (Flaw::Missing, "turn it on at the proxy"),
        (Flaw::LongLine, "longer than 107 bytes"),
        (Flaw::MalformedLine, "in one line"),
        (Flaw::Long { length: 5000 }, "has 5000 bytes, and hookgate takes at most 4096"),
        (Flaw::Command(0x2F), "0x2f"),
        (Flaw::Family(0x31), "0x31"),
        (Flaw::ShortAddresses, "shorter than its addresses"),
    ] {
        let refusal = flaw.refusal();
        let expected = if flaw == Flaw::Missing { Reject::ProxyHeaderMissing } else { Reject::ProxyHeaderInvalid };
        assert_eq!(refusal.reject, expected, "{flaw:?}");
        assert!(refusal.detail().contains(words) && refusal.detail().ends_with('.'), "{}", refusal.detail());
    }
}

#[test]
fn an_unexpected_header_is_told_from_tls_and_plain_http() {
    for (bytes, _) in good() {
        assert!(is_header(&bytes));
    }
    for bytes in [&b"POST / HTTP/1.1\r\n"[..], b"PROXYS", b"\r\n\r\nGET /", &[22, 3, 1, 2, 0, 1], b""] {
        assert!(!is_header(bytes), "{}", bytes.escape_ascii());
    }
}

/// Bytes that are often nearly a header.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop::sample::select(good()).prop_map(|(bytes, _)| bytes);
    let damaged = (whole, any::<prop::sample::Index>(), any::<u8>(), any::<prop::sample::Index>());
    let damaged = damaged.prop_map(|(mut bytes, at, byte, end)| {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(end.index(bytes.len()) + 1);
        bytes
    });
    prop_oneof![damaged, prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn more_bytes_change_no_verdict_and_every_header_ends_in_bounds(bytes in any_bytes(), more in any_bytes()) {
        let verdict = read(&bytes);
        let all = [&bytes[..], &more].concat();
        match verdict {
            Ok(None) => prop_assert!(bytes.len() < MAXIMUM_BYTES),
            Ok(Some(header)) => {
                prop_assert!((1..=bytes.len().min(MAXIMUM_BYTES)).contains(&header.length));
                prop_assert_eq!(read(&bytes[..header.length]), verdict);
                prop_assert_eq!(read(&all), verdict);
            }
            Err(_) => prop_assert_eq!(read(&all), verdict),
        }
    }
}
