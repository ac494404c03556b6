//! The timers of a worker: who is to be woken when.
//!
//! Owns the order of times. There are few: one a wait that is not a socket's, which all have bounds of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::queues::Reactor;

/// Who waits, by time; those of one instant in the order in which they came.
#[derive(Default)]
pub(super) struct Timers {
    waiting: BTreeMap<Key, Waker>,
    next: u64,
}

type Key = (Instant, u64);

impl Timers {
    /// Enters somebody who waits for `at`.
    fn insert(&mut self, at: Instant, waker: Waker) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert((at, number), waker);
        number
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out one who is due at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        if first.key().0 <= now { Some(first.remove()) } else { None }
    }
}

/// Waits for `duration` from now on, on a thread with a reactor; elsewhere there is nothing to wait by.
pub(crate) fn sleep(duration: Duration) -> Option<Sleep> {
    // Nothing waits for longer than a year; a time that cannot be told would be for ever.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    Reactor::current().map(|_| Sleep { at: Instant::now() + duration.min(LONGEST), number: None })
}

/// A wait for a point in time. Belongs to the thread that it was made on.
pub(crate) struct Sleep {
    at: Instant,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(reactor) = Reactor::current() else { return Poll::Ready(()) };
        if self.at <= Instant::now() {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let mut timers = reactor.timers.borrow_mut();
        let waiting = self.number.and_then(|number| timers.waiting.get_mut(&(self.at, number)));
        let replaced = match waiting {
            Some(waiting) => Some(std::mem::replace(waiting, waker)),
            None => {
                self.number = Some(timers.insert(self.at, waker));
                None
            }
        };
        // What a waker's end sets off may have timers of its own.
        drop(timers);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(number), Some(reactor)) = (self.number, Reactor::current()) {
            let removed = reactor.timers.borrow_mut().waiting.remove(&(self.at, number));
            drop(removed);
        }
    }
}
