//! The TLS stream as h2 sees it, and what its bytes tell beside what h2 says.
//!
//! Owns what a peer's frames take of its [`Allowance`], and that what h2 refuses by itself is counted. Must not decide when the connection ends: the
//! loop above does.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use h2::Reason;
use hyper::rt::Write;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::STREAMS;
use super::frames::{Allowance, Frame, Frames};
use crate::http::connection::Connection;
use crate::tls::stream::TlsStream;
use hookgate_core::reject::{Refusal, Reject};

/// Parts of bodies that h2 gets before streams read theirs. It keeps some 256 bytes for each, and this memory as long as the connection.
const PARTS_AT_ONCE: u32 = 100;

/// What the loop of a connection, its streams and its transport share.
pub(super) struct Link {
    pub(super) connection: Rc<Connection>,
    stream: RefCell<TlsStream>,
    received: RefCell<Frames>,
    sent: RefCell<Frames>,
    pub(super) allowance: RefCell<Allowance>,
    /// Streams whose requests are being answered.
    pub(super) open: RefCell<Vec<u32>>,
    /// Streams of heads that h2 refused by itself, and that it will reset, too.
    refused: RefCell<Vec<u32>>,
    /// Streams that h2 has reset because they broke the rules: [`super::RESET_BY_US`] at most.
    broken: RefCell<Vec<(u32, Reason)>>,
    /// Parts of bodies that h2 got since the streams read theirs.
    parts: Cell<u32>,
    /// Something was written since the last flush.
    unflushed: Cell<bool>,
    /// The kernel takes nothing more.
    blocked: Cell<bool>,
    /// The peer has used its allowance up.
    flooded: Cell<bool>,
    /// The peer has ended the stream, or its time is over, while nothing was open.
    ended: Cell<bool>,
    /// No further request is wanted.
    leaving: Cell<Option<Leaving>>,
    /// Streams that wait until the kernel has what they have sent.
    flush: RefCell<Vec<Waker>>,
}

/// How a connection goes whose peer is to send no further request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// What is on its way is answered.
    Gracefully,
    /// What is open is answered.
    AtOnce,
}

impl Link {
    pub(super) fn new(connection: &Rc<Connection>, stream: TlsStream) -> Rc<Self> {
        Rc::new(Self {
            connection: Rc::clone(connection),
            stream: RefCell::new(stream),
            received: RefCell::new(Frames::of_client()),
            sent: RefCell::new(Frames::of_server()),
            allowance: RefCell::new(Allowance::new(connection.exchange.coarse())),
            open: RefCell::default(),
            refused: RefCell::default(),
            broken: RefCell::default(),
            parts: Cell::new(0),
            unflushed: Cell::new(false),
            blocked: Cell::new(false),
            flooded: Cell::new(false),
            ended: Cell::new(false),
            leaving: Cell::new(None),
            flush: RefCell::default(),
        })
    }

    /// The TLS stream, when h2 is done with it.
    pub(super) fn into_stream(self) -> TlsStream {
        self.stream.into_inner()
    }

