//! A connected stream socket, with a receive buffer and a send buffer of its own.
//!
//! Owns the buffers' sizes, and at most one receive and one send in flight. Must not decide when a socket has waited too long:
//! that is [`crate::sweep`].

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, Shutdown};

use crate::backend::Backend;
use crate::epoll;
use crate::ring::{self, AnyDriver};

/// First size of a receive buffer in bytes: holds a ClientHello, or a typical webhook head, and costs little while idle.
const RECEIVE_MIN: usize = 4 * 1024;

/// Largest size of a receive buffer in bytes, reached only while a peer keeps filling smaller ones: four TLS records.
const RECEIVE_MAX: usize = 64 * 1024;

/// Send buffers up to this many bytes are kept for reuse while a connection lives.
pub(crate) const SPARE_MAX: usize = 4 * 1024;

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

#[expect(clippy::large_enum_variant, reason = "a box would cost every connection on io_uring an allocation")]
enum Channel {
    Ring(ring::Channel),
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
            Backend::TokioUring => ring_channel(AnyDriver::TokioUring, &descriptor)?,
            Backend::Reactor => ring_channel(AnyDriver::reactor()?, &descriptor)?,
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
            Channel::Ring(channel) => channel.poll_receive(context, buffer, self.receive_size),
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
            Channel::Ring(channel) => ready!(channel.poll_readable(context)),
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
                Channel::Ring(channel) => channel.poll_send(context, &mut self.queued, flags),
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
            Channel::Ring(channel) => channel.poll_send_slices(context, slices),
            Channel::Epoll(channel) => channel.poll_send_slices(context, slices),
        };
        let count = ready!(outcome)?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Bytes that were queued and that the kernel has not taken yet.
    pub fn pending(&self) -> usize {
        let under_way = match &self.channel {
            Channel::Ring(channel) => channel.sending(),
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
            Channel::Ring(channel) => channel.is_under_way(),
            Channel::Epoll(_) => false,
        };
        if under_way {
            self.shutdown(Shutdown::Both);
        }
    }
}

fn ring_channel(driver: AnyDriver, descriptor: &Rc<OwnedFd>) -> io::Result<Channel> {
    ring::Channel::new(driver, Rc::clone(descriptor)).map(Channel::Ring)
}

/// Sends what fits into the socket now; `EAGAIN` where nothing does, whatever the socket's own mode.
pub(crate) fn send_slices(descriptor: &OwnedFd, slices: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(descriptor, slices, &mut SendAncillaryBuffer::default(), flags)
}
