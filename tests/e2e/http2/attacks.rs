//! Attacks that HTTP/2 makes possible: each ends its connection after a bounded number of frames, costs little, and harms no other connection.
//!
//! Owns the bounds on what one connection costs. Must not test what an honest peer gets within them: `requests` does.

use std::time::Instant;

use hookgate_testkit::configuration::HOST;
use hookgate_testkit::handler::Behaviour;

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, Http2, LARGEST_WINDOW,
    PING, PRIORITY, PROTOCOL_ERROR, RST_STREAM, SETTINGS, credit, field, frame, head, head_for, open, request, reset,
};
use super::{start, wait_requests};
use crate::environment::SOON;
use crate::memory::{MIB, Resident};
use crate::test_gateway::TestGateway;

/// Frames that are no request and are handled at first; and for each second.
const AT_FIRST: usize = 1000;
const A_SECOND: usize = 100;

/// What h2 has of them when they are found to be too many, or comes of them as long as a loaded machine takes for that: a buffer of frames of nine
/// bytes.
const MORE: usize = 2000;

/// What a reset is worth of them.
const RESET: usize = 10;

/// Streams of a connection at a time, and those that may break the rules, over its life.
const STREAMS: u64 = 100;
const RESETS: u64 = 32;

/// Parts of bodies without content, over the life of a connection.
const EMPTY_PARTS: usize = 100;

/// Frames that continue a head and do not end it.
const CONTINUATIONS: usize = 5;

/// What an attack may cost, in resident memory and in seconds of CPU: some of these tests send a hundred thousand frames.
const MEMORY: u64 = 8 * MIB;
const CPU_SECONDS: f64 = 0.5;

/// What the daemon has used before an attack.
struct Cost<'g> {
    gateway: &'g TestGateway,
    resident: Resident<'g>,
    cpu: f64,
}

impl<'g> Cost<'g> {
    fn of(gateway: &'g TestGateway) -> Self {
        let resident = Resident::of(gateway);
        Self { gateway, resident, cpu: gateway.cpu_seconds().unwrap() }
    }

    /// Fails if it has used more than an attack may.
    #[track_caller]
    fn check(&self) {
        let (memory, cpu) = (self.resident.grown(), self.gateway.cpu_seconds().unwrap() - self.cpu);
        println!("{memory} bytes, {cpu:.2} s of CPU");
        assert!(memory < MEMORY, "{memory} bytes");
        assert!(cpu < CPU_SECONDS, "{cpu} s of CPU");
    }
}

/// Sends `frames`. Fails unless the daemon sends the peer away with `code`, counts that for `reason`, has used little, and still serves others.
/// Returns what was seen.
#[track_caller]
fn flood(gateway: &TestGateway, (code, reason): (u32, &str), frames: impl Iterator<Item = Vec<u8>>) -> Http2 {
    let before = gateway.rejections(reason).unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let cost = Cost::of(gateway);
    peer.flood(frames);
    assert_eq!(peer.end().unwrap(), code, "{:?}", peer.seen.last());
    cost.check();
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

/// A ping whose answer says that everything before it was handled.
const ASKS: [u8; 8] = *b"answered";

fn answers(frame: &Frame) -> bool {
    frame.kind == PING && frame.payload == ASKS
}

/// The frames that are no request and may have been handled since then.
fn allowed_since(began: Instant) -> usize {
    // What a second brings comes when it is over, by a clock that is refreshed now and then.
    AT_FIRST + A_SECOND * (began.elapsed().as_secs() as usize + 1)
}

/// Fails unless the daemon handles about [`AT_FIRST`] of these frames, and what comes of them in the meantime, before it sends a peer away that waits
/// for an answer after every few of them.
fn check_handled(gateway: &TestGateway, what: &str, bytes: &[u8]) {
    const FEW: usize = 50;
    let before = gateway.rejections("frame_flood").unwrap();
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let (began, mut handled) = (Instant::now(), 0);
    loop {
        peer.send([bytes.repeat(FEW), frame(PING, 0, 0, &ASKS)].concat()).unwrap();
        if peer.wait(|frame| answers(frame) || frame.kind == GOAWAY).unwrap().kind == GOAWAY {
            break;
        }
        handled += FEW + 1;
    }
    let most = allowed_since(began);
    assert!((AT_FIRST - 2 * FEW..=most).contains(&handled), "{what}: {handled} of {most}");
    gateway.wait_rejections("frame_flood", before + 1.0).unwrap();
}

#[test]
fn frames_that_ask_for_nothing_are_bounded() {
    let gateway = start("");
    let frames = [
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("settings", frame(SETTINGS, 0, 0, &[])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 16])),
        ("credits", credit(0, 1)),
        ("unknown frames", frame(0x77, 0, 0, b"unknown")),
    ];
    for (what, frame) in frames {
        check_handled(&gateway, what, &frame);
        let peer = flood(&gateway, FLOOD, std::iter::repeat_n(frame, 20_000));
        // Those that have an answer tell how many were handled if the peer waits for nothing.
        let answered = peer.count(PING) + peer.count(SETTINGS);
        assert!(answered < AT_FIRST + MORE, "{what}: {answered} answers");
    }
}

