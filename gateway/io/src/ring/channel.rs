//! The two directions of a connected socket.
//!
//! Owns at most one receive or wait to receive, and one send or wait to send, under way. Nothing is cancelled by dropping it, so
//! whoever drops a channel shuts the socket down first ([`crate::Socket`] does).

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::driver::{AnyDriver, AnyOperation, Driver as _};
use super::{Submission, clear_nonblocking};
use crate::socket::{SPARE_MAX, send_slices};

/// What ended a wait without a buffer.
pub(crate) enum Woken {
    /// Something can be received, the end of the stream included.
    Readable,
    /// The receive that was under way when the wait began completed after all.
    Received(io::Result<usize>, Vec<u8>),
}

/// The two directions of a connected socket.
pub(crate) struct Channel {
    driver: AnyDriver,
    descriptor: Rc<OwnedFd>,
    receive: Option<AnyOperation>,
    /// The receive that is under way was told to end.
    receive_cancelled: bool,
    readable: Option<AnyOperation>,
    send: Option<Sending>,
    writable: Option<AnyOperation>,
    /// A partly sent buffer, and how much of it is sent.
    partial: Option<(Vec<u8>, usize)>,
    /// An emptied buffer, kept for the next send.
    spare: Vec<u8>,
}

struct Sending {
    operation: AnyOperation,
    /// Where in its buffer the operation begins.
    offset: usize,
    /// How many bytes it was given.
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
            readable: None,
            send: None,
            writable: None,
            partial: None,
            spare: Vec::new(),
        })
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.receive.is_some() || self.readable.is_some() || self.send.is_some() || self.writable.is_some()
    }

    pub(crate) fn sending(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |(buffer, sent)| buffer.len() - sent);
        self.send.as_ref().map_or(partial, |sending| sending.length)
    }

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

    /// Waits until something can be received, with no buffer in the kernel's hands. Nothing may be on its way out.
    pub(crate) fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<Woken> {
        self.spare = Vec::new();
        if let Some(receive) = &mut self.receive {
            if !std::mem::replace(&mut self.receive_cancelled, true) {
                self.driver.cancel(&self.descriptor, receive);
            }
            let completion = ready!(Pin::new(receive).poll(context));
            self.receive = None;
            self.receive_cancelled = false;
            if !matches!(&completion.result, Err(error) if Errno::from_io_error(error) == Some(Errno::CANCELED)) {
                return Poll::Ready(Woken::Received(completion.result, completion.buffer));
            }
        }
        let readable = self.readable.get_or_insert_with(|| self.driver.submit(Submission::readable(&self.descriptor)));
        // A poll that fails is as good as one that succeeds: the receive that follows says what is wrong.
        let _events = ready!(Pin::new(readable).poll(context));
        self.readable = None;
        Poll::Ready(Woken::Readable)
    }

    /// Sends what is queued; ready with 0 once nothing is left, else with the bytes that the kernel took.
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
                if self.driver.is_calm() {
                    match rustix::net::send(&self.descriptor, &buffer[offset..], flags | SendFlags::DONTWAIT) {
                        Ok(count) => return Poll::Ready(self.sent(buffer, offset, count)),
                        // No room in the socket, or too early to say: the ring waits.
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

    /// Sends `slices`, or a part of them, straight from where they are. Nothing else may be on its way out.
    pub(crate) fn poll_send_slices(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(writable) = &mut self.writable {
                // A poll that fails is as good as one that succeeds: the send that follows says what is wrong.
                let _events = ready!(Pin::new(writable).poll(context));
                self.writable = None;
            }
            match send_slices(&self.descriptor, slices) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.writable = Some(self.driver.submit(Submission::writable(&self.descriptor))),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// The kernel has taken `count` bytes of `buffer` from `offset` on.
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
