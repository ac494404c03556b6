//! The seam between the gateway and the kernel's socket I/O: io_uring, in two ways, or epoll where a host forbids it.
//!
//! Owns buffers that the kernel fills and empties, listeners, and the runtime of a worker thread. The rest of the gateway
//! sees a [`Socket`] that buffers both ways and a [`Listener`], and never learns which backend is at work. Must not know
//! TLS or HTTP, and must not decide when a socket has waited too long: that is [`super::deadline`].
//!
//! The seam is *owned-buffer* shaped, since io_uring keeps a buffer until the operation completes: at most one receive and
//! one send are under way a socket, and each owns what it was given. What is long enough to be worth a system call of its own is
//! sent from where it lies, and the backend only waits until there is room. A socket dropped with an operation under way is shut
//! down, so that the operation ends and gives back buffer and descriptor at once instead of when the peer next acts.

mod direct;
mod epoll;
mod probe;
mod ring;
pub mod timer;
mod uring;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

pub use probe::{Backend, ProbeError, choose};

/// First size of a receive buffer in bytes: holds a ClientHello, or a typical webhook head, and costs little while idle.
const RECEIVE_MIN: usize = 4 * 1024;

/// Largest size of a receive buffer in bytes, reached only while a peer keeps filling smaller ones: four TLS records.
const RECEIVE_MAX: usize = 64 * 1024;

/// Send buffers up to this many bytes are kept for reuse while a connection lives.
const SPARE_MAX: usize = 4 * 1024;

/// Runs `main` on a new single-threaded runtime of `backend`, on this thread, until it is done.
///
/// Tasks are spawned with [`tokio::task::spawn_local`], and wait for time by [`timer`].
///
/// # Errors
///
/// Whatever the kernel says when it refuses a ring or an epoll instance.
pub fn block_on<F: Future>(backend: Backend, main: F) -> io::Result<F::Output> {
    match backend {
        Backend::IoUring => uring::block_on(main),
        Backend::IoUringDirect => direct::block_on(main),
        Backend::Epoll => epoll::block_on(main),
    }
}

/// Lets what other sockets of this worker have to send go out now, where a backend would hand it over at the end of its turn: for
/// whoever is about to keep the thread busy for longer than a system call takes. It lets nobody wait, and cannot fail.
pub fn hand_over() {
    direct::hand_over();
}

/// A connected stream socket, TCP or Unix, with a receive buffer and a send buffer of its own.
pub struct Socket {
    descriptor: Rc<OwnedFd>,
    channel: Channel,
    received: Vec<u8>,
    consumed: usize,
    receive_size: usize,
    queued: Vec<u8>,
    sent: u64,
    ended: bool,
}

enum Channel {
    Uring(ring::Channel<uring::TokioUring>),
    Direct(ring::Channel<Rc<direct::Reactor>>),
    Epoll(epoll::Channel),
}

impl Socket {
    /// Takes a connected stream socket.
    ///
    /// # Errors
    ///
    /// From the system calls that set or clear `O_NONBLOCK` and register the descriptor.
    pub fn new(backend: Backend, descriptor: OwnedFd) -> io::Result<Self> {
        let descriptor = Rc::new(descriptor);
        let channel = match backend {
            Backend::IoUring => Channel::Uring(ring::Channel::new(uring::TokioUring, Rc::clone(&descriptor))?),
            Backend::IoUringDirect => Channel::Direct(ring::Channel::new(direct::current()?, Rc::clone(&descriptor))?),
            Backend::Epoll => Channel::Epoll(epoll::Channel::new(Rc::clone(&descriptor))?),
        };
        Ok(Self {
            descriptor,
            channel,
            received: Vec::new(),
            consumed: 0,
            receive_size: RECEIVE_MIN,
            queued: Vec::new(),
            sent: 0,
            ended: false,
        })
    }

    /// The descriptor, for the deadline sweep.
    pub fn descriptor(&self) -> &Rc<OwnedFd> {
        &self.descriptor
    }

    /// What was received and not consumed yet.
    pub fn buffered(&self) -> &[u8] {
        &self.received[self.consumed..]
    }

