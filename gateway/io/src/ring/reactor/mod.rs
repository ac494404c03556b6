//! The default driver: hookgate's own event loop, on the crate `io-uring` alone.
//!
//! Owns the loop of a worker thread and the wake-ups from other threads. Must not know sockets: [`super::channel`] and
//! [`super::listener`] do.
//!
//! **A turn** delivers completions and polls the tasks that they wake, then enters the kernel once (io_uring_enter(2)): that
//! submits the queued SQEs and waits for the first completion or the next timer. The kernel runs completion work only inside that
//! call (`IORING_SETUP_DEFER_TASKRUN`, Linux 6.1). Tasks are those of tokio's `LocalSet`, which needs no runtime of tokio's.
//!
//! **Light load.** The load is light if the last turn brought at most 16 completions and no task called [`submit_queued`] in it.
//! Then completions are delivered one at a time: the task that a completion wakes runs until it waits, and its sends go out at
//! once, before the next completion is delivered. Otherwise all completions are delivered together, and the sends are submitted
//! together. The first gives each request a lower latency. The second costs less CPU in total, because handlers and peers are
//! woken less often.
//!
//! **CPU-heavy work.** A task that will use the CPU for long, above all for a key exchange, first submits what other tasks have
//! queued in this turn. Otherwise the answers to a batch of handshakes leave together, and server and clients wait for each other
//! in turn: a resumed handshake took 102 µs of CPU instead of 94, and a third fewer of those clients were served.
//!
//! **Wake-ups.** Another thread that wakes a task writes to an eventfd(2), and does so only while the worker waits in the kernel.
//!
//! **One-shot operations.** Every operation has one completion, as with the other driver. Multishot receives into provided buffers
//! were built and measured with 64 connections, saturated and at 30 % load. What they saved was within the noise, and they need a
//! bound on what a peer sends while no task reads.
//!
//! Read on in `bell.rs` (wake-ups), `queues.rs` (the ring), `operation.rs` (what the kernel uses until an operation completes) and `timers.rs`.

mod bell;
mod operation;
mod queues;
mod timers;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::LocalSet;

use bell::{WakeEvent, WakeFlag};

pub(super) use operation::Operation;
pub(crate) use queues::{Reactor, probe};
pub(crate) use timers::sleep;

/// How often `main` and the tasks are polled before the next completion is delivered or the kernel is entered. A `LocalSet` polls
/// at most 61 tasks each time (tokio's `MAX_TASKS_PER_TICK`), so tasks that keep waking each other delay everything else by at
/// most 32 × 61 = 1,952 polls.
const POLLS_PER_TURN: usize = 32;

/// Runs `main` to its end on this thread, on a new ring.
pub(crate) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let event = Arc::new(WakeEvent::new()?);
    let reactor = Reactor::enter(&event)?;
    // Declared after the reactor, so dropped before it: tasks that end shut their sockets down, which completes operations.
    let mut tasks = LocalSet::new();
    run(&reactor, &event, &mut tasks, main)
}

/// Submits what this thread has queued, if it runs a reactor.
pub(crate) fn submit_queued() {
    if let Some(reactor) = Reactor::current() {
        reactor.submit_queued();
    }
}

/// Wakes `waker` in the next turn of this thread's reactor, after its completions were delivered; without a reactor, now.
pub(crate) fn wake_next_turn(waker: &Waker) {
    match Reactor::current() {
        Some(reactor) => reactor.wake_next_turn(waker),
        None => waker.wake_by_ref(),
    }
}

/// The reactor of this thread.
///
/// # Errors
///
/// This thread does not run a reactor.
pub(crate) fn current() -> io::Result<Rc<Reactor>> {
    Reactor::current().ok_or_else(|| io::Error::other("this thread does not run a reactor"))
}

fn run<F: Future>(
    reactor: &Rc<Reactor>,
    event: &Arc<WakeEvent>,
    tasks: &mut LocalSet,
    main: F,
) -> io::Result<F::Output> {
    let mut main = pin!(main);
    let (main_flag, tasks_flag) = (WakeFlag::new(event), WakeFlag::new(event));
    let (main_waker, tasks_waker) = (Waker::from(Arc::clone(&main_flag)), Waker::from(Arc::clone(&tasks_flag)));
    loop {
        for _ in 0..POLLS_PER_TURN {
            let (poll_main, poll_tasks) = (main_flag.take(), tasks_flag.take());
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
        if reactor.deliver() || reactor.end_turn() {
            continue;
        }
        event.arm();
        let idle = !main_flag.is_set() && !tasks_flag.is_set() && !reactor.has_next_turn();
        let entered = reactor.enter_kernel(idle);
        event.disarm();
        entered?;
        reactor.reap();
    }
}

#[cfg(test)]
mod tests;
