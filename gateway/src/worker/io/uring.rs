//! The io_uring backend, on tokio-uring's one-shot operations.
//!
//! The only file that names tokio-uring and io-uring, and the only one with `unsafe`. Obeys the crate's limits: nothing is
//! cancelled by dropping it, so whoever drops a channel shuts the socket down first ([`super::Socket`] does); accepts are
//! cancelled by descriptor and always awaited.
//!
//! JUSTIFICATION for `unsafe`: an io_uring operation is a raw pointer and a length; there is no safe way to say that.
#![expect(unsafe_code, reason = "buffers are lent to the kernel; see each SAFETY comment")]

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use io_uring::types::{CancelBuilder, Fd};
use io_uring::{cqueue, opcode};
use rustix::event::PollFlags;
use rustix::fs::OFlags;
use rustix::net::SendFlags;
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// Submission entries a ring: the most operations that one turn of the event loop hands over in one system call.
const ENTRIES: u32 = 512;

/// Completion entries a ring. Completions beyond it wait in the kernel (`IORING_FEAT_NODROP`), so this bounds a batch only.
const COMPLETION_ENTRIES: u32 = 4096;

/// How long to wait before accepting again from a socket that is non-blocking, and empty.
pub(super) const SHARED_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// What a cancelled operation completes with.
const ECANCELED: i32 = rustix::io::Errno::CANCELED.raw_os_error();

/// Runs `main` on a ring of its own, on this thread.
pub(super) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let mut ring = tokio_uring::uring_builder();
    // Completions are run when this thread enters the kernel anyway, and only this thread submits: no interrupts to itself.
    ring.setup_coop_taskrun().setup_single_issuer().setup_cqsize(COMPLETION_ENTRIES);
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring);
    let runtime = tokio_uring::Runtime::new(&builder)?;
    Ok(runtime.block_on(main))
}

/// What the kernel holds while an operation is under way: the buffer, and the descriptor so that its number stays ours.
struct Lent {
    _descriptor: Rc<OwnedFd>,
    buffer: Vec<u8>,
}

struct Receive;

impl OneshotOutputTransform for Receive {
    type Output = (io::Result<usize>, Vec<u8>);
    type StoredData = Lent;

    fn transform_oneshot_output(self, data: Lent, entry: cqueue::Entry) -> Self::Output {
        let mut buffer = data.buffer;
        let result = count(&entry);
        if let Ok(count) = result {
            debug_assert!(count <= buffer.capacity());
            // SAFETY: the kernel wrote `count` bytes from the start of the buffer, whose capacity bounded the operation.
            unsafe { buffer.set_len(count) };
        }
        (result, buffer)
    }
}

struct Send;

impl OneshotOutputTransform for Send {
    type Output = (io::Result<usize>, Vec<u8>);
    type StoredData = Lent;

    fn transform_oneshot_output(self, data: Lent, entry: cqueue::Entry) -> Self::Output {
        (count(&entry), data.buffer)
    }
}

fn count(entry: &cqueue::Entry) -> io::Result<usize> {
    let result = entry.result();
    usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result))
}

/// What ended a wait without a buffer.
pub(super) enum Woken {
    /// Something can be received, the end of the stream included.
    Readable,
    /// The receive that was under way when the wait began completed after all.
    Received(io::Result<usize>, Vec<u8>),
}

struct Readable;

impl OneshotOutputTransform for Readable {
    type Output = ();
    type StoredData = Rc<OwnedFd>;

    // A poll that fails is as good as one that succeeds: the receive that follows says what is wrong.
    fn transform_oneshot_output(self, _socket: Rc<OwnedFd>, _entry: cqueue::Entry) -> Self::Output {}
}

/// The two directions of a connected socket.
pub(super) struct Channel {
    descriptor: Rc<OwnedFd>,
    receive: Option<InFlightOneshot<Lent, Receive>>,
    /// The receive that is under way was told to end.
    receive_cancelled: bool,
    readable: Option<InFlightOneshot<Rc<OwnedFd>, Readable>>,
    send: Option<Sending>,
    /// A partly sent buffer, and how much of it is sent.
    partial: Option<(Vec<u8>, usize)>,
    /// An emptied buffer, kept for the next send.
    spare: Vec<u8>,
}

