//! The epoll backend, on tokio's single-threaded runtime: for hosts that forbid io_uring.
//!
//! JUSTIFICATION for `unsafe`: tokio registers raw descriptors and asks the caller to vouch that they stay open.
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

/// Runs `main` on an epoll instance of its own, on this thread.
pub(super) fn block_on<F: Future>(main: F) -> io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, main))
}

/// Shared ownership of a descriptor, in the shape that tokio asks for. Never gives out another descriptor.
struct Registered(Rc<OwnedFd>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn register(descriptor: Rc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Registered>> {
    set_nonblocking(&descriptor)?;
    // SAFETY: `Registered` owns a share of the descriptor, so it stays open and the same for as long as the `AsyncFd` lives.
    Ok(unsafe { AsyncFd::register_with_interest(Registered(descriptor), interest) }?)
}

/// The two directions of a connected socket.
pub(super) struct Channel {
    socket: AsyncFd<Registered>,
    /// Bytes at the front of the queue that the kernel has taken already.
    sent: usize,
}

impl Channel {
    pub(super) fn new(descriptor: Rc<OwnedFd>) -> io::Result<Self> {
        Ok(Self { socket: register(descriptor, Interest::READABLE | Interest::WRITABLE)?, sent: 0 })
    }

    /// Nothing beyond the queue itself: an epoll send is over when the call returns.
    pub(super) fn sending(&self) -> usize {
        0
    }

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
                        // Less than asked for: nothing is left, and epoll tells of what comes next, the end included (epoll(7)).
                        guard.clear_ready();
                    }
                    return Poll::Ready((result, buffer));
                }
                Err(_would_block) => {}
            }
        }
    }

    /// Waits until something can be received.
    pub(super) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // An error is for the receive that follows to find.
        self.socket.poll_read_ready(context).map(drop)
    }

    /// Sends what is queued; ready with 0 once nothing is left, else with the bytes that the kernel took.
    pub(super) fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        queued: &mut Vec<u8>,
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        if self.sent == queued.len() {
            queued.clear();
            queued.shrink_to(crate::socket::SPARE_MAX);
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

    /// Sends `slices`, or a part of them, straight from where they are. Nothing may be queued.
    pub(super) fn poll_send_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.socket.poll_write_ready(context))?;
            match guard.try_io(|socket| Ok(crate::socket::send_slices(&socket.get_ref().0, slices)?)) {
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

/// Takes a connection that is queued already; `None` where there is none.
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

    /// The next connection; `None` once stopped.
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