    pub(super) fn is_in_head(&self) -> bool {
        self.received.borrow().is_in_head()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.get()
    }

    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended.get()
    }

    /// Whether the kernel has everything that h2 has written.
    pub(super) fn is_flushed(&self) -> bool {
        !self.unflushed.get() && !self.blocked.get()
    }

    pub(super) fn leaving(&self) -> Option<Leaving> {
        self.leaving.get()
    }

    /// No further request is wanted of the peer. To leave at once is final.
    pub(super) fn leave(&self, leaving: Leaving) {
        if self.leaving.get() != Some(Leaving::AtOnce) {
            self.leaving.set(Some(leaving));
        }
    }

    /// Has the task woken when the kernel has what its stream has sent.
    pub(super) fn wait_for_flush(&self, context: &Context<'_>) {
        self.flush.borrow_mut().push(context.waker().clone());
    }

    /// The kernel has everything of every stream.
    pub(super) fn all_flushed(&self) {
        self.connection.exchange.all_flushed();
        self.flush.take().into_iter().for_each(Waker::wake);
    }

    /// Why `stream` was reset, if that was because it broke the rules.
    pub(super) fn breach(&self, stream: u32) -> Option<Refusal> {
        let broken = self.broken.borrow();
        let (_, reason) = broken.iter().find(|(broken, _)| *broken == stream)?;
        let detail = format!("The stream broke the rules of HTTP/2, and was reset: {reason}.");
        Some(Refusal::new(Reject::MalformedRequest, detail))
    }

    /// The streams have read what has come of their bodies.
    pub(super) fn go_on_reading(&self) {
        self.parts.set(0);
    }

    /// Whether nothing more is read before the streams have read what has come of their bodies.
    pub(super) fn is_paused(&self) -> bool {
        self.parts.get() >= PARTS_AT_ONCE
    }

    /// Notes what the peer sends. Returns how many of these bytes h2 gets now.
    fn note_received(&self, bytes: &[u8]) -> usize {
        let now = self.connection.exchange.coarse();
        let mut allowance = self.allowance.borrow_mut();
        self.received.borrow_mut().read(bytes, |frame| {
            self.flooded.set(!allowance.take(frame, now));
            self.parts.set(self.parts.get() + u32::from(frame == Frame::Data));
            !self.is_flooded() && !self.is_paused()
        })
    }

    fn note_sent(&self, bytes: &[u8]) {
        self.sent.borrow_mut().read(bytes, |frame| {
            match frame {
                Frame::Data => self.allowance.borrow_mut().sent(),
                Frame::Head { stream, is_bare: true } => self.note_refused_head(stream),
                Frame::Reset { stream, code } => self.note_reset(stream, code.into()),
                Frame::Head { .. } | Frame::Other => {}
            }
            true
        });
    }

    fn note_refused_head(&self, stream: u32) {
        let mut refused = self.refused.borrow_mut();
        if refused.len() >= STREAMS as usize {
            refused.remove(0);
        }
        refused.push(stream);
        let limits = self.connection.standing.borrow().snapshot.limits;
        let detail = format!("The request head is longer than {} bytes (max_head_bytes).", limits.max_head_bytes);
        self.refuse(&Refusal::new(Reject::HeadTooLarge, detail));
    }

    /// A reset is on its way to the peer. If its stream did not begin, nothing else counts it.
    fn note_reset(&self, stream: u32, reason: Reason) {
        let mut refused = self.refused.borrow_mut();
        if let Some(index) = refused.iter().position(|refused| *refused == stream) {
            refused.swap_remove(index);
            return;
        }
        let is_open = self.open.borrow().contains(&stream);
        let refusal = match reason {
            Reason::REFUSED_STREAM => {
                let detail = "The peer opened more streams at once than SETTINGS_MAX_CONCURRENT_STREAMS says; this one was reset, and can be tried again.";
                Some(Refusal::new(Reject::StreamLimit, detail))
            }
            Reason::PROTOCOL_ERROR | Reason::FLOW_CONTROL_ERROR | Reason::FRAME_SIZE_ERROR => {
                self.broken.borrow_mut().push((stream, reason));
                self.breach(stream)
            }
            _ => None,
        };
        if let Some(refusal) = refusal.filter(|_| !is_open) {
            self.refuse(&refusal);
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        self.connection.refused_without_request(refusal, None);
    }
}

/// The TLS stream for h2.
pub(super) struct Transport(pub(super) Rc<Link>);

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let link = &*self.0;
        if link.is_flooded() || link.is_ended() || link.is_paused() {
            return Poll::Pending;
        }
        let exchange = &link.connection.exchange;
        let mut stream = link.stream.borrow_mut();
        if exchange.is_proven() {
            stream.allow_large_receives();
        }
        let before = buffer.filled().len();
        ready!(stream.poll_take(context, |plaintext| {
            let most = plaintext.len().min(buffer.remaining());
            let count = link.note_received(&plaintext[..most]);
            buffer.put_slice(&plaintext[..count]);
            count
        }))?;
        if buffer.filled().len() == before {
            // h2 has no answer to an end; the loop has one, if there is time for it.
            if link.open.borrow().is_empty() {
                link.ended.set(true);
                return Poll::Pending;
            }
            return Poll::Ready(Ok(()));
        }
        exchange.count(stream.bytes_read());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let link = &*self.0;
        let outcome = Pin::new(&mut *link.stream.borrow_mut()).poll_write_vectored(context, slices);
        link.blocked.set(outcome.is_pending());
        if let Poll::Ready(Ok(count)) = outcome {
            link.unflushed.set(true);
            let mut left = count;
            for slice in slices {
                let part = &slice[..slice.len().min(left)];
                left -= part.len();
                link.note_sent(part);
            }
        }
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = &*self.0;
        let outcome = Pin::new(&mut *link.stream.borrow_mut()).poll_flush(context);
        link.blocked.set(outcome.is_pending());
        if let Poll::Ready(Ok(())) = outcome {
            link.unflushed.set(false);
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The loop decides how the stream ends, after h2 is done with it.
        self.poll_flush(context)
    }
}