struct Sending {
    operation: InFlightOneshot<Lent, Send>,
    /// Where in its buffer the operation begins.
    offset: usize,
    /// How many bytes it was given.
    length: usize,
}

impl Channel {
    pub(super) fn new(descriptor: Rc<OwnedFd>) -> io::Result<Self> {
        clear_nonblocking(&descriptor)?;
        Ok(Self {
            descriptor,
            receive: None,
            receive_cancelled: false,
            readable: None,
            send: None,
            partial: None,
            spare: Vec::new(),
        })
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.receive.is_some() || self.readable.is_some() || self.send.is_some()
    }

    pub(super) fn sending(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |(buffer, sent)| buffer.len() - sent);
        self.send.as_ref().map_or(partial, |sending| sending.length)
    }

    pub(super) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: Vec<u8>,
        size: usize,
    ) -> Poll<(io::Result<usize>, Vec<u8>)> {
        let operation = self.receive.get_or_insert_with(|| submit_receive(&self.descriptor, buffer, size));
        let outcome = Pin::new(operation).poll(context);
        if outcome.is_ready() {
            self.receive = None;
        }
        outcome
    }

    /// Waits until something can be received, with no buffer in the kernel's hands. Nothing may be on its way out.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        self.spare = Vec::new();
        if let Some(receive) = &mut self.receive {
            if !std::mem::replace(&mut self.receive_cancelled, true) {
                cancel_all(&self.descriptor);
            }
            let (result, buffer) = ready!(Pin::new(receive).poll(context));
            self.receive = None;
            self.receive_cancelled = false;
            if !matches!(&result, Err(error) if error.raw_os_error() == Some(ECANCELED)) {
                return Poll::Ready(Woken::Received(result, buffer));
            }
        }
        let readable = self.readable.get_or_insert_with(|| submit_poll(&self.descriptor));
        ready!(Pin::new(readable).poll(context));
        self.readable = None;
        Poll::Ready(Woken::Readable)
    }

    /// Sends what is queued; ready with 0 once nothing is left, else with the bytes that the kernel took.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        queued: &mut Vec<u8>,
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        let sending = match &mut self.send {
            Some(sending) => sending,
            None => {
                let (buffer, offset) = match self.partial.take() {
                    Some(partial) => partial,
                    None if queued.is_empty() => return Poll::Ready(Ok(0)),
                    None => (std::mem::replace(queued, std::mem::take(&mut self.spare)), 0),
                };
                self.send.insert(submit_send(&self.descriptor, buffer, offset, flags))
            }
        };
        let offset = sending.offset;
        let (result, buffer) = ready!(Pin::new(&mut sending.operation).poll(context));
        self.send = None;
        let count = match result {
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => count,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if offset + count < buffer.len() {
            self.partial = Some((buffer, offset + count));
        } else if buffer.capacity() <= super::SPARE_MAX {
            self.spare = buffer;
            self.spare.clear();
        }
        Poll::Ready(Ok(count))
    }
}

fn submit_receive(descriptor: &Rc<OwnedFd>, mut buffer: Vec<u8>, size: usize) -> InFlightOneshot<Lent, Receive> {
    if buffer.capacity() != size {
        buffer = Vec::with_capacity(size);
    }
    let length = u32::try_from(buffer.capacity().min(size)).unwrap_or(u32::MAX);
    // The pointer stays valid while the operation is under way: the heap block of the vector moves into `Lent`, which
    // tokio-uring keeps until the completion arrives, even if the future is dropped.
    let entry = opcode::Recv::new(Fd(descriptor.as_raw_fd()), buffer.as_mut_ptr(), length).build();
    UnsubmittedOneshot::new(Lent { _descriptor: Rc::clone(descriptor), buffer }, Receive, entry).submit()
}

