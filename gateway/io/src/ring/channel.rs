//! A connected socket on io_uring, for both drivers.
//!
//! Owns the operations in flight: a receive or a poll for input, and a send or a poll for room. Must not know which driver submits
//! them. Dropping a channel cancels nothing, so [`crate::Socket`] shuts the socket down first.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::driver::{AnyDriver, AnyOperation, Driver as _};
use super::{Submission, clear_nonblocking};
use crate::send::{SPARE_MAX, send_slices};

/// How a wait for input without a buffer ended.
pub(crate) enum Readiness {
    /// A receive would not block.
    Readable,
    /// The receive that was in flight when the wait began completed, and was not cancelled.
    Received(io::Result<usize>, Vec<u8>),
}

/// A connected socket.
pub(crate) struct Channel {
    driver: AnyDriver,
    descriptor: Rc<OwnedFd>,
    receive: Option<AnyOperation>,
    /// Cancellation of the receive in flight was requested.
    receive_cancelled: bool,
    poll_in: Option<AnyOperation>,
    send: Option<Sending>,
    poll_out: Option<AnyOperation>,
    /// A partly sent buffer, and how many of its bytes are sent.
    partial: Option<(Vec<u8>, usize)>,
    /// An empty buffer for the next send.
    spare: Vec<u8>,
}

/// A send in flight.
struct Sending {
    operation: AnyOperation,
    /// Where in the buffer it begins, in bytes.
    offset: usize,
    /// How many bytes it is to send.
    length: usize,
}

impl Channel {
    pub(crate) fn new(driver: AnyDriver, descriptor: Rc<OwnedFd>) -> io::Result<Self> {
        clear_nonblocking(&descriptor)?;
        Ok(Self {
            driver,
            descriptor,
            receive: None,
            receive_cancelled: false,
            poll_in: None,
            send: None,
            poll_out: None,
            partial: None,
            spare: Vec::new(),
        })
    }

    /// Whether any operation is in flight.
    pub(crate) fn is_in_flight(&self) -> bool {
        self.receive.is_some() || self.poll_in.is_some() || self.send.is_some() || self.poll_out.is_some()
    }

    /// How many bytes were taken from the send queue and not accepted by the kernel yet.
    pub(crate) fn sending(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |(buffer, sent)| buffer.len() - sent);
        self.send.as_ref().map_or(partial, |sending| sending.length)
    }

    /// Receives at most `size` bytes into `buffer`, or into a new one if its capacity is not `size`. If a receive is in flight
    /// already, its own buffer is used.
    pub(crate) fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        buffer: Vec<u8>,
        size: usize,
    ) -> Poll<(io::Result<usize>, Vec<u8>)> {
        let operation =
            self.receive.get_or_insert_with(|| self.driver.submit(Submission::receive(&self.descriptor, buffer, size)));
        let completion = ready!(Pin::new(operation).poll(context));
        self.receive = None;
        self.receive_cancelled = false;
        Poll::Ready((completion.result, completion.buffer))
    }

    /// Waits until a receive would not block, without a buffer. The send queue must be empty.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<Readiness> {
        self.spare = Vec::new();
        if let Some(receive) = &mut self.receive {
            if !std::mem::replace(&mut self.receive_cancelled, true) {
                AnyDriver::cancel(&self.descriptor, receive);
            }
            let completion = ready!(Pin::new(receive).poll(context));
            self.receive = None;
            self.receive_cancelled = false;
            if !matches!(&completion.result, Err(error) if Errno::from_io_error(error) == Some(Errno::CANCELED)) {
                return Poll::Ready(Readiness::Received(completion.result, completion.buffer));
            }
        }
        let poll_in = self.poll_in.get_or_insert_with(|| self.driver.submit(Submission::readable(&self.descriptor)));
        // The result is not needed: the next receive reports an error.
        let _events = ready!(Pin::new(poll_in).poll(context));
        self.poll_in = None;
        Poll::Ready(Readiness::Readable)
    }

    /// Sends what is queued. Ready with the number of bytes that the kernel accepted, or with 0 if nothing is left.
    pub(crate) fn poll_send(
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
                if self.driver.is_lightly_loaded() {
                    match rustix::net::send(&self.descriptor, &buffer[offset..], flags | SendFlags::DONTWAIT) {
                        Ok(count) => return Poll::Ready(self.sent(buffer, offset, count)),
                        // The socket has no room, or a signal came first: leave it to the ring.
                        Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                }
                let length = buffer.len() - offset;
                let operation = self.driver.submit(Submission::send(&self.descriptor, buffer, offset, flags));
                self.send.insert(Sending { operation, offset, length })
            }
        };
        let offset = sending.offset;
        let completion = ready!(Pin::new(&mut sending.operation).poll(context));
        self.send = None;
        Poll::Ready(completion.result.and_then(|count| self.sent(completion.buffer, offset, count)))
    }

    /// Sends `slices` or a part of them, without a copy. The send queue must be empty.
    pub(crate) fn poll_send_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(poll_out) = &mut self.poll_out {
                // The result is not needed: the next send reports an error.
                let _events = ready!(Pin::new(poll_out).poll(context));
                self.poll_out = None;
            }
            match send_slices(&self.descriptor, slices) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.poll_out = Some(self.driver.submit(Submission::writable(&self.descriptor))),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Notes that the kernel accepted `count` bytes of `buffer` from `offset` on.
    fn sent(&mut self, mut buffer: Vec<u8>, offset: usize, count: usize) -> io::Result<usize> {
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if offset + count < buffer.len() {
            self.partial = Some((buffer, offset + count));
        } else if buffer.capacity() <= SPARE_MAX {
            buffer.clear();
            self.spare = buffer;
        }
        Ok(count)
    }
}
