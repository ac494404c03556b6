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
use super::pool::Lease;
use hookgate_core::reject::Reject;

/// Why an answer of a handler is not whole.
#[derive(Debug, Error)]
pub enum HandlerBodyError {
    /// The handler ended the connection.
    #[error("the handler's answer broke off: {0}{cause}", cause = cause(.0))]
    BrokeOff(hyper::Error),
    /// The handler sent something that is no body in chunks (RFC 9112, section 7.1).
    #[error("the handler's answer is not well-formed: {0}{cause}", cause = cause(.0))]
    Malformed(hyper::Error),
    /// The deadline sweep closed the connection.
    #[error("the handler's answer broke off: handler_timeout_ms passed without a byte")]
    Late,
}

impl HandlerBodyError {
    fn new(error: hyper::Error) -> Self {
        let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        match io.map(io::Error::kind) {
            Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Self::Malformed(error),
            _ => Self::BrokeOff(error),
        }
    }

    /// The reason of the refusal.
    pub fn reject(&self) -> Reject {
        match self {
            Self::BrokeOff(_) => Reject::HandlerUnavailable,
            Self::Malformed(_) => Reject::HandlerMalformed,
            Self::Late => Reject::HandlerTimeout,
        }
    }
}

fn cause(error: &hyper::Error) -> String {
    error.source().map(|source| format!(": {source}")).unwrap_or_default()
}

/// Streams the body. Returns the handler's connection to the pool at its end, and closes it if it is dropped before.
pub struct HandlerBody {
    incoming: Incoming,
    framing: Framing,
    /// What [`HandlerBody::begin`] has read, until it is passed on.
    first: Option<Bytes>,
    lease: Option<Lease>,
}

impl HandlerBody {
    pub(super) fn new(incoming: Incoming, framing: Framing, lease: Lease) -> Self {
        let mut body = Self { incoming, framing, first: None, lease: Some(lease) };
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

    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, HandlerBodyError>>> {
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
                Some(Err(if is_late { HandlerBodyError::Late } else { HandlerBodyError::new(error) }))
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
        self.poll_data(context).map(|data| data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        match hint.exact() {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => {
                hint.set_lower(first);
                hint
            }
        }
    }
}
