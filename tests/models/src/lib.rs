//! Cases of several threads for a model checker, on the code of the gateway itself: its files are compiled here a second time, with the
//! locks and atomics of shuttle instead of those of std.
//!
//! Owns the cases. A case panics if a promise is broken; `tests/models.rs` runs each in its interleavings. A file that is compiled here
//! names nothing of its crate but `sync`. What several threads share beside these files is immutable behind a pointer (`arc-swap`), or a
//! map of a library (`dashmap`).
#![cfg(not(test))] // The files bring unit tests, which run where the files belong.

/// What the files name in place of std.
mod sync {
    pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
    pub(crate) use std::sync::PoisonError;
}

#[path = "../../../gateway/io/src/ring/reactor/bell.rs"]
mod bell;
#[path = "../../../gateway/core/src/auth/replay/guard.rs"]
pub mod guard;
#[path = "../../../gateway/src/upstream/health.rs"]
mod health;
#[path = "../../../gateway/src/accept/spread.rs"]
pub mod spread;

use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bell::{WakeEvent, WakeFlag};
use guard::{DeliveryDigest, ReplayGuard, Reservation};
use health::{Change, Failure, Health, Standing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustls_pki_types::UnixTime;
use shuttle::sync::atomic::{AtomicUsize, Ordering};
use shuttle::thread;
use spread::{Handover, Inbox, Place, Siblings};
use tokio::sync::Notify;

/// Turns of the worker, after which the case ends.
const TURNS: usize = 3;

/// Whether the worker would come back from the kernel.
fn is_rung(event: &WakeEvent) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(&event.eventfd, PollFlags::IN)], Some(&at_once)).is_ok_and(|ready| ready > 0)
}

/// Other threads wake the tasks of a worker that polls, arms and waits as the reactor does. Whenever it waits although a task is to be
/// polled, its eventfd must be readable.
pub fn no_wake_up_is_lost() {
    let event = Arc::new(WakeEvent::new().expect("the system has descriptors"));
    let flags = [WakeFlag::new(&event), WakeFlag::new(&event)];
    // Everything is polled once before the case begins.
    assert!(flags.iter().all(|flag| flag.take()));
    let wake = |flag: &Arc<WakeFlag>| {
        let waker = Waker::from(Arc::clone(flag));
        thread::spawn(move || waker.wake())
    };
    let others = [wake(&flags[0]), wake(&flags[1])];
    let mut waits = false;
    let mut polled = [0; 2];
    for _ in 0..TURNS {
        for (flag, polled) in flags.iter().zip(&mut polled) {
            *polled += usize::from(flag.take());
        }
        event.arm();
        let is_idle = !flags.iter().any(|flag| flag.is_set());
        waits = is_idle && !is_rung(&event);
        if waits {
            break;
        }
        event.disarm();
        event.clear();
    }
    others.into_iter().for_each(|other| other.join().expect("a wake-up does not panic"));
    let is_left = flags.iter().any(|flag| flag.is_set());
    assert!(!waits || !is_left || is_rung(&event), "the worker waits, and a task is to be polled");
    for (flag, polled) in flags.iter().zip(polled) {
        assert_eq!(polled + usize::from(flag.is_set()), 1, "a wake-up is one poll, now or later");
    }
}

/// Connections that each worker of the cases may have: just enough to hand one over.
const LIMIT: usize = 18;

fn descriptor() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("the system has descriptors")
}

/// What a worker does with a connection that it accepts, as the accept loop does.
fn admit(siblings: &Siblings) -> Option<Place> {
    let descriptor = siblings.hand_over(descriptor(), LIMIT).err()?;
    let place = siblings.own().take(LIMIT);
    drop(descriptor);
    place
}

