//! Sockets and listeners on epoll(7), by tokio's single-threaded runtime: for hosts that forbid io_uring.
//!
//! Owns the registrations with epoll. Descriptors are non-blocking, and each operation is a system call of its own, so nothing is
//! in flight between calls. Must not name io_uring.
//!
//! JUSTIFICATION for `unsafe`: tokio registers raw descriptors and requires that they stay open.
#![expect(unsafe_code, reason = "one registration; see its SAFETY comment")]

use std::cell::Cell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Runs `main` to its end on this thread, on a new epoll instance.
pub(super) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, main))
}

/// A share of a descriptor, with the trait that `AsyncFd` requires.
struct Registered(Rc<OwnedFd>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn register(descriptor: Rc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Registered>> {
    set_nonblocking(&descriptor)?;
    // SAFETY: the `AsyncFd` owns the `Registered`, which keeps the descriptor open and never replaces it.
    Ok(unsafe { AsyncFd::register_with_interest(Registered(descriptor), interest) }?)
}

/// A descriptor that others make readable, for a runtime of tokio's.
pub(super) struct Readable(AsyncFd<Registered>);

impl Readable {
    pub(super) fn new(descriptor: Rc<OwnedFd>) -> io::Result<Self> {
        register(descriptor, Interest::READABLE).map(Self)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0.get_ref().0
    }

    /// Waits until epoll reports that it is readable, and forgets that.
    pub(super) async fn wait(&self) {
        if let Ok(mut guard) = self.0.readable().await {
            guard.clear_ready();
        }
    }
}

/// The two directions of a connected socket.
pub(super) struct Channel {
    socket: AsyncFd<Registered>,
    /// How many bytes at the front of the queue the kernel has accepted already.
    sent: usize,
}

impl Channel {
    pub(super) fn new(descriptor: Rc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { socket: register(descriptor, Interest::READABLE | Interest::WRITABLE)?, sent: 0 })
    }

    /// Receives at most `size` bytes into `buffer`, or into a new one if its capacity is not `size`.
    pub(super) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        mut buffer: Vec<u8>,
        size: usize,
    ) -> Poll<(io::Result<usize>, Vec<u8>)> {
        loop {
            let mut guard = match self.socket.poll_read_ready(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(guard)) => guard,
                Poll::Ready(Err(error)) => return Poll::Ready((Err(error), buffer)),
            };
            if buffer.capacity() != size {
                buffer = Vec::with_capacity(size);
            }
            let attempt = guard.try_io(|socket| {
                let spare = rustix::buffer::spare_capacity(&mut buffer);
                Ok(rustix::net::recv(&socket.get_ref().0, spare, RecvFlags::empty())?)
            });
            match attempt {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => {
                    let result = result.map(|(_, count)| count);
                    if result.as_ref().is_ok_and(|count| (1..size).contains(count)) {
                        // Fewer than requested: nothing is left, and epoll reports what comes next, the end of the stream included
                        // (epoll(7)).
                        guard.clear_ready();
                    }
                    return Poll::Ready((result, buffer));
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Waits until a receive would not block.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // The result is not needed: the next receive reports an error.
        self.socket.poll_read_ready(context).map(drop)
    }

    /// Sends what is queued. Ready with the number of bytes that the kernel accepted, or with 0 if nothing is left.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        queued: &mut Vec<u8>,
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        if self.sent == queued.len() {
            queued.clear();
            queued.shrink_to(crate::send::SPARE_MAX);
            self.sent = 0;
            return Poll::Ready(Ok(0));
        }
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(context))?;
            let rest = &queued[self.sent..];
            let attempt = guard.try_io(|socket| Ok(rustix::net::send(&socket.get_ref().0, rest, flags)?));
            match attempt {
                Ok(Ok(count)) => {
                    self.sent += count;
                    return Poll::Ready(Ok(count));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }

    /// Sends `slices` or a part of them, without a copy. The queue must be empty.
    pub(super) fn poll_send_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(context))?;
            match guard.try_io(|socket| Ok(crate::send::send_slices(&socket.get_ref().0, slices)?)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(outcome) => return Poll::Ready(outcome),
                Err(_would_block) => {}
            }
        }
    }
}

fn set_nonblocking(descriptor: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    if !flags.contains(OFlags::NONBLOCK) {
        rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Accepts a connection that is queued already. Returns `None` if there is none; never blocks.
pub(super) fn accept_queued(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    set_nonblocking(listener)?;
    match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
        Ok(descriptor) => Ok(Some(descriptor)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A listening socket.
pub(super) struct Listener {
    socket: AsyncFd<Registered>,
    stopped: Cell<bool>,
    stop: Notify,
}

impl Listener {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let socket = register(Rc::new(descriptor), Interest::READABLE)?;
        Ok(Self { socket, stopped: Cell::new(false), stop: Notify::new() })
    }

    /// Returns the next connection, or `None` after [`Self::stop`].
    pub(super) async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        while !self.stopped.get() {
            let mut guard = tokio::select! {
                guard = self.socket.readable() => guard?,
                () = self.stop.notified() => break,
            };
            let attempt =
                guard.try_io(|socket| Ok(rustix::net::accept_with(&socket.get_ref().0, SocketFlags::CLOEXEC)?));
            if let Ok(result) = attempt {
                return result.map(Some);
            }
        }
        Ok(None)
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.socket.get_ref().0
    }

    pub(super) fn stop(&self) {
        self.stopped.set(true);
        self.stop.notify_one();
    }
}
