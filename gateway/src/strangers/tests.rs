//! Tests of the places and bytes of strangers: who gives way, whose turn is next, and what counts.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::Read;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use super::*;

/// A share for these tests.
const MOST: usize = 256 * 1024;

/// A stranger, and the peer's end of its socket.
fn arrive(strangers: &Rc<Strangers>) -> (Stranger, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    (strangers.arrived(&Rc::new(OwnedFd::from(ours)), Ipv4Addr::LOCALHOST.into(), Duration::ZERO), theirs)
}

#[test]
fn the_oldest_strangers_give_way_to_what_a_newer_one_holds() {
    let strangers = Strangers::new();
    strangers.set_share(MOST);
    let mut all: Vec<_> = (0..3).map(|_| arrive(&strangers)).collect();
    assert_eq!(strangers.held(), 3 * SILENT);
    assert_eq!(all[2].0.holds(MOST - 2 * SILENT), Ok(()), "exactly the share");
    assert!(all[0].0.evicted().is_none());
    assert_eq!(all[2].0.holds(MOST - 2 * SILENT + 1), Ok(()));
    assert_eq!(all[0].0.evicted(), Some(Eviction::Memory));
    assert_eq!(all[0].1.read(&mut [0; 1]).unwrap(), 0, "its peer sees the end of the stream");
    assert!(all[1].0.evicted().is_none() && all[1].1.read(&mut [0; 1]).is_err());
    assert_eq!(all[2].0.holds(MOST), Ok(()), "one stranger always has room");
    assert_eq!(all[1].0.evicted(), Some(Eviction::Memory));
    assert_eq!((strangers.count(), strangers.held()), (1, MOST));
}

#[test]
fn an_evicted_stranger_holds_nothing_and_stays_evicted() {
    let strangers = Strangers::new();
    let (stranger, _peer) = arrive(&strangers);
    let (other, _other_peer) = arrive(&strangers);
    assert!(strangers.evict_oldest(Eviction::Place));
    assert_eq!(stranger.holds(MOST), Err(Eviction::Place));
    assert_eq!(strangers.held(), SILENT);
    assert!(strangers.are_leaving(), "its task has not ended");
    drop(stranger);
    assert!(!strangers.are_leaving());
    assert_eq!((strangers.count(), strangers.held()), (1, SILENT));
    drop(other);
    assert_eq!((strangers.count(), strangers.held()), (0, 0));
    assert!(!strangers.are_leaving());
    assert!(!strangers.evict_oldest(Eviction::Place));
}

#[test]
fn a_smaller_share_is_in_force_at_once() {
    let strangers = Strangers::new();
    let all: Vec<_> = (0..2 * MOST / SILENT).map(|_| arrive(&strangers)).collect();
    strangers.set_share(MOST);
    assert!(strangers.held() <= MOST && strangers.held() > MOST - SILENT);
    let evicted = all.iter().take_while(|(stranger, _)| stranger.evicted().is_some()).count();
    assert_eq!(all.len() - evicted, strangers.count(), "the oldest, and no other");
}

#[test]
fn strangers_give_way_to_a_connection_if_they_have_an_eighth_of_the_places() {
    let check = |limit, present, expected| {
        let strangers = Strangers::new();
        let _all: Vec<_> = (0..present).map(|_| arrive(&strangers)).collect();
        assert_eq!(strangers.give_way_first(limit), expected, "{present} of {limit}");
    };
    check(64, 7, false);
    check(64, 8, true);
    check(1, 0, false);
    check(1, 1, true);
    check(5, 1, true);
}

#[test]
fn what_a_stranger_holds_grows_with_what_it_sent() {
    assert_eq!(held(SILENT, 0), SILENT);
    assert_eq!(held(SILENT, 4096), SILENT);
    assert_eq!(held(GREETED, 4097), GREETED + 3);
}

#[test]
fn one_stranger_has_room_with_any_limits() {
    let check = |change: fn(&mut Limits), workers, expected| {
        let mut limits = Limits { max_unadmitted_bytes: 1024 * 1024, ..Limits::default() };
        change(&mut limits);
        assert_eq!(share(&limits, workers, 0), expected, "{limits:?}");
    };
    check(|_| {}, 1, 1024 * 1024);
    check(|_| {}, 2, 512 * 1024);
    check(|_| {}, 128, held(REFUSED + HTTP_2 + 32 * 1024, 48 * 1024));
    check(|limits| limits.max_head_bytes = 1024 * 1024, 1, held(REFUSED + HTTP_2 + 32 * 1024, 1024 * 1024));
}

#[test]
fn a_refused_peer_holds_its_chain_and_what_it_sends() {
    let strangers = Strangers::new();
    let (stranger, _peer) = arrive(&strangers);
    stranger.refused(5000);
    assert_eq!(strangers.held(), REFUSED + 5000);
    stranger.sent(10_000);
    assert_eq!(strangers.held(), held(REFUSED + 5000, 10_000));
}

#[test]
fn one_request_with_its_body_has_room_if_bodies_of_strangers_are_read() {
    let limits = Limits { max_unadmitted_bytes: 1024 * 1024, max_body_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let received = limits.max_head_bytes + limits.max_body_bytes;
    assert_eq!(share(&limits, 4, limits.max_body_bytes), held(REFUSED + HTTP_2 + limits.max_presented_bytes, received));
    assert!(share(&limits, 4, 0) < limits.max_body_bytes);
}

#[test]
fn a_peer_behind_a_proxy_counts_with_its_own_source() {
    const NOW: Duration = Duration::from_secs(1);
    let strangers = Strangers::new();
    strangers.set_failures_per_second(1);
    let behind = |address: &str| {
        let (stranger, _) = arrive(&strangers);
        stranger.comes_from(address.parse().unwrap(), NOW);
        stranger
    };
    let failing = behind("192.0.2.1");
    failing.entry.had_turn.set(true);
    (0..10).for_each(|_| failing.failed(NOW));
    behind("192.0.2.2").admitted(NOW);
    for (address, expected) in
        [("192.0.2.1", Standing::Failing), ("192.0.2.2", Standing::Known), ("192.0.2.3", Standing::Neutral)]
    {
        assert_eq!(behind(address).entry.standing.get(), expected, "{address}");
    }
    assert_eq!(arrive(&strangers).0.entry.standing.get(), Standing::Neutral, "the proxy itself");
}
