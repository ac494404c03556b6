//! What a stream tells of its header: where it ends, and why it is refused.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::Write as _;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use hookgate_io::{Backend, block_on};

use super::*;
use crate::strangers::Strangers;

const PROXY: &str = "10.0.0.1:50000";

fn proxies(ranges: &[&str]) -> Proxies {
    Proxies::new(Ranges::new(&ranges.iter().map(|range| range.parse().unwrap()).collect::<Vec<_>>()))
}

/// What comes of a connection from a proxy that sends `pieces`, each on its own, and the bytes that are left for TLS.
fn arrive(pieces: &[&[u8]], strangers: &Rc<Strangers>) -> (Result<Origin, HeaderError>, Vec<u8>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    let sender = thread::spawn(move || {
        for piece in pieces {
            // It fails if the other thread has given up already.
            let _ = theirs.write_all(&piece);
            // Time enough for the other thread to receive it, so that the next one arrives alone; or the pieces are tested together.
            thread::sleep(Duration::from_millis(2));
        }
        let _ = theirs.shutdown(Shutdown::Write);
        theirs
    });
    let outcome = block_on(Backend::Epoll, async {
        let descriptor = Rc::new(OwnedFd::from(ours));
        let stranger = strangers.arrived(&descriptor, "10.0.0.1".parse().unwrap(), Duration::ZERO);
        let mut socket = Socket::new(Backend::Epoll, descriptor).unwrap();
        let proxy = proxies(&["10.0.0.0/8"]).at(PROXY.parse().unwrap()).unwrap();
        let origin = proxy.origin(&mut socket, &stranger).await;
        let mut left = Vec::new();
        while origin.is_ok() && poll_fn(|context| socket.poll_fill(context)).await.unwrap() > 0 {
            left.extend_from_slice(socket.buffered());
            socket.consume(usize::MAX);
        }
        (origin, left)
    });
    drop(sender.join().unwrap());
    outcome.unwrap()
}

#[test]
fn only_a_source_in_the_ranges_is_a_proxy() {
    let both = proxies(&["10.0.0.0/8", "2001:db8::/32"]);
    for (address, expected) in [
        ("10.255.0.1:1", true),
        ("[::ffff:10.0.0.1]:1", true),
        ("[2001:db8::1]:1", true),
        ("11.0.0.1:1", false),
        ("[2001:db9::1]:1", false),
    ] {
        assert_eq!(both.at(address.parse().unwrap()).is_some(), expected, "{address}");
        assert!(Proxies::default().at(address.parse().unwrap()).is_none(), "{address}");
    }
}

#[test]
fn a_header_in_any_two_pieces_is_taken_and_what_follows_is_left() {
    let strangers = Strangers::new();
    let header = b"PROXY TCP4 192.0.2.1 203.0.113.7 40000 443\r\n";
    let all = [&header[..], b"\x16\x03\x01 hello"].concat();
    let expected = Origin { peer: "192.0.2.1:40000".parse().unwrap(), proxy: Some(PROXY.parse().unwrap()) };
    for end in 1..all.len() {
        let (origin, left) = arrive(&[&all[..end], &all[end..]], &strangers);
        assert_eq!(origin.unwrap(), expected, "{end}");
        assert_eq!(left, &all[header.len()..], "{end}");
    }
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    let (origin, left) = arrive(&bytes, &strangers);
    assert_eq!((origin.unwrap(), left.as_slice()), (expected, &all[header.len()..]));
}

#[test]
fn a_proxy_that_conveys_no_address_is_the_peer() {
    let (origin, left) = arrive(&[b"PROXY UNKNOWN\r\n", b"\x16"], &Strangers::new());
    let origin = origin.unwrap();
    assert_eq!((origin.address(), origin.proxy()), (PROXY.parse().unwrap(), Some(PROXY.parse().unwrap())));
    assert_eq!(left, b"\x16");
    let direct = Origin::direct(PROXY.parse().unwrap());
    assert_eq!((direct.address(), direct.proxy()), (PROXY.parse().unwrap(), None));
}

#[test]
fn a_connection_that_ends_within_its_header_is_closed_and_a_flaw_is_told() {
    let strangers = Strangers::new();
    for pieces in [&[][..], &[&b"PROXY TCP4 192"[..]], &[b"\r\n\r\n\0", b"\r\nQUIT\n"]] {
        assert!(matches!(arrive(pieces, &strangers).0, Err(HeaderError::Closed)), "{pieces:?}");
    }
    let (outcome, _) = arrive(&[b"PROXY TCP4", b" here there 1 2\r\n"], &strangers);
    assert!(matches!(outcome, Err(HeaderError::Flawed(Flaw::MalformedLine))), "{outcome:?}");
}

#[test]
fn the_longest_header_in_pieces_stays_within_its_bound_and_counts_as_a_strangers() {
    let strangers = Strangers::new();
    // Room for one such connection, and no more.
    strangers.set_share(SILENT + MAXIMUM_BYTES);
    let length = u16::try_from(MAXIMUM_BYTES - 16).unwrap().to_be_bytes();
    let mut header =
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &[192, 0, 2, 1, 203, 0, 113, 7, 0, 1, 0, 2]].concat();
    header.resize(MAXIMUM_BYTES, 0);
    let all = [&header[..], &[7; 6000]].concat();
    let (origin, left) = arrive(&[&all[..100], &all[100..4000], &all[4000..4095], &all[4095..]], &strangers);
    assert_eq!(origin.unwrap().address(), "192.0.2.1:1".parse().unwrap());
    assert_eq!(left, [7; 6000]);
    strangers.set_share(SILENT + 50);
    let (outcome, _) = arrive(&[&all[..100]], &strangers);
    assert!(matches!(outcome, Err(HeaderError::Evicted(Eviction::Memory))), "{outcome:?}");
}
