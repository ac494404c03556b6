//! Operations on io_uring(7) and their completions, and the sockets and listeners built on them.
//!
//! Owns each operation's SQE (submission queue entry) with the buffer and descriptor that it needs, and the one place where the
//! result in a CQE (completion queue entry) becomes received bytes or a descriptor. Must not enter the kernel: a [`driver`] does,
//! [`reactor`] or [`tokio_uring`].
//!
//! JUSTIFICATION for `unsafe`: the kernel writes into a buffer and creates descriptors, and reports both as a number.
#![expect(
    unsafe_code,
    reason = "the number in a CQE becomes a buffer's length or a descriptor; see each SAFETY comment"
)]

mod channel;
mod driver;
mod listener;
mod probe;
pub(crate) mod reactor;
pub(crate) mod tokio_uring;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::net::{SendFlags, SocketFlags};

pub(crate) use channel::{Channel, Readiness};
pub(crate) use driver::AnyDriver;
pub(crate) use listener::Listener;
pub use probe::ProbeError;

/// SQEs a ring: how many operations one system call submits at most.
const ENTRIES: u32 = 512;

/// CQEs a ring. The kernel keeps further completions (`IORING_FEAT_NODROP`, io_uring_setup(2)), so this bounds a batch only.
const COMPLETION_ENTRIES: u32 = 4096;

/// The operations that the kernel must support: name without `IORING_OP_`, and opcode.
const OPERATIONS: [(&str, u8); 5] = [
    ("ACCEPT", opcode::Accept::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
];

/// What an operation does, and so what its result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The result is the number of bytes written to the buffer.
    Receive,
    /// The result is the number of bytes accepted from the buffer.
    Send,
    /// The result is a set of poll(2) events.
    Poll,
    /// The result is a descriptor.
    Accept,
}

/// What an operation needs until it completes: its buffer, and a share of its descriptor, which keeps the descriptor's number from
/// being reused.
struct Resources {
    kind: Kind,
    _descriptor: Rc<OwnedFd>,
    buffer: Vec<u8>,
}

/// An operation that is not submitted yet. The SQE points into the buffer's heap block, which stays in place when the `Vec` moves.
struct Submission {
    entry: squeue::Entry,
    resources: Resources,
}

impl Submission {
    fn new(kind: Kind, descriptor: &Rc<OwnedFd>, buffer: Vec<u8>, entry: squeue::Entry) -> Self {
        Self { entry, resources: Resources { kind, _descriptor: Rc::clone(descriptor), buffer } }
    }

    /// Receives at most `size` bytes into `buffer`, or into a new one if its capacity is not `size`.
    fn receive(descriptor: &Rc<OwnedFd>, mut buffer: Vec<u8>, size: usize) -> Self {
        if buffer.capacity() != size {
            buffer = Vec::with_capacity(size);
        }
        let length = u32::try_from(buffer.capacity().min(size)).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(descriptor.as_raw_fd()), buffer.as_mut_ptr(), length).build();
        Self::new(Kind::Receive, descriptor, buffer, entry)
    }

    /// Sends `buffer` from `offset` on, or a part of that.
    fn send(descriptor: &Rc<OwnedFd>, buffer: Vec<u8>, offset: usize, flags: SendFlags) -> Self {
        let rest = &buffer[offset..];
        // An SQE holds the length in 32 bits; the next operation sends the rest.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length)
            .flags(flags.bits().cast_signed())
            .build();
        Self::new(Kind::Send, descriptor, buffer, entry)
    }

    /// Waits until a receive would not block: there are bytes, the end of the stream or an error.
    fn readable(descriptor: &Rc<OwnedFd>) -> Self {
        Self::poll(descriptor, PollFlags::IN | PollFlags::RDHUP)
    }

    /// Waits until a send would not block: there is room, or an error.
    fn writable(descriptor: &Rc<OwnedFd>) -> Self {
        Self::poll(descriptor, PollFlags::OUT)
    }

    fn poll(descriptor: &Rc<OwnedFd>, events: PollFlags) -> Self {
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), poll_mask(events)).build();
        Self::new(Kind::Poll, descriptor, Vec::new(), entry)
    }

    /// Accepts a connection.
    fn accept(descriptor: &Rc<OwnedFd>) -> Self {
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(Fd(descriptor.as_raw_fd()), no_address, no_length)
            .flags(SocketFlags::CLOEXEC.bits().cast_signed())
            .build();
        Self::new(Kind::Accept, descriptor, Vec::new(), entry)
    }

    /// The SQE, and what must be kept until its CQE arrives.
    fn into_parts(self) -> (squeue::Entry, Resources) {
        (self.entry, self.resources)
    }
}

/// A completed operation.
struct Completion {
    /// What [`Kind`] says, or the kernel's error.
    result: io::Result<usize>,
    /// The operation's buffer. After a receive it holds the received bytes.
    buffer: Vec<u8>,
    /// The accepted connection.
    accepted: Option<OwnedFd>,
}

impl Completion {
    /// Makes a completion from the result in a CQE: the number that [`Kind`] explains, or a negated error number.
    ///
    /// # Safety
    ///
    /// `result` is from the CQE of the operation that `resources` belong to, and is used once: an accepted descriptor gets its
    /// owner here.
    unsafe fn new(resources: Resources, result: i32) -> Self {
        let Resources { kind, mut buffer, .. } = resources;
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        let mut accepted = None;
        if let Ok(number) = result {
            match kind {
                Kind::Receive => {
                    debug_assert!(number <= buffer.capacity());
                    // SAFETY: the kernel has written `number` bytes from the start of the buffer. The SQE's length is at most the
                    // buffer's capacity, and so is `number`.
                    unsafe { buffer.set_len(number) };
                }
                Kind::Accept => {
                    // SAFETY: the result of an accept that succeeded is a new descriptor. The caller uses it once, so it has no
                    // other owner.
                    accepted = i32::try_from(number).ok().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
                }
                Kind::Send | Kind::Poll => {}
            }
        }
        Self { result, buffer, accepted }
    }

    /// A completion with an error of hookgate's own, without a CQE.
    fn failed(error: io::Error) -> Self {
        Self { result: Err(error), buffer: Vec::new(), accepted: None }
    }
}

/// The events as an SQE holds them. The type of their bits depends on the backend of rustix, which is another one under Miri.
fn poll_mask(events: PollFlags) -> u32 {
    u32::try_from(i64::from(events.bits())).unwrap_or_default()
}

/// Makes the descriptor blocking. io_uring waits by a poll of its own if the descriptor is blocking; else the operation completes
/// with `EAGAIN`.
fn clear_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    if flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(descriptor, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}
