//! The body of a handler's answer.
//!
//! Owns when the connection to the handler is free again. Must not change a byte.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use thiserror::Error;

use super::pool::Lease;

/// The handler ended the connection in the middle of its answer. The peer's connection must end visibly: after an orderly end, a cut
/// body would look whole.
#[derive(Debug, Error)]
#[error("the handler's answer broke off: {source}{}", if *.late { " (handler_timeout_ms passed without a byte)" } else { "" })]
pub struct HandlerBodyError {
    /// What hyper said.
    source: hyper::Error,
    /// The deadline sweep closed the connection.
    late: bool,
}

impl HandlerBodyError {
    /// Whether the handler's time was up, rather than the connection closed.
    pub fn is_late(&self) -> bool {
        self.late
    }
}

/// Streams the body. Returns the handler's connection to the pool at its end, and closes it if it is dropped before.
pub struct HandlerBody {
    incoming: Incoming,
    lease: Option<Lease>,
}

impl HandlerBody {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut body = Self { incoming, lease: Some(lease) };
        body.give_back_if_ended();
        body
    }

    fn give_back_if_ended(&mut self) {
        if self.incoming.is_end_stream()
            && let Some(lease) = self.lease.take()
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
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(context));
        match frame {
            Some(Ok(frame)) => {
                if let Some(lease) = &this.lease {
                    lease.progress();
                }
                this.give_back_if_ended();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(source)) => {
                let late = this.lease.take().is_some_and(|lease| lease.is_late());
                Poll::Ready(Some(Err(HandlerBodyError { source, late })))
            }
            None => {
                if let Some(lease) = this.lease.take() {
                    lease.give_back();
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