/// Everything that has arrived, and what arrives until the inbox is closed.
fn drain(inbox: &mut Inbox) -> Vec<Handover> {
    let closing = Notify::new();
    closing.notify_one();
    let mut context = Context::from_waker(Waker::noop());
    let mut arrived = Vec::new();
    while let Poll::Ready(Some(handover)) = pin!(inbox.next(&closing)).poll(&mut context) {
        arrived.push(handover);
    }
    arrived
}

/// Two workers accept while a third one drains. No worker exceeds its limit, each connection counts with one worker, and none is lost.
pub fn connections_count_with_one_worker() {
    // Three places are free with the third worker, and one with each other. If the third one drains at once, those remain.
    accept([17, 17, 15], 2, 2);
}

/// Two workers that are full accept at once, and one place is free with the third one. One of the two gets it.
pub fn the_last_place_is_taken_once() {
    accept([LIMIT, LIMIT, LIMIT - 1], 1, 0);
}

/// Three workers begin with these connections, two of them accept `accepted` each, and the third one drains. At least `served` are served.
fn accept(begin: [usize; 3], accepted: usize, served: usize) {
    let mut workers = Siblings::of(begin.len());
    let own: Vec<_> = workers.iter().map(|(siblings, _)| Arc::clone(siblings.own())).collect();
    let places: Vec<Place> =
        own.iter().zip(begin).flat_map(|(tally, count)| (0..count).filter_map(|_| tally.take(LIMIT))).collect();
    assert_eq!(places.len(), begin.iter().sum::<usize>());
    let (third, mut inbox) = workers.pop().expect("three workers");
    let accepting: Vec<_> = workers
        .into_iter()
        .map(|(siblings, _inbox)| {
            thread::spawn(move || {
                let kept: Vec<_> = (0..accepted).map(|_| admit(&siblings)).collect();
                (siblings, kept)
            })
        })
        .collect();
    let draining = thread::spawn(move || {
        let arrived = drain(&mut inbox);
        (third, inbox, arrived)
    });
    let kept: Vec<_> = accepting.into_iter().map(|worker| worker.join().expect("no worker panics")).collect();
    let (third, mut inbox, mut arrived) = draining.join().expect("no worker panics");
    arrived.extend(drain(&mut inbox));
    let counts: Vec<_> = own.iter().map(|tally| tally.connections()).collect();
    assert!(counts.iter().all(|count| *count <= LIMIT), "beyond the limit of {LIMIT}: {counts:?}");
    let kept_places = kept.iter().flat_map(|(_, kept)| kept).flatten().count();
    assert_eq!(counts.iter().sum::<usize>(), places.len() + kept_places + arrived.len(), "each connection counts once");
    assert!(kept_places + arrived.len() >= served, "a connection was refused although there was room");
    drop((places, kept, arrived, third, inbox));
    assert!(own.iter().all(|tally| tally.connections() == 0), "a place outlives its connection");
}

const NOW: u64 = 1_900_000_000;
const WINDOW: u64 = 600;

fn delivery(number: u8) -> DeliveryDigest {
    ring::digest::digest(&ring::digest::SHA256, &[number]).into()
}

/// What a thread does with its reservation.
#[derive(Clone, Copy)]
enum End {
    Commit,
    Fail,
}

