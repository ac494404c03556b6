//! A connected stream socket with a receive buffer and a send buffer.
//!
//! Owns the buffers and their sizes, and at most one receive and one send in flight. Must not decide when a socket has waited too
//! long: [`crate::sweep`] does.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::net::{SendFlags, Shutdown};

use crate::backend::Backend;
use crate::epoll;
use crate::ring::{self, AnyDriver};

/// First size of a receive buffer in bytes: holds a ClientHello or a typical webhook head, and costs little while idle.
const RECEIVE_MIN: usize = 4 * 1024;

/// Largest size of a receive buffer in bytes: four TLS records of 16 KiB (RFC 8446, 5.1). Reached only while a peer fills smaller
/// ones.
const RECEIVE_MAX: usize = 64 * 1024;

/// A connected stream socket, TCP or Unix, with a receive buffer and a send buffer.
///
/// To receive: [`Self::poll_fill`], read [`Self::buffered`], [`Self::consume`]. To send: append to [`Self::queue`], then
/// [`Self::poll_drain`] or [`Self::poll_finish`]. Dropping the socket while an operation is in flight shuts it down.
pub struct Socket {
    descriptor: Rc<OwnedFd>,
    channel: AnyChannel,
    received: Vec<u8>,
    consumed: usize,
    receive_size: usize,
    receive_max: usize,
    queued: Vec<u8>,
    sent: u64,
    /// The peer has sent its end of stream.
    ended: bool,
}

#[expect(clippy::large_enum_variant, reason = "a box would cost every connection on io_uring an allocation")]
enum AnyChannel {
    Ring(ring::Channel),
    Epoll(epoll::Channel),
}

impl Socket {
    /// Takes a connected stream socket, of which others may hold a share to shut it down. Call it inside [`crate::block_on`] of the same `backend`.
    ///
    /// # Errors
    ///
    /// `O_NONBLOCK` cannot be changed (fcntl(2)), epoll_ctl(2) fails, or this thread runs no reactor.
    pub fn new(backend: Backend, descriptor: impl Into<Rc<OwnedFd>>) -> io::Result<Self> {
        let descriptor = descriptor.into();
        let channel = match backend {
            Backend::TokioUring => ring_channel(AnyDriver::tokio_uring(), &descriptor)?,
            Backend::Reactor => ring_channel(AnyDriver::reactor()?, &descriptor)?,
            Backend::Epoll => AnyChannel::Epoll(epoll::Channel::new(Rc::clone(&descriptor))?),
        };
        Ok(Self {
            descriptor,
            channel,
            received: Vec::new(),
            consumed: 0,
            receive_size: RECEIVE_MIN,
            receive_max: RECEIVE_MAX,
            queued: Vec::new(),
            sent: 0,
            ended: false,
        })
    }

    /// The descriptor, for the deadline sweep.
    pub fn descriptor(&self) -> &Rc<OwnedFd> {
        &self.descriptor
    }

    /// Keeps receive buffers at their first size, 4 KiB, until [`Self::allow_large_receives`].
    pub fn forbid_large_receives(&mut self) {
        self.receive_max = RECEIVE_MIN;
        self.receive_size = RECEIVE_MIN;
    }

    /// Lets receive buffers grow while the peer fills them, up to 64 KiB, as they do in a new socket.
    pub fn allow_large_receives(&mut self) {
        self.receive_max = RECEIVE_MAX;
    }

    /// Bytes received and not consumed yet.
    pub fn buffered(&self) -> &[u8] {
        &self.received[self.consumed..]
    }

