//! The ring of a worker, and its turns.
//!
//! Owns the submission and the completion queue, what waits for room in them, and the wait for the next timer. One turn enters the
//! kernel once, unless more operations were queued than the ring has entries. Must not know what the bytes mean, nor poll a task.
//!
//! JUSTIFICATION for `unsafe`: an io_uring operation is a raw pointer and a length; there is no safe way to say that.
#![expect(unsafe_code, reason = "buffers are lent to the kernel; see each SAFETY comment")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, Probe, opcode, squeue};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::super::probe::{ProbeError, find_missing};
use super::Bell;
use super::operation::{Completion, Concluded, Key, Kind, Lent, Operation, Operations};
use super::timers::Timers;

/// Submission entries a ring: the most operations that one system call hands over.
const ENTRIES: u32 = 512;

/// Completion entries a ring. Completions beyond it wait in the kernel (`IORING_FEAT_NODROP`), so this bounds a batch only.
const COMPLETION_ENTRIES: u32 = 4096;

/// `user_data` of the poll of the bell: the round and the place of no operation, which there are less than 2^32 - 1 of.
const BELL: u64 = u64::MAX;

/// `user_data` of what nobody asks for: the completion of a cancellation.
const NOBODY: u64 = u64::MAX - 1;

/// `IORING_ENTER_GETEVENTS` of `linux/io_uring.h`: run what there is to complete.
const GET_EVENTS: u32 = 1;

/// How long to wait when the kernel has no memory for an operation, or no room for a completion.
const SHORT_OF_MEMORY_PAUSE: Duration = Duration::from_millis(1);

