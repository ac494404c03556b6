//! The body of a handler's answer.
//!
//! Owns when the connection to the handler is free again, and whether the answer is cut. Must not change a byte; drops trailers.

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::answer::Framing;
use super::held::Held;
use super::pool::Lease;
use hookgate_core::reject::Reject;

/// Why an answer of a handler is not whole.
#[derive(Debug, Error)]
pub enum HandlerBodyError {
    /// The handler ended the connection.
    #[error("the handler's answer broke off: {0}{cause}", cause = cause(.0))]
    BrokeOff(hyper::Error),
    /// The handler closed the connection while bytes of the request waited for it, which ends a Unix socket with an error instead of an end.
    /// So nothing says that an answer without a length is whole.
    #[error(
        "the handler closed its connection before it had read the whole request, and its answer has no Content-Length, so it may be \
         incomplete (have the handler read the request to its end, or send a Content-Length)"
    )]
    Unread,
    /// The handler sent something that is no body in chunks (RFC 9112, section 7.1).
    #[error("the handler's answer is not well-formed: {0}{cause}", cause = cause(.0))]
    Malformed(hyper::Error),
    /// The deadline sweep closed the connection.
    #[error("the handler's answer broke off: handler_timeout_ms passed without a byte")]
    Late,
}

impl HandlerBodyError {
    fn new(error: hyper::Error, framing: Framing) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::ConnectionReset) if framing.until_close => Self::Unread,
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Malformed(error),
            _ => Self::BrokeOff(error),
        }
    }

    /// The reason of the refusal.
    pub fn reject(&self) -> Reject {
        match self {
            Self::BrokeOff(_) | Self::Unread => Reject::HandlerUnavailable,
            Self::Malformed(_) => Reject::HandlerMalformed,
            Self::Late => Reject::HandlerTimeout,
        }
    }
}

fn cause(error: &hyper::Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}

/// Streams the body. Returns the handler's connection to the pool at its end, and closes it if it is dropped before.
///
/// The peer's connection asks for the body as fast as the peer takes it ([`Body::poll_frame`]). If the peer is slow, it has the body
/// taken ahead ([`HandlerBody::take_ahead`]).
pub struct HandlerBody {
    incoming: Incoming,
    framing: Framing,
    /// What [`HandlerBody::begin`] has read, until it is passed on.
    first: Option<Bytes>,
    /// What was taken ahead of the peer, after `first`.
    held: Option<Box<Held>>,
    /// How the body ended, if that was seen ahead of the peer.
    end: Option<Result<(), HandlerBodyError>>,
    /// Nothing is asked of the handler now, so its time does not run.
    paused: bool,
    lease: Option<Lease>,
}

impl HandlerBody {
    pub(super) fn new(incoming: Incoming, framing: Framing, lease: Lease) -> Self {
        let mut body =
            Self { incoming, framing, first: None, held: None, end: None, paused: false, lease: Some(lease) };
        body.give_back_if_ended();
        body
    }

    /// Waits for the first bytes of the body, so that the peer gets a refusal if there are none. A handler that sends nothing for
    /// [`hookgate_io::sweep::SILENCE`] streams: its head is passed on without a body.
    ///
    /// # Errors
    ///
    /// The answer ended before its first byte.
    pub(super) async fn begin(&mut self) -> Result<(), HandlerBodyError> {
        poll_fn(|context| self.poll_begin(context)).await
    }

    fn poll_begin(&mut self, context: &mut Context<'_>) -> Poll<Result<(), HandlerBodyError>> {
        if self.incoming.is_end_stream() {
            return Poll::Ready(Ok(()));
        }
        match self.poll_data(context) {
            Poll::Ready(first) => {
                self.first = first.transpose()?;
                Poll::Ready(Ok(()))
            }
            Poll::Pending => match &self.lease {
                Some(lease) => lease.poll_silence(context).map(Ok),
                None => Poll::Ready(Ok(())),
            },
        }
    }

    /// The whole body, if nothing of it is still to come: then the handler's place is free already.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        self.incoming.is_end_stream().then(|| self.first.take().unwrap_or_default())
    }

    /// Stops the handler's time: it is the peer that is waited for.
    pub fn pause(&mut self) {
        if let Some(lease) = self.lease.as_ref().filter(|_| !self.paused) {
            lease.pause();
            self.paused = true;
        }
    }

    /// Takes what the handler has sent, up to the limits. At the end of the body, the handler's place is free; beyond the limits, the
    /// handler has to wait for the peer.
    pub fn take_ahead(&mut self, context: &mut Context<'_>) {
        while self.end.is_none() {
            let Some(lease) = &self.lease else { return };
            let held = self.held.get_or_insert_with(|| Box::new(lease.hold()));
            if !held.has_room(lease.held_limits()) {
                return self.pause();
            }
            match self.poll_data(context) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(data))) => {
                    if let Some(held) = &mut self.held {
                        held.push(&data);
                    }
                }
                Poll::Ready(Some(Err(error))) => self.end = Some(Err(error)),
                Poll::Ready(None) => self.end = Some(Ok(())),
            }
        }
    }

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, HandlerBodyError>>> {
        if std::mem::take(&mut self.paused)
            && let Some(lease) = &self.lease
        {
            lease.progress();
        }
        let frame = loop {
            match ready!(Pin::new(&mut self.incoming).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => break Some(Ok(data)),
                // No field announces trailers to the peer.
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => break Some(Err(error)),
                None => break None,
            }
        };
        // The sweep ends the stream of a handler whose time is up: that is no end of an answer that ends with its connection.
        let is_late = self.lease.as_ref().is_some_and(Lease::is_late);
        Poll::Ready(match frame {
            Some(Ok(data)) => {
                if let Some(lease) = &self.lease {
                    lease.progress();
                }
                self.give_back_if_ended();
                Some(Ok(data))
            }
            Some(Err(error)) => {
                self.lease = None;
                Some(Err(if is_late { HandlerBodyError::Late } else { HandlerBodyError::new(error, self.framing) }))
            }
            None if is_late && self.framing.until_close => {
                self.lease = None;
                Some(Err(HandlerBodyError::Late))
            }
            None => {
                self.give_back();
                None
            }
        })
    }

    /// Bytes that were taken from the handler and not passed on.
    fn held_bytes(&self) -> usize {
        self.first.as_ref().map_or(0, Bytes::len) + self.held.as_ref().map_or(0, |held| held.len())
    }

    fn give_back_if_ended(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.framing.may_reuse
        {
            lease.give_back();
        }
    }
}

impl Body for HandlerBody {
    type Data = Bytes;
    type Error = HandlerBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerBodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(block) = self.held.as_mut().and_then(|held| held.pop()) {
            return Poll::Ready(Some(Ok(Frame::data(block))));
        }
        if let Some(end) = self.end.take() {
            return Poll::Ready(end.err().map(Err));
        }
        self.poll_data(context).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.held_bytes() == 0 && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let held = self.held_bytes() as u64;
        match hint.exact() {
            Some(rest) => SizeHint::with_exact(held + rest),
            None => {
                hint.set_lower(held);
                hint
            }
        }
    }
}
