//! Hellos and answers: made by hand, by OpenSSL's description of the same bytes in RFC 8446, and at random.

use super::*;

/// A record of a handshake with this content.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 3, 3];
    length16(&mut bytes, content);
    bytes
}

/// A ServerHello.
fn hello(version: u16, suite: u16, extensions: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    length8(&mut body, &[1; 32]);
    body.extend(suite.to_be_bytes());
    body.push(0);
    if !extensions.is_empty() {
        length16(&mut body, extensions);
    }
    let mut message = vec![SERVER_HELLO, 0];
    length16(&mut message, &body);
    message
}

const SUITE_12: u16 = 0xc02f;
const SUITE_13: u16 = 0x1301;
const SELECTS_TLS13: [u8; 6] = [0, 43, 0, 2, 3, 4];

#[test]
fn answers_are_told_apart() {
    let selected = |version, suite: u16| Some(Answer::Selected(version, CipherSuite::from(suite)));
    let check = |bytes: &[u8], expected| assert_eq!(parse(bytes), expected, "{bytes:02x?}");
    check(&record(HANDSHAKE, &hello(0x0303, SUITE_12, &[])), selected(TlsVersion::Tls12, SUITE_12));
    check(&record(HANDSHAKE, &hello(0x0303, SUITE_13, &SELECTS_TLS13)), selected(TlsVersion::Tls13, SUITE_13));
    check(&record(HANDSHAKE, &hello(0x0302, 0xc013, &[])), selected(TlsVersion::Tls11, 0xc013));
    check(&record(ALERT, &[2, 70]), Some(Answer::Alert(AlertDescription::ProtocolVersion)));
    check(b"HTTP/1.1 400 Bad Request\r\n", Some(Answer::NotTls));
    check(b"SSH-2.0-OpenSSH_9.2\r\n", Some(Answer::NotTls));
    // A suite of another version than the one that is selected.
    check(&record(HANDSHAKE, &hello(0x0303, SUITE_13, &[])), Some(Answer::NotTls));
    check(&record(HANDSHAKE, &hello(0x0303, SUITE_12, &SELECTS_TLS13)), Some(Answer::NotTls));
    check(&record(HANDSHAKE, &hello(0x7f1c, SUITE_12, &[])), Some(Answer::NotTls));
}

#[test]
fn an_answer_in_pieces_is_waited_for() {
    let message = hello(0x0303, SUITE_12, &[]);
    let (one, other) = message.split_at(20);
    let bytes = [record(HANDSHAKE, one), record(HANDSHAKE, other)].concat();
    for length in 0..bytes.len() {
        assert_eq!(parse(&bytes[..length]), None, "{length}");
    }
    assert!(matches!(parse(&bytes), Some(Answer::Selected(..))));
}

#[test]
fn no_bytes_of_a_stranger_make_it_panic() {
    let mut random = fastrand::Rng::with_seed(1);
    let whole = record(HANDSHAKE, &hello(0x0303, SUITE_13, &SELECTS_TLS13));
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        bytes.truncate(random.usize(..=bytes.len()));
        let _ = parse(&bytes);
    }
}

#[test]
fn a_hello_offers_what_it_is_told() {
    let suites: Vec<CipherSuite> = [SUITE_12, 0xc013].map(CipherSuite::from).to_vec();
    let hello = Hello { versions: &[TlsVersion::Tls12], suites: &suites, server_name: Some("a.example") };
    let bytes = hello.encode();
    assert_eq!(bytes[..3], [HANDSHAKE, 3, 1]);
    assert_eq!(usize::from(u16::from_be_bytes([bytes[3], bytes[4]])), bytes.len() - 5);
    assert_eq!(u32::from_be_bytes([0, bytes[6], bytes[7], bytes[8]]) as usize, bytes.len() - 9);
    assert_eq!(bytes[9..11], [3, 3]);
    // After the random and the session id.
    assert_eq!(bytes[76..82], [0, 4, 0xc0, 0x2f, 0xc0, 0x13]);
    // What comes before is random.
    let has = |part: &[u8]| bytes[76..].windows(part.len()).any(|window| window == part);
    assert!(has(b"a.example") && !has(&SUPPORTED_VERSIONS.to_be_bytes()), "TLS 1.2 has no supported_versions");
    assert!(has(&[0, 10, 0, 10, 0, 8, 0, 0x1d, 0, 0x17, 0, 0x18, 0, 0x19]), "and no group with ML-KEM: {bytes:02x?}");
    let newest = Hello { versions: &[TlsVersion::Tls12, TlsVersion::Tls13], suites: &suites, server_name: None };
    let bytes = newest.encode();
    let has = |part: &[u8]| bytes[76..].windows(part.len()).any(|window| window == part);
    assert!(has(&[0, 43, 0, 5, 4, 3, 4, 3, 3]), "{bytes:02x?}");
    assert!(has(&[0, 10, 0, 12, 0, 10, 0x11, 0xec, 0, 0x1d, 0, 0x17, 0, 0x18, 0, 0x19]), "{bytes:02x?}");
    assert!(has(&[0, 51, 0, 2, 0, 0]), "no share of any group: {bytes:02x?}");
    let all: Vec<CipherSuite> = suite::named().collect();
    assert!(all.len() < Hello::MAXIMUM_SUITES, "{}", all.len());
}