/// Of handlers that do not answer requests which are reset: short, so that the end of the last is not far.
const HANDLER_TIME: &str = "handler_timeout_ms = 2000";

#[test]
fn rapid_resets_are_bounded() {
    let gateway = start(HANDLER_TIME);
    let cost = Cost::of(&gateway);
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    // All at once: most are reset before they begin.
    let (before, known) = (gateway.rejections("frame_flood").unwrap(), gateway.handler().request_count());
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(streams(5000).map(|stream| [request(stream), reset(stream)].concat()));
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    let at_once = gateway.handler().request_count() - known;
    assert!(at_once <= (AT_FIRST / RESET) as u64, "{at_once} requests");
    // One by one: each begins before it is reset.
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let (began, mut handled) = (Instant::now(), 0);
    let steps = streams(1000).flat_map(|stream| [(request(stream), 0), (reset(stream), RESET)]);
    for (frame_of_peer, weight) in steps {
        peer.send([frame_of_peer, frame(PING, 0, 0, &ASKS)].concat()).unwrap();
        if peer.wait(|frame| answers(frame) || frame.kind == GOAWAY).unwrap().kind == GOAWAY {
            break;
        }
        handled += weight + 1;
    }
    let most = allowed_since(began);
    assert!((AT_FIRST - 2 * RESET..=most).contains(&handled), "{handled} of {most}");
    let one_by_one = gateway.handler().request_count() - known - at_once;
    assert!((1..=most / RESET).contains(&(one_by_one as usize)), "{one_by_one} requests");
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM);
    assert_eq!(gateway.wait_rejections("frame_flood", before + 2.0).unwrap(), before + 2.0);
    cost.check();
    recovers(&gateway);
}

/// Fails unless the daemon serves others again, whose handler answers now, and no request of the attack is with it.
fn recovers(gateway: &TestGateway) {
    gateway.handler().set_behaviour(Behaviour::Json);
    gateway.wait_no_connection().unwrap();
    wait_requests(gateway, "in_flight", 0.0);
    gateway.still_serves().unwrap();
}

/// Sends `frames` of requests that their handler does not answer. Fails unless the daemon sends the peer away and has used little. Returns what was
/// seen, and how many requests came to the handler.
#[track_caller]
fn flood_unanswered(gateway: &TestGateway, frames: impl Iterator<Item = Vec<u8>>) -> (Http2, u64) {
    let cost = Cost::of(gateway);
    let before = gateway.handler().request_count();
    gateway.handler().set_behaviour(Behaviour::NeverAnswer);
    let mut peer = Http2::connect(&gateway.client).unwrap();
    peer.flood(frames);
    assert_eq!(peer.end().unwrap(), ENHANCE_YOUR_CALM, "{:?}", peer.seen.last());
    cost.check();
    let handled = gateway.handler().request_count() - before;
    drop(peer.finish_sending());
    recovers(gateway);
    (peer, handled)
}