    /// Takes `count` bytes off the front of [`Self::buffered`]; more than there are takes all.
    pub fn consume(&mut self, count: usize) {
        self.consumed = (self.consumed + count).min(self.received.len());
    }

    /// Bytes that the kernel has taken since the socket was made.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Where to append bytes to be sent by [`Self::poll_drain`].
    pub fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.queued
    }

    /// Waits until [`Self::buffered`] is not empty, and returns how much it holds; 0 is the end of the stream.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.consumed < self.received.len() {
            return Poll::Ready(Ok(self.received.len() - self.consumed));
        }
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let mut buffer = std::mem::take(&mut self.received);
        self.consumed = 0;
        buffer.clear();
        let outcome = match &mut self.channel {
            Channel::Uring(channel) => channel.poll_receive(context, buffer, self.receive_size),
            Channel::Direct(channel) => channel.poll_receive(context, buffer, self.receive_size),
            Channel::Epoll(channel) => channel.poll_receive(context, buffer, self.receive_size),
        };
        match outcome {
            Poll::Pending => Poll::Pending,
            Poll::Ready((result, buffer)) => Poll::Ready(self.received(result, buffer)),
        }
    }

    fn received(&mut self, result: io::Result<usize>, buffer: Vec<u8>) -> io::Result<usize> {
        self.received = buffer;
        self.consumed = 0;
        let count = result?;
        self.ended = count == 0;
        // Grow for bulk, shrink for idling: a full buffer asks for a larger one, a quarter-full one for the smallest.
        if count == self.receive_size {
            self.receive_size = (self.receive_size * 4).min(RECEIVE_MAX);
        } else if count < self.receive_size / 4 {
            self.receive_size = RECEIVE_MIN;
        }
        Ok(count)
    }

    /// Waits until [`Self::poll_fill`] has something to say, holding no memory for it meanwhile: for a peer that may be silent for
    /// long. Ready at once where something is buffered, or still on its way out.
    pub fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.consumed < self.received.len() || self.ended || self.pending() > 0 {
            return Poll::Ready(());
        }
        self.received = Vec::new();
        self.consumed = 0;
        self.queued = Vec::new();
        let woken = match &mut self.channel {
            Channel::Epoll(channel) => return channel.poll_readable(context),
            Channel::Uring(channel) => ready!(channel.poll_readable(context)),
            Channel::Direct(channel) => ready!(channel.poll_readable(context)),
        };
        if let ring::Woken::Received(result, buffer) = woken {
            // An error is told again by the receive that follows, or that one finds the end of the stream.
            let _ = self.received(result, buffer);
        }
        Poll::Ready(())
    }

    /// Sends everything queued; ready when the kernel has taken all of it.
    pub fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_all(context, SendFlags::NOSIGNAL)
    }

    /// Sends everything queued, and the end of the stream with its last bytes: one segment less, and one wake-up of the peer less,
    /// than when the end follows by itself.
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Held back by the kernel until the shutdown, or for 200 ms if that never came (tcp(7), TCP_CORK).
        ready!(self.poll_send_all(context, SendFlags::NOSIGNAL | SendFlags::MORE))?;
        self.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }

    fn poll_send_all(&mut self, context: &mut Context<'_>, flags: SendFlags) -> Poll<io::Result<()>> {
        loop {
            let outcome = match &mut self.channel {
                Channel::Uring(channel) => channel.poll_send(context, &mut self.queued, flags),
                Channel::Direct(channel) => channel.poll_send(context, &mut self.queued, flags),
                Channel::Epoll(channel) => channel.poll_send(context, &mut self.queued, flags),
            };
            match ready!(outcome) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => self.sent += count as u64,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends `slices`, or a part of them, without a copy of ours, after everything that is queued. For much at once: each call is a
    /// system call.
    pub fn poll_send_slices(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(context))?;
        let outcome = match &mut self.channel {
            Channel::Uring(channel) => channel.poll_send_slices(context, slices),
            Channel::Direct(channel) => channel.poll_send_slices(context, slices),
            Channel::Epoll(channel) => channel.poll_send_slices(context, slices),
        };
        let count = ready!(outcome)?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Bytes that were queued and that the kernel has not taken yet.
    pub fn pending(&self) -> usize {
        let under_way = match &self.channel {
            Channel::Uring(channel) => channel.sending(),
            Channel::Direct(channel) => channel.sending(),
            Channel::Epoll(channel) => channel.sending(),
        };
        self.queued.len() + under_way
    }

    /// Shuts down one or both directions; an operation under way in that direction completes. Errors (the peer is gone
    /// already) are of no use to anybody and are dropped.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = rustix::net::shutdown(&*self.descriptor, how);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let under_way = match &self.channel {
            Channel::Uring(channel) => channel.is_under_way(),
            Channel::Direct(channel) => channel.is_under_way(),
            Channel::Epoll(_) => false,
        };
        if under_way {
            self.shutdown(Shutdown::Both);
        }
    }
}

