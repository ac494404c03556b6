//! A handler's socket as hyper's reader and writer.
//!
//! Owns the choice between copying a piece and sending it from where it lies. Must not know HTTP.

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

/// A connected Unix stream socket.
pub(super) struct UnixStream {
    socket: Socket,
    sent: Rc<Cell<u64>>,
}

impl UnixStream {
    /// Wraps `socket`, and keeps `sent` at the number of bytes that the kernel has taken.
    pub(super) fn new(socket: Socket, sent: Rc<Cell<u64>>) -> Self {
        Self { socket, sent }
    }

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = self.socket.poll_drain(context);
        self.sent.set(self.socket.sent());
        outcome
    }
}

impl Read for UnixStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_fill(context))?;
        let received = self.socket.buffered();
        let count = received.len().min(buffer.remaining());
        buffer.put_slice(&received[..count]);
        self.socket.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl Write for UnixStream {
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
        if length >= LONG || self.socket.pending() >= LONG {
            let outcome = self.socket.poll_send_slices(context, slices);
            self.sent.set(self.socket.sent());
            return outcome;
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
        let outcome = self.socket.poll_finish(context);
        self.sent.set(self.socket.sent());
        outcome
    }
}
