//! The third backend: io_uring by the `io-uring` crate alone, with a reactor of our own.
//!
//! Owns the worker's event loop: run what was woken, then enter the kernel once, which hands over what was queued and waits for
//! the first completion or the next timer. Completions are run when this thread asks for them, and at no other time
//! (`DEFER_TASKRUN`, Linux 6.1). Tasks are those of tokio's `LocalSet`, which needs no runtime of tokio's.
//!
//! Where few completions came and no key was exchanged of late, each is delivered by itself: its request goes on as far as it can,
//! and is sent on at once, before the next one is looked at. Else all are delivered together, and what is sent leaves together. The
//! first is quicker for each request, the second cheaper for all, since handlers and peers are woken less often.
//!
//! Whoever is about to keep the thread busy, with a key exchange above all, hands over first what others queued in this turn. Without
//! that, answers to a batch of handshakes leave together: server and clients then wait for each other in turn (a resumed handshake
//! took 102 µs of CPU for 94, and of those clients a third fewer were served).
//!
//! Another thread that wakes a task writes to an eventfd, and only while the worker waits in the kernel.
//!
//! Operations are one-shot, as on the other ring. Receives that go on by themselves, into buffers that the kernel is provided with,
//! were built and measured with 64 connections, saturated and at 30 % load: what they saved did not stand out from the noise, and
//! they need a bound on what a peer sends while nobody reads.
//!
//! [`operation`] owns what is lent to the kernel, [`queues`] the ring; what is asked of it is in [`super`].

mod operation;
mod queues;
mod timers;

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};
use tokio::task::LocalSet;

pub(crate) use operation::Operation;
pub(crate) use queues::{Reactor, probe};
pub(crate) use timers::sleep;

/// How often tasks are polled, 61 of them each time at most, before the next completion is delivered or the kernel is asked for
/// more: so tasks that wake each other for ever delay nobody else by more than some thousand polls.
const POLLS_PER_TURN: usize = 32;

/// Runs `main` on a ring of its own, on this thread.
pub(crate) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let bell = Arc::new(Bell::new()?);
    let reactor = Reactor::enter(&bell)?;
    // Dropped before the reactor is left: tasks that end have sockets to shut down, and buffers in the kernel's hands.
    let mut tasks = LocalSet::new();
    run(&reactor, &bell, &mut tasks, main)
}

/// Hands over to the kernel what this thread has queued, where it has a reactor.
pub(crate) fn submit_queued() {
    if let Some(reactor) = Reactor::current() {
        reactor.submit_queued();
    }
}

/// The reactor of this thread.
pub(crate) fn current() -> io::Result<Rc<Reactor>> {
    Reactor::current().ok_or_else(|| io::Error::other("this thread has no reactor"))
}

fn run<F: Future>(reactor: &Rc<Reactor>, bell: &Arc<Bell>, tasks: &mut LocalSet, main: F) -> io::Result<F::Output> {
    let mut main = pin!(main);
    let (main_call, tasks_call) = (Call::new(bell), Call::new(bell));
    let (main_waker, tasks_waker) = (Waker::from(Arc::clone(&main_call)), Waker::from(Arc::clone(&tasks_call)));
    loop {
        for _ in 0..POLLS_PER_TURN {
            let (poll_main, poll_tasks) = (main_call.take(), tasks_call.take());
            if poll_main {
                let _spawning = tasks.enter();
                if let Poll::Ready(output) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                    return Ok(output);
                }
            }
            if poll_tasks {
                // Ready means only that there is no task now.
                let _ = Pin::new(&mut *tasks).poll(&mut Context::from_waker(&tasks_waker));
            }
            if !poll_main && !poll_tasks {
                break;
            }
        }
        if reactor.deliver() {
            continue;
        }
        bell.listening.store(true, Ordering::SeqCst);
        let idle = !main_call.is_made() && !tasks_call.is_made();
        let entered = reactor.enter_kernel(idle);
        // Before anybody is woken from here. Another thread that has not seen it yet rings once in vain.
        bell.listening.store(false, Ordering::Relaxed);
        entered?;
        reactor.collect();
    }
}

/// What brings a worker back from the kernel when another thread has woken one of its tasks.
struct Bell {
    /// The worker waits in the kernel, or is about to: who wakes it has to ring.
    listening: AtomicBool,
    eventfd: OwnedFd,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { listening: AtomicBool::new(false), eventfd })
    }

    fn ring(&self) {
        // It can only fail where 2^64 - 2 rings went unheard, and then the worker is awake already.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }

    fn quiet(&self) {
        // Fails where nobody rang.
        let _ = rustix::io::read(&self.eventfd, &mut [0_u8; 8]);
    }
}

/// Whether something is to be polled: what its waker says.
struct Call {
    made: AtomicBool,
    bell: Arc<Bell>,
}

impl Call {
    /// Made already, since everything is polled once.
    fn new(bell: &Arc<Bell>) -> Arc<Self> {
        Arc::new(Self { made: AtomicBool::new(true), bell: Arc::clone(bell) })
    }

    fn is_made(&self) -> bool {
        self.made.load(Ordering::SeqCst)
    }

    fn take(&self) -> bool {
        // A call that the first look misses is seen by `is_made`, before the worker waits.
        self.made.load(Ordering::Relaxed) && self.made.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    /// Either the worker sees the call before it waits, or the caller sees that it waits: both store first and look then, in one
    /// order for all threads. A worker that wakes itself is not listening.
    fn wake_by_ref(self: &Arc<Self>) {
        if !self.made.swap(true, Ordering::SeqCst) && self.bell.listening.swap(false, Ordering::SeqCst) {
            self.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests;
