//! Who gives to whom, how even that makes them, and that nothing is lost or counted twice on the way.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::*;

const UNLIMITED: usize = usize::MAX;

#[test]
fn a_worker_gives_to_the_one_with_fewest_where_it_has_clearly_more() {
    let check = |counts: &[usize], own: usize, limit: usize, expected: Option<usize>| {
        let found = recipient(counts[own], counts.iter().copied(), limit);
        assert_eq!(found, expected, "{counts:?}, accepted by {own}, limit {limit}");
    };
    // A worker alone, and one as full as the others.
    check(&[500], 0, UNLIMITED, None);
    check(&[500, 500], 0, UNLIMITED, None);
    // Few are kept, however few the others have.
    check(&[KEPT - 1, 0], 0, UNLIMITED, None);
    check(&[KEPT, 0], 0, UNLIMITED, Some(1));
    check(&[0, KEPT], 1, UNLIMITED, Some(0));
    // Two more where the others have few, a sixteenth more where they have many.
    check(&[18, 17], 0, UNLIMITED, None);
    check(&[18, 16], 0, UNLIMITED, Some(1));
    check(&[169, 160], 0, UNLIMITED, None);
    check(&[170, 160], 0, UNLIMITED, Some(1));
    // The one with fewest, not the next one.
    check(&[40, 30, 20, 30], 0, UNLIMITED, Some(2));
    check(&[40, 30, 20, 30], 2, UNLIMITED, None);
    // A worker that may have no more gives to whoever may, and to nobody else.
    check(&[10, 9], 0, 10, Some(1));
    check(&[9, 10], 0, 10, None);
    check(&[10, 10], 0, 10, None);
    check(&[11, 10], 0, 10, None);
    check(&[100, 99], 0, 100, Some(1));
    check(&[12, 3], 0, 4, Some(1));
}

/// Whatever the kernel does, counts end up close: arrivals at one worker only, and at random ones.
#[test]
fn long_lived_connections_end_up_even() {
    let mut random = fastrand::Rng::with_seed(7);
    for workers in [2, 3, 4, 8, 64] {
        for share in [1, workers] {
            let mut counts = vec![0_usize; workers];
            for _ in 0..50 * workers {
                let own = random.usize(..share);
                let chosen = recipient(counts[own], counts.iter().copied(), UNLIMITED).unwrap_or(own);
                counts[chosen] += 1;
            }
            let (least, most) = (*counts.iter().min().unwrap(), *counts.iter().max().unwrap());
            assert!(most * 10 <= least * 12, "{workers} workers, arrivals at {share}: {counts:?}");
        }
    }
}

#[test]
fn a_limit_holds_and_a_place_is_given_back() {
    let tally = Arc::new(Tally::default());
    let first = tally.take(2).unwrap();
    let _second = tally.take(2).unwrap();
    assert!(tally.take(2).is_none());
    assert_eq!(tally.connections(), 2, "the attempt is not counted");
    drop(first);
    assert!(tally.take(2).is_some());
    assert_eq!(tally.connections(), 1);
}

/// A connection, and the end by which a peer would see that it was closed.
fn connection() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (ours.into(), theirs)
}

fn is_open(mut peer: &UnixStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    peer.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits a little: where a test beside this one starts a program, the new process has a copy of every descriptor until it
/// executes that program.
fn closes(mut peer: &UnixStream) -> bool {
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    matches!(peer.read(&mut [0]), Ok(0))
}

/// Two workers, of which the first has enough to give the next one away.
fn pair() -> (Siblings, Siblings, Inbox, Vec<Place>) {
    let [(first, _), (second, inbox)] = <[_; 2]>::try_from(Siblings::of(2)).unwrap();
    let places = (0..KEPT).map(|_| first.own().take(UNLIMITED).unwrap()).collect();
    (first, second, inbox, places)
}

#[tokio::test]
async fn a_connection_counts_with_its_receiver_from_the_moment_that_it_is_handed_over() {
    let (first, second, mut inbox, _places) = pair();
    let (descriptor, peer) = connection();
    first.hand_over(descriptor, UNLIMITED).unwrap();
    assert_eq!((first.own().connections(), second.own().connections()), (KEPT, 1));
    let received = inbox.next(&Notify::new()).await.unwrap();
    assert_eq!(second.own().connections(), 1);
    assert!(is_open(&peer));
    drop(received);
    assert_eq!(second.own().connections(), 0);
    assert!(closes(&peer));
}

/// Again and again, since which of two things that are there is seen first is left to chance.
#[tokio::test]
async fn what_is_on_its_way_to_a_worker_that_closes_arrives_and_nothing_more_is_sent() {
    for _ in 0..64 {
        let (first, second, mut inbox, _places) = pair();
        let closing = Notify::new();
        closing.notify_one();
        let (descriptor, peer) = connection();
        first.hand_over(descriptor, UNLIMITED).unwrap();
        let arrived = inbox.next(&closing).await.unwrap();
        assert!(inbox.next(&closing).await.is_none());
        let (descriptor, other) = connection();
        let kept = first.hand_over(descriptor, UNLIMITED).unwrap_err();
        assert!(is_open(&peer) && is_open(&other));
        assert_eq!(second.own().connections(), 1, "what was not sent is not counted");
        drop((arrived, kept));
        assert_eq!(second.own().connections(), 0);
    }
}

#[test]
fn a_worker_that_takes_nothing_is_given_no_more_than_the_queue_holds_and_leaks_nothing() {
    let (first, second, inbox, mut places) = pair();
    places.extend((0..10 * QUEUE).map(|_| first.own().take(UNLIMITED).unwrap()));
    let mut peers = Vec::new();
    let outcomes: Vec<_> = (0..QUEUE + 1)
        .map(|_| {
            let (descriptor, peer) = connection();
            peers.push(peer);
            first.hand_over(descriptor, UNLIMITED)
        })
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), QUEUE);
    assert!(outcomes[QUEUE].is_err());
    assert_eq!(second.own().connections(), QUEUE);
    drop((inbox, outcomes));
    assert_eq!(second.own().connections(), 0);
    assert!(peers.iter().all(closes));
}
