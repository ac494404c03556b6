//! The body of a handler's answer.
//!
//! Owns when the connection to the handler is free again. Must not change a byte; drops trailers.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::answer::Framing;
use super::pool::Lease;

/// Why an answer of a handler is not whole. The peer's connection must end visibly: after an orderly end, a cut body would look whole.
#[derive(Debug, Error)]
pub enum HandlerBodyError {
    /// The handler ended the connection, or sent something that is no body.
    #[error("the handler's answer broke off: {0}")]
    BrokeOff(hyper::Error),
    /// The deadline sweep closed the connection.
    #[error("the handler's answer broke off: handler_timeout_ms passed without a byte")]
    Late,
}

/// Streams the body. Returns the handler's connection to the pool at its end, and closes it if it is dropped before.
pub struct HandlerBody {
    incoming: Incoming,
    framing: Framing,
    lease: Option<Lease>,
}

impl HandlerBody {
    pub(super) fn new(incoming: Incoming, framing: Framing, lease: Lease) -> Self {
        let mut body = Self { incoming, framing, lease: Some(lease) };
        body.give_back_if_ended();
        body
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
        let this = &mut *self;
        let frame = loop {
            match ready!(Pin::new(&mut this.incoming).poll_frame(context)) {
                // No field announces trailers to the peer.
                Some(Ok(frame)) if frame.is_trailers() => {}
                frame => break frame,
            }
        };
        // The sweep ends the stream of a handler whose time is up: that is no end of an answer that ends with its connection.
        let is_late = this.lease.as_ref().is_some_and(Lease::is_late);
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(lease) = &this.lease {
                    lease.progress();
                }
                this.give_back_if_ended();
                Some(Ok(frame))
            }
            Some(Err(_)) | None if is_late && (frame.is_some() || this.framing.until_close) => {
                this.lease = None;
                Some(Err(HandlerBodyError::Late))
            }
            Some(Err(error)) => {
                this.lease = None;
                Some(Err(HandlerBodyError::BrokeOff(error)))
            }
            None => {
                this.give_back();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
