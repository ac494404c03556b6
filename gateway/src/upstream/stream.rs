//! The socket of a connection to a handler as hyper's reader and writer.
//!
//! Owns the choice between copying a piece and sending it from where it lies, and what a connection has carried ([`Traffic`]). Must not
//! know HTTP.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use hookgate_io::Socket;

/// Pieces of at least this many bytes are sent from where they lie. Shorter ones are copied into one buffer, so that head and body
/// of a request leave in one submission with those of others. Measured with bodies of 1 MiB.
const LONG: usize = 64 * 1024;

/// The most bytes of head in a handler's answer, and the size to which hyper's buffers may grow.
pub(super) const ANSWER_MAX_BUFFER: usize = 256 * 1024;

/// The most bytes that a handler may send before the head of its answer is complete: the head, and any number of interim answers (1xx).
///
/// hyper skips interim answers, and would skip them for as long as they come. It has read at most its buffer beyond the head when the
/// answer is known, so this is a multiple of the largest buffer.
const HEAD_MAX: u64 = 4 * ANSWER_MAX_BUFFER as u64;

/// What a connection has carried, as its stream and its owner see it.
#[derive(Default)]
pub(super) struct Traffic {
    sent: Cell<u64>,
    received: Cell<u64>,
    /// While the head of an answer is due: where `received` may be when it is complete.
    head_due: Cell<Option<u64>>,
    flooded: Cell<bool>,
    refused: Cell<bool>,
}

impl Traffic {
    /// Bytes that the kernel has taken.
    pub(super) fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The head of an answer is due from now on.
    pub(super) fn await_head(&self) {
        self.head_due.set(Some(self.received.get() + HEAD_MAX));
    }

    /// The head of the answer is complete.
    pub(super) fn head_arrived(&self) {
        self.head_due.set(None);
    }

    /// Whether more than [`HEAD_MAX`] bytes arrived, and no answer among them.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    /// Whether the handler has stopped to read before it had all of a request.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.get()
    }

    fn check_head(&self) -> io::Result<()> {
        if self.head_due.get().is_none_or(|most| self.received.get() < most) {
            return Ok(());
        }
        self.flooded.set(true);
        Err(io::Error::other("too many bytes before the head of an answer"))
    }
}

/// A connected stream socket, Unix or TCP.
///
/// A handler may answer before it has read the whole request, and close (RFC 9112, section 9.5). Then its answer can be read, although
/// nothing more can be sent: an error of a send that says so is no error of the stream, and what is written from then on is discarded. If
/// there is no answer, the next receive ends the stream. Over TCP the answer may be lost: the kernel drops what a reset overtakes.
pub(super) struct HandlerStream {
    socket: Socket,
    traffic: Rc<Traffic>,
}

impl HandlerStream {
    /// Wraps `socket`, and keeps `traffic` up to date.
    pub(super) fn new(socket: Socket, traffic: Rc<Traffic>) -> Self {
        Self { socket, traffic }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.traffic.is_refused() {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(self.socket.poll_drain(context));
        self.traffic.sent.set(self.socket.sent());
        Poll::Ready(outcome.or_else(|error| self.refused(error, ())))
    }

    /// A send has failed: `written` if that is because the handler reads no more.
    fn refused<T>(&self, error: io::Error, written: T) -> io::Result<T> {
        if !matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
            return Err(error);
        }
        self.traffic.refused.set(true);
        Ok(written)
    }
}

impl Read for HandlerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.traffic.check_head()?;
        ready!(self.socket.poll_fill(context))?;
        let received = self.socket.buffered();
        let count = received.len().min(buffer.remaining());
        buffer.put_slice(&received[..count]);
        self.traffic.received.set(self.traffic.received.get() + count as u64);
        self.socket.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for HandlerStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Head and body, each copied once or not at all; without this hyper would copy the body into its own buffer first.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.traffic.is_refused() {
            return Poll::Ready(Ok(length));
        }
        if length >= LONG || self.socket.pending() >= LONG {
            let outcome = ready!(self.socket.poll_send_slices(context, slices));
            self.traffic.sent.set(self.socket.sent());
            return Poll::Ready(outcome.or_else(|error| self.refused(error, length)));
        }
        for slice in slices {
            self.socket.queue().extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_drain(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.traffic.is_refused() {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(self.socket.poll_finish(context));
        self.traffic.sent.set(self.socket.sent());
        Poll::Ready(outcome.or_else(|error| self.refused(error, ())))
    }
}
