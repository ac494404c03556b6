//! What both ways to use io_uring have in common: what the kernel is asked for, what it is lent meanwhile, and sockets made of that.
//!
//! Owns the operations as the kernel reads them, and the one place where its answers become bytes and descriptors. Must not know
//! who enters the kernel, nor when: that is a [`driver`], of [`tokio_uring`] or of [`reactor`].
//!
//! JUSTIFICATION for `unsafe`: what an operation has written, or which descriptor it has made, is a number that the kernel answers.
#![expect(unsafe_code, reason = "what the kernel answers is taken at its word; see each SAFETY comment")]

mod channel;
mod driver;
mod listener;
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

pub(crate) use channel::{Channel, Woken};
pub(crate) use driver::AnyDriver;
pub(crate) use listener::Listener;

/// Submission entries a ring: the most operations that one system call hands over.
pub(super) const ENTRIES: u32 = 512;

/// Completion entries a ring. Completions beyond it wait in the kernel (`IORING_FEAT_NODROP`), so this bounds a batch only.
pub(super) const COMPLETION_ENTRIES: u32 = 4096;

/// The operations that a ring has to know, by name.
pub(crate) const OPERATIONS: [(&str, u8); 5] = [
    ("ACCEPT", opcode::Accept::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("RECV", opcode::Recv::CODE),
    ("SEND", opcode::Send::CODE),
];

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Receive,
    Send,
    Ready,
    Accept,
}

/// What the kernel holds meanwhile: the buffer, and the descriptor so that its number stays ours.
pub(super) struct Lent {
    kind: Kind,
    _descriptor: Rc<OwnedFd>,
    buffer: Vec<u8>,
}

/// An operation to be begun. Its pointer is into the heap block of the buffer, which moves with it.
pub(super) struct Submission {
    entry: squeue::Entry,
    lent: Lent,
}

impl Submission {
    fn new(kind: Kind, descriptor: &Rc<OwnedFd>, buffer: Vec<u8>, entry: squeue::Entry) -> Self {
        Self { entry, lent: Lent { kind, _descriptor: Rc::clone(descriptor), buffer } }
    }

    /// Receives at most `size` bytes into `buffer`, or into another where that one has not this capacity.
    pub(super) fn receive(descriptor: &Rc<OwnedFd>, mut buffer: Vec<u8>, size: usize) -> Self {
        if buffer.capacity() != size {
            buffer = Vec::with_capacity(size);
        }
        let length = u32::try_from(buffer.capacity().min(size)).unwrap_or(u32::MAX);
        let entry = opcode::Recv::new(Fd(descriptor.as_raw_fd()), buffer.as_mut_ptr(), length).build();
        Self::new(Kind::Receive, descriptor, buffer, entry)
    }

    /// Sends what is in `buffer` from `offset` on, or a part of it.
    pub(super) fn send(descriptor: &Rc<OwnedFd>, buffer: Vec<u8>, offset: usize, flags: SendFlags) -> Self {
        let rest = &buffer[offset..];
        // The operation counts in 32 bits; the rest is sent next.
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length)
            .flags(flags.bits().cast_signed())
            .build();
        Self::new(Kind::Send, descriptor, buffer, entry)
    }

    /// Waits until something can be received, the end of the stream included.
    pub(super) fn readable(descriptor: &Rc<OwnedFd>) -> Self {
        Self::ready(descriptor, PollFlags::IN | PollFlags::RDHUP)
    }

    /// Waits until something can be sent, or never again.
    pub(super) fn writable(descriptor: &Rc<OwnedFd>) -> Self {
        Self::ready(descriptor, PollFlags::OUT)
    }

    fn ready(descriptor: &Rc<OwnedFd>, events: PollFlags) -> Self {
        let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), u32::from(events.bits())).build();
        Self::new(Kind::Ready, descriptor, Vec::new(), entry)
    }

    /// Accepts a connection.
    pub(super) fn accept(descriptor: &Rc<OwnedFd>) -> Self {
        let (no_address, no_length) = (std::ptr::null_mut(), std::ptr::null_mut());
        let entry = opcode::Accept::new(Fd(descriptor.as_raw_fd()), no_address, no_length)
            .flags(SocketFlags::CLOEXEC.bits().cast_signed())
            .build();
        Self::new(Kind::Accept, descriptor, Vec::new(), entry)
    }

    /// The entry for the kernel, and what is to be kept until the kernel is done with it.
    pub(super) fn into_parts(self) -> (squeue::Entry, Lent) {
        (self.entry, self.lent)
    }
}

/// What came of an operation.
pub(super) struct Completion {
    /// Bytes, or events, or nothing of use.
    pub(super) result: io::Result<usize>,
    /// The buffer that was lent; what was received is in it.
    pub(super) buffer: Vec<u8>,
    /// The connection that was accepted.
    accepted: Option<OwnedFd>,
}

impl Completion {
    /// Of the operation that borrowed `lent`, by what the kernel answered to its entry: a count, a descriptor, or an error's number
    /// below zero.
    ///
    /// # Safety
    ///
    /// `result` is that answer, and is used for nothing else: a count says what the buffer holds, a descriptor is taken over.
    pub(super) unsafe fn new(lent: Lent, result: i32) -> Self {
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
                Kind::Accept => {
                    // SAFETY: a result of an accept that is no error is a new descriptor, which nobody else owns.
                    accepted = i32::try_from(number).ok().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
                }
                Kind::Send | Kind::Ready => {}
            }
        }
        Self { result, buffer, accepted }
    }

    /// Of an operation that could not be carried out.
    pub(super) fn failed(error: io::Error) -> Self {
        Self { result: Err(error), buffer: Vec::new(), accepted: None }
    }
}

/// io_uring arms its own poll for a blocking descriptor; a non-blocking one would only answer `EAGAIN`.
fn clear_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    if flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(descriptor, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}
