//! The ring of a worker: its queues, and the system call of a turn.
//!
//! Owns the submission and the completion queue, the SQEs that found the submission queue full, and the wait for the next timer.
//! A turn enters the kernel once, or more often if more operations are queued than the ring has SQEs or some are submitted early.
//! Must not know what the bytes mean, nor poll a task.
//!
//! JUSTIFICATION for `unsafe`: an SQE's pointer and descriptor must outlive its operation, and a CQE's result becomes a
//! [`Completion`].
#![expect(unsafe_code, reason = "SQEs and CQEs hold raw pointers and descriptors; see each SAFETY comment")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::bell::WakeEvent;
use super::operation::{Followup, Operation, Operations};
use super::timers::Timers;
use crate::ring::driver::Driver;
use crate::ring::probe::{ProbeError, check, patiently};
use crate::ring::{COMPLETION_ENTRIES, Completion, ENTRIES, Submission, poll_mask};

/// `user_data` of the poll of the wake event. The index of no operation, since there are fewer than 2^32 - 2 of them.
const WAKE_EVENT: u64 = u64::MAX;

/// `user_data` of cancellations, whose completions are ignored. The index of no operation either.
const IGNORED: u64 = u64::MAX - 1;

/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`: run completion work.
const GET_EVENTS: u32 = 1;

/// How long to wait if the kernel has no memory for an operation, or no room for a completion.
const SHORT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// The most completions of a turn under light load, when they are delivered one at a time. At half load with 64 connections, 16
/// and 32 brought the 99th percentile of latency from 1.11 times that of nginx to 0.98; with 8 it was 1.02, with 4 1.14.
/// Saturated, 16 changed nothing: the kernel runs up to 20 completions at once (`IO_LOCAL_TW_DEFAULT_MAX`), so a busy worker gets
/// more than 16. 32 is above that, and cost 2 %.
const LIGHT_LOAD: usize = 16;

/// How long a worker that ends waits for its operations to be cancelled. Cancelling waits for no peer, so this is long. Operations
/// that are still in flight then keep their memory for ever.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// The I/O state of a worker: the ring, the operations and the timers.
pub(crate) struct Reactor {
    ring: RefCell<IoUring>,
    /// SQEs that found the submission queue full: at most one for each direction of a socket, and one cancellation.
    overflow: RefCell<VecDeque<squeue::Entry>>,
    pub(super) operations: RefCell<Operations>,
    pub(super) timers: RefCell<Timers>,
    /// Completions (`user_data` and result) taken from the ring and not delivered yet. Empty when the kernel is entered.
    reaped: RefCell<VecDeque<(u64, i32)>>,
    /// Whether the load is light.
    light: Cell<bool>,
    /// The task to wake in the next turn, after its completions were delivered.
    next_turn: Cell<Option<Waker>>,
    /// The kernel was entered since `next_turn` was woken.
    turned: Cell<bool>,
    /// Whether a task announced CPU-heavy work in this turn.
    busy: Cell<bool>,
    pub(super) event: Arc<WakeEvent>,
}

/// Keeps the reactor the current one of this thread. Dropping it ends every operation that is in flight.
pub(super) struct EnterGuard(Rc<Reactor>);

impl Deref for EnterGuard {
    type Target = Rc<Reactor>;

    fn deref(&self) -> &Rc<Reactor> {
        &self.0
    }
}

impl Drop for EnterGuard {
    fn drop(&mut self) {
        self.0.end_operations();
        let current = CURRENT.take();
        drop(current);
    }
}

/// The first Linux version that has what the ring needs.
const MINIMUM: &str = "6.1";

fn build(entries: u32, completion_entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    builder.setup_cqsize(completion_entries).build(entries)
}

/// Checks that this host allows the driver. `IORING_SETUP_DEFER_TASKRUN` is its newest requirement (Linux 6.1).
pub(crate) fn probe() -> Result<(), ProbeError> {
    check(|| build(8, 16), MINIMUM)
}

impl Driver for Rc<Reactor> {
    type Operation = Operation;

    fn submit(&self, submission: Submission) -> Operation {
        let (entry, resources) = submission.into_parts();
        let id = self.operations.borrow_mut().insert(resources);
        // SAFETY: the SQE's pointer and descriptor belong to `resources`, which `operations` keeps until the CQE arrives.
        unsafe { self.push(entry.user_data(id.to_user_data())) };
        Operation::new(Rc::clone(self), id)
    }

    /// By the operation's id. A descriptor's number could belong to another socket when the kernel reads the SQE.
    fn cancel(_descriptor: &Rc<OwnedFd>, operation: &Operation) {
        operation.reactor().push_cancel(CancelBuilder::user_data(operation.id().to_user_data()));
    }

    fn is_lightly_loaded(&self) -> bool {
        self.light.get()
    }
}

impl Reactor {
    /// Makes a reactor, the current one of this thread from now on.
    pub(super) fn enter(event: &Arc<WakeEvent>) -> io::Result<EnterGuard> {
        let ring = patiently(MINIMUM, || build(ENTRIES, COMPLETION_ENTRIES)).map_err(io::Error::other)?;
        let reactor = Rc::new(Self {
            ring: RefCell::new(ring),
            overflow: RefCell::default(),
            operations: RefCell::default(),
            timers: RefCell::default(),
            reaped: RefCell::default(),
            light: Cell::new(false),
            next_turn: Cell::new(None),
            turned: Cell::new(false),
            busy: Cell::new(false),
            event: Arc::clone(event),
        });
        reactor.poll_wake_event();
        CURRENT.set(Some(Rc::clone(&reactor)));
        Ok(EnterGuard(reactor))
    }

    /// The current reactor of this thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        // An error means that the thread is ending.
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Queues an SQE.
    ///
    /// # Safety
    ///
    /// The pointer and the descriptor in `entry`, if it has them, are valid until the operation completes.
    unsafe fn push(&self, entry: squeue::Entry) {
        let mut overflow = self.overflow.borrow_mut();
        // SAFETY: the caller promises it.
        if !overflow.is_empty() || !unsafe { self.try_push(&entry) } {
            overflow.push_back(entry);
        }
    }

    /// Queues an SQE if the submission queue has room.
    ///
    /// # Safety
    ///
    /// As [`Self::push`].
    unsafe fn try_push(&self, entry: &squeue::Entry) -> bool {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: the caller promises it.
        unsafe { ring.submission().push(entry) }.is_ok()
    }

    fn push_cancel(&self, builder: CancelBuilder) {
        let entry = opcode::AsyncCancel2::new(builder).build();
        // SAFETY: a cancellation by `user_data`, or of everything, has no pointer and no descriptor.
        unsafe { self.push(entry.user_data(IGNORED)) };
    }

    /// Polls the wake event, once.
    fn poll_wake_event(&self) {
        let entry = opcode::PollAdd::new(Fd(self.event.eventfd.as_raw_fd()), poll_mask(PollFlags::IN)).build();
        // SAFETY: the reactor owns a share of the wake event, so the eventfd is open as long as the ring.
        unsafe { self.push(entry.user_data(WAKE_EVENT)) };
    }

    /// Takes all completions from the ring, decides whether the load is light, and wakes the timers that are due.
    pub(super) fn reap(&self) {
        let mut reaped = self.reaped.borrow_mut();
        reaped.extend(self.ring.borrow_mut().completion().map(|entry| (entry.user_data(), entry.result())));
        self.light.set(!self.busy.take() && reaped.len() <= LIGHT_LOAD);
        drop(reaped);
        self.turned.set(true);
        self.wake_due_timers();
    }

    /// Delivers the next completion under light load, else all of them. Returns `false` if there was none.
    pub(super) fn deliver(&self) -> bool {
        // `reaped` is not borrowed while a completion is delivered, and only `reap` adds to it.
        let next = || self.reaped.borrow_mut().pop_front();
        let Some((user_data, result)) = next() else { return false };
        self.complete(user_data, result);
        if !self.light.get() {
            while let Some((user_data, result)) = next() {
                self.complete(user_data, result);
            }
        }
        true
    }

    /// Wakes `waker` in the next turn, after its completions were delivered. One task a reactor; the latest replaces the one before.
    pub(super) fn wake_next_turn(&self, waker: &Waker) {
        self.next_turn.set(Some(waker.clone()));
    }

    /// Wakes the task that waits for this turn, if there is one. Returns whether there was.
    pub(super) fn end_turn(&self) -> bool {
        if !self.turned.take() {
            return false;
        }
        let waker = self.next_turn.take();
        waker.map(Waker::wake).is_some()
    }

    /// Whether a task waits for the next turn.
    pub(super) fn has_next_turn(&self) -> bool {
        let waker = self.next_turn.take();
        let has = waker.is_some();
        self.next_turn.set(waker);
        has
    }

    /// Moves SQEs from `overflow` to the submission queue. Returns whether some are left.
    fn refill(&self) -> bool {
        let mut overflow = self.overflow.borrow_mut();
        while let Some(entry) = overflow.front() {
            // SAFETY: `push` put the entry there, and its caller promised it.
            if !unsafe { self.try_push(entry) } {
                return true;
            }
            overflow.pop_front();
        }
        false
    }

    /// Submits what is queued, before CPU-heavy work, and does not look for completions. The load counts as heavy from now on, so
    /// completions that arrive meanwhile are delivered together: one at a time, new clients cost 4 % more CPU, and webhooks 5 %.
    pub(super) fn submit_queued(&self) {
        self.light.set(false);
        self.busy.set(true);
        let mut ring = self.ring.borrow_mut();
        if !ring.submission().is_empty() {
            // If it fails, the SQEs stay queued, and the end of the turn reports the error.
            let _ = ring.submit();
        }
    }

    /// Submits what is queued. If the worker is `idle` and everything fits, waits for a completion or for the first timer.
    ///
    /// # Errors
    ///
    /// Those of io_uring_enter(2) that leave the ring unusable.
    pub(super) fn enter_kernel(&self, idle: bool) -> io::Result<()> {
        let wait = !self.refill() && idle;
        let limit = self.timers.borrow().first().map(|at| at.saturating_duration_since(Instant::now()));
        let mut ring = self.ring.borrow_mut();
        let queued = u32::try_from(ring.submission().len()).unwrap_or(u32::MAX);
        let submitter = ring.submitter();
        let entered = match limit {
            Some(limit) if wait && !limit.is_zero() => {
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&Timespec::from(limit)))
            }
            None if wait => submitter.submit_and_wait(1),
            // SAFETY: the call passes no argument, and every queued SQE is valid, as `push` requires.
            Some(_) | None => unsafe { submitter.enter::<()>(queued, 0, GET_EVENTS, None) },
        };
        drop(ring);
        let Err(error) = entered else { return Ok(()) };
        match Errno::from_io_error(&error) {
            Some(Errno::TIME | Errno::INTR) => Ok(()),
            // Overflowed completions must be reaped first, or there is no memory for an operation. Both pass.
            Some(Errno::BUSY | Errno::AGAIN) => {
                if ring_is_empty(&mut self.ring.borrow_mut()) {
                    std::thread::sleep(SHORT_OF_MEMORY_PAUSE);
                }
                Ok(())
            }
            // Above all EBADR: the kernel has lost completions, and their tasks would wait for ever.
            Some(_) | None => Err(error),
        }
    }

    /// Handles one completion: stores it and wakes its task, or drops it if its future was dropped.
    fn complete(&self, user_data: u64, result: i32) {
        match user_data {
            IGNORED => {}
            WAKE_EVENT => {
                self.event.clear();
                if result != -Errno::CANCELED.raw_os_error() {
                    self.poll_wake_event();
                }
            }
            _ => {
                // SAFETY: `result` is from the CQE with this `user_data`, whose operation the resources belong to. Each CQE is
                // reaped once.
                let completion = |resources| unsafe { Completion::new(resources, result) };
                let followup = self.operations.borrow_mut().complete(user_data, completion);
                match followup {
                    Followup::Wake(waker) => waker.wake(),
                    Followup::Nothing | Followup::Drop(_) => {}
                }
            }
        }
    }

    fn wake_due_timers(&self) {
        if self.timers.borrow().first().is_none() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = self.timers.borrow_mut().take_due(now);
            let Some(waker) = due else { return };
            waker.wake();
        }
    }

    /// Cancels every operation and waits for the completions, for [`SHUTDOWN_LIMIT`] at most, so that the kernel uses no buffer
    /// when its memory is freed.
    fn end_operations(&self) {
        self.push_cancel(CancelBuilder::any());
        let began = Instant::now();
        while self.operations.borrow().in_flight() > 0 && began.elapsed() < SHUTDOWN_LIMIT {
            if self.enter_kernel(false).is_err() {
                break;
            }
            self.reap();
            while self.deliver() {}
            if self.operations.borrow().in_flight() > 0 {
                std::thread::sleep(SHORT_OF_MEMORY_PAUSE);
            }
        }
        let operations = self.operations.take();
        if operations.in_flight() > 0 {
            // The kernel may still write to their buffers.
            std::mem::forget(operations);
        }
    }
}

fn ring_is_empty(ring: &mut IoUring) -> bool {
    ring.completion().is_empty()
}