#[test]
fn streams_beyond_the_bound_are_refused_and_too_many_of_them_end_the_connection() {
    let gateway = start(HANDLER_TIME);
    let (peer, handled) = flood_unanswered(&gateway, streams(3000).map(request));
    assert!(handled <= STREAMS, "{handled}");
    assert!(peer.count(RST_STREAM) as u64 <= RESETS, "{}", peer.count(RST_STREAM));
    let refused = gateway.wait_rejections("stream_limit", 1.0).unwrap();
    assert!(refused <= RESETS as f64, "{refused}");
}

/// What a peer does to a stream, in words and as frames.
type Way<'w> = (&'w str, &'w dyn Fn(u32) -> Vec<u8>);

/// MadeYouReset (CVE-2025-8671): the peer breaks a rule on a stream, so that the server resets it, while its request goes on.
#[test]
fn streams_that_a_peer_has_the_daemon_reset_are_bounded() {
    let gateway = start(HANDLER_TIME);
    let announcing = |stream| {
        let head = [head(), field("content-length", "1")].concat();
        frame(HEADERS, END_HEADERS, stream, &head)
    };
    let ways: [Way<'_>; 5] = [
        ("a window beyond the largest", &|stream| [request(stream), credit(stream, LARGEST_WINDOW)].concat()),
        ("a stream that depends on itself", &|stream| {
            let itself = [&stream.to_be_bytes()[..], &[16]].concat();
            [request(stream), frame(PRIORITY, 0, stream, &itself)].concat()
        }),
        ("the same, before its request is complete", &|stream| {
            let itself = [&stream.to_be_bytes()[..], &[16]].concat();
            [open(stream), frame(PRIORITY, 0, stream, &itself)].concat()
        }),
        ("a longer body than announced", &|stream| [announcing(stream), frame(DATA, 0, stream, b"xx")].concat()),
        ("trailers that do not end the stream", &|stream| {
            [open(stream), frame(HEADERS, END_HEADERS, stream, &field("x", "y"))].concat()
        }),
    ];
    for (what, way) in ways {
        // One of them ends its stream alone, and is counted once.
        let counted = gateway.rejections("malformed_request").unwrap() + 1.0;
        let mut peer = Http2::connect(&gateway.client).unwrap();
        peer.send(way(1)).unwrap();
        peer.wait(|frame| frame.kind == RST_STREAM && frame.stream == 1).unwrap();
        assert_eq!(peer.ask(3, request(3)).unwrap().status, 200, "{what}");
        assert_eq!(gateway.wait_rejections("malformed_request", counted).unwrap(), counted, "{what}");
        drop(peer);
        let before = gateway.rejections("frame_flood").unwrap();
        let (peer, handled) = flood_unanswered(&gateway, streams(3000).map(way));
        assert!(peer.count(RST_STREAM) as u64 <= RESETS, "{what}: {} resets", peer.count(RST_STREAM));
        assert!(handled <= RESETS + 1, "{what}: {handled} requests");
        assert_eq!(gateway.wait_rejections("frame_flood", before + 1.0).unwrap(), before + 1.0, "{what}");
    }
    // Errors of the whole connection: no byte of credit, and a body after its end.
    let broken = (PROTOCOL_ERROR, "malformed_request");
    flood(&gateway, broken, std::iter::once([open(1), credit(1, 0)].concat()));
    let handled = gateway.handler().request_count();
    let ended = streams(3000).map(|stream| [request(stream), frame(DATA, 0, stream, b"x")].concat());
    let peer = flood(&gateway, broken, ended);
    assert_eq!(peer.count(RST_STREAM), 0, "{:?}", peer.seen);
    // Those that show that others are served, and at most one of the peer.
    assert!(gateway.handler().request_count() <= handled + 3, "{}", gateway.handler().request_count() - handled);
}

