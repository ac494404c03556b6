//! The ring of a worker, and its turns.
//!
//! Owns the submission and the completion queue, what waits for room in them, and the wait for the next timer. One turn enters the
//! kernel once, unless more operations were queued than the ring has entries or some were handed over early. Must not know what
//! the bytes mean, nor poll a task.
//!
//! JUSTIFICATION for `unsafe`: whoever queues an entry has to vouch for what it points to, and whoever takes an answer, for whose
//! it is.
#![expect(unsafe_code, reason = "entries go to the kernel and answers come from it; see each SAFETY comment")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;

use super::Bell;
use super::operation::{Concluded, Operation, Operations};
use super::timers::Timers;
use crate::backend::{ProbeError, check};
use crate::ring::driver::Driver;
use crate::ring::{COMPLETION_ENTRIES, Completion, ENTRIES, Submission};

/// `user_data` of the poll of the bell: the round and the place of no operation, which there are less than 2^32 - 1 of.
const BELL: u64 = u64::MAX;

/// `user_data` of what nobody asks for: the completion of a cancellation.
const NOBODY: u64 = u64::MAX - 1;

/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`: run what there is to complete.
const GET_EVENTS: u32 = 1;

/// How long to wait when the kernel has no memory for an operation, or no room for a completion.
const SHORT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// Most completions of a turn in which they are delivered one by one. At half load with 64 connections, 16 and 32 brought the 99th
/// percentile of latency from 1.11 of nginx' to 0.98; with 8 it was 1.02, with 4 1.14. Saturated, nothing changed with 16: the kernel
/// runs up to 20 at once (`IO_LOCAL_TW_DEFAULT_MAX`), so that a busy worker has more. With 32 it has not, and paid 2 %.
const CALM: usize = 16;

/// For how long the operations that a worker leaves behind may take to be cancelled. Nothing waits for a peer there, so this is
/// long; what is left then keeps its memory for ever.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// What a worker does I/O by.
pub(crate) struct Reactor {
    ring: RefCell<IoUring>,
    /// Entries that found the submission queue full: at most one a direction of a socket, and a cancellation.
    overflow: RefCell<VecDeque<squeue::Entry>>,
    pub(super) operations: RefCell<Operations>,
    pub(super) timers: RefCell<Timers>,
    /// Completions on their way from the ring to who waits for them; empty when the kernel is entered.
    arrived: RefCell<VecDeque<(u64, i32)>>,
    /// Whether few came, and nobody is busy for long.
    calm: Cell<bool>,
    /// Whether somebody was busy for long in this turn.
    busy: Cell<bool>,
    pub(super) bell: Arc<Bell>,
}

/// The stay of a thread with its reactor.
pub(super) struct Entered(Rc<Reactor>);

impl Deref for Entered {
    type Target = Rc<Reactor>;

    fn deref(&self) -> &Rc<Reactor> {
        &self.0
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave();
        let current = CURRENT.take();
        drop(current);
    }
}

fn build(entries: u32, completion_entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_coop_taskrun().setup_single_issuer().setup_defer_taskrun().setup_submit_all();
    builder.setup_cqsize(completion_entries).build(entries)
}

/// Whether this host allows it, and why not.
pub(crate) fn probe() -> Result<(), ProbeError> {
    check(build(8, 16), "6.1")
}

impl Driver for Rc<Reactor> {
    type Operation = Operation;

    fn submit(&self, submission: Submission) -> Operation {
        // The pointer in the entry stays valid: what it points to moves into `Operations`, with a share of the descriptor, and both
        // are kept there until the completion arrives.
        let (entry, lent) = submission.into_parts();
        let key = self.operations.borrow_mut().begin(lent);
        self.push(entry.user_data(key.to_user_data()));
        Operation::new(Rc::clone(self), key)
    }

    fn cancel(&self, _descriptor: &Rc<OwnedFd>, operation: &Operation) {
        // By its own name rather than by its descriptor's number, which may be another's by the time the kernel reads this.
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(operation.key().to_user_data())).build();
        self.push(entry.user_data(NOBODY));
    }

    fn is_calm(&self) -> bool {
        self.calm.get()
    }
}

impl Reactor {
    /// Makes a reactor, for this thread alone.
    pub(super) fn enter(bell: &Arc<Bell>) -> io::Result<Entered> {
        let reactor = Rc::new(Self {
            ring: RefCell::new(build(ENTRIES, COMPLETION_ENTRIES)?),
            overflow: RefCell::default(),
            operations: RefCell::default(),
            timers: RefCell::default(),
            arrived: RefCell::default(),
            calm: Cell::new(false),
            busy: Cell::new(false),
            bell: Arc::clone(bell),
        });
        reactor.listen();
        CURRENT.set(Some(Rc::clone(&reactor)));
        Ok(Entered(reactor))
    }

    /// The reactor of this thread.
    pub(super) fn current() -> Option<Rc<Self>> {
        // Not there either while the thread ends.
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    fn push(&self, entry: squeue::Entry) {
        let mut overflow = self.overflow.borrow_mut();
        if !overflow.is_empty() || !self.try_push(&entry) {
            overflow.push_back(entry);
        }
    }

    fn try_push(&self, entry: &squeue::Entry) -> bool {
        let mut ring = self.ring.borrow_mut();
        // SAFETY: the entry's pointer and descriptor are valid until the operation completes: `begin` has put what they belong to
        // into `Operations`, the bell lives as long as the reactor, and cancellations have neither.
        unsafe { ring.submission().push(entry) }.is_ok()
    }

    /// Polls the bell, once.
    fn listen(&self) {
        let events = u32::from(PollFlags::IN.bits());
        let entry = opcode::PollAdd::new(Fd(self.bell.eventfd.as_raw_fd()), events).build();
        self.push(entry.user_data(BELL));
    }

    /// Takes the completions out of the ring, and wakes who waits for the time.
    pub(super) fn collect(&self) {
        let mut arrived = self.arrived.borrow_mut();
        arrived.extend(self.ring.borrow_mut().completion().map(|entry| (entry.user_data(), entry.result())));
        self.calm.set(!self.busy.take() && arrived.len() <= CALM);
        drop(arrived);
        self.expire();
    }

    /// Wakes who waits for the next completion where they are few, else for all of them; `false` where there was none.
    pub(super) fn deliver(&self) -> bool {
        // Nobody is woken while these are borrowed, and nobody who is woken can add to them.
        let next = || self.arrived.borrow_mut().pop_front();
        let Some((user_data, result)) = next() else { return false };
        self.conclude(user_data, result);
        if !self.calm.get() {
            while let Some((user_data, result)) = next() {
                self.conclude(user_data, result);
            }
        }
        true
    }

    /// Moves what found no room into the submission queue; whether some is left.
    fn refill(&self) -> bool {
        let mut overflow = self.overflow.borrow_mut();
        while let Some(entry) = overflow.front() {
            if !self.try_push(entry) {
                return true;
            }
            overflow.pop_front();
        }
        false
    }

    /// Hands over what is queued, without a look at what has completed: before this thread is busy for long. What comes next has to
    /// wait, and is delivered together then: one by one, clients that were never seen cost 4 % more CPU, and webhooks 5 %.
    pub(super) fn submit_queued(&self) {
        self.calm.set(false);
        self.busy.set(true);
        let mut ring = self.ring.borrow_mut();
        if !ring.submission().is_empty() {
            // Where it fails, the entries stay queued, and the end of the turn says what is wrong.
            let _ = ring.submit();
        }
    }

    /// Hands over what is queued and, where the worker is `idle`, waits for a completion or a timer.
    ///
    /// # Errors
    ///
    /// What io_uring_enter(2) says, where that ring can be used no more.
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
            // SAFETY: no argument goes with it, and every queued entry is valid, as `try_push` says.
            Some(_) | None => unsafe { submitter.enter::<()>(queued, 0, GET_EVENTS, None) },
        };
        drop(ring);
        let Err(error) = entered else { return Ok(()) };
        match Errno::from_io_error(&error) {
            Some(Errno::TIME | Errno::INTR) => Ok(()),
            // Completions overflowed and are to be fetched first, or there is no memory for an operation. Both pass.
            Some(Errno::BUSY | Errno::AGAIN) => {
                if ring_is_empty(&mut self.ring.borrow_mut()) {
                    std::thread::sleep(SHORT_OF_MEMORY_PAUSE);
                }
                Ok(())
            }
            // EBADR above all: the kernel has lost completions, and somebody would wait for ever.
            Some(_) | None => Err(error),
        }
    }

    /// Takes the kernel's answer to an operation, and wakes who waits for it.
    fn conclude(&self, user_data: u64, result: i32) {
        match user_data {
            NOBODY => {}
            BELL => {
                self.bell.quiet();
                if result != -Errno::CANCELED.raw_os_error() {
                    self.listen();
                }
            }
            _ => {
                // SAFETY: the kernel's answer to the operation of that name, which has borrowed this.
                let conclude = |lent| unsafe { Completion::new(lent, result) };
                let concluded = self.operations.borrow_mut().complete(user_data, conclude);
                match concluded {
                    Concluded::Wake(waker) => waker.wake(),
                    Concluded::Nothing | Concluded::Abandoned(_) => {}
                }
            }
        }
    }

    fn expire(&self) {
        if self.timers.borrow().first().is_none() {
            return;
        }
        let now = Instant::now();
        loop {
            let due = self.timers.borrow_mut().due(now);
            let Some(waker) = due else { return };
            waker.wake();
        }
    }

    /// Ends every operation that is still under way, so that nothing is in the kernel's hands when the memory goes.
    fn leave(&self) {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(entry.user_data(NOBODY));
        let began = Instant::now();
        while self.operations.borrow().under_way() > 0 && began.elapsed() < LEAVE_LIMIT {
            if self.enter_kernel(false).is_err() {
                break;
            }
            self.collect();
            while self.deliver() {}
            if self.operations.borrow().under_way() > 0 {
                std::thread::sleep(SHORT_OF_MEMORY_PAUSE);
            }
        }
        let operations = self.operations.take();
        if operations.under_way() > 0 {
            // The kernel may still write there.
            std::mem::forget(operations);
        }
    }
}

fn ring_is_empty(ring: &mut IoUring) -> bool {
    ring.completion().is_empty()
}
