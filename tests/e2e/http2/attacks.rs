//! Attacks that HTTP/2 makes possible: each ends its connection after a bounded number of frames, and harms nobody else.

use hookgate_testkit::handler::Behaviour;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, HEADERS, Http2, PING, PRIORITY, PROTOCOL_ERROR,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, field, frame, head, open, request, reset,
};
use super::start;
use crate::memory::{MIB, Resident};
use crate::test_gateway::TestGateway;

/// Frames that are no request and are handled at first, and what a loaded machine may give back of them meanwhile.
const ALLOWANCE: usize = 1000 + 2000;

/// Streams of a connection at a time.
const STREAMS: u64 = 100;

/// Sends `frames`. Fails unless the daemon sends the peer away with `code`, counts that for `reason`, and still serves others. Returns what was
/// seen.
fn flood(gateway: &TestGateway, (code, reason): (u32, &str), frames: impl Iterator<Item = Vec<u8>>) -> Http2 {
    let before = gateway.rejections(reason).unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(frames);
    assert_eq!(peer.end().unwrap(), code, "{:?}", peer.seen.last());
    // A request whose body was on its way may be counted, too.
    gateway.wait_rejections(reason, before + 1.0).unwrap();
    // Otherwise the daemon lingers.
    drop(peer.finish_sending());
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
    peer
}

const FLOOD: (u32, &str) = (ENHANCE_YOUR_CALM, "frame_flood");

/// Odd numbers.
fn streams(count: u32) -> impl Iterator<Item = u32> {
    (0..count).map(|index| 2 * index + 1)
}

#[test]
fn frames_that_ask_for_nothing_are_bounded() {
    let gateway = start("");
    let many = |frame: Vec<u8>| std::iter::repeat_n(frame, 20_000);
    let peer = flood(&gateway, FLOOD, many(frame(PING, 0, 0, &[7; 8])));
    assert!((1..ALLOWANCE).contains(&peer.count(PING)), "{} pings", peer.count(PING));
    let peer = flood(&gateway, FLOOD, many(frame(SETTINGS, 0, 0, &[])));
    assert!((1..ALLOWANCE).contains(&peer.count(SETTINGS)), "{} settings", peer.count(SETTINGS));
    flood(&gateway, FLOOD, many(frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])));
    flood(&gateway, FLOOD, many(frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())));
    flood(&gateway, FLOOD, many(frame(0x77, 0, 0, b"unknown")));
}

#[test]
fn rapid_resets_are_bounded() {
    let gateway = start("");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    // All at once: most are reset before they begin.
    let before = gateway.rejections("frame_flood").unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(streams(5000).map(|stream| [request(stream), reset(stream)].concat()));
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    // One by one: each begins before it is reset.
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let mut sent = 0;
    for stream in streams(5000) {
        let known = gateway.handler().request_count();
        if peer.send(request(stream)).is_err()
            || gateway.handler().wait_for(known + 1, crate::environment::SOON).is_err()
        {
            break;
        }
        sent += 1;
        if sent > 400 || peer.send(reset(stream)).is_err() {
            break;
        }
        if gateway.rejections("frame_flood").unwrap() >= before + 2.0 {
            break;
        }
    }
    assert!(sent < 400, "{sent} requests");
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    assert_eq!(gateway.wait_rejections("frame_flood", before + 2.0).unwrap(), before + 2.0);
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

#[test]
fn streams_beyond_the_bound_are_refused_and_too_many_of_them_end_the_connection() {
    let gateway = start("");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(streams(3000).map(request));
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    assert!(gateway.handler().request_count() <= STREAMS, "{}", gateway.handler().request_count());
    let refused = gateway.wait_rejections("stream_limit", 1.0).unwrap();
    assert!(refused <= 33.0, "{refused}");
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
}

/// MadeYouReset (CVE-2025-8671): the peer breaks a rule on a stream, so that the server resets it, while its request goes on.
#[test]
fn streams_that_a_peer_has_the_daemon_reset_are_bounded() {
    let gateway = start("");
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let overflow = |stream| frame(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(streams(3000).map(|stream| [request(stream), overflow(stream)].concat()));
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    assert!(peer.count(RST_STREAM) <= 33, "{}", peer.count(RST_STREAM));
    assert!(gateway.handler().request_count() <= 33, "{}", gateway.handler().request_count());
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.wait_no_connection().unwrap();
    gateway.still_serves().unwrap();
    // No byte of credit: an error of the whole connection.
    let nothing = streams(1).map(|stream| [open(stream), frame(WINDOW_UPDATE, 0, stream, &[0; 4])].concat());
    flood(&gateway, (PROTOCOL_ERROR, "malformed_request"), nothing);
}

#[test]
fn a_head_in_many_frames_is_bounded() {
    let gateway = start("");
    let endless = std::iter::once(frame(HEADERS, 0, 1, &head()))
        .chain(std::iter::repeat_n(frame(CONTINUATION, 0, 1, &field("x", "y")), 5000));
    flood(&gateway, FLOOD, endless);
    let empty =
        std::iter::once(frame(HEADERS, 0, 1, &head())).chain(std::iter::repeat_n(frame(CONTINUATION, 0, 1, &[]), 5000));
    flood(&gateway, FLOOD, empty);
}

#[test]
fn parts_of_a_body_without_content_are_bounded() {
    let gateway = start("");
    for part in [frame(DATA, 0, 1, &[]), frame(DATA, 8, 1, &[3, 0, 0, 0])] {
        flood(&gateway, FLOOD, std::iter::once(open(1)).chain(std::iter::repeat_n(part, 100_000)));
    }
}

/// A field of 4 KiB that one byte repeats: 16 KiB would become 48 MiB.
#[test]
fn a_head_that_grows_when_it_is_decompressed_is_bounded() {
    let gateway = start("");
    let long = field("x", &"y".repeat(3900));
    let indexed = [&[0x40], &long[1..]].concat();
    let bomb = [head(), indexed, vec![0xbe; 12_000]].concat();
    let resident = Resident::of(&gateway);
    for _ in 0..6 {
        flood(&gateway, FLOOD, std::iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)));
    }
    assert!(resident.grown() < 8 * MIB, "{} bytes", resident.grown());
}

#[test]
fn bytes_that_are_no_http2_are_refused_and_counted() {
    let gateway = start("");
    let check = |bytes: Vec<u8>| {
        let before = gateway.rejections("malformed_request").unwrap();
        let mut connection = gateway.client.clone().speaking(&[b"h2"]).connect().unwrap();
        connection.send(bytes).unwrap();
        connection.end(crate::environment::SOON).unwrap();
        assert_eq!(gateway.wait_rejections("malformed_request", before + 1.0).unwrap(), before + 1.0);
        gateway.wait_no_connection().unwrap();
    };
    check(b"GET / HTTP/1.1\r\nHost: hooks.example.com\r\n\r\n".to_vec());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    check([&preface[..], &frame(PING, 0, 0, &[1, 2])].concat());
    check([&preface[..], &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 9, b"x")].concat());
    gateway.still_serves().unwrap();
}
