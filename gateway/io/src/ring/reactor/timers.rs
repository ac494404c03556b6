//! The timers of a worker.
//!
//! Owns the wakers by due time. They are few, one a wait that is not a socket's, and each kind of wait has a bound of its own.
//! Must not enter the kernel: [`super::queues`] waits for the first timer.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::queues::Reactor;

/// Wakers by due time and number. Timers due at the same instant are woken in the order of their numbers.
#[derive(Default)]
pub(super) struct Timers {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next_number: u64,
}

impl Timers {
    /// Adds a timer, and returns its number.
    fn insert(&mut self, at: Instant, waker: Waker) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.wakers.insert((at, number), waker);
        number
    }

    /// When the first timer is due.
    pub(super) fn first(&self) -> Option<Instant> {
        self.wakers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Removes a timer that is due at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.wakers.first_entry()?;
        if first.key().0 <= now { Some(first.remove()) } else { None }
    }
}

/// Waits for `duration`, counted from the call. Returns `None` if this thread does not run a reactor.
pub(crate) fn sleep(duration: Duration) -> Option<Sleep> {
    // No wait is longer than a year, and the bound keeps the sum below from overflowing.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
    Reactor::current().map(|_| Sleep { at: Instant::now() + duration.min(LONGEST), number: None })
}

/// A wait for a point in time. Belongs to the thread that made it.
pub(crate) struct Sleep {
    at: Instant,
    /// The timer's number, once it is polled.
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
        let waiting = self.number.and_then(|number| timers.wakers.get_mut(&(self.at, number)));
        let replaced = match waiting {
            Some(waiting) => Some(std::mem::replace(waiting, waker)),
            None => {
                self.number = Some(timers.insert(self.at, waker));
                None
            }
        };
        // In this order: dropping a waker may drop a task, and that its timers.
        drop(timers);
        drop(replaced);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(number), Some(reactor)) = (self.number, Reactor::current()) {
            let removed = reactor.timers.borrow_mut().wakers.remove(&(self.at, number));
            drop(removed);
        }
    }
}
