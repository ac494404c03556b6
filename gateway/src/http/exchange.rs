//! The stream of a connection as hyper sees it, and the shell around its stage.
//!
//! Owns the deadline of an HTTP connection and its current [`Stage`]: the stream reports every byte received and every flush, the
//! request side when a request begins and when its answer ends. Decides nothing: transitions are in [`super::stage`].

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hookgate_core::limits::Limits;
use hookgate_core::reject::Refusal;
use hookgate_io::sweep::{Deadline, Timer};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::connection::Connection;
use super::stage::{Stage, draining, least_taken};
use crate::access::Outcome;
use crate::strangers::Stranger;
use crate::tls::stream::TlsStream;

/// The stage of one connection, shared by its stream and its requests.
pub(super) struct Exchange {
    deadline: Deadline,
    limits: Limits,
    stage: Cell<Stage>,
    flushes: Cell<u32>,
    /// The peer has been stalled for a while.
    slow: Cell<bool>,
    /// The peer's place among strangers, if it was refused, or has not proven itself yet.
    stranger: RefCell<Option<Stranger>>,
    /// Whether requests of the stranger may prove it.
    is_judged_by_request: bool,
    /// A request has proven the peer, which has no admitted certificate.
    proven: Cell<bool>,
    /// The refusal of an evicted stranger was counted.
    told: Cell<bool>,
    /// Of a stream of HTTP/2: the exchange of its connection, which knows the peer.
    connection: Option<Rc<Exchange>>,
    /// Of a stream: bytes that the peer has made room for since its timer began.
    taken: Cell<u32>,
    /// Bytes that a stranger has sent, and those of them that belong to earlier requests, whose memory was freed.
    read: Cell<u64>,
    freed: Cell<u64>,
}

impl Exchange {
    /// After a handshake: the first request is due. A `stranger` gets one answer, and is told why it was refused, unless it
    /// `is_judged_by_request`.
    pub(super) fn new(
        deadline: Deadline,
        limits: Limits,
        stranger: Option<Stranger>,
        is_judged_by_request: bool,
    ) -> Rc<Self> {
        deadline.set(Stage::first_timer(&limits));
        Rc::new(Self { stranger: RefCell::new(stranger), is_judged_by_request, ..Self::at_first(deadline, limits) })
    }

    /// For a request that begins on a stream of `connection`. `deadline` is that of a task: when its time is over, the stream ends, and not the
    /// connection.
    pub(super) fn of_stream(connection: &Rc<Self>, deadline: Deadline) -> Rc<Self> {
        Rc::new(Self { connection: Some(Rc::clone(connection)), ..Self::at_first(deadline, connection.limits) })
    }

    /// Of an admitted peer.
    fn at_first(deadline: Deadline, limits: Limits) -> Self {
        Self {
            deadline,
            limits,
            stage: Cell::new(Stage::First),
            flushes: Cell::new(0),
            slow: Cell::new(false),
            stranger: RefCell::new(None),
            is_judged_by_request: false,
            proven: Cell::new(false),
            told: Cell::new(false),
            connection: None,
            taken: Cell::new(0),
            read: Cell::new(0),
            freed: Cell::new(0),
        }
    }

    /// Whether it is that of a stream, and others of the connection go on without it.
    pub(super) fn is_stream(&self) -> bool {
        self.connection.is_some()
    }

    /// The exchange that knows the peer.
    fn of_peer(&self) -> &Self {
        self.connection.as_deref().unwrap_or(self)
    }

    /// Whether the peer gave way to others.
    pub(super) fn is_evicted(&self) -> bool {
        let this = self.of_peer();
        this.stranger.borrow().as_ref().is_some_and(|stranger| stranger.evicted().is_some())
    }

    /// Why the peer gave way to others, if it did. Only once, so that it is counted once.
    pub(super) fn tell_eviction(&self) -> Option<Refusal> {
        let this = self.of_peer();
        let eviction = this.stranger.borrow().as_ref().and_then(Stranger::evicted)?;
        (!this.told.replace(true)).then(|| eviction.refusal())
    }

    /// Whether the peer is a stranger.
    pub(super) fn is_stranger(&self) -> bool {
        let this = self.of_peer();
        this.stranger.borrow().is_some()
    }

    /// Whether a request has proven the peer.
    pub(super) fn is_proven(&self) -> bool {
        let this = self.of_peer();
        this.proven.get()
    }

    /// A request of a peer without an admitted certificate has proven itself: the peer is no stranger any more.
    ///
    /// # Errors
    ///
    /// It gave way to others before.
    pub(super) fn admit(&self) -> Result<(), Refusal> {
        let this = self.of_peer();
        let eviction = this.stranger.borrow().as_ref().and_then(Stranger::evicted);
        if let Some(eviction) = eviction {
            this.told.set(true);
            return Err(eviction.refusal());
        }
        this.proven.set(true);
        if let Some(stranger) = this.stranger.take() {
            stranger.admitted(self.deadline.coarse());
        }
        Ok(())
    }

    /// A request of a stranger that might have proven it did not: its source is blamed.
    pub(super) fn blame(&self) {
        let this = self.of_peer();
        if let Some(stranger) = &*this.stranger.borrow()
            && this.is_judged_by_request
        {
            stranger.failed(self.deadline.coarse());
        }
    }

    /// A stranger sent `read` bytes in all. Those of an admitted peer are not counted.
    pub(super) fn count(&self, read: u64) {
        if let Some(stranger) = &*self.stranger.borrow() {
            self.read.set(read);
            let read = usize::try_from(read.saturating_sub(self.freed.get())).unwrap_or(usize::MAX / 8);
            stranger.sent(read);
        }
    }