fn submit_poll(descriptor: &Rc<OwnedFd>) -> InFlightOneshot<Rc<OwnedFd>, Readable> {
    let events = u32::from(PollFlags::IN.bits() | PollFlags::RDHUP.bits());
    let entry = opcode::PollAdd::new(Fd(descriptor.as_raw_fd()), events).build();
    UnsubmittedOneshot::new(Rc::clone(descriptor), Readable, entry).submit()
}

/// Ends every operation under way on the descriptor; each completes with `ECANCELED`, or as it would have anyway.
fn cancel_all(descriptor: &Rc<OwnedFd>) {
    let builder = CancelBuilder::fd(Fd(descriptor.as_raw_fd())).all();
    let entry = opcode::AsyncCancel2::new(builder).build();
    let operation = UnsubmittedOneshot::new(Rc::clone(descriptor), Cancel, entry).submit();
    tokio::task::spawn_local(operation);
}

fn submit_send(descriptor: &Rc<OwnedFd>, buffer: Vec<u8>, offset: usize, flags: SendFlags) -> Sending {
    let rest = &buffer[offset..];
    let remaining = rest.len();
    // As for `submit_receive`. The length is capped since the operation counts in 32 bits; the rest is sent next.
    let length = u32::try_from(remaining).unwrap_or(u32::MAX);
    let entry =
        opcode::Send::new(Fd(descriptor.as_raw_fd()), rest.as_ptr(), length).flags(flags.bits().cast_signed()).build();
    let lent = Lent { _descriptor: Rc::clone(descriptor), buffer };
    Sending { operation: UnsubmittedOneshot::new(lent, Send, entry).submit(), offset, length: remaining }
}

/// io_uring arms its own poll for a blocking descriptor; a non-blocking one would only answer `EAGAIN`.
pub(super) fn clear_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    if flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(descriptor, flags - OFlags::NONBLOCK)?;
    }
    Ok(())
}

struct Accept;

impl OneshotOutputTransform for Accept {
    type Output = io::Result<OwnedFd>;
    type StoredData = Rc<OwnedFd>;

    fn transform_oneshot_output(self, _listener: Rc<OwnedFd>, entry: cqueue::Entry) -> Self::Output {
        let descriptor = entry.result();
        if descriptor < 0 {
            return Err(io::Error::from_raw_os_error(-descriptor));
        }
        // SAFETY: a non-negative result of an accept is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
    }
}

struct Cancel;

impl OneshotOutputTransform for Cancel {
    type Output = ();
    type StoredData = Rc<OwnedFd>;

    fn transform_oneshot_output(self, _listener: Rc<OwnedFd>, _entry: cqueue::Entry) {}
}

/// A listening socket.
pub(super) struct Listener {
    descriptor: Rc<OwnedFd>,
    stopped: Cell<bool>,
}

impl Listener {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        clear_nonblocking(&descriptor)?;
        Ok(Self { descriptor: Rc::new(descriptor), stopped: Cell::new(false) })
    }

    /// The next connection; `None` once stopped. An accept that completes while it is being cancelled has a connection, or was
    /// cancelled and has taken none: the kernel decides once.
    pub(super) async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        while !self.stopped.get() {
            let entry =
                opcode::Accept::new(Fd(self.descriptor.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut())
                    .flags(rustix::net::SocketFlags::CLOEXEC.bits().cast_signed())
                    .build();
            match UnsubmittedOneshot::new(Rc::clone(&self.descriptor), Accept, entry).submit().await {
                Ok(descriptor) => return Ok(Some(descriptor)),
                Err(error) if error.raw_os_error() == Some(ECANCELED) => {}
                // A sibling that shares the socket has stopped, and made it non-blocking for both: our own stop is near.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => super::timer::sleep(SHARED_PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    pub(super) fn stop(&self) {
        if self.stopped.replace(true) {
            return;
        }
        cancel_all(&self.descriptor);
    }
}
