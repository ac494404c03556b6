//! Where a connection stands between two requests, and hyper's stream that keeps track of it.
//!
//! Owns the deadlines of an HTTP connection: it sees every byte in and every flush out, and knows from the request side when a
//! request begins and when its answer is over.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};

use crate::tls::stream::TlsStream;
use hookgate_core::limits::Limits;
use hookgate_io::sweep::{Deadline, Phase};

/// Where the current exchange stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of a request has come.
    Waiting,
    /// Some of a head has come.
    Head,
    /// A request is being answered.
    Answering,
    /// The answer was given to hyper in full, and may wait for a flush.
    Flushing,
}

/// The state of one connection, shared by its stream and its requests.
pub(super) struct Exchange {
    deadline: Deadline,
    limits: Limits,
    stage: Cell<Stage>,
    /// When the first byte of the current request came, by the coarse clock.
    began: Cell<Duration>,
    /// hyper answered by itself, to something that is no request, and that answer was held back.
    held_back: Cell<bool>,
    /// A request was answered without its body having been read to the end.
    unread: Cell<bool>,
}

impl Exchange {
    /// After a handshake: the first request is due.
    pub(super) fn new(deadline: Deadline, limits: Limits) -> Rc<Self> {
        deadline.enter(Phase::RequestHead, limits.request_head_timeout);
        Rc::new(Self {
            deadline,
            limits,
            stage: Cell::new(Stage::Waiting),
            began: Cell::new(Duration::ZERO),
            held_back: Cell::new(false),
            unread: Cell::new(false),
        })
    }

    pub(super) fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// A head is complete: its body, if any, is due within what is left of the time for the request.
    pub(super) fn head_complete(&self) {
        self.stage.set(Stage::Answering);
        let spent = self.deadline.coarse().saturating_sub(self.began.get());
        self.deadline.enter(Phase::RequestBody, self.limits.request_timeout.saturating_sub(spent));
    }

    /// The request is complete: nothing is due from the peer.
    pub(super) fn request_complete(&self) {
        self.deadline.enter_unbounded(Phase::Handling);
    }

    /// The request is answered although its body was not read to the end.
    pub(super) fn leave_body_unread(&self) {
        self.unread.set(true);
        self.deadline.enter_unbounded(Phase::Handling);
    }

    /// The answer's body is over.
    pub(super) fn answer_complete(&self) {
        self.stage.set(Stage::Flushing);
    }

    /// Whether something of a request had come that was never answered.
    pub(super) fn is_in_head(&self) -> bool {
        self.stage.get() == Stage::Head
    }

    /// Whether hyper wanted to answer something that is no request.
    pub(super) fn was_held_back(&self) -> bool {
        self.held_back.get()
    }

    /// Whether the peer may still be sending a request that was answered already.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Ready once nothing is under way and the peer has been silent for a while.
    pub(super) fn poll_silence(&self, context: &mut Context<'_>) -> Poll<()> {
        match (self.stage.get(), self.deadline.phase()) {
            (Stage::Waiting, Phase::Idle) => self.deadline.poll_silence(context),
            _ => Poll::Pending,
        }
    }

    fn received(&self) {
        if self.stage.get() == Stage::Waiting {
            self.stage.set(Stage::Head);
            self.began.set(self.deadline.coarse());
            self.deadline.enter(Phase::RequestHead, self.limits.request_head_timeout);
        }
    }

    /// The kernel has taken everything: the peer keeps up.
    fn flushed(&self) {
        match self.stage.get() {
            Stage::Flushing => {
                self.stage.set(Stage::Waiting);
                self.deadline.enter(Phase::Idle, self.limits.idle_timeout);
            }
            Stage::Answering if self.deadline.phase() == Phase::Response => {
                self.deadline.enter_unbounded(Phase::Handling);
            }
            Stage::Answering | Stage::Waiting | Stage::Head => {}
        }
    }

    /// The kernel has no room: the peer has until the deadline to take something.
    ///
    /// While the body of a request is due, its own deadline holds: what waits to be sent then is a session ticket or a
    /// `100 Continue`, and must not win the peer time.
    fn blocked(&self) {
        let answering = self.stage.get() == Stage::Answering && self.deadline.phase() == Phase::Handling;
        let flushing = self.stage.get() == Stage::Flushing && self.deadline.phase() != Phase::Response;
        if answering || flushing {
            self.deadline.enter(Phase::Response, self.limits.response_timeout);
        }
    }
}

/// The TLS stream as hyper sees it.
///
/// What hyper writes while no request is being answered is its own short answer to bytes that are no request; it is held back,
/// so that a problem document can be sent in its place.
pub(super) struct ExchangeStream {
    stream: TlsStream,
    exchange: Rc<Exchange>,
    /// Read before, and to be read again first.
    unread: Bytes,
}

impl ExchangeStream {
    /// hyper's stream; `unread` is what an earlier one of the same connection had read and not used.
    pub(super) fn new(stream: TlsStream, exchange: Rc<Exchange>, unread: Bytes) -> Self {
        Self { stream, exchange, unread }
    }

    pub(super) fn into_inner(self) -> TlsStream {
        self.stream
    }
}

impl Read for ExchangeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(count));
            return Poll::Ready(Ok(()));
        }
        let before = self.stream.bytes_read();
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.stream.bytes_read() != before {
            self.exchange.received();
        }
        outcome
    }
}

impl Write for ExchangeStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.exchange.stage.get(), Stage::Waiting | Stage::Head) {
            self.exchange.held_back.set(true);
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if outcome.is_pending() {
            self.exchange.blocked();
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        match &outcome {
            Poll::Pending => self.exchange.blocked(),
            Poll::Ready(Ok(())) => self.exchange.flushed(),
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection decides how the stream ends, after hyper is done with it.
        Poll::Ready(Ok(()))
    }
}