/// What becomes of the connections in the queue of a listener that stops: the kernel has completed them, nobody accepted them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// They are accepted: with the last descriptor of the socket, they would be reset.
    Accept,
    /// They wait: another process holds the socket, and it or its heir accepts them.
    Leave,
}

/// A listening TCP socket.
pub struct Listener {
    channel: ListenerChannel,
    queued: Queued,
}

enum ListenerChannel {
    Uring(ring::Listener<uring::TokioUring>),
    Direct(ring::Listener<Rc<direct::Reactor>>),
    Epoll(epoll::Listener),
}

impl Listener {
    /// Takes a listening socket.
    ///
    /// # Errors
    ///
    /// From the system calls that set or clear `O_NONBLOCK` and register the descriptor.
    pub fn new(backend: Backend, descriptor: OwnedFd, queued: Queued) -> io::Result<Self> {
        let channel = match backend {
            Backend::IoUring => ListenerChannel::Uring(ring::Listener::new(uring::TokioUring, descriptor)?),
            Backend::IoUringDirect => ListenerChannel::Direct(ring::Listener::new(direct::current()?, descriptor)?),
            Backend::Epoll => ListenerChannel::Epoll(epoll::Listener::new(descriptor)?),
        };
        Ok(Self { channel, queued })
    }

    /// The next connection, or `None` once [`Self::stop`] was called and the accept queue is empty, or left. A connection that
    /// the kernel gives out while it is being stopped is returned, whatever becomes of the queue.
    ///
    /// Must be awaited to its end: a dropped accept would lose the connection that it was about to return.
    ///
    /// # Errors
    ///
    /// What accept4(2) says, such as `EMFILE`; the caller decides whether to go on.
    pub async fn accept(&self) -> io::Result<Option<OwnedFd>> {
        let accepted = match &self.channel {
            ListenerChannel::Uring(listener) => listener.accept().await?,
            ListenerChannel::Direct(listener) => listener.accept().await?,
            ListenerChannel::Epoll(listener) => listener.accept().await?,
        };
        match (accepted, self.queued, &self.channel) {
            (Some(descriptor), _, _) => Ok(Some(descriptor)),
            (None, Queued::Leave, _) => Ok(None),
            (None, Queued::Accept, ListenerChannel::Uring(listener)) => epoll::accept_queued(listener.descriptor()),
            (None, Queued::Accept, ListenerChannel::Direct(listener)) => epoll::accept_queued(listener.descriptor()),
            (None, Queued::Accept, ListenerChannel::Epoll(listener)) => epoll::accept_queued(listener.descriptor()),
        }
    }

    /// Ends the wait of [`Self::accept`].
    pub fn stop(&self) {
        match &self.channel {
            ListenerChannel::Uring(listener) => listener.stop(),
            ListenerChannel::Direct(listener) => listener.stop(),
            ListenerChannel::Epoll(listener) => listener.stop(),
        }
    }
}

/// Sends what fits into the socket now; `EAGAIN` where nothing does, whatever the socket's own mode.
fn send_slices(descriptor: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(descriptor, slices, &mut SendAncillaryBuffer::default(), flags)
}

/// The address of the peer; `None` where it is gone already.
pub fn peer_address(descriptor: &OwnedFd) -> Option<SocketAddr> {
    rustix::net::getpeername(descriptor).ok().flatten().and_then(|address| address.try_into().ok())
}

#[cfg(test)]
mod tests;
