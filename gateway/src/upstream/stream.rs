//! A handler's socket as hyper's reader and writer: the seam without encryption.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

use hookgate_io::Socket;

/// Bytes from which on a piece is sent from where it lies. Shorter ones are copied next to each other first, so that the head of a
/// request and its body go out in one system call, with those of others. Measured with bodies of 1 MiB.
const LONG: usize = 64 * 1024;

/// A connected Unix stream socket.
pub(super) struct UnixStream {
    socket: Socket,
    sent: Rc<Cell<u64>>,
}

impl UnixStream {
    /// Wraps `socket`; `sent` is kept at the number of bytes that the kernel has taken.
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

    /// Head and body, each copied once, or not at all; without this hyper would copy a body into a buffer of its own first.
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