#[test]
fn a_head_in_many_frames_is_bounded() {
    let gateway = start("");
    let first = || frame(HEADERS, END_STREAM, 1, &head());
    let last = frame(CONTINUATION, END_HEADERS, 1, &field("x", "y"));
    for more in [field("x", "y"), Vec::new()] {
        let more = frame(CONTINUATION, 0, 1, &more);
        let endless = std::iter::once(first()).chain(std::iter::repeat_n(more.clone(), 20_000));
        flood(&gateway, FLOOD, endless);
        // The peer waits for the end after one too many.
        flood(&gateway, FLOOD, std::iter::once([first(), more.repeat(CONTINUATIONS + 1)].concat()));
        let mut peer = Http2::connect(&gateway.client).unwrap();
        let within = [first(), more.repeat(CONTINUATIONS), last.clone()].concat();
        assert_eq!(peer.ask(1, within).unwrap().status, 200);
    }
}

#[test]
fn parts_of_a_body_without_content_are_bounded() {
    let gateway = start("");
    for part in [frame(DATA, 0, 1, &[]), frame(DATA, 8, 1, &[3, 0, 0, 0])] {
        flood(&gateway, FLOOD, std::iter::once(open(1)).chain(std::iter::repeat_n(part.clone(), 100_000)));
        flood(&gateway, FLOOD, std::iter::once([open(1), part.repeat(EMPTY_PARTS + 1)].concat()));
        let mut peer = Http2::connect(&gateway.client).unwrap();
        let within = [open(1), part.repeat(EMPTY_PARTS), frame(DATA, END_STREAM, 1, b"x")].concat();
        assert_eq!(peer.ask(1, within).unwrap().status, 200);
    }
}

#[test]
fn parts_of_a_body_with_a_byte_of_content_cost_little() {
    const PARTS: usize = 50_000;
    let gateway = start("");
    let mut peer = Http2::connect(&gateway.client).unwrap();
    let cost = Cost::of(&gateway);
    peer.send([open(1), frame(DATA, 0, 1, b"x").repeat(PARTS), frame(DATA, END_STREAM, 1, b"")].concat()).unwrap();
    assert_eq!(peer.answer(1).unwrap().status, 200);
    cost.check();
    drop(peer);
    // No request reads what comes after its answer.
    let refused = || frame(HEADERS, END_HEADERS, 1, &head_for("POST", "/nowhere", HOST));
    flood(&gateway, FLOOD, std::iter::once(refused()).chain(std::iter::repeat_n(frame(DATA, 0, 1, b"x"), PARTS)));
}

/// A field of 4 KiB that one byte repeats: 16 KiB would become 48 MiB.
#[test]
fn a_head_that_grows_when_it_is_decompressed_is_bounded() {
    let gateway = start("");
    let long = field("x", &"y".repeat(3900));
    let indexed = [&[0x40], &long[1..]].concat();
    let bomb = [head(), indexed, vec![0xbe; 12_000]].concat();
    let cost = Cost::of(&gateway);
    for _ in 0..6 {
        flood(&gateway, FLOOD, std::iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)));
    }
    let memory = cost.resident.grown();
    assert!(memory < MEMORY, "{memory} bytes");
}

#[test]
fn bytes_that_are_no_http2_are_refused_and_counted() {
    let gateway = start("");
    let check = |bytes: Vec<u8>| {
        let before = gateway.rejections("malformed_request").unwrap();
        let mut connection = gateway.client.clone().speaking(&[b"h2"]).connect().unwrap();
        connection.send(bytes).unwrap();
        connection.end(SOON).unwrap();
        assert_eq!(gateway.wait_rejections("malformed_request", before + 1.0).unwrap(), before + 1.0);
        gateway.wait_no_connection().unwrap();
    };
    check(b"GET / HTTP/1.1\r\nHost: hooks.example.com\r\n\r\n".to_vec());
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    check([&preface[..], &frame(PING, 0, 0, &[1, 2])].concat());
    check([&preface[..], &frame(SETTINGS, 0, 0, &[]), &frame(DATA, 0, 9, b"x")].concat());
    gateway.still_serves().unwrap();
}