    /// What a stranger has sent until now was freed with its request.
    pub(super) fn forget_read(&self) {
        self.freed.set(self.read.get());
        self.count(self.read.get());
    }

    /// The current stage.
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Whether the sweep has shut the socket down because the current stage took too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.deadline.is_overdue()
    }

    /// A head is complete.
    pub(super) fn head_complete(&self) {
        self.step(self.stage.get().head_complete(self.deadline.coarse(), &self.limits));
    }

    /// The request is complete.
    pub(super) fn request_complete(&self) {
        self.step(self.stage.get().request_complete());
    }

    /// The request is answered without its body.
    pub(super) fn leave_body_unread(&self) {
        self.step(self.stage.get().leave_body_unread());
    }

    /// hyper has the whole answer.
    pub(super) fn answer_complete(&self) {
        self.step(self.stage.get().answer_complete());
    }

    /// The coarse clock of the worker.
    pub(super) fn coarse(&self) -> Duration {
        self.deadline.coarse()
    }

    /// The connection ends: its last answer and the peer's end of stream are due.
    pub(super) fn end(&self) {
        self.deadline.set(Stage::last_timer());
    }

    /// How often the kernel has taken everything that hyper had written.
    pub(super) fn flushes(&self) -> u32 {
        self.of_peer().flushes.get()
    }

    /// Ready once no request is in progress and the peer has been silent for a while.
    pub(super) fn poll_silence(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.stage.get() {
            Stage::Idle => self.deadline.poll_silence(context),
            _ => Poll::Pending,
        }
    }

    /// Ready while the peer has taken nothing of an answer for [`hookgate_io::sweep::SILENCE`] or longer. Call it only while the stage
    /// is stalled.
    pub(super) fn poll_slow(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.slow.get() && self.deadline.poll_silence(context).is_ready() {
            self.slow.set(true);
        }
        if self.slow.get() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn received(&self) {
        let stage = self.stage.get();
        self.step(stage.received(self.deadline.coarse(), self.deadline.is_overdue(), &self.limits));
    }

    /// Returns whether the kernel has the whole answer now.
    fn flushed(&self) -> bool {
        self.flushes.set(self.flushes.get().wrapping_add(1));
        self.slow.set(false);
        let before = self.stage.get();
        self.step(before.flushed(&self.limits));
        let after = self.stage.get();
        if after == Stage::Idle && before != Stage::Idle {
            self.forget_read();
        }
        matches!(after, Stage::Idle | Stage::Answered) && after != before
    }

    fn blocked(&self) {
        self.step(self.stage.get().blocked(&self.limits));
    }

    /// Whether what hyper writes now is no answer to a request, and is not sent.
    fn holds_back(&self) -> bool {
        let held_back = self.stage.get().holding_back();
        if let Some(stage) = held_back {
            self.stage.set(stage);
        }
        held_back.is_some()
    }

    /// Replaces the timer of a connection whose streams have the stages.
    pub(super) fn set_timer(&self, timer: Timer) {
        self.deadline.set(timer);
    }

    /// The kernel has everything that was written for the streams of this connection.
    pub(super) fn all_flushed(&self) {
        self.flushes.set(self.flushes.get().wrapping_add(1));
    }

    /// Ready once the stage of this stream has taken too long.
    pub(super) fn poll_overdue(&self, context: &mut Context<'_>) -> Poll<()> {
        self.deadline.poll_overdue(context)
    }

    /// There is an answer to send on this stream, and no room for it: the peer has not opened its window, or others of the connection are before it.
    pub(super) fn has_no_room(&self) {
        self.blocked();
    }

    /// There is room for `count` bytes of the answer. Few of them win the peer no time.
    pub(super) fn has_room(&self, count: usize) {
        let taken = self.taken.get().saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.taken.set(taken);
        if taken >= least_taken(&self.limits) {
            self.keeps_up();
        }
    }

    /// The peer has made room for all that there was of the answer.
    pub(super) fn keeps_up(&self) {
        self.taken.set(0);
        self.slow.set(false);
        if self.stage.get().is_stalled() {
            self.step(self.stage.get().flushed(&self.limits));
        }
    }

    /// The wait for room on this stream begins again, because its peer is not at fault.
    pub(super) fn wait_again(&self) {
        self.deadline.set(draining(&self.limits));
    }

    fn step(&self, (stage, timer): (Stage, Option<Timer>)) {
        self.stage.set(stage);
        if let Some(timer) = timer {
            self.deadline.set(timer);
        }
    }
}

/// The TLS stream as hyper sees it.
///
/// What hyper writes while no request is being answered is its own short answer to bytes that are no request. It is held back: a
/// problem document is sent instead.
pub(super) struct ExchangeStream {
    stream: TlsStream,
    connection: Rc<Connection>,
    /// What an earlier stream of the same connection had read and not used; hyper reads it first.
    unread: Bytes,
}

impl ExchangeStream {
    /// `unread` is what an earlier stream of the same connection had read and not used.
    pub(super) fn new(stream: TlsStream, connection: Rc<Connection>, unread: Bytes) -> Self {
        Self { stream, connection, unread }
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
            self.connection.exchange.received();
            self.connection.exchange.count(self.stream.bytes_read());
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
        if self.connection.exchange.holds_back() {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        if outcome.is_pending() {
            self.connection.exchange.blocked();
        }
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(context);
        match &outcome {
            Poll::Pending => self.connection.exchange.blocked(),
            Poll::Ready(Ok(())) => {
                if self.connection.exchange.flushed() {
                    self.connection.close_account(Outcome::Answered);
                }
            }
            Poll::Ready(Err(_)) => {}
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection decides how the stream ends, after hyper is done with it.
        Poll::Ready(Ok(()))
    }
}