/// Three copies that share an id compete. One has the delivery at a time, and one gets it at all; once one has taken it, no other does; and a
/// failed one leaves nothing behind. Ids are reserved in the order of a rule, so two copies never wait for each other's.
pub fn one_copy_of_a_delivery_is_handled() {
    let guard = Arc::new(ReplayGuard::new(8));
    let (handled, reserved) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let copies: [(&'static [u8], End); 3] = [(&[1, 2], End::Commit), (&[1, 2], End::Commit), (&[3, 2], End::Fail)];
    let threads = copies.map(|(ids, end)| {
        let (guard, handled, reserved) = (Arc::clone(&guard), Arc::clone(&handled), Arc::clone(&reserved));
        thread::spawn(move || {
            let digests: Vec<_> = ids.iter().map(|number| delivery(*number)).collect();
            let Ok(reservation) = guard.reserve(&digests, WINDOW, NOW) else { return 0 };
            reserved.fetch_add(1, Ordering::SeqCst);
            assert_eq!(handled.fetch_add(1, Ordering::SeqCst), 0, "two copies are with the handler at once");
            handled.fetch_sub(1, Ordering::SeqCst);
            finish(reservation, end)
        })
    });
    let taken: usize = threads.into_iter().map(|thread| thread.join().expect("no copy panics")).sum();
    assert!(taken <= 1, "{taken} copies were taken");
    assert!(reserved.load(Ordering::SeqCst) > 0, "no copy reached the handler");
    assert_eq!(guard.len(), 2 * taken, "both ids of the copy that was taken, and no other");
    assert_eq!(guard.is_empty(), guard.reserve(&[delivery(1)], WINDOW, NOW + WINDOW).is_ok());
    // Well after the window, by both clocks.
    guard.advance(Duration::from_secs(2 * WINDOW));
    assert!(
        guard.reserve(&[delivery(1), delivery(2)], WINDOW, NOW + WINDOW + 1).is_ok(),
        "a copy left its id reserved"
    );
}

fn finish(reservation: Reservation, end: End) -> usize {
    match end {
        End::Commit => {
            reservation.commit(UnixTime::since_unix_epoch(Duration::from_secs(NOW)));
            1
        }
        End::Fail => {
            drop(reservation);
            0
        }
    }
}

/// A memory of one delivery, for which two different ones compete: it never holds more, and is free afterwards.
pub fn the_memory_of_deliveries_is_bounded() {
    let guard = Arc::new(ReplayGuard::new(1));
    let threads = [1, 2].map(|number| {
        let guard = Arc::clone(&guard);
        thread::spawn(move || {
            let reservation = guard.reserve(&[delivery(number)], WINDOW, NOW);
            assert!(guard.len() <= 1);
            reservation.is_ok()
        })
    });
    let reserved = threads.into_iter().map(|thread| thread.join().expect("no copy panics"));
    assert!(reserved.fold(false, |any, reserved| any | reserved), "one of two has room");
    assert!(guard.is_empty());
}

/// Requests find that a handler cannot be reached: it is ejected once. When it is due, two requests want to try it, and one from before answers: never
/// do two try it at a time, and its return is told once.
pub fn an_ejected_handler_is_tried_by_one_request() {
    let health = Arc::new(Health::default());
    let failing = [(); 2].map(|()| {
        let health = Arc::clone(&health);
        thread::spawn(move || health.failed(Failure::Unreached, None, 0).is_some())
    });
    let told = failing.into_iter().map(|thread| thread.join().expect("no thread panics")).filter(|told| *told).count();
    assert_eq!(told, 1, "ejections that were told");
    assert!(health.is_ejected());
    let (due, _) = health.next_try().expect("it is ejected");
    assert_eq!(health.standing(|| due), Standing::Due);
    let trying = Arc::new(AtomicUsize::new(0));
    let tries = [true, false].map(|answers| {
        let (health, trying) = (Arc::clone(&health), Arc::clone(&trying));
        thread::spawn(move || {
            let Some(begun) = health.begin_try(due) else { return 0 };
            assert_eq!(trying.fetch_add(1, Ordering::SeqCst), 0, "two requests try it");
            trying.fetch_sub(1, Ordering::SeqCst);
            let change =
                if answers { health.answered() } else { health.failed(Failure::Unanswered, Some(&begun), due) };
            health.end_try(&begun);
            usize::from(change == Some(Change::Back))
        })
    });
    let of_before = {
        let health = Arc::clone(&health);
        thread::spawn(move || usize::from(health.answered() == Some(Change::Back)))
    };
    let back: usize = tries.into_iter().chain([of_before]).map(|thread| thread.join().expect("no thread panics")).sum();
    assert_eq!(back, 1, "returns that were told");
}