/// For how long the operations that a worker leaves behind may take to be cancelled. Nothing waits for a peer there, so this is
/// long; what is left then keeps its memory for ever.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// What a worker does I/O by.
pub(super) struct Reactor {
    ring: RefCell<IoUring>,
    /// Entries that found the submission queue full: at most one a direction of a socket, and a cancellation.
    overflow: RefCell<VecDeque<squeue::Entry>>,
    pub(super) operations: RefCell<Operations>,
    pub(super) timers: RefCell<Timers>,
    /// Completions on their way from the ring to who waits for them; empty between turns.
    batch: Cell<Vec<(u64, i32)>>,
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
pub(in super::super) fn probe() -> Result<(), ProbeError> {
    let ring = build(8, 16).map_err(|source| ProbeError::Setup { source, needed: "6.1" })?;
    let mut supported = Probe::new();
    ring.submitter().register_probe(&mut supported).map_err(|source| ProbeError::Setup { source, needed: "6.1" })?;
    let needed = [
        ("ACCEPT", opcode::Accept::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("RECV", opcode::Recv::CODE),
        ("SEND", opcode::Send::CODE),
    ];
    find_missing(&supported, &needed, "6.1")
}

impl Reactor {
    /// Makes a reactor, for this thread alone.
    pub(super) fn enter(bell: &Arc<Bell>) -> io::Result<Entered> {
        let reactor = Rc::new(Self {
            ring: RefCell::new(build(ENTRIES, COMPLETION_ENTRIES)?),
            overflow: RefCell::default(),
            operations: RefCell::default(),
            timers: RefCell::default(),
            batch: Cell::default(),
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

    /// Receives at most `size` bytes into `buffer`, or into another where that one has not this capacity.
    pub(super) fn receive(self: &Rc<Self>, descriptor: &Rc<OwnedFd>, mut buffer: Vec<u8>, size: usize) -> Operation {
        if buffer.capacity() != size {
            buffer = Vec::with_capacity(size);
        }
        let length = u32::try_from(buffer.capacity().min(size)).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(descriptor.as_raw_fd()), buffer.as_mut_ptr(), length).build();
        self.begin(Kind::Receive, descriptor, buffer, entry)
    }

    /// Sends what is in `buffer` from `offset` on, or a part of it.
    pub(super) fn send(
        self: &Rc<Self>,
        descriptor: &Rc<OwnedFd>,
        buffer: Vec<u8>,
        offset: usize,
        flags: SendFlags,
    ) -> Operation {
        let rest = &buffer[offset..];
        // The operation counts in 32 bits; the rest is sent next.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length)
            .flags(flags.bits().cast_signed())
            .build();
        self.begin(Kind::Send, descriptor, buffer, entry)
    }

    /// Waits until something can be received, the end of the stream included.
    pub(super) fn readable(self: &Rc<Self>, descriptor: &Rc<OwnedFd>) -> Operation {
        let events = u32::from(PollFlags::IN.bits() | PollFlags::RDHUP.bits());
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events).build();
        self.begin(Kind::Readable, descriptor, Vec::new(), entry)
    }

    /// Accepts a connection.
    pub(super) fn accept(self: &Rc<Self>, descriptor: &Rc<OwnedFd>) -> Operation {
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(Fd(descriptor.as_raw_fd()), no_address, no_length)
            .flags(SocketFlags::CLOEXEC.bits().cast_signed())
            .build();
        self.begin(Kind::Accept, descriptor, Vec::new(), entry)
    }

    /// Has an operation end: it completes with `ECANCELED`, or as it would have anyway.
    pub(super) fn cancel(&self, key: Key) {
        // By its own name rather than by its descriptor's number, which may be another's by the time the kernel reads this.
        let entry = opcode::AsyncCancel2::new(CancelBuilder::user_data(key.to_user_data())).build();
        self.push(entry.user_data(NOBODY));
    }

    fn begin(
        self: &Rc<Self>,
        kind: Kind,
        descriptor: &Rc<OwnedFd>,
        buffer: Vec<u8>,
        entry: squeue::Entry,
    ) -> Operation {
        // The pointer in the entry stays valid: the heap block of the vector moves into `Operations`, with a share of the
        // descriptor, and both are kept there until the completion arrives.
        let lent = Lent { kind, _descriptor: Rc::clone(descriptor), buffer };
        let key = self.operations.borrow_mut().begin(lent);
        self.push(entry.user_data(key.to_user_data()));
        Operation::new(Rc::clone(self), key)
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

    /// Wakes who waits for what has come: completions, and the time.
    pub(super) fn dispatch(&self) {
        self.reap();
        self.expire();
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

    /// Hands over what is queued, without a look at what has completed: before this thread is busy for long.
    pub(super) fn hand_over(&self) {
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

    /// Takes the completions out of the ring, and wakes who waits for them.
    fn reap(&self) {
        let mut batch = self.batch.take();
        batch.extend(self.ring.borrow_mut().completion().map(|entry| (entry.user_data(), entry.result())));
        for (user_data, result) in batch.drain(..) {
            match user_data {
                NOBODY => {}
                BELL => {
                    self.bell.quiet();
                    if result != -Errno::CANCELED.raw_os_error() {
                        self.listen();
                    }
                }
                _ => {
                    let concluded = self.operations.borrow_mut().complete(user_data, |lent| conclude(lent, result));
                    match concluded {
                        Concluded::Wake(waker) => waker.wake(),
                        Concluded::Nothing | Concluded::Abandoned(_) => {}
                    }
                }
            }
        }
        self.batch.set(batch);
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
            self.dispatch();
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

/// What an operation that completed with `result` has come to.
fn conclude(lent: Lent, result: i32) -> Completion {
    let Lent { kind, mut buffer, .. } = lent;
    let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
    let mut accepted = None;
    if let Ok(number) = result {
        match kind {
            Kind::Receive => {
                debug_assert!(number <= buffer.capacity());
                // SAFETY: the kernel wrote that many bytes from the start of the buffer, whose capacity bounded the operation.
                unsafe { buffer.set_len(number) };
            }
            // SAFETY: a result of an accept that is no error is a new descriptor, which nobody else owns.
            Kind::Accept => accepted = i32::try_from(number).ok().map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
            Kind::Send | Kind::Readable => {}
        }
    }
    Completion { result, buffer, accepted }
}