    /// Removes the first `count` bytes of [`Self::buffered`], or all if it holds fewer.
    pub fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count).min(self.received.len());
    }

    /// How many bytes the kernel has accepted since the socket was made.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The send queue. Append only: [`Self::poll_drain`] sends what is in it.
    pub fn queue(&mut self) -> &mut Vec<u8> {
        &mut self.queued
    }

    /// Receives, unless bytes are buffered already. Returns how many bytes [`Self::buffered`] holds; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of recv(2).
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
            AnyChannel::Ring(channel) => channel.poll_receive(context, buffer, self.receive_size),
            AnyChannel::Epoll(channel) => channel.poll_receive(context, buffer, self.receive_size),
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
        // Grow for bulk data, shrink for idle connections: after a full buffer, the next is four times as large; after one that is
        // less than a quarter full, it has the first size.
        if count == self.receive_size {
            self.receive_size = (self.receive_size * 4).min(self.receive_max);
        } else if count < self.receive_size / 4 {
            self.receive_size = RECEIVE_MIN;
        }
        Ok(count)
    }

    /// Waits until [`Self::poll_fill`] would be ready, and frees both buffers meanwhile: for a peer that may stay silent for long.
    /// Ready at once if bytes are buffered, the stream has ended, or bytes are still to be sent.
    pub fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.consumed < self.received.len() || self.ended || self.pending() > 0 {
            return Poll::Ready(());
        }
        self.received = Vec::new();
        self.consumed = 0;
        self.queued = Vec::new();
        let readiness = match &mut self.channel {
            AnyChannel::Epoll(channel) => return channel.poll_readable(context),
            AnyChannel::Ring(channel) => ready!(channel.poll_readable(context)),
        };
        if let ring::Readiness::Received(result, buffer) = readiness {
            // An error is not needed here: the next receive reports it again, or finds the end of the stream.
            let _ = self.received(result, buffer);
        }
        Poll::Ready(())
    }

    /// Sends everything queued. Ready when the kernel has accepted all of it.
    ///
    /// # Errors
    ///
    /// Those of send(2).
    pub fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send_all(context, SendFlags::NOSIGNAL)
    }

    /// Sends everything queued and then the end of the stream, which travels with the last bytes. That saves a segment and a
    /// wake-up of the peer.
    ///
    /// # Errors
    ///
    /// Those of send(2).
    pub fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel holds the last segment back until the shutdown, or for 200 ms if none follows (tcp(7), TCP_CORK).
        ready!(self.poll_send_all(context, SendFlags::NOSIGNAL | SendFlags::MORE))?;
        self.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }

    fn poll_send_all(&mut self, context: &mut Context<'_>, flags: SendFlags) -> Poll<io::Result<()>> {
        loop {
            let outcome = match &mut self.channel {
                AnyChannel::Ring(channel) => channel.poll_send(context, &mut self.queued, flags),
                AnyChannel::Epoll(channel) => channel.poll_send(context, &mut self.queued, flags),
            };
            match ready!(outcome) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => self.sent += count as u64,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends everything queued, then `slices` or a part of them, without copying them first. Returns how many bytes of `slices`
    /// the kernel accepted. Each call makes a system call, so use it for large data.
    ///
    /// # Errors
    ///
    /// Those of sendmsg(2).
    pub fn poll_send_slices(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(context))?;
        let outcome = match &mut self.channel {
            AnyChannel::Ring(channel) => channel.poll_send_slices(context, slices),
            AnyChannel::Epoll(channel) => channel.poll_send_slices(context, slices),
        };
        let count = ready!(outcome)?;
        self.sent += count as u64;
        Poll::Ready(Ok(count))
    }

    /// How many queued bytes the kernel has not accepted yet. On epoll, a partly sent queue counts as a whole until all of it is
    /// accepted.
    pub fn pending(&self) -> usize {
        let in_flight = match &self.channel {
            AnyChannel::Ring(channel) => channel.sending(),
            AnyChannel::Epoll(_) => 0,
        };
        self.queued.len() + in_flight
    }

    /// Shuts down one or both directions; an operation in flight in that direction completes. Errors are ignored: the peer has
    /// closed the connection already.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = rustix::net::shutdown(&*self.descriptor, how);
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let in_flight = match &self.channel {
            AnyChannel::Ring(channel) => channel.is_in_flight(),
            AnyChannel::Epoll(_) => false,
        };
        if in_flight {
            self.shutdown(Shutdown::Both);
        }
    }
}

fn ring_channel(driver: AnyDriver, descriptor: &Rc<OwnedFd>) -> io::Result<AnyChannel> {
    ring::Channel::new(driver, Rc::clone(descriptor)).map(AnyChannel::Ring)
}
